/* schedule.h - a graph as the program runs it: kernels in order, buffers in one arena, parameters as they are stored.
 *
 * layout, fuse and plan (in passes/) make it; backend/ turns it into code. */
#pragma once
#include "ir/diag.h"
#include "ir/graph.h"

typedef enum KernelKind {
    KERNEL_ROWS,           /* element-wise ops and reductions over the last axis, one pass per row */
    KERNEL_GEMM,           /* matmul with a stored parameter, low-rank term and epilogue */
    KERNEL_GEMM_TN,        /* gradient of a matrix: sum over tokens */
    KERNEL_COLUMN_SUM,     /* gradient of a vector: sum over tokens */
    KERNEL_SCATTER,        /* gradient of a table */
    KERNEL_ROPE,
    KERNEL_ATTENTION,
    KERNEL_ATTENTION_GRAD,
    KERNEL_CROSS_ENTROPY,  /* linear_cross_entropy */
    KERNEL_APPEND,         /* new keys and values to the cache */
    KERNEL_KIND_COUNT
} KernelKind;

/* A value in memory: rows of `columns` f32, or one f32 a row without padding when columns is 1. */
typedef struct Buffer {
    const Node *node;      /* whose value it is (tuple results: the tuple's node) */
    int64_t row_dim;       /* as node_row_dim; 0: `bytes` of working memory */
    int64_t columns;
    int64_t pitch;         /* bytes from row to row */
    int64_t bytes;         /* at capacity */
    int64_t offset;        /* in the arena */
    int first, last;       /* kernels that write it first and use it last */
    bool keep;             /* outlives the run: outputs, and what `head` reads again */
} Buffer;

typedef struct Kernel {
    KernelKind kind;
    const Node *anchor;    /* GEMM: the matmul; else the node it computes */
    const Node *second;    /* GEMM: the low-rank matmul whose sum rides along; NULL: none */
    const Node *root;      /* GEMM: the node its epilogue ends in; else anchor */
    const Node **outputs;  /* ROWS: nodes it stores, in order */
    int output_count, output_capacity;
    int64_t row_dim;       /* as node_row_dim */
    int64_t width;         /* ROWS, COLUMN_SUM: columns */
    Param *gradient;       /* GEMM_TN, COLUMN_SUM, SCATTER: whose gradient is added to */
    Buffer *results[OP_MAX_RESULTS]; /* tuple ops */
    unsigned used;         /* tuple ops: the results that nodes take, a bit each */
    Buffer *work;          /* ATTENTION_GRAD */
    int layer;
    bool backward;
} Kernel;

typedef enum StoredLayout { STORED_VECTOR, STORED_ROWS, STORED_PANELS } StoredLayout;

/* How a parameter lies in memory; the same numbers go to the runtime as LrtParam. */
typedef struct Stored {
    StoredLayout layout;
    bool flipped;          /* the stored matrix is the transpose of the parameter's value */
    int64_t rows, columns; /* of the stored matrix; a vector has rows = 1 */
    int64_t pitch;         /* STORED_ROWS */
    int64_t offset, bytes; /* in the weights image, or in the trained parameters' buffer */
    int store;             /* element type: 0 f32, 1 bf16, 2 q8_0 */
    bool streamed;         /* read whole for every token (not a gathered table) */
} Stored;

/* Capacities and storage of a program. */
typedef struct ScheduleOptions {
    int64_t max_tokens, max_length, max_rows, max_sequences;
    bool training;
    int store;             /* element type of frozen matrices */
} ScheduleOptions;

typedef struct Schedule {
    Graph *graph;
    ScheduleOptions options;
    Kernel **kernels;
    int kernel_count, kernel_capacity;
    Buffer **buffer_of;    /* by node id; NULL: not in memory */
    Buffer **buffers;
    int buffer_count, buffer_capacity;
    Stored *stored;        /* by param index */
    int64_t arena_bytes, weights_bytes, params_bytes, cache_bytes;
    int64_t cache_pitch;   /* unused slots: 0 */
    int64_t bytes_per_token;
    int cache_slots;
    bool whole;            /* some op mixes a sequence both ways: it runs whole, without a cache */
} Schedule;

/* Bytes from row to row of `columns` f32.  One column: its numbers lie side by side.  More: whole vectors, never a multiple of 2 KiB,
 * where the rows of a product's tile would share one cache set (measured: a quarter of the speed). */
int64_t row_pitch(int64_t columns);
/* The width of the last axis (1 for rank 1 over tokens). */
int64_t node_columns(const Node *node);
/* What the rows of a value are that kernels compute row by row: DIM_T tokens, DIM_R rows asked for, DIM_Q sequences, or so many rows of
 * a table (a lookup at fixed indices, and what is computed from it); 0: no rows (a parameter, a sum over rows, a number). */
int64_t node_row_dim(const Node *node);
/* Sequences have to run whole: something looks both ways, and there is no cache. */
bool runs_whole(const Graph *graph);
/* How many there can be. */
int64_t schedule_rows(const Schedule *schedule, int64_t row_dim);

/* layout: how parameters are stored.  fuse: kernels.  plan: offsets.  NULL after reporting errors (a value whose form
 * cannot be compiled). `attention_work` gives the bytes of working memory that the backward kernel of an attention needs. */
typedef int64_t AttentionWork(const Node *attention_grad, int64_t max_tokens);
Schedule *schedule_graph(Graph *graph, const ScheduleOptions *options, AttentionWork *attention_work, Arena *arena,
                         Diag *diag);
/* Kernels, buffers and offsets as text (--print-after fuse | plan). */
const char *schedule_print(const Schedule *schedule, Arena *arena);
