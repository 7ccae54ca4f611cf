/* top_layers.c - the last blocks are trained whole (FT-Top2 of Li and Liang, 2021); neither embeddings nor what follows the blocks. */
#include "passes/peft/rewrite.h"

static bool apply(PeftRewrite *r)
{
    int first = r->graph->layer_count - (int)r->spec->blocks;
    if (first < 0) {
        diag_error(r->diag, peft_nowhere, "%s: layers=%lld, but model '%s' has %d", r->spec->origin, (long long)r->spec->blocks,
                   r->graph->name, r->graph->layer_count);
        return false;
    }
    for (int i = 0; i < r->graph->param_count; i++) {
        Param *param = r->graph->params[i];
        if (param->layer >= first)
            rewrite_train_whole(r, param, param->tensor);
    }
    return true;
}

static const PeftKey keys[] = {PEFT_KEY("layers", INT, blocks, 1, 100000, "2")};

const PeftMethod peft_top_layers = {.name = "top_layers", .summary = "the last blocks, whole (FT-Top2 of Li and Liang, 2021)",
                                    .apply = apply, .keys = keys, .key_count = 1, .kind = PEFT_WEIGHTS};
