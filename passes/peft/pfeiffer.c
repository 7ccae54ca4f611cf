/* pfeiffer.c - one adapter a block (Pfeiffer et al., 2021), with drop_first AdapterDrop (Rueckle et al., 2021).
 *
 * m is what the feed-forward part gives, y(m) what leaves the block: through the residual sum and, in models that norm after it,
 * the norm.  The result is y(m + f(y(m))): the way from m to y is gone twice.  In a model that norms before, that is y + f(y). */
#include "passes/peft/bottleneck.h"

/* The way from `from` to `to` again, with `instead` for `from`: nodes between them are copied if they depend on it. */
static Node *again(PeftRewrite *r, Node *from, Node *to, Node *instead)
{
    Graph *g = r->graph;
    Node **copy = ARENA_ARRAY(g->arena, Node *, to->id - from->id + 1);
    copy[0] = instead;
    for (int id = from->id + 1; id <= to->id; id++) {
        const Node *node = g->nodes[id];
        Node **inputs = ARENA_ARRAY(g->arena, Node *, node->input_count + 1);
        bool depends = false;
        for (int k = 0; k < node->input_count; k++) {
            int input = node->inputs[k]->id - from->id;
            bool copied = input >= 0 && input <= to->id - from->id && copy[input];
            inputs[k] = copied ? copy[input] : node->inputs[k];
            depends = depends || copied;
        }
        if (!depends)
            continue;
        graph_stamp(g, node);
        copy[id - from->id] = graph_add(g, node->op, &node->attrs, node->input_count, inputs);
    }
    return copy[to->id - from->id];
}

static bool apply(PeftRewrite *r)
{
    int count, ends;
    PeftPlace *places = rewrite_places(r, "mlp_out", &count), *out = rewrite_places(r, "block_out", &ends);
    if (!places || !out)
        return false;
    for (int i = 0; i < count; i++) {
        Node *m = places[i].node, *y = i < ends ? out[i].node : NULL;
        if (!y || out[i].layer != places[i].layer || y->id < m->id) {
            diag_error(r->diag, peft_nowhere, "%s: layer %d of model '%s' has no 'at block_out' behind its 'at mlp_out'",
                       r->spec->origin, places[i].layer, r->graph->name);
            return false;
        }
        graph_stamp(r->graph, m);
        Node *f = bottleneck(r, places[i].path, y->inputs[0]);
        if (!f)
            return false;
        Node *result = again(r, m, y->inputs[0], b_add(r->graph, m->inputs[0], f));
        rewrite_replace(r, y, result);
    }
    rewrite_cannot_merge(r, "bottleneck adapters are not linear");
    return true;
}

static const PeftKey keys[] = {BOTTLENECK_KEYS("relu"), PEFT_KEY("drop_first", INT, drop_first, 0, 100000, NULL)};

const PeftMethod peft_pfeiffer = {.name = "pfeiffer", .summary = "one bottleneck a block (Pfeiffer et al., 2021)", .apply = apply,
                                  .keys = keys, .key_count = sizeof keys / sizeof *keys, .kind = PEFT_MODULES};
