/* autodiff.c - appends the gradients of everything that is trained.
 *
 * Walks the nodes backwards from the loss.  Only nodes on a path from something trained to the loss are visited, so no gradient
 * that nobody asked for comes into being.  Gradients of several uses are added; what broadcasting spread is summed back.
 *
 * requires: output "loss" [T, 1], expanded graph; provides: outputs "grad.NAME"; drops all outputs but the loss. */
#include <string.h>

#include "ir/build.h"
#include "passes/grad.h"
#include "passes/passes.h"

enum { TUPLE_MAX = 3, INPUTS_MAX = 8 };

typedef struct Tape {
    Graph *graph;
    int count;        /* nodes of the forward graph */
    bool *needed;     /* depends on something trained */
    Node *(*dy)[TUPLE_MAX];
} Tape;

static void mark_needed(Tape *t)
{
    for (int i = 0; i < t->count; i++) {
        const Node *node = t->graph->nodes[i];
        t->needed[i] = node->param && node->param->trained;
        for (int k = 0; k < node->input_count; k++)
            t->needed[i] = t->needed[i] || (node->op != OP_STOP_GRADIENT && t->needed[node->inputs[k]->id]);
    }
}

/* A gradient has its node's shape: what is more was spread by broadcasting. */
static Node *fit(Graph *g, Node *dx, const Node *node)
{
    Type shape = node->type;
    if (dx->type.rank < shape.rank)
        return b_broadcast(g, dx, shape);
    for (int i = 0; i < shape.rank; i++)
        if (dx->type.dim[i + dx->type.rank - shape.rank] == 1 && shape.dim[i] != 1)
            return b_broadcast(g, dx, shape);
    return b_sum_to(g, dx, shape);
}

static void add_gradient(Tape *t, Node *node, int result, Node *dx)
{
    Node **slot = &t->dy[node->id][result];
    *slot = *slot ? b_add(t->graph, *slot, dx) : dx;
}

static bool differentiate(Tape *t, Node *node, PassContext *context)
{
    Node *dx[INPUTS_MAX] = {NULL};
    Graph *g = t->graph;
    graph_stamp(g, node);
    g->backward = true;
    if (node->op == OP_RESULT) {
        add_gradient(t, node->inputs[0], (int)node->attrs.index, t->dy[node->id][0]);
        return true;
    }
    if (!grad_rules[node->op]) {
        diag_error(context->diag, node->loc, "'%s' has no gradient, and something trained lies below it",
                   op_info[node->op].text);
        return false;
    }
    grad_rules[node->op](g, node, t->dy[node->id], dx);
    for (int k = 0; k < node->input_count; k++)
        if (dx[k] && t->needed[node->inputs[k]->id])
            add_gradient(t, node->inputs[k], 0, fit(g, dx[k], node->inputs[k]));
    return true;
}

static bool has_gradient(Node *const *dy)
{
    return dy[0] || dy[1] || dy[2];
}

/* "loss", the gradients, and the logits if they were kept are the outputs of a training program. */
static void set_outputs(Tape *t, Node *loss, PassContext *context)
{
    Graph *g = t->graph;
    Node *logits = graph_find_output(g, "logits");
    g->output_count = 0;
    graph_output(g, "loss", loss);
    if (logits && logits->type.dim[0] == DIM_Q)
        graph_output(g, "logits", logits);
    for (int i = 0; i < t->count; i++) {
        const Node *node = g->nodes[i];
        if (node->op != OP_PARAM || !node->param->trained)
            continue;
        if (t->dy[i][0])
            graph_output(g, arena_format(g->arena, "grad.%s", node->param->name), t->dy[i][0]);
        else
            diag_warning(context->diag, node->loc, "'%s' is trained, but the loss does not depend on it", node->param->name);
    }
}

bool pass_autodiff(Graph *graph, PassContext *context)
{
    Node *loss = graph_find_output(graph, "loss");
    if (!loss) {
        diag_error(context->diag, (Loc){0}, "model '%s' has no loss: there is nothing to train it by", graph->name);
        return false;
    }
    Tape t = {.graph = graph, .count = graph->node_count};
    t.needed = ARENA_ARRAY(context->scratch, bool, t.count + 1);
    t.dy = arena_alloc(context->scratch, sizeof *t.dy * (size_t)(t.count + 1));
    mark_needed(&t);
    if (!t.needed[loss->id]) {
        diag_error(context->diag, (Loc){0}, "nothing that is trained reaches the loss");
        return false;
    }
    graph_stamp(graph, loss);
    graph->backward = true;
    t.dy[loss->id][0] = b_broadcast(graph, b_input(graph, "loss_scale", type_scalar(DT_F32)), loss->type);
    for (int i = t.count - 1; i >= 0; i--) {
        Node *node = graph->nodes[i];
        if (t.needed[i] && has_gradient(t.dy[i]) && node->op != OP_PARAM && !differentiate(&t, node, context))
            return false;
    }
    set_outputs(&t, loss, context);
    graph->backward = false;
    graph_compact(graph);
    return true;
}
