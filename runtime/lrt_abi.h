/* lrt_abi.h - the contract between generated code and the runtime library; the only runtime header the compiler's
 * backend sees.
 *
 * A program is a set of kernels, bodies that call them in order, and the tables below.  Every pointer a kernel needs is
 * `context->base[B] + record[slot]`: B is part of its code, the record (byte offsets) is constant data, one for each place a
 * kernel is used.  So layers share code and code size does not grow with depth. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define LRT_ABI_VERSION 3

/* What record offsets are relative to. */
enum LrtBase {
    LRT_BASE_ARENA,   /* activations, planned by the compiler */
    LRT_BASE_WEIGHTS, /* frozen parameters, packed */
    LRT_BASE_PARAMS,  /* trained parameters, packed */
    LRT_BASE_GRADS,   /* their gradients, same offsets as LRT_BASE_PARAMS */
    LRT_BASE_CACHE,   /* keys and values of earlier tokens */
    LRT_BASE_CONST,   /* tables of the program itself (rotary angles) */
    LRT_BASE_COUNT
};

/* A run of rows that belong to one sequence. */
typedef struct LrtSegment {
    int32_t start;     /* first row */
    int32_t length;    /* rows */
    int32_t key_start; /* row of the sequence's first key in the key buffer (training: = start) */
    int32_t past;      /* keys before those of row `start` (training: 0) */
} LrtSegment;

typedef struct LrtContext LrtContext;

/* A kernel does task `task` of its 0 .. tasks - 1; tasks are independent and may run in any order on any thread.
 * `scratch`: the thread's own program->scratch_bytes bytes, 64-byte aligned. */
typedef void LrtKernel(LrtContext *context, const uint64_t *record, int64_t task, char *scratch);

/* Everything a step works on.  Row i of all arrays is token i in flight. */
struct LrtContext {
    char *base[LRT_BASE_COUNT];
    const int32_t *tokens;        /* [n_tokens] */
    const int32_t *targets;       /* [n_tokens] token to predict, -100: none */
    const int32_t *positions;     /* [n_tokens] position in its sequence (with a cache: past included) */
    const int32_t *types;         /* [n_tokens] token types (0: first text, 1: second) */
    const int32_t *virtual_tokens; /* [n_tokens] number of the learned token that stands there, -1: a real one */
    const int32_t *segment_of;    /* [n_tokens] number of the segment */
    const uint64_t *sequences;    /* [n_tokens] number of the document: dropout draws from it */
    const LrtSegment *segments;   /* [n_segments] */
    const int32_t *labels;        /* [n_segments] class of the sequence */
    const float *values;          /* [n_segments] ... or the number to predict */
    const int32_t *target_rows;   /* [n_target_rows] rows that have a target, ascending */
    const int32_t *rows;          /* [n_rows] rows whose outputs are asked for */
    int64_t n_tokens, n_segments, n_target_rows, n_rows;
    uint64_t seed, step;          /* dropout */
    int32_t training;             /* 1: dropout is on */
    int32_t want_gradients;       /* 0: kernels that compute a gradient beside a loss may leave it out */
    float loss_scale;             /* 1 / number of targets of the whole (accumulated) batch */
    int32_t threads;              /* that parallel has: a kernel may cut its work by them, if the results' bits do not depend on it */
    /* Runs tasks 0 .. tasks - 1 of a kernel on all threads and returns when all are done. */
    void (*parallel)(LrtContext *context, LrtKernel *kernel, const uint64_t *record, int64_t tasks);
    void *pool;                   /* the runtime's */
};

/* How a parameter is stored. */
enum LrtLayout {
    LRT_LAYOUT_VECTOR, /* cols elements, padded with zeros to a multiple of 16 */
    LRT_LAYOUT_ROWS,   /* [rows][pitch] : row-major, pitch bytes between rows, padding zero */
    LRT_LAYOUT_PANELS, /* [ceil(cols/16)][rows][16]: right operand of a product, padding columns zero */
};

/* Element types of stored parameters.  Trained ones are F32. */
enum LrtStore { LRT_STORE_F32, LRT_STORE_BF16, LRT_STORE_Q8_0 };

enum LrtInit {
    LRT_INIT_TENSOR, LRT_INIT_ZERO, LRT_INIT_ONE,
    LRT_INIT_UNIFORM,      /* in +-init_scale */
    LRT_INIT_NORMAL,       /* with that deviation */
    LRT_INIT_CONSTANT,     /* init_scale */
    LRT_INIT_ROW_NORMS,    /* a vector: (sum of squares of each row of tensor `base`)^init_scale */
    LRT_INIT_COLUMN_NORMS  /* ... of each column */
};

