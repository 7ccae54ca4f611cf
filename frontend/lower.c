/* lower.c - statements: the syntax tree walked once, every block inlined, every layer unrolled.
 *
 * requires: names resolved (sema.c)
 * provides: a graph with outputs "logits" and perhaps "loss", without dead nodes */
#include "frontend/lower.h"

#include <stdarg.h>
#include <string.h>

typedef enum Flow { FLOW_NEXT, FLOW_RETURN, FLOW_STOP } Flow;

static Flow run_body(Lower *l, Body body);

Val lower_error(Lower *l, Loc loc, const char *format, ...)
{
    l->fresh = false;
    for (int i = 0; i < l->reported_count; i++)
        if (l->reported[i].line == loc.line && l->reported[i].column == loc.column)
            return value_error();
    if (diag_full(l->diag) || l->reported_count == DIAG_MAX_ERRORS) {
        l->stopped = true;
        return value_error();
    }
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    diag_error(l->diag, loc, "%s", text);
    l->reported[l->reported_count++] = loc;
    l->fresh = true;
    return value_error();
}

void lower_note(Lower *l, Loc loc, const char *format, ...)
{
    if (!l->fresh)
        return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    diag_note(l->diag, loc, "%s", text);
}

bool lower_enter(Lower *l, Loc loc)
{
    l->depth++;
    l->steps++;
    if (l->stopped)
        return false;
    if (l->depth > MAX_DEPTH)
        lower_error(l, loc, "blocks and expressions are nested more than %d levels deep here",
                    MAX_DEPTH);
    else if (l->steps > MAX_STEPS)
        lower_error(l, loc, "the description takes more than %d steps to unroll", MAX_STEPS);
    else if (l->graph->node_count >= MAX_NODES)
        lower_error(l, loc, "the graph has more than %d nodes", MAX_NODES);
    else
        return true;
    l->stopped = true;
    return false;
}

void lower_leave(Lower *l)
{
    l->depth--;
}

Val lower_block(Lower *l, const Expr *call)
{
    const Stmt *block = call->decl->stmt;
    Val values[MAX_PARAMS];
    int count = 0;
    for (const Arg *arg = call->args; arg; arg = arg->next)
        values[count++] = lower_eval(l, arg->value);
    count = 0; /* bound after all are evaluated: an argument may call the same block */
    for (const Arg *arg = call->args; arg; arg = arg->next) {
        if (values[count].kind == VAL_ERROR)
            return value_error();
        arg->param->value = values[count++];
    }
    const int errors = l->diag->errors;
    const Flow flow = run_body(l, block->body);
    if (flow == FLOW_RETURN)
        return l->result;
    if (flow == FLOW_NEXT && l->diag->errors == errors && !l->stopped)
        return lower_error(l, block->loc, "block '%s' ends without 'return'",
                           block->name.symbol->name);
    return value_error();
}

/* --- statements --- */

static Flow run_prefix(Lower *l, Stmt *stmt)
{
    const char *text = lower_string(l, stmt->value, "a prefix");
    if (text)
        l->prefix = text;
    return FLOW_NEXT;
}

static Flow run_input(Lower *l, Stmt *stmt)
{
    Type type = {0};
    const char *element = stmt->type->name;
    if (!dtype_parse(element, &type.dtype)) {
        lower_error(l, stmt->loc,
                    "input '%s' has unknown element type '%s', expected i32 or f32",
                    stmt->name.symbol->name, element);
        return FLOW_NEXT;
    }
    for (const Arg *arg = stmt->args; arg; arg = arg->next) {
        if (type.rank == MAX_RANK) {
            lower_error(l, arg->loc, "a tensor has at most %d axes", MAX_RANK);
            return FLOW_NEXT;
        }
        if (!lower_extent(l, arg->value, &type.dim[type.rank++]))
            return FLOW_NEXT;
    }
    Attrs attrs = attrs_default();
    attrs.name = stmt->name.symbol->name;
    stmt->decl->value = lower_leaf(l, stmt->loc, OP_INPUT, type, &attrs);
    return FLOW_NEXT;
}

static Flow run_setting(Lower *l, Stmt *stmt)
{
    stmt->decl->value = lower_setting(l, stmt);
    return FLOW_NEXT;
}

static Flow run_const(Lower *l, Stmt *stmt)
{
    stmt->decl->value = lower_const(l, stmt);
    return FLOW_NEXT;
}

static Flow run_weight(Lower *l, Stmt *stmt)
{
    stmt->decl->value = lower_weight(l, stmt);
    return FLOW_NEXT;
}

static Flow run_block(Lower *l, Stmt *stmt)
{
    (void)l;
    (void)stmt;
    return FLOW_NEXT; /* inlined where it is called */
}

/* let and assignment. */
static Flow run_let(Lower *l, Stmt *stmt)
{
    stmt->decl->value = lower_eval(l, stmt->value);
    return FLOW_NEXT;
}

