/* lower_call.c - operators and calls.  What an op takes is read from the op table: inputs
 * first, then its attributes in the order of attrs.def, or by name. */
#include <math.h>
#include <string.h>

#include "frontend/lower.h"
#include "ir/eval.h"

static bool is_number(Val value)
{
    return value.kind == VAL_NUMBER || value.kind == VAL_BOOL;
}

static Val finite(Lower *l, Loc loc, const char *what, double number)
{
    if (!isfinite(number))
        return lower_error(l, loc, "the result of '%s' is not a finite number", what);
    return value_number(number);
}

/* --- operators --- */

static bool yields_truth(Op op)
{
    return op == OP_LT || op == OP_LE || op == OP_EQ || op == OP_AND || op == OP_OR ||
           op == OP_NOT;
}

static Val fold(Lower *l, Loc loc, Operator operator, int count, const Val *values)
{
    const OperatorInfo *info = &operator_info[operator];
    const bool logic = info->op == OP_AND || info->op == OP_OR || info->op == OP_NOT;
    for (int i = 0; i < count; i++)
        if ((values[i].kind == VAL_BOOL) != logic &&
            !(info->op == OP_EQ && values[0].kind == values[1].kind))
            return lower_error(l, loc, "'%s' needs %s, got %s", info->text,
                               logic ? "true or false" : "numbers",
                               value_str(l->arena, values[i]));
    const double in[2] = {values[info->make == MAKE_SWAP ? 1 : 0].number,
                          count < 2 ? 0 : values[info->make == MAKE_SWAP ? 0 : 1].number};
    if (info->op == OP_COUNT)
        return finite(l, loc, info->text,
                              operator== OPERATOR_POW ? pow(in[0], in[1])
                                                      : in[0] - in[1] * floor(in[0] / in[1]));
    const double result = eval_map(info->op, in);
    if (yields_truth(info->op))
        return value_bool((result != 0) != (info->make == MAKE_NEGATE));
    return finite(l, loc, info->text, result);
}

/* == and != of strings. */
static Val compare_strings(Lower *l, const Expr *expr, const Val *values)
{
    const OperatorInfo *info = &operator_info[expr->operator];
    if (info->op != OP_EQ || values[0].kind != values[1].kind)
        return lower_error(l, expr->loc, "'%s' does not take %s and %s", info->text,
                           value_str(l->arena, values[0]), value_str(l->arena, values[1]));
    return value_bool(!strcmp(values[0].text, values[1].text) != (info->make == MAKE_NEGATE));
}

/* a @ b: operands that are transposes go in as what they transpose. */
static Val product(Lower *l, const Expr *expr, Node **nodes)
{
    Attrs attrs = attrs_default();
    Node *a = transposed_of(nodes[0]), *b = transposed_of(nodes[1]);
    attrs.ta = a != NULL;
    attrs.tb = b != NULL;
    return lower_add(l, (Use){expr->loc, "@"}, OP_MATMUL, &attrs, 2,
                     (Node *[]){a ? a : nodes[0], b ? b : nodes[1]});
}

static Val tensor_operator(Lower *l, const Expr *expr, int count, const Val *values)
{
    const OperatorInfo *info = &operator_info[expr->operator];
    const Loc locs[2] = {expr->a->loc, count > 1 ? expr->b->loc : expr->a->loc};
    Node *nodes[2] = {0};
    if (info->make == MAKE_NUMBERS)
        return lower_error(
            l, expr->loc, "'%s' works on numbers known at compile time%s", info->text,
            expr->operator== OPERATOR_POW ? "; write a power of a tensor as a product" : "");
    if (!lower_inputs(l, count, values, locs, nodes))
        return value_error();
    if (info->make == MAKE_PRODUCT)
        return product(l, expr, nodes);
    if (info->make == MAKE_SWAP) {
        Node *first = nodes[0];
        nodes[0] = nodes[1];
        nodes[1] = first;
    }
    const Val value = lower_add(l, (Use){expr->loc, info->text}, info->op, NULL, count, nodes);
    if (info->make != MAKE_NEGATE || value.kind != VAL_NODE)
        return value;
    return lower_add(l, (Use){expr->loc, info->text}, OP_NOT, NULL, 1, (Node *[]){value.node});
}

