/* prefix_tuning.c - learned keys and values before those of the text, in every layer (Li and Liang, 2021).
 *
 * They stand where the keys and values of rows before the text would: those rows' own are never used.  A key gets no rotation.
 * Tensor: prompt_embeddings [tokens, 2 L kv], keys of layer l in columns 2 l kv and on, its values behind them (PEFT). */
#include "passes/peft/settings.h"
#include "passes/peft/virtual.h"

static int64_t width_of(const Node *site)
{
    const Type *type = &site->type;
    return type->rank == 3 ? type->dim[0] * type->dim[2] : type->dim[1];
}

static bool overwrite(PeftRewrite *r, const Virtual *v, const char *kind, int slot)
{
    int count;
    PeftPlace *places = rewrite_places(r, kind, &count);
    for (int i = 0; places && i < count; i++) {
        Node *site = places[i].node;
        int64_t width = width_of(site), extent = 2 * (int64_t)r->graph->layer_count * width;
        graph_stamp(r->graph, site);
        Node *table = virtual_table(r, "prompt_embeddings", r->spec->prefix, width, extent, (2 * places[i].layer + slot) * width, 1);
        if (!table)
            return false;
        Node *rows = virtual_rows(r, v, table, NULL, site->inputs[0]);
        rewrite_replace(r, site, graph_add(r->graph, OP_SITE, &site->attrs, 1, &rows));
    }
    return places != NULL;
}

static bool apply(PeftRewrite *r)
{
    if (!virtual_check(r))
        return false;
    Virtual v = virtual_inputs(r);
    return overwrite(r, &v, "keys", 0) && overwrite(r, &v, "values", 1);
}

static const PeftKey keys[] = {PEFT_KEY("tokens", INT, prefix, 1, 100000, "20")};

const PeftMethod peft_prefix_tuning = {.name = "prefix_tuning",
                                       .summary = "learned keys and values before those of the text (Li and Liang, 2021)",
                                       .apply = apply, .keys = keys, .key_count = 1, .settings = peft_prefix_settings};