static Flow run_assign(Lower *l, Stmt *stmt)
{
    return run_let(l, stmt);
}

static Flow run_repeat(Lower *l, Stmt *stmt)
{
    const char *label = l->label;
    const int layer = l->graph->layer, dropouts = l->dropouts;
    int64_t start, stop;
    Flow flow = FLOW_NEXT;
    if (!lower_whole(l, stmt->value, "the start of a repeat", &start) ||
        !lower_whole(l, stmt->stop, "the end of a repeat", &stop))
        return FLOW_NEXT;
    if (stop - start > MAX_REPEAT) {
        lower_error(l, stmt->stop->loc, "a repeat makes at most %d turns, this one %lld",
                    MAX_REPEAT, (long long)(stop - start));
        return FLOW_NEXT;
    }
    if (stmt->text && (layer != LAYER_NONE || start < 0)) {
        lower_error(l, stmt->loc,
                    layer != LAYER_NONE ? "a repeat with a label cannot stand in another one"
                                        : "layers are counted from 0");
        return FLOW_NEXT;
    }
    for (int64_t i = start; i < stop && flow == FLOW_NEXT; i++) {
        const int errors = l->diag->errors;
        stmt->decl->value = value_number((double)i);
        if (stmt->text) {
            const char *text = lower_string(l, stmt->text, "a label");
            l->label = text ? text : "";
            l->dropouts = 0;
            l->graph->layer = (int)i;
            if (i + 1 > l->graph->layer_count)
                l->graph->layer_count = (int)i + 1;
        }
        flow = run_body(l, stmt->body);
        if (l->diag->errors > errors)
            break; /* the next turn would only say the same */
    }
    if (stmt->text) {
        l->label = label;
        l->dropouts = dropouts;
        l->graph->layer = layer;
    }
    return flow;
}

static Flow run_if(Lower *l, Stmt *stmt)
{
    bool truth;
    if (!lower_truth(l, stmt->value, "a condition", &truth))
        return FLOW_NEXT;
    return run_body(l, truth ? stmt->body : stmt->otherwise);
}

static Flow run_error(Lower *l, Stmt *stmt)
{
    const char *text = lower_string(l, stmt->value, "a message");
    lower_error(l, stmt->loc, "%s", text ? text : "error");
    return FLOW_STOP;
}

static Flow run_return(Lower *l, Stmt *stmt)
{
    l->result = lower_eval(l, stmt->value);
    return FLOW_RETURN;
}

static Flow run_output(Lower *l, Stmt *stmt)
{
    const char *name = stmt->name.symbol->name;
    const Val value = stmt->decl->value = lower_eval(l, stmt->value);
    if (value.kind == VAL_ERROR)
        return FLOW_NEXT;
    if (value.kind != VAL_NODE)
        lower_error(l, stmt->value->loc, "output '%s' must be a tensor, got %s", name,
                    value_str(l->arena, value));
    else if (graph_find_output(l->graph, name) || !strcmp(name, "loss"))
        lower_error(l, stmt->loc, "there already is an output '%s'", name);
    else
        graph_output(l->graph, name, value.node);
    return FLOW_NEXT;
}

typedef struct Loss {
    const char *name;
    bool shifted;  /* position t is scored against the label of t + 1 */
    DType labels;
} Loss;

static const Loss losses[] = {
    {"next_token", true, DT_I32}, {"cross_entropy", false, DT_I32}, {"mse", false, DT_F32}};
enum { LOSSES = sizeof losses / sizeof *losses };

/* NULL after saying what is wrong with the name. */
static const Loss *find_loss(Lower *l, Name name)
{
    const char *names[LOSSES];
    for (int i = 0; i < LOSSES; i++) {
        names[i] = losses[i].name;
        if (!strcmp(losses[i].name, name.symbol->name))
            return &losses[i];
    }
    const char *near = nearest_word(name.symbol->name, names, LOSSES);
    lower_error(l, name.loc, "there is no loss '%s'", name.symbol->name);
    if (near)
        lower_note(l, name.loc, "did you mean '%s'?", near);
    return NULL;
}

/* Mean over the columns of (x - y)^2, y one number for each row. */
static Val squared_error(Lower *l, Use use, Node *x, Node *y)
{
    Attrs shape = attrs_default(), last = attrs_default();
    shape.dims = (Dims){2, {y->type.dim[0], 1}};
    const Val column = lower_add(l, use, OP_RESHAPE, &shape, 1, &y);
    if (column.kind != VAL_NODE)
        return column;
    const Val difference = lower_add(l, use, OP_SUB, NULL, 2, (Node *[]){x, column.node});
    if (difference.kind != VAL_NODE)
        return difference;
    Node *both[] = {difference.node, difference.node};
    const Val square = lower_add(l, use, OP_MUL, NULL, 2, both);
    return square.kind == VAL_NODE ? lower_add(l, use, OP_MEAN, &last, 1, &square.node) : square;
}

