/* graph.h - the dataflow graph: a flat list of typed nodes in SSA form.
 *
 * Nodes are created in topological order and never change their op; passes build new nodes and redirect uses.
 * `graph_compact` removes what no output needs and renumbers in a topological order, the forward
 * run before the backward one; a node that both need belongs to the forward run. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "ir/arena.h"
#include "ir/op.h"
#include "ir/source.h"
#include "ir/type.h"

typedef struct Node Node;
typedef struct Graph Graph;
typedef struct Param Param;

enum { LAYER_NONE = -1 };

struct Node {
    Op op;
    int id;             /* position in graph->nodes */
    int input_count;
    int layer;          /* the `repeat` index it was written in, LAYER_NONE outside */
    Type type;          /* tuple ops: type of result 0 */
    Node **inputs;
    Attrs attrs;
    Param *param;       /* OP_PARAM */
    const double *data; /* OP_TABLE: its values, row-major */
    Type *results;      /* tuple ops: types of all results */
    int result_count;   /* 1 for ordinary ops */
    bool backward;      /* made by autodiff */
    Loc loc;            /* where in LDL it comes from */
    int64_t row_dim;    /* schedule.h: DIM_T, DIM_R, DIM_Q or a number when the value is computed row by row, else 0 */
    void *note;         /* a pass's own scratch; meaningless between passes */
};

/* What a parameter's value is before training. */
typedef enum Init {
    INIT_TENSOR,  /* read from the checkpoint (or adapter) */
    INIT_ZERO,
    INIT_ONE,
    INIT_UNIFORM, /* U(-init_scale, init_scale) */
    INIT_NORMAL,  /* N(0, init_scale^2) */
    INIT_CONSTANT, /* init_scale */
    INIT_ROW_NORMS, /* (sum of squares of a row of tensor `base`)^init_scale */
    INIT_COLUMN_NORMS, /* ... of a column */
    INIT_COUNT
} Init;

/* One extent of a file's tensor: elements [start, stop) of it are meant. */
typedef struct FileSlice {
    int64_t extent, start, stop;
} FileSlice;

/* A weight.  Its logical shape is the node's type; `slices` say which part of which tensor in a file it is.
 * Several params may be parts of one tensor of a file. */
struct Param {
    const char *name;      /* unique in the graph: "h.0.attn.c_attn.weight[:, 0:768]" */
    const char *tensor;    /* name in the checkpoint (full, with the model's prefix) or in the adapter's file */
    const char *file_name; /* name found in the checkpoint's file: `tensor`, or that without the model's prefix */
    const char *module;    /* module path: tensor without its last part: "transformer.h.0.attn.c_attn" */
    const char *role;      /* "q", "norm", ...; NULL: none */
    const char *site;      /* suffix that tells slices of one module apart, for loralib-style names: "q"; NULL: whole */
    int layer;             /* as Node.layer */
    int file_rank;         /* rank of the tensor in the file */
    FileSlice slices[MAX_RANK];
    bool transposed;       /* the value is the transpose of the file's (sliced) matrix */
    bool fresh;            /* the checkpoint lacks it: its value is `init`, or an adapter's */
    bool trained;          /* gets a gradient and an optimizer state */
    bool adapter;          /* lives in the adapter's file; else in the checkpoint */
    const char *base;      /* trained copy of a checkpoint tensor (bias, modules_to_save): its name there; else NULL */
    Init init;
    double init_scale;
    bool fast;             /* LoRA+: its learning rate is multiplied by --lr-ratio (lora_B) */
    int index;             /* number in graph->params */
    Node *node;            /* its node, if the graph has one */
    Loc loc;
};

typedef struct Output {
    const char *name; /* "logits", "loss", "grad.NAME" */
    Node *node;
} Output;

struct Graph {
    Arena *arena;
    const char *name;
    Node **nodes;
    int node_count, node_capacity;
    Param **params;
    int param_count, param_capacity;
    int *param_slots;   /* hash table of names: 1 + index into params, 0 for an empty slot */
    int param_slot_count;
    Output *outputs;
    int output_count, output_capacity;
    int layer;          /* stamped on new nodes */
    bool backward;      /* stamped on new nodes */
    Loc loc;            /* stamped on new nodes */
    int layer_count;    /* blocks of the model (largest layer + 1) */
    int64_t context;    /* positions the model has; 0: no limit */
};

Graph *graph_new(Arena *arena, const char *name);

/* Appends a node; its type follows from the op's shape rule.  A violated rule is an internal error: callers that have
 * user input check with `shape_infer` first. */
Node *graph_add(Graph *graph, Op op, const Attrs *attrs, int input_count, Node *const *inputs);
/* Leaves, whose type is given. */
Node *graph_leaf(Graph *graph, Op op, Type type, const Attrs *attrs);
Node *graph_param(Graph *graph, Param *param, Type type); /* one node for each param: the existing one if there is */
Param *graph_new_param(Graph *graph, const char *name); /* the name stays as it is from here on */
Param *graph_find_param(const Graph *graph, const char *name);
void graph_output(Graph *graph, const char *name, Node *node);
Node *graph_find_output(const Graph *graph, const char *name);

/* Stamps layer, location and backward of `like` on nodes made from now on. */
void graph_stamp(Graph *graph, const Node *like);

/* Redirects all uses of `old` (by nodes and outputs) to `new`, except uses by `new` itself and by nodes in `keep`
 * (may be NULL).  Later `graph_compact` removes `old`.  O(nodes); for many replacements use graph_replace_all. */
void graph_replace(Graph *graph, Node *old, Node *new_node, const Node *keep);
/* map[id] = replacement of the node with that id, or NULL, for ids below `map_count`: one walk for any number of
 * replacements, chains followed.  Nodes made later (ids from map_count on) keep their inputs: a replacement may use what it
 * replaces. */
void graph_replace_all(Graph *graph, Node *const *map, int map_count);

/* Topological order, dead nodes and unused params removed, ids renumbered.  Stable: live nodes keep their relative order if legal. */
void graph_compact(Graph *graph);

/* Number of uses of each node, by id (arena array). */
int *graph_use_counts(const Graph *graph, Arena *arena);
/* An independent copy. */
Graph *graph_clone(const Graph *graph, Arena *arena);