Val lower_operator(Lower *l, const Expr *expr)
{
    const int count = expr->b ? 2 : 1;
    Val values[2] = {lower_eval(l, expr->a), {0}};
    const Op op = operator_info[expr->operator].op;
    /* Known truth decides alone: `length(kinds) > 0 & kinds[l] == "local"`. */
    if (values[0].kind == VAL_BOOL && (op == OP_AND || op == OP_OR) &&
        (values[0].number != 0) == (op == OP_OR))
        return values[0];
    if (count > 1)
        values[1] = lower_eval(l, expr->b);
    bool numbers = true, strings = false;
    for (int i = 0; i < count; i++) {
        if (values[i].kind == VAL_ERROR)
            return value_error();
        if (values[i].kind == VAL_EXTENT)
            return lower_error(l, expr->loc, "'%s' cannot compute with T or S, known at run time only",
                               operator_info[expr->operator].text);
        numbers &= is_number(values[i]);
        strings |= values[i].kind == VAL_STRING;
    }
    if (strings && count == 2)
        return compare_strings(l, expr, values);
    if (numbers && op != OP_MATMUL)
        return fold(l, expr->loc, expr->operator, count, values);
    return tensor_operator(l, expr, count, values);
}

/* --- attributes --- */

static const char *const attr_names[ATTR_COUNT] = {
#define ATTR(id, field, kind, def) [ATTR_##id] = #field,
#include "ir/attrs.def"
};

/* Attributes a call may give: those of the op without the name, which the compiler makes up. */
static bool attr_is_given(Op op, int attr)
{
    return (op_info[op].attrs >> attr & 1u) && attr != ATTR_NAME;
}

static bool attr_error(Lower *l, Loc loc, const char *name, const char *expected, Val got)
{
    if (got.kind != VAL_ERROR)
        lower_error(l, loc, "'%s' must be %s, got %s", name, expected,
                    value_str(l->arena, got));
    return false;
}

static bool store_f64(Lower *l, Loc loc, const char *name, Val value, double *out)
{
    *out = value.number;
    return value.kind == VAL_NUMBER || attr_error(l, loc, name, "a number", value);
}

static bool store_int(Lower *l, Loc loc, const char *name, Val value, int64_t *out)
{
    return (value.kind == VAL_NUMBER && number_is_whole(value.number, out)) ||
           attr_error(l, loc, name, "a whole number", value);
}

static bool store_bool(Lower *l, Loc loc, const char *name, Val value, bool *out)
{
    *out = value.number != 0;
    return value.kind == VAL_BOOL || attr_error(l, loc, name, "true or false", value);
}

static bool store_text(Lower *l, Loc loc, const char *name, Val value, const char **out)
{
    *out = value.text;
    return value.kind == VAL_STRING || attr_error(l, loc, name, "a string", value);
}

static bool store_dims(Lower *l, Loc loc, const char *name, Val value, Dims *out)
{
    if (value.kind != VAL_LIST || value.list->count > MAX_RANK)
        return attr_error(l, loc, name, "a list of at most 6 extents or axes", value);
    double elements = 1;
    for (out->count = 0; out->count < value.list->count; out->count++) {
        const Val item = value.list->items[out->count];
        int64_t *at = &out->at[out->count];
        if (item.kind == VAL_EXTENT)
            *at = (int64_t)item.number;
        else if (item.kind != VAL_NUMBER || !number_is_whole(item.number, at) || *at < 0 ||
                 (elements *= (double)(*at ? *at : 1)) > 1e15)
            return attr_error(l, loc, name, "a list of whole numbers, T or S", item);
    }
    return true;
}

static bool store_attr(Lower *l, Loc loc, int attr, Val value, Attrs *attrs)
{
    switch (attr) {
#define ATTR(id, field, kind, def)                                                             \
    case ATTR_##id:                                                                            \
        return store_##kind(l, loc, #field, value, &attrs->field);
#include "ir/attrs.def"
    default:
        return false;
    }
}

/* What an attribute must satisfy beyond its kind. */
static bool check_attrs(Lower *l, Loc loc, Op op, const Attrs *attrs)
{
    const unsigned mask = op_info[op].attrs;
    const char *wrong = NULL;
    if ((mask & A_RATE) && !(attrs->rate >= 0 && attrs->rate < 1))
        wrong = "'rate' must be at least 0 and below 1";
    if ((mask & A_HEADS) && (attrs->heads < 1 || attrs->heads > 1 << 20))
        wrong = "'heads' must be at least 1";
    if ((mask & A_EPS) && !(attrs->eps >= 0))
        wrong = "'eps' must not be negative";
    if (wrong)
        lower_error(l, loc, "%s", wrong);
    return !wrong;
}

/* --- calls of ops --- */