/* The program hands labels of the next token over as input "targets", already shifted. */
static Flow run_loss(Lower *l, Stmt *stmt)
{
    const Loss *loss = find_loss(l, stmt->name);
    const Arg *first = stmt->args, *second = first ? first->next : NULL;
    if (!loss)
        return FLOW_NEXT;
    if (!second || second->next) {
        lower_error(l, stmt->loc, "loss '%s' needs logits and labels", loss->name);
        return FLOW_NEXT;
    }
    const Val logits = lower_eval(l, first->value), labels = lower_eval(l, second->value);
    if (logits.kind == VAL_ERROR || labels.kind == VAL_ERROR)
        return FLOW_NEXT;
    Node *targets = labels.node;
    if (logits.kind != VAL_NODE || labels.kind != VAL_NODE || targets->op != OP_INPUT ||
        targets->type.dtype != loss->labels || targets->type.rank != 1 ||
        (loss->labels == DT_F32 && targets->type.dim[0] != DIM_Q)) {
        lower_error(l, stmt->loc, "loss '%s' needs a tensor and an input of type %s[%s]", loss->name,
                    dtype_text(loss->labels), loss->labels == DT_F32 ? "Q" : loss->shifted ? "T" : "T] or [Q");
        return FLOW_NEXT;
    }
    if (graph_find_output(l->graph, "loss")) {
        lower_error(l, stmt->loc, "a model has one loss");
        return FLOW_NEXT;
    }
    Attrs attrs = attrs_default();
    attrs.name = loss->shifted ? "targets" : "labels";
    if (strcmp(targets->attrs.name, attrs.name) != 0)
        targets = lower_leaf(l, stmt->loc, OP_INPUT, targets->type, &attrs).node;
    Node *inputs[] = {logits.node, targets};
    const Use use = {stmt->loc, loss->name};
    const Val value = loss->labels == DT_F32 ? squared_error(l, use, inputs[0], inputs[1])
                                             : lower_add(l, use, OP_CROSS_ENTROPY, NULL, 2, inputs);
    if (value.kind == VAL_NODE)
        graph_output(l->graph, "loss", value.node);
    return FLOW_NEXT;
}

static Flow (*const runners[STMT_COUNT])(Lower *, Stmt *) = {
    [STMT_DIM] = run_setting,    [STMT_REAL] = run_setting, [STMT_BOOL] = run_setting,
    [STMT_STRING] = run_setting, [STMT_LIST] = run_setting, [STMT_CONST] = run_const,
    [STMT_PREFIX] = run_prefix,  [STMT_INPUT] = run_input,  [STMT_WEIGHT] = run_weight,
    [STMT_BLOCK] = run_block,    [STMT_LET] = run_let,      [STMT_ASSIGN] = run_assign,
    [STMT_REPEAT] = run_repeat,  [STMT_IF] = run_if,        [STMT_ERROR] = run_error,
    [STMT_OUTPUT] = run_output,  [STMT_LOSS] = run_loss,    [STMT_RETURN] = run_return,
};

static Flow run_body(Lower *l, Body body)
{
    for (Stmt *stmt = body.first; stmt; stmt = stmt->next) {
        if (stmt->decl && stmt->kind != STMT_ASSIGN)
            stmt->decl->value = value_error(); /* stays so when its statement fails */
        const Flow flow = lower_enter(l, stmt->loc) ? runners[stmt->kind](l, stmt) : FLOW_STOP;
        lower_leave(l);
        if (flow != FLOW_NEXT)
            return flow;
    }
    return FLOW_NEXT;
}

Graph *ldl_compile(const Source *source, const Checkpoint *checkpoint, Arena *arena, Diag *diag)
{
    Model *model = ldl_parse_source(source, arena, diag);
    if (!model || !sema_check(model, arena, diag))
        return NULL;
    const int errors = diag->errors;
    Lower *l = ARENA_NEW(arena, Lower);
    l->arena = arena;
    l->diag = diag;
    l->checkpoint = checkpoint;
    l->prefix = l->label = "";
    l->graph = graph_new(arena, model->name->name);
    l->graph->layer = LAYER_NONE;
    run_body(l, model->body);
    if (diag->errors == errors && !graph_find_output(l->graph, "logits"))
        diag_error(diag, model->loc, "model '%s' has no 'output logits'", model->name->name);
    if (diag->errors > errors)
        return NULL;
    lower_weights_finish(l);
    graph_compact(l->graph);
    return l->graph;
}

const char *ldl_print(const Source *source, Arena *arena, Diag *diag)
{
    const Model *model = ldl_parse_source(source, arena, diag);
    return model ? ast_print(model, arena) : NULL;
}
