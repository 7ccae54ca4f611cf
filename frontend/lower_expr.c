/* lower_expr.c - expressions: one function for each kind. */
#include <math.h>
#include <string.h>

#include "frontend/lower.h"

static Val eval_number(Lower *l, const Expr *expr)
{
    (void)l;
    return value_number(expr->number);
}

static Val eval_bool(Lower *l, const Expr *expr)
{
    (void)l;
    return value_bool(expr->number != 0);
}

static Val eval_string(Lower *l, const Expr *expr)
{
    Text text = {.arena = l->arena};
    if (!expr->pieces->next && expr->pieces->text)
        return value_string(expr->pieces->text);
    for (const Piece *piece = expr->pieces; piece; piece = piece->next) {
        if (piece->text) {
            text_add(&text, piece->text);
            continue;
        }
        const Val value = lower_eval(l, piece->name);
        if (value.kind == VAL_ERROR)
            return value;
        if (value.kind == VAL_NODE || value.kind == VAL_LIST || value.kind == VAL_ABSENT)
            return lower_error(l, piece->name->loc, "a string cannot hold %s",
                               value_kind_text(value));
        text_add(&text, value.kind == VAL_STRING ? value.text : value_str(l->arena, value));
        if (text.length > 4096)
            return lower_error(l, expr->loc, "this string grows beyond 4096 characters");
    }
    return value_string(text.data);
}

static Val eval_name(Lower *l, const Expr *expr)
{
    const char *name = expr->symbol->name;
    if (expr->decl)
        return expr->decl->value;
    if (!strcmp(name, "pi"))
        return value_number(3.14159265358979323846);
    Type type;
    const Op op = predefined_leaf(name, &type);
    if (op != OP_COUNT && !l->leaves[op])
        l->leaves[op] = lower_leaf(l, expr->loc, op, type, NULL).node;
    if (op != OP_COUNT)
        return value_node(l->leaves[op]);
    return (Val){.kind = VAL_EXTENT, .number = *name == 'T' ? DIM_T : *name == 'S' ? DIM_S : DIM_Q};
}

static Val eval_list(Lower *l, const Expr *expr)
{
    List *list = ARENA_NEW(l->arena, List);
    int capacity = 0;
    for (const Arg *arg = expr->args; arg; arg = arg->next) {
        const Val value = lower_eval(l, arg->value);
        if (value.kind == VAL_ERROR)
            return value;
        if (value.kind == VAL_NODE || value.kind == VAL_ABSENT)
            return lower_error(l, arg->loc, "a list cannot hold %s", value_kind_text(value));
        ARENA_PUSH(l->arena, list->items, list->count, capacity, value);
    }
    return value_list(list);
}

static Val eval_transpose(Lower *l, const Expr *expr)
{
    const Val value = lower_eval(l, expr->a);
    if (value.kind == VAL_ERROR)
        return value;
    if (value.kind != VAL_NODE)
        return lower_error(l, expr->loc, "' transposes tensors, not %s",
                           value_kind_text(value));
    return lower_transpose(l, expr->loc, value.node);
}

static Val eval_if(Lower *l, const Expr *expr)
{
    bool truth;
    if (!lower_truth(l, expr->a, "a condition", &truth))
        return value_error();
    return lower_eval(l, truth ? expr->b : expr->c);
}

static Val eval_site(Lower *l, const Expr *expr)
{
    const Val value = lower_eval(l, expr->a);
    if (value.kind == VAL_ERROR)
        return value;
    if (value.kind != VAL_NODE)
        return lower_error(l, expr->loc, "'at' marks tensors, not %s", value_kind_text(value));
    Attrs attrs = attrs_default();
    attrs.name = expr->symbol->name;
    if (expr->b) {
        const char *path = lower_string(l, expr->b, "the name of a place");
        if (!path)
            return value_error();
        attrs.path = *path == '/' ? path + 1 : arena_format(l->arena, "%s%s", l->prefix, path);
    }
    return lower_add(l, (Use){expr->loc, arena_format(l->arena, "at %s", attrs.name)}, OP_SITE,
                     &attrs, 1, (Node *[]){value.node});
}

static Val (*const evaluators[EXPR_COUNT])(Lower *, const Expr *) = {
    [EXPR_NUMBER] = eval_number,
    [EXPR_BOOL] = eval_bool,
    [EXPR_STRING] = eval_string,
    [EXPR_NAME] = eval_name,
    [EXPR_LIST] = eval_list,
    [EXPR_UNARY] = lower_operator,
    [EXPR_BINARY] = lower_operator,
    [EXPR_TRANSPOSE] = eval_transpose,
    [EXPR_INDEX] = lower_index,
    [EXPR_CALL] = lower_call,
    [EXPR_IF] = eval_if,
    [EXPR_FROM] = lower_from,
    [EXPR_SITE] = eval_site,
};

Val lower_eval(Lower *l, const Expr *expr)
{
    const Val value =
        lower_enter(l, expr->loc) ? evaluators[expr->kind](l, expr) : value_error();
    lower_leave(l);
    return value;
}

bool lower_whole(Lower *l, const Expr *expr, const char *what, int64_t *whole)
{
    const Val value = lower_eval(l, expr);
    if (value.kind == VAL_NUMBER && number_is_whole(value.number, whole))
        return true;
    if (value.kind != VAL_ERROR)
        lower_error(l, expr->loc, "%s must be a whole number, got %s", what,
                    value_str(l->arena, value));
    return false;
}

bool lower_truth(Lower *l, const Expr *expr, const char *what, bool *truth)
{
    const Val value = lower_eval(l, expr);
    *truth = value.number != 0;
    if (value.kind == VAL_BOOL)
        return true;
    if (value.kind == VAL_NODE)
        lower_error(
            l, expr->loc,
            "%s must be known when the model is compiled; 'where(p, a, b)' chooses in tensors",
            what);
    else if (value.kind != VAL_ERROR)
        lower_error(l, expr->loc, "%s must be true or false, got %s", what,
                    value_str(l->arena, value));
    return false;
}

const char *lower_string(Lower *l, const Expr *expr, const char *what)
{
    const Val value = lower_eval(l, expr);
    if (value.kind == VAL_STRING)
        return value.text;
    if (value.kind != VAL_ERROR)
        lower_error(l, expr->loc, "%s must be a string, got %s", what,
                    value_str(l->arena, value));
    return NULL;
}

bool lower_extent(Lower *l, const Expr *expr, int64_t *extent)
{
    const Val value = lower_eval(l, expr);
    if (value.kind == VAL_ERROR)
        return false;
    if (value.kind == VAL_EXTENT) {
        *extent = (int64_t)value.number;
        return true;
    }
    if (value.kind != VAL_NUMBER || !number_is_whole(value.number, extent) || *extent < 1 ||
        *extent > (int64_t)1 << 40) {
        lower_error(l, expr->loc, "an extent must be a whole number of at least 1, got %s",
                    value_str(l->arena, value));
        return false;
    }
    return true;
}
