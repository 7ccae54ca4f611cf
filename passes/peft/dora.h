/* dora.h - DoRA (Liu et al., 2024): LoRA gives the direction of each output's weights, a learned magnitude their length.
 *
 *   y = m / |W + s B A| (x W + s (x A') B')        the norms, one for each output, are constants to the gradient (PEFT)
 *
 * m starts at the norms of W, so that step 0 is the base model.  Tensor: MODULE.lora_magnitude_vector [out]. */
#pragma once
#include "passes/peft/rewrite.h"

typedef struct DoraSite {
    const PeftSite *site;
    Node *a, *b;           /* parameters: a [r, in], b [r, out] */
    double scale;
    const char *magnitude; /* tensor */
    FileSlice part;        /* of the output axis */
} DoraSite;

/* The product `y` with its low-rank term, scaled; NULL after reporting. */
Node *dora_scaled(PeftRewrite *r, const DoraSite *dora, Node *y);
