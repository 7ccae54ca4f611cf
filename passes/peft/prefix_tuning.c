/* prefix_tuning.c - learned keys and values before those of the text, in every layer (Li and Liang, 2021).
 *
 * They stand where the keys and values of rows before the text would: those rows' own are never used.  A key gets no rotation.
 * Tensor: prompt_embeddings [tokens, 2 L kv], keys of layer l in columns 2 l kv and on, its values behind them (PEFT).
 *
 * With `projection` h it is not trained itself, but what makes it:  tanh(E W1' + b1) W2' + b2,  E [tokens, kv], W1 [h, kv],
 * W2 [2 L kv, h].  Only the result is written, as PEFT does; what made it lives in checkpoints of the run. */
#include <math.h>

#include "passes/peft/settings.h"
#include "passes/peft/virtual.h"

static int64_t width_of(const Node *site)
{
    const Type *type = &site->type;
    return type->rank == 3 ? type->dim[0] * type->dim[2] : type->dim[1];
}

static const PeftNetwork network = {"prompt_embeddings", "prompt_encoder.embedding.weight", "prompt_encoder.transform.0.weight",
                                    "prompt_encoder.transform.0.bias", "prompt_encoder.transform.2.weight",
                                    "prompt_encoder.transform.2.bias"};

/* x W' + b of columns `part` of all there are, W and b beginning as PyTorch's linear layers do. */
static Node *linear(PeftRewrite *r, Node *x, const char *weight, const char *bias, FileSlice part)
{
    int64_t in = x->type.dim[1];
    double bound = 1 / sqrt((double)in);
    Node *w = rewrite_part(r, (PeftPart){weight, 2, {part, whole_axis(in)}, true, INIT_UNIFORM, bound});
    Node *b = w ? rewrite_part(r, (PeftPart){bias, 1, {part}, false, INIT_UNIFORM, bound}) : NULL;
    return b ? b_add(r->graph, b_matmul(r->graph, x, w, false, false), b) : NULL;
}

/* Columns `part` of the table, from the layers that all of it shares. */
static Node *projected(PeftRewrite *r, int64_t width, FileSlice part)
{
    Node *e = virtual_table(r, network.embedding, r->spec->prefix, width, width, 0, 1);
    Node *hidden = e ? linear(r, e, network.weight1, network.bias1, whole_axis(r->spec->projection)) : NULL;
    r->result->network = &network;
    return hidden ? linear(r, b_op1(r->graph, OP_TANH, hidden), network.weight2, network.bias2, part) : NULL;
}

static bool overwrite(PeftRewrite *r, const Virtual *v, const char *kind, int slot)
{
    int count;
    PeftPlace *places = rewrite_places(r, kind, &count);
    for (int i = 0; places && i < count; i++) {
        Node *site = places[i].node;
        int64_t width = width_of(site), extent = 2 * (int64_t)r->graph->layer_count * width;
        graph_stamp(r->graph, site);
        int64_t start = (2 * places[i].layer + slot) * width;
        Node *table = r->spec->projection ? projected(r, width, (FileSlice){extent, start, start + width})
                                          : virtual_table(r, network.table, r->spec->prefix, width, extent, start, 1);
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

static const PeftKey keys[] = {PEFT_KEY("tokens", INT, prefix, 1, 100000, "20"),
                               PEFT_KEY("projection", INT, projection, 0, 1000000, "0")};

const PeftMethod peft_prefix_tuning = {.name = "prefix_tuning",
                                       .summary = "learned keys and values before those of the text (Li and Liang, 2021)",
                                       .apply = apply, .keys = keys, .key_count = 2, .settings = peft_prefix_settings, .kind = PEFT_TOKENS};
