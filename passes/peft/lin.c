/* lin.c - an adapter behind every block with a norm of its own (Lin et al., 2020):   y -> y + f(LayerNorm(y)) */
#include "passes/peft/bottleneck.h"

static const double norm_epsilon = 1e-5;

static Node *normed(PeftRewrite *r, const char *place, Node *y)
{
    Graph *g = r->graph;
    int64_t d = y->type.dim[y->type.rank - 1];
    Node *gain = rewrite_vector(r, arena_format(g->arena, "%s.adapter.norm.weight", place), d, INIT_ONE);
    Node *bias = gain ? rewrite_vector(r, arena_format(g->arena, "%s.adapter.norm.bias", place), d, INIT_ZERO) : NULL;
    if (!bias)
        return NULL;
    Attrs attrs = attrs_default();
    attrs.eps = norm_epsilon;
    return b_add(g, b_mul(g, graph_add(g, OP_LAYERNORM, &attrs, 1, &y), gain), bias);
}

static bool apply(PeftRewrite *r)
{
    int count, ends;
    PeftPlace *places = rewrite_places(r, "mlp_out", &count), *out = rewrite_places(r, "block_out", &ends);
    if (!places || !out)
        return false;
    for (int i = 0; i < ends; i++) {
        graph_stamp(r->graph, out[i].node);
        const char *path = i < count ? places[i].path : out[i].path;
        Node *y = out[i].node->inputs[0], *h = normed(r, path, y), *f = h ? bottleneck(r, path, h) : NULL;
        if (!f)
            return false;
        rewrite_replace(r, out[i].node, b_add(r->graph, y, f));
    }
    rewrite_cannot_merge(r, "bottleneck adapters are not linear");
    return true;
}

static const PeftKey keys[] = {BOTTLENECK_KEYS("relu"), PEFT_KEY("drop_first", INT, drop_first, 0, 100000, NULL)};

const PeftMethod peft_lin = {.name = "lin", .summary = "a normed bottleneck behind every block (Lin et al., 2020)", .apply = apply,
                             .keys = keys, .key_count = sizeof keys / sizeof *keys, .kind = PEFT_MODULES};
