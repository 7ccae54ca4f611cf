/* bitfit.c - BitFit (Ben Zaken et al., 2021): every bias is trained, and nothing else but a classifier's head.
 *
 * A bias is a tensor whose name ends in "bias", those of norms included. */
#include <string.h>

#include "passes/peft/rewrite.h"

static bool is_bias(const Param *param)
{
    size_t length = strlen(param->tensor);
    return !param->adapter && length >= 4 && !strcmp(param->tensor + length - 4, "bias");
}

static bool apply(PeftRewrite *r)
{
    int biases = 0;
    for (int i = 0; i < r->graph->param_count; i++) {
        Param *param = r->graph->params[i];
        if (!is_bias(param))
            continue;
        rewrite_train_whole(r, param, param->tensor);
        biases++;
    }
    if (!biases) {
        diag_error(r->diag, peft_nowhere, "%s: model '%s' has no biases to train; choose another method, such as lora", r->spec->origin,
                   r->graph->name);
        return false;
    }
    return true;
}

const PeftMethod peft_bitfit = {
    .name = "bitfit", .summary = "the biases only (Ben Zaken et al., 2021)", .apply = apply, .kind = PEFT_WEIGHTS};
