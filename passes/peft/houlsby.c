/* houlsby.c - adapters behind both sublayers (Houlsby et al., 2019):   h -> h + f(h) on what attention and feed-forward give,
 * before the residual sum and, in models that norm after it, before that norm. */
#include "passes/peft/bottleneck.h"

static bool adapt(PeftRewrite *r, const char *kind)
{
    int count;
    PeftPlace *places = rewrite_places(r, kind, &count);
    for (int i = 0; places && i < count; i++) {
        graph_stamp(r->graph, places[i].node);
        Node *h = places[i].node->inputs[0], *f = bottleneck(r, places[i].path, h);
        if (!f)
            return false;
        rewrite_replace(r, places[i].node, b_add(r->graph, h, f));
    }
    return places != NULL;
}

static bool apply(PeftRewrite *r)
{
    if (!adapt(r, "attention_out") || !adapt(r, "mlp_out"))
        return false;
    rewrite_cannot_merge(r, "bottleneck adapters are not linear");
    return true;
}

static const PeftKey keys[] = {BOTTLENECK_KEYS("silu"), PEFT_KEY("drop_first", INT, drop_first, 0, 100000, NULL)};

const PeftMethod peft_houlsby = {.name = "houlsby", .summary = "bottlenecks behind attention and feed-forward (Houlsby et al., 2019)",
                                 .apply = apply, .keys = keys, .key_count = sizeof keys / sizeof *keys, .kind = PEFT_MODULES};
