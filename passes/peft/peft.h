/* peft.h - parameter-efficient fine-tuning methods as rewrites of the graph.
 *
 * A PeftSpec says what the user or an adapter_config.json asks for; the peft pass selects weights (or sites), lets the
 * method rewrite each, freezes everything else and reports what it did in a PeftResult. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ir/diag.h"
#include "ir/graph.h"

/* The place of what is not in a file of ours: options, an adapter's settings. */
static const Loc peft_nowhere = {0};

/* One entry of a pattern table: --lora q=8:16 or PEFT's rank_pattern / alpha_pattern. */
typedef struct PeftPattern {
    const char *key;  /* role or module name, or PEFT's regular expression on the module path */
    bool is_role;     /* a role, or a module name where no weight has that role */
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

typedef struct PeftSpec PeftSpec;
struct PeftSpec {
    const char *method;            /* row of peft.def: "lora" */
    PeftSpec *next;                /* another method, applied after this one; what is not of the method is as here; NULL: none */
    const char *const *targets;    /* roles ("q"), module names or paths ("c_attn", "h.0.attn.c_attn"), "all-linear" */
    int64_t target_count;
    bool by_role;                  /* targets are roles even where an adapter is given */
    const char *target_regex;      /* PEFT: a string of target_modules, matched against the whole path */
    const char *const *exclude;    /* PEFT: exclude_modules */
    int64_t exclude_count;
    const char *exclude_regex;     /* the same as a string, matched against the whole path */
    int64_t rank;
    double alpha;
    double dropout;
    const PeftPattern *patterns;
    int pattern_count;
    bool rslora;                   /* scaling alpha / sqrt(rank) */
    bool freeze_a;                 /* LoRA-FA */
    bool dora;                     /* magnitudes apart from directions */
    const char *initial;           /* "pissa", "olora": A and B begin as a part of the weight; "", NULL: as no update */
    double d_initial;              /* VeRA: where its scales of the rank start */
    PeftBias bias;
    const int64_t *layers;         /* only these blocks; count -1: all */
    int layer_count;
    const char *const *layer_names; /* PEFT: layers_pattern, what the layers' list is called */
    int64_t layer_name_count;
    const char *const *train;      /* further roles or module names trained whole (--train, modules_to_save) */
    int64_t train_count;
    bool train_is_modules;         /* modules_to_save: path endswith; else roles */
    const PeftTensor *tensors;     /* --adapter, --with: the adapter's own tensors; NULL: a new adapter */
    int tensor_count;
    bool split;                    /* adapter of method "split_lora" (loralib's slices) */
    bool stacked;                  /* ... in loralib's file: its targets are in the order of the slices */
    const char *const *feedforward; /* (IA)3: modules or roles whose input is scaled, not their output */
    int64_t feedforward_count;
    int64_t bottleneck;            /* bottleneck adapters: width */
    const char *activation;        /* ... "relu", "silu", "gelu", "gelu_tanh", "tanh" */
    double scale;                  /* parallel adapters: factor of what is added */
    int64_t drop_first;            /* AdapterDrop: blocks from the first on without adapter */
    int64_t blocks;                /* top: how many of the last blocks are trained */
    int64_t prefix, infix;         /* learned tokens before the text, and behind the prompt */
    int64_t projection;            /* prefix tuning: hidden width of the network that makes the table; 0: it is trained itself */
    bool infer;                    /* --with: nothing is trained, the adapter's tensors are constants */
    const char *origin;            /* for messages: "--lora q,v" or "DIR/adapter_config.json" */
    const char *base;              /* folder of the base model, for the adapter's config; NULL: not known */
};

/* A low-rank pair and its fold into a base tensor: file[out slice] += scale * B A (as [out, in], or its transpose); without `a` the
 * tensor becomes `b`; with `factor` its rows (its columns, when transposed) out_start .. out_stop - 1 are multiplied by that vector's. */
typedef struct PeftMerge {
    const char *tensor;            /* base tensor in the checkpoint */
    const Param *param;            /* it, or a slice of it, in the graph */
    const char *a, *b;             /* tensors of the adapter: a [r, in], b [out, r] */
    const char *factor;            /* ... a vector as long as the axis; a and b are NULL then */
    bool normalised;               /* ... what is there by then is divided by its norms first (DoRA) */
    const char *row_factor, *rank_factor; /* vectors [out], [r] that scale the update's factors (VeRA); NULL: none */
    double scale;
    bool transposed;               /* the base tensor is [in, out] (Conv1D) */
    int64_t out_start, out_stop;   /* slice of the out axis of the base tensor that b's rows stand for */
    const char *initial;           /* "pissa", "olora": what a and b began as was taken out of the base; NULL: nothing was */
    int64_t rank;
    double alpha;
    bool part;                     /* of a fused weight: the slice has a pair of its own */
    int64_t inputs, outputs;       /* of the whole base tensor, as a linear layer */
} PeftMerge;

/* Where a tensor of the adapter lies in one of the equivalent adapter: whole[row + i, column + k] = factor * tensor[i, k]; the rest
 * is zero. */
typedef struct PeftBlock {
    const char *tensor, *whole;
    int64_t rows, columns;         /* of the whole */
    int64_t row, column;
    double factor;
} PeftBlock;

/* What a table of learned tokens is made by: table = tanh(embedding weight1' + bias1) weight2' + bias2. */
typedef struct PeftNetwork {
    const char *table, *embedding, *weight1, *bias1, *weight2, *bias2;
} PeftNetwork;

typedef struct PeftResult {
    const char *method;
    PeftMerge *merges;
    int merge_count;
    const char *cannot_merge;      /* reason, NULL when it can be merged */
    int64_t trained_parameters, head_parameters, total_parameters; /* the head's: of those trained */
    int64_t prefix, infix;         /* learned tokens that stand in every sequence */
    bool virtual_logits;           /* ... and whose logits count among the model's */
    bool predict_first;            /* the last of them predicts the first token */
    const PeftNetwork *network;    /* the adapter's file has its table in place of the others; NULL: all are as they are trained */
    const char *matched;           /* text: what was selected, for the user */
    const char *settings;          /* JSON text of adapter_config.json for what is saved (arena) */
    const char *peft_settings;     /* the same for the equivalent adapter in PEFT's form; NULL: `settings` is PEFT's */
    const PeftBlock *blocks;       /* its tensors that are made of the adapter's; all others are the same */
    int block_count;
} PeftResult;

/* The pass: rewrites `graph`; false after reporting errors (what matched nothing, rank too large, ...). */
bool peft(Graph *graph, const PeftSpec *spec, PeftResult *result, Diag *diag);

/* A setting of a method: `--method NAME:key=value`, and a field of its adapter_config.json. */
typedef enum PeftKeyKind { PEFT_KEY_INT, PEFT_KEY_REAL, PEFT_KEY_FLAG, PEFT_KEY_TEXT, PEFT_KEY_NAMES, PEFT_KEY_BIAS } PeftKeyKind;

typedef struct PeftKey {
    const char *name;
    PeftKeyKind kind;
    size_t field;              /* of PeftSpec; NAMES: a list, with its count behind it */
    double low, high;          /* of numbers */
    const char *fallback;      /* as it would be written; NULL: stays as it is */
} PeftKey;
#define PEFT_KEY(name, kind, field, low, high, fallback) \
    {name, PEFT_KEY_##kind, offsetof(PeftSpec, field), low, high, fallback}

/* A NAMES field is a list with its count behind it. */
static inline int64_t *peft_names_count(const void *field)
{
    return (int64_t *)((uintptr_t)field + sizeof(const char *const *));
}

/* A method: one file each, listed in peft.def.  Methods that PEFT has are stored in its form (settings.c); the others as
 * {"method": NAME, "key": value ...}. */
typedef struct PeftRewrite PeftRewrite;
/* What a method rewrites: of each kind one may be chosen, and the chosen ones are combined. */
typedef enum PeftKind { PEFT_PRODUCTS, PEFT_MODULES, PEFT_TOKENS, PEFT_WEIGHTS } PeftKind;
typedef struct PeftMethod {
    const char *name, *summary;
    bool (*apply)(PeftRewrite *rewrite);
    const PeftKey *keys;
    int key_count;
    const char *(*settings)(const PeftRewrite *rewrite); /* adapter_config.json in PEFT's form; NULL: the method is not PEFT's */
    PeftKind kind;
} PeftMethod;
extern const PeftMethod *const peft_methods[];
extern const int peft_method_count;

/* A method under another name with some settings made: "dora" is "lora:dora=1". */
typedef struct PeftVariant {
    const char *name, *method, *settings, *summary;
} PeftVariant;
extern const PeftVariant peft_variants[];
extern const int peft_variant_count;

const PeftMethod *peft_find_method(const char *name);
/* Of "NAME" or "NAME:key=value,...", which may be a variant's; NULL: there is none. */
const PeftMethod *peft_method_of(const char *text, Arena *arena);
/* Reports it, with a suggestion. */
void peft_unknown_method(const char *name, Arena *arena, Diag *diag);
