/* bottleneck.c - see bottleneck.h. */
#include "passes/peft/bottleneck.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    Op op;
} activations[] = {{"relu", OP_RELU}, {"silu", OP_SILU}, {"gelu", OP_GELU}, {"gelu_tanh", OP_GELU_TANH}, {"tanh", OP_TANH}};
enum { ACTIVATIONS = sizeof activations / sizeof *activations };

static Node *activate(PeftRewrite *r, Node *x)
{
    for (int i = 0; i < ACTIVATIONS; i++)
        if (!strcmp(activations[i].name, r->spec->activation))
            return b_op1(r->graph, activations[i].op, x);
    diag_error(r->diag, peft_nowhere, "%s: activation '%s' is not relu, silu, gelu, gelu_tanh or tanh", r->spec->origin,
               r->spec->activation);
    return NULL;
}

static Node *affine(PeftRewrite *r, const char *path, const char *part, Node *x, int64_t in, int64_t out, Init init)
{
    Graph *g = r->graph;
    Node *weight = rewrite_matrix(r, arena_format(g->arena, "%s.adapter.%s.weight", path, part), in, out, init, 1 / sqrt((double)in));
    Node *bias = weight ? rewrite_vector(r, arena_format(g->arena, "%s.adapter.%s.bias", path, part), out, INIT_ZERO) : NULL;
    return bias ? b_add(g, b_matmul(g, x, weight, false, false), bias) : NULL;
}

Node *bottleneck(PeftRewrite *r, const char *place, Node *h)
{
    int64_t d = h->type.dim[h->type.rank - 1], width = r->spec->bottleneck;
    Node *down = affine(r, place, "down", h, d, width, INIT_UNIFORM);
    Node *active = down ? activate(r, down) : NULL;
    return active ? affine(r, place, "up", active, width, d, INIT_ZERO) : NULL;
}

static bool is_input_role(const char *role)
{
    return role && (!strcmp(role, "up") || !strcmp(role, "gate"));
}

Node **bottleneck_inputs(PeftRewrite *r)
{
    Node **inputs = ARENA_ARRAY(r->graph->arena, Node *, r->graph->layer_count + 1);
    for (int i = r->node_count - 1; i >= 0; i--) {
        Node *node = r->graph->nodes[i];
        if (op_info[node->op].class == OC_GEMM && node->layer >= 0 && node->inputs[1]->param &&
            is_input_role(node->inputs[1]->param->role))
            inputs[node->layer] = node->inputs[0];
    }
    return inputs;
}
