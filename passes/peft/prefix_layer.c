/* prefix_layer.c - learned activations in every layer (PreLayer of the LoRA paper): what enters a block at the places of prefix and
 * infix is replaced.  Tensors: layer.L.prefix [prefix, d], layer.L.infix [infix, d]. */
#include "passes/peft/virtual.h"

static const double deviation = 0.02;

static bool apply(PeftRewrite *r)
{
    int count;
    PeftPlace *places = rewrite_places(r, "block_in", &count);
    if (!places || !virtual_check(r))
        return false;
    Virtual v = virtual_inputs(r);
    for (int i = 0; i < count; i++) {
        Node *site = places[i].node, *tables[2] = {NULL, NULL};
        const int64_t rows[] = {r->spec->prefix, r->spec->infix}, d = site->type.dim[1];
        graph_stamp(r->graph, site);
        for (int k = 0; k < 2; k++) {
            const char *name = arena_format(r->graph->arena, "layer.%d.%s", places[i].layer, k ? "infix" : "prefix");
            if (rows[k] && !(tables[k] = virtual_table(r, name, rows[k], d, d, 0, deviation)))
                return false;
        }
        rewrite_replace(r, site, virtual_rows(r, &v, tables[0], tables[1], site->inputs[0]));
    }
    r->result->virtual_logits = true;
    return true;
}

static const PeftKey keys[] = {VIRTUAL_KEYS};

const PeftMethod peft_prefix_layer = {.name = "prefix_layer",
                                      .summary = "learned activations before and behind the prompt, in every layer (PreLayer)",
                                      .apply = apply, .keys = keys, .key_count = 2, .kind = PEFT_TOKENS};