typedef struct Call {
    Op op;
    const Expr *expr;
    Val inputs[MAX_ARGS];
    Loc locs[MAX_ARGS];
    bool given[MAX_ARGS];
    unsigned attrs_given;
    Attrs attrs;
} Call;

/* "softmax(x, where)", "layernorm(x, eps)" */
static const char *call_signature(Lower *l, Op op)
{
    static const char *const letters[] = {"a", "b", "c", "d", "e", "f"};
    Text text = {.arena = l->arena};
    text_format(&text, "%s(", op_info[op].text);
    for (int i = 0; i < op_info[op].inputs; i++)
        text_format(&text, "%s%s", i ? ", " : "",
                    input_name(op, i) ? input_name(op, i) : letters[i]);
    for (int i = 0; i < ATTR_COUNT; i++)
        if (attr_is_given(op, i))
            text_format(&text, ", %s", attr_names[i]);
    text_add(&text, ")");
    return text.data;
}

static bool call_error(Lower *l, Loc loc, Op op, const char *problem)
{
    lower_error(l, loc, "'%s' %s", op_info[op].text, problem);
    lower_note(l, loc, "it is called as '%s'", call_signature(l, op));
    return false;
}

/* Which slot an argument fills: an input, or MAX_ARGS + an attribute; -1: none. */
static int argument_slot(const Call *call, const Arg *arg)
{
    const Op op = call->op;
    for (int i = 0; i < op_info[op].inputs && i < MAX_ARGS; i++)
        if (arg->name ? input_name(op, i) && !strcmp(input_name(op, i), arg->name->name)
                      : !call->given[i])
            return i;
    for (int i = 0; i < ATTR_COUNT; i++)
        if (attr_is_given(op, i) && (arg->name ? !strcmp(attr_names[i], arg->name->name)
                                               : !(call->attrs_given >> i & 1u)))
            return MAX_ARGS + i;
    return -1;
}

static bool take_argument(Lower *l, Call *call, const Arg *arg)
{
    const int slot = argument_slot(call, arg);
    if (slot < 0)
        return call_error(l, arg->loc, call->op,
                          arg->name
                              ? arena_format(l->arena, "has no argument '%s'", arg->name->name)
                              : "has too many arguments");
    const Val value = lower_eval(l, arg->value);
    if (value.kind == VAL_ERROR)
        return false;
    if (slot >= MAX_ARGS) {
        if (call->attrs_given >> (slot - MAX_ARGS) & 1u)
            return call_error(l, arg->loc, call->op, "is given an argument twice");
        call->attrs_given |= 1u << (slot - MAX_ARGS);
        return store_attr(l, arg->loc, slot - MAX_ARGS, value, &call->attrs);
    }
    if (call->given[slot])
        return call_error(l, arg->loc, call->op, "is given an argument twice");
    call->given[slot] = true;
    call->inputs[slot] = value;
    call->locs[slot] = arg->loc;
    return true;
}

/* An op of numbers is a number: sqrt(d / heads). */
static bool can_fold(const Call *call)
{
    if (!eval_is_map(call->op) || op_info[call->op].attrs || yields_truth(call->op))
        return false;
    for (int i = 0; i < op_info[call->op].inputs; i++)
        if (call->inputs[i].kind != VAL_NUMBER)
            return false;
    return true;
}

/* Whether an axis is one along which sequences lie one behind another. */
static bool sums_tokens(const Node *x, int64_t axis)
{
    int64_t at = axis < 0 ? axis + x->type.rank : axis;
    return at >= 0 && at < x->type.rank && (x->type.dim[at] == DIM_T || x->type.dim[at] == DIM_Q);
}

