/* select.h - which weights a method fires on; shared by all methods. */
#pragma once
#include "passes/peft/peft.h"

/* A place where a weight meets its input: x W, or a lookup in W. */
typedef struct PeftSite {
    Node *node;      /* the matmul or gather */
    Node *input;     /* x; a lookup: the indices */
    Param *param;
    bool lookup;
    bool tied;       /* lookup: the table is a product's operand as well */
    bool by_role;    /* selected by role: slices of a fused weight stay apart */
    int64_t rank;
    double alpha;
    bool done;       /* a method has rewritten it together with another site */
} PeftSite;

/* All sites that `spec` selects, in the graph's order; NULL after reporting errors (e.g. a target that matches nothing). */
PeftSite *peft_select(Graph *graph, const PeftSpec *spec, int *count, Diag *diag);

/* The output axis of the file's tensor, and the slice of it that a weight is. */
FileSlice param_out(const Param *param);
/* PEFT's rule for names: the path is `name` or ends with "." and it. */
bool path_has_suffix(const char *path, const char *name);
/* PEFT's rule for modules trained whole: the path, or that of a module it lies in, ends with `name`. */
bool module_ends_with(const char *path, const char *name);
/* Whole-string match of a Python-style regular expression; an invalid one is an error. */
bool path_matches(const char *path, const char *regex, Diag *diag);
/* Is this one of the blocks that the spec is for? */
bool param_in_layers(const Graph *graph, const PeftSpec *spec, const Param *param, Diag *diag);
/* A table that is looked up in and is the operand of a product, the output head's. */
bool param_is_tied(const Graph *graph, const Param *param);
/* Which biases are trained; role `bias` among those to be trained whole is PEFT's bias "all". */
PeftBias peft_bias(const PeftSpec *spec);

/* Copies `param` into a parameter of the adapter's file called `tensor`: trained, or a constant when the spec infers. */
void param_into_adapter(Param *param, const PeftSpec *spec, const char *tensor);
/* PEFT's prefix of module paths in adapter files. */
const char *peft_name(Graph *graph, const char *path, const char *suffix);
