/* rewrite.h - what the methods share: parameters of the adapter's file, places in the model, merges. */
#pragma once
#include "ir/build.h"
#include "passes/peft/select.h"

struct PeftRewrite {
    Graph *graph;
    const PeftSpec *spec;
    PeftResult *result;
    Diag *diag;
    Node **map;     /* replacement of each node of the model, by id */
    int node_count; /* nodes before the method added its own */
    int merge_capacity;
};

/* A part of a tensor of the adapter's file, as a value of the graph. */
typedef struct PeftPart {
    const char *tensor;
    int rank;            /* of the tensor: 1 or 2 */
    FileSlice slices[2]; /* of its axes */
    bool transposed;     /* the value is the part's transpose */
    Init init;           /* how it begins in a new adapter */
    double init_scale;
} PeftPart;

static inline FileSlice whole_axis(int64_t extent)
{
    return (FileSlice){extent, 0, extent};
}

/* Its parameter, one for all places that ask for the same part; trained unless the spec infers.  NULL after reporting that the adapter
 * which is given has no such tensor, or one of another shape. */
Node *rewrite_part(PeftRewrite *r, PeftPart part);
/* Whole tensors: a value [in, out] of a file's [out, in], and a value [n]. */
Node *rewrite_matrix(PeftRewrite *r, const char *tensor, int64_t in, int64_t out, Init init, double scale);
Node *rewrite_vector(PeftRewrite *r, const char *tensor, int64_t n, Init init);
/* A checkpoint's tensor moves into the adapter's file under this name and is trained whole. */
void rewrite_train_whole(PeftRewrite *r, Param *param, const char *tensor);
/* What the spec asks to be trained further, and with every method the head of a classifier; `prefix`: what PEFT's files have before the
 * names of the base's tensors, NULL: the method is not PEFT's. */
void rewrite_train_further(PeftRewrite *r, const char *prefix);
/* The update of a table that is the output head as well leaves the head as it is: it cannot be merged. */
void rewrite_keep_head(PeftRewrite *r, const Param *table);
/* One row of logits for a sequence, not for each token. */
bool graph_classifies(const Graph *graph);
/* Once for a weight that is used more than once. */
void rewrite_add_merge(PeftRewrite *r, PeftMerge merge);
/* All uses of `node` but those by what is made from now on. */
void rewrite_replace(PeftRewrite *r, Node *node, Node *by);

/* Places marked by `at KIND`, in the graph's order: layer by layer. */
typedef struct PeftPlace {
    Node *node;       /* the site */
    const char *path; /* what an adapter there is called after */
    int layer;
} PeftPlace;
/* NULL after reporting that the model has none, or not in the layers asked for. */
PeftPlace *rewrite_places(PeftRewrite *r, const char *kind, int *count);

/* Why the adapter stays beside the base, for the user. */
void rewrite_cannot_merge(PeftRewrite *r, const char *reason);