static Val call_op(Lower *l, const Expr *expr, Op op)
{
    Call call = {.op = op, .expr = expr, .attrs = attrs_default()};
    const OpInfo *info = &op_info[op];
    for (const Arg *arg = expr->args; arg; arg = arg->next)
        if (!take_argument(l, &call, arg))
            return value_error();
    for (int i = 0; i < info->inputs; i++) {
        if (call.given[i])
            continue;
        if (!input_name(op, i)) {
            call_error(l, expr->loc, op, "needs more arguments");
            return value_error();
        }
        call.inputs[i] = value_bool(true);
        call.locs[i] = expr->loc;
    }
    if (!check_attrs(l, expr->loc, op, &call.attrs))
        return value_error();
    if (can_fold(&call)) {
        double in[MAX_ARGS] = {0};
        for (int i = 0; i < info->inputs; i++)
            in[i] = call.inputs[i].number;
        double result = eval_map(op, in);
        return finite(l, expr->loc, info->text, op == OP_TO_I32 ? trunc(result) : result);
    }
    Node *nodes[MAX_ARGS] = {0};
    if (!lower_inputs(l, info->inputs, call.inputs, call.locs, nodes))
        return value_error();
    if (info->class == OC_REDUCE && sums_tokens(nodes[0], call.attrs.axis)) {
        call_error(l, expr->loc, op, "cannot go over the tokens of a batch: other sequences are among them");
        return value_error();
    }
    if (info->attrs & A_RATE) {
        if (call.attrs.rate == 0)
            return value_node(nodes[0]);
        /* What is dropped depends on this name, not on node numbers: rewrites do not change it.
         */
        call.attrs.name = arena_format(l->arena, "%s%sdropout.%d", l->label,
                                       *l->label ? "." : "", l->dropouts++);
    }
    return lower_add(l, (Use){expr->loc, info->text}, op, &call.attrs, info->inputs, nodes);
}

/* --- other calls --- */

static Val call_function(Lower *l, const Expr *expr, Function function)
{
    const char *name = expr->symbol->name;
    if (!expr->args || expr->args->next || expr->args->name)
        return lower_error(l, expr->loc, "'%s' takes one number", name);
    const Val value = lower_eval(l, expr->args->value);
    if (value.kind == VAL_ERROR)
        return value;
    if (value.kind != VAL_NUMBER)
        return lower_error(l, expr->args->loc,
                           "'%s' takes a number known at compile time, got %s", name,
                           value_str(l->arena, value));
    return finite(l, expr->loc, name, function(value.number));
}

/* VAL_ABSENT: not of the kinds it takes. */
typedef Val (*Special)(const Val *args);

static Val special_has(const Val *args)
{
    const ValKind kind = args[0].kind;
    return kind == VAL_NODE || kind == VAL_ABSENT ? value_bool(kind == VAL_NODE)
                                                  : (Val){.kind = VAL_ABSENT};
}

static Val special_length(const Val *args)
{
    return args[0].kind == VAL_LIST ? value_number(args[0].list->count) : (Val){.kind = VAL_ABSENT};
}

static bool same_value(Val a, Val b)
{
    if (a.kind == VAL_STRING)
        return b.kind == VAL_STRING && !strcmp(a.text, b.text);
    return is_number(a) && a.kind == b.kind && a.number == b.number;
}

static Val special_contains(const Val *args)
{
    const Val whole = args[0], part = args[1];
    if (whole.kind == VAL_STRING && part.kind == VAL_STRING)
        return value_bool(strstr(whole.text, part.text));
    if (whole.kind != VAL_LIST || !(is_number(part) || part.kind == VAL_STRING))
        return (Val){.kind = VAL_ABSENT};
    bool found = false;
    for (int i = 0; i < whole.list->count && !found; i++)
        found = same_value(whole.list->items[i], part);
    return value_bool(found);
}

enum { SPECIAL_ARGS = 2 };
static const struct {
    const char *name;
    int count;
    const char *takes;
    Special meaning;
} specials[] = {
#define SPECIAL(name, count, takes) {#name, count, takes, special_##name},
#include "frontend/functions.def"
};

static Val call_special(Lower *l, const Expr *expr)
{
    int which = 0, count = 0;
    while (strcmp(expr->symbol->name, specials[which].name))
        which++;
    Val args[SPECIAL_ARGS];
    Text got = {.arena = l->arena};
    const Arg *arg = expr->args;
    for (; arg && !arg->name && count < specials[which].count; arg = arg->next, count++) {
        args[count] = lower_eval(l, arg->value);
        if (args[count].kind == VAL_ERROR)
            return value_error();
        text_format(&got, "%s%s", count ? " and " : ", got ", value_str(l->arena, args[count]));
    }
    const bool fits = !arg && count == specials[which].count;
    const Val value = fits ? specials[which].meaning(args) : (Val){.kind = VAL_ABSENT};
    if (value.kind != VAL_ABSENT)
        return value;
    return lower_error(l, expr->loc, "'%s' takes %s%s", specials[which].name,
                       specials[which].takes, fits ? got.data : "");
}

Val lower_call(Lower *l, const Expr *expr)
{
    if (expr->decl)
        return lower_block(l, expr);
    const Op op = op_find(expr->symbol->name);
    if (op != OP_COUNT)
        return call_op(l, expr, op);
    const Function function = function_find(expr->symbol->name);
    return function ? call_function(l, expr, function) : call_special(l, expr);
}
