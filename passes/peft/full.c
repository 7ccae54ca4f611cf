/* full.c - full fine-tuning: every weight is trained. */
#include "passes/peft/rewrite.h"

static bool apply(PeftRewrite *r)
{
    for (int i = 0; i < r->graph->param_count; i++)
        rewrite_train_whole(r, r->graph->params[i], r->graph->params[i]->tensor);
    return true;
}

const PeftMethod peft_full = {.name = "full", .summary = "every weight", .apply = apply, .kind = PEFT_WEIGHTS};
