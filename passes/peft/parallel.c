/* parallel.c - an adapter beside the feed-forward part (He et al., 2022):   m -> m + s f(x), x being what the part reads, m what it
 * gives. */
#include "passes/peft/bottleneck.h"

static bool apply(PeftRewrite *r)
{
    int count;
    PeftPlace *places = rewrite_places(r, "mlp_out", &count);
    Node **inputs = bottleneck_inputs(r);
    for (int i = 0; places && i < count; i++) {
        Node *m = places[i].node, *x = m->layer >= 0 ? inputs[m->layer] : NULL;
        if (!x) {
            diag_error(r->diag, peft_nowhere, "%s: layer %d of model '%s' has no product with role 'up' or 'gate'", r->spec->origin,
                       m->layer, r->graph->name);
            return false;
        }
        graph_stamp(r->graph, m);
        Node *f = bottleneck(r, places[i].path, x);
        if (!f)
            return false;
        rewrite_replace(r, m, b_add(r->graph, m->inputs[0], b_scale(r->graph, f, r->spec->scale)));
    }
    rewrite_cannot_merge(r, "bottleneck adapters are not linear");
    return places != NULL;
}

static const PeftKey keys[] = {BOTTLENECK_KEYS("relu"), PEFT_KEY("scale", REAL, scale, 0, 1e6, "4")};

const PeftMethod peft_parallel = {.name = "parallel", .summary = "a bottleneck beside every feed-forward part (He et al., 2022)",
                                  .apply = apply, .keys = keys, .key_count = sizeof keys / sizeof *keys, .kind = PEFT_MODULES};
