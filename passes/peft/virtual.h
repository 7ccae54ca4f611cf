/* virtual.h - learned tokens that stand in the sequence: prefix rows first, infix rows behind the prompt.
 *
 * The runtime puts their rows into the batch and says in the input "virtual" which learned token stands there: 0 .. prefix - 1, then
 * the infix; -1: a real one.  So attention, cache and packing know nothing of them. */
#pragma once
#include "passes/peft/rewrite.h"

typedef struct Virtual {
    Node *is_virtual; /* bool [T, 1] */
    Node *prefix;     /* i32 [T]: row of the prefix's table, 0 elsewhere */
    Node *infix;      /* i32 [T]: row of the infix's table */
    Node *in_prefix;  /* bool [T, 1] */
} Virtual;

Virtual virtual_inputs(PeftRewrite *r);
/* Real rows of x [T, d] or [h, T, e], learned ones elsewhere; either table (values [rows, columns]) may be NULL. */
Node *virtual_rows(PeftRewrite *r, const Virtual *v, Node *prefix, Node *infix, Node *x);
/* A table [rows, columns] stored as it is; columns [start, start + columns) of a file's [rows, extent].  NULL after reporting. */
Node *virtual_table(PeftRewrite *r, const char *tensor, int64_t rows, int64_t columns, int64_t extent, int64_t start, double scale);
/* After reporting why not: false. */
bool virtual_check(PeftRewrite *r);

#define VIRTUAL_KEYS                                                                                                           \
    PEFT_KEY("prefix", INT, prefix, 0, 100000, "8"), PEFT_KEY("infix", INT, infix, 0, 100000, "0")
