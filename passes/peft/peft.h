/* peft.h - parameter-efficient fine-tuning methods as rewrites of the graph.
 *
 * A PeftSpec says what the user or an adapter_config.json asks for; the peft pass selects weights (or sites), lets the
 * method rewrite each, freezes everything else and reports what it did in a PeftResult. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "ir/diag.h"
#include "ir/graph.h"

/* One entry of a pattern table: --lora q=8:16 or PEFT's rank_pattern / alpha_pattern. */
typedef struct PeftPattern {
    const char *key;  /* role, or PEFT regular expression on the module path */
    bool is_role;
    int64_t rank;     /* 0: not set */
    double alpha;     /* 0: not set */
} PeftPattern;

typedef enum PeftBias { PEFT_BIAS_NONE, PEFT_BIAS_ALL, PEFT_BIAS_LORA_ONLY } PeftBias;

/* A tensor that an existing adapter has: decides which modules, ranks and names there are. */
typedef struct PeftTensor {
    const char *name;
    int rank;
    int64_t shape[4];
} PeftTensor;

typedef struct PeftSpec {
    const char *method;            /* row of peft.def: "lora" */
    const char *const *targets;    /* roles ("q"), module names or paths ("c_attn", "h.0.attn.c_attn"), "all-linear" */
    int target_count;
    const char *target_regex;      /* PEFT: a string of target_modules, matched against the whole path */
    const char *const *exclude;    /* PEFT: exclude_modules */
    int exclude_count;
    int64_t rank;
    double alpha;
    double dropout;
    const PeftPattern *patterns;
    int pattern_count;
    bool rslora;                   /* scaling alpha / sqrt(rank) */
    bool freeze_a;                 /* LoRA-FA */
    PeftBias bias;
    const int64_t *layers;         /* only these blocks; count -1: all */
    int layer_count;
    const char *const *train;      /* further roles or module names trained whole (--train, modules_to_save) */
    int train_count;
    bool train_is_modules;         /* modules_to_save: path endswith; else roles */
    const PeftTensor *tensors;     /* --adapter, --with: the adapter's own tensors; NULL: a new adapter */
    int tensor_count;
    bool split;                    /* adapter of method "split_lora" (loralib's slices) */
    bool infer;                    /* --with: nothing is trained, the adapter's tensors are constants */
    const char *origin;            /* for messages: "--lora q,v" or "DIR/adapter_config.json" */
} PeftSpec;

/* A fold of the adapter into a base tensor: file[out slice] += scale * B A (as [out, in], or its transpose). */
typedef struct PeftMerge {
    const char *tensor;            /* base tensor in the checkpoint */
    const char *a, *b;             /* tensors of the adapter: a [r, in], b [out, r] */
    double scale;
    bool transposed;               /* the base tensor is [in, out] (Conv1D) */
    int64_t out_start, out_stop;   /* slice of the out axis of the base tensor that b's rows stand for */
    int64_t b_start;               /* first row of b */
} PeftMerge;

typedef struct PeftResult {
    const char *method;
    PeftMerge *merges;
    int merge_count;
    const char *cannot_merge;      /* reason, NULL when it can be merged */
    int64_t trained_parameters, total_parameters;
    const char *matched;           /* text: what was selected, for the user */
    const char *settings;          /* JSON text of adapter_config.json for what is saved (arena) */
} PeftResult;

/* The pass: rewrites `graph`; false after reporting errors (what matched nothing, rank too large, ...). */
bool peft(Graph *graph, const PeftSpec *spec, PeftResult *result, Diag *diag);

/* A method: one file each, listed in peft.def. */
typedef struct PeftMethod {
    const char *name, *summary;
    bool (*apply)(Graph *graph, const PeftSpec *spec, PeftResult *result, Diag *diag);
} PeftMethod;
extern const PeftMethod *const peft_methods[];
extern const int peft_method_count;