enum { LRT_PARAM_RANK = 4 };

/* One stored parameter: which part of which tensor of a file it is, and how it lies in memory. */
typedef struct LrtParam {
    const char *name;             /* tensor's name in the checkpoint, or in the adapter's file */
    const char *base;             /* trained copy of a checkpoint tensor: that tensor's name; else NULL */
    int32_t adapter;              /* 1: in the adapter's file */
    int32_t trained;
    int32_t file_rank;
    int32_t transposed;           /* 1: stored[k][n] = file[start1 + n][start0 + k], else file[start0 + k][start1 + n] */
    int64_t file_shape[LRT_PARAM_RANK];
    int64_t file_start[LRT_PARAM_RANK], file_stop[LRT_PARAM_RANK];
    int32_t layout, store;
    int64_t rows, cols;           /* of the stored matrix [K][N]; a vector has rows = 1 */
    int64_t pitch;                /* LRT_LAYOUT_ROWS: bytes from row to row */
    int64_t offset, bytes;        /* in the weights image or the trained parameters' buffer; multiple of 64 */
    int32_t init;
    int32_t fast;                 /* learning rate times --lr-ratio */
    double init_scale;
} LrtParam;

enum LrtKind { LRT_TRAIN = 1, LRT_INFER = 2 };

/* What the loss compares, or the logits are of. */
enum LrtTask {
    LRT_TASK_NEXT_TOKEN, /* logits of a token predict the next one */
    LRT_TASK_TOKENS,     /* logits of a token predict its own label */
    LRT_TASK_CLASSES,    /* logits of a sequence predict its class */
    LRT_TASK_VALUES      /* ... its value: squared error */
};
enum LrtTier { LRT_TIER_GENERIC, LRT_TIER_AVX2, LRT_TIER_AVX512, LRT_TIER_COUNT };

typedef void LrtEntry(LrtContext *context);

/* Code for one instruction set; a tier that was not generated has NULLs. */
typedef struct LrtTierCode {
    LrtEntry *forward;  /* training: losses (and what backward needs); inference: all rows up to the rows asked for */
    LrtEntry *backward; /* training: adds to the gradients; NULL in inference programs */
    LrtEntry *head;     /* inference: outputs for context->rows after `forward`; NULL in training programs */
} LrtTierCode;

typedef struct LrtProgram {
    uint32_t abi, kind;
    const char *model;            /* name in LDL */
    const char *method;           /* "lora", ...; "" for inference without adapter */
    const char *settings;         /* JSON: what adapter_config.json and --info need (compiler to runtime, opaque here) */
    int64_t max_tokens;           /* rows in flight */
    int64_t max_length;           /* longest sequence */
    int64_t max_rows;             /* rows asked for at once */
    int64_t max_sequences;        /* in flight */
    int64_t task;                 /* enum LrtTask */
    int64_t prefix, infix;        /* learned tokens before a sequence, and behind its prompt; among max_length and max_tokens */
    int64_t virtual_logits;       /* 1: their rows count among the logits */
    int64_t predict_first;        /* 1: the last prefix row predicts the first token */
    int64_t whole;                /* 1: attention looks both ways; sequences run whole, without a cache */
    int64_t vocabulary, context;  /* ids are below the vocabulary; context: positions the model has, 0: no limit */
    int64_t types;                /* token types are below it; 0: the model has none */
    int64_t logits;               /* columns of the logits: the vocabulary, or classes */
    int64_t arena_bytes, weights_bytes, params_bytes, cache_bytes, scratch_bytes, const_bytes;
    int64_t bytes_per_token;      /* weights read to decode one token */
    int64_t loss_offset;          /* training: f32 [max_tokens] in the arena */
    int64_t logits_offset, logits_pitch; /* inference: f32 [max_rows or max_sequences][logits_pitch bytes] in the arena */
    int64_t param_count;
    const LrtParam *params;       /* frozen and trained */
    const char *const_data;       /* LRT_BASE_CONST */
    LrtTierCode tiers[LRT_TIER_COUNT];
} LrtProgram;

/* The one symbol of a generated object that the runtime reads. */
extern const LrtProgram lrt_program;

_Static_assert(sizeof(LrtSegment) == 16, "generated code knows this layout");
_Static_assert(offsetof(LrtContext, tokens) == 8 * LRT_BASE_COUNT, "generated code knows this layout");
