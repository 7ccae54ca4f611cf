/* bottleneck.h - f(h) = up(activation(down(h))), what all bottleneck adapters are made of. */
#pragma once
#include "passes/peft/rewrite.h"

/* The tensors are PLACE.adapter.{down,up}.{weight,bias}: down [r, d], up [d, r].  Down starts uniform in +-1/sqrt(d), up at zero: the
 * adapted model begins as the base model.  NULL after reporting. */
Node *bottleneck(PeftRewrite *r, const char *place, Node *h);
/* The product of the layer's feed-forward part whose input is the part's input: the first with role `gate` or `up`.  By layer, NULL
 * where there is none; as long as the graph's layers. */
Node **bottleneck_inputs(PeftRewrite *r);

#define BOTTLENECK_KEYS(activation_fallback)                                                                                   \
    PEFT_KEY("bottleneck", INT, bottleneck, 1, 65536, "64"), PEFT_KEY("activation", TEXT, activation, 0, 0, activation_fallback)
