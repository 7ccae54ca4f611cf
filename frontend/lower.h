/* lower.h - what the files of the lowering share: syntax tree to graph, layer by layer. */
#pragma once
#include "frontend/ast.h"
#include "frontend/calls.h"
#include "frontend/frontend.h"

/* Foreign text must not exhaust time or memory.  A thousand layers take some 10^5 nodes and
 * 10^6 steps. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
enum { MAX_NODES = 20000, MAX_STEPS = 300000, MAX_ITEMS = 10000 };
#else
enum { MAX_NODES = 1 << 20, MAX_STEPS = 50000000, MAX_ITEMS = 1 << 21 };
#endif
enum { MAX_REPEAT = 10000, MAX_DEPTH = 3000, MAX_ARGS = 8 };

typedef struct Tensor
    Tensor; /* lower_weight.c: a tensor of the checkpoint and the params that are parts of it */

/* An op as the user wrote it. */
typedef struct Use {
    Loc loc;
    const char *what;
} Use;

typedef struct NamedDim {
    const char *name;
    int64_t value;
} NamedDim;

typedef struct Lower {
    Arena *arena;
    Diag *diag;
    Graph *graph;
    const Checkpoint *checkpoint; /* or NULL */
    const char *prefix;           /* of tensor names */
    const char *label;            /* of the labelled repeat we are in */
    int dropouts;                 /* made under this label */
    int depth, steps, items;      /* of recursion; done; in const lists */
    Node *leaves[OP_COUNT];       /* row, col, positions: one node each */
    bool stopped;                 /* a limit was reached: unwind */
    bool fresh;                   /* the last error was printed: notes to it may be, too */
    const char *reason;           /* why the last node was not made */
    Val result;                   /* of the block that just returned */
    NamedDim *dims;               /* sizes with a name, for messages */
    int dim_count, dim_capacity;
    Loc reported[DIAG_MAX_ERRORS]; /* an error in a layer is reported once, not for each layer
                                    */
    int reported_count;
    Tensor **tensors; /* hash table by name */
    int tensor_count, tensor_buckets;
    Tensor *first_tensor, *last_tensor;
} Lower;

/* lower.c */
/* One error for each place; returns an error value for convenience. */
Val lower_error(Lower *l, Loc loc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void lower_note(Lower *l, Loc loc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Guards recursion and work; every true is paired with lower_leave.  False once a limit is
 * reached. */
bool lower_enter(Lower *l, Loc loc);
void lower_leave(Lower *l);
/* The result of calling a block. */
Val lower_block(Lower *l, const Expr *call);

/* lower_expr.c */
Val lower_eval(Lower *l, const Expr *expr);
/* Values of one kind, or an error about `what`. */
bool lower_whole(Lower *l, const Expr *expr, const char *what, int64_t *whole);
bool lower_truth(Lower *l, const Expr *expr, const char *what, bool *truth);
const char *lower_string(Lower *l, const Expr *expr, const char *what);
/* An extent in a shape: at least 1, or T or S. */
bool lower_extent(Lower *l, const Expr *expr, int64_t *extent);

/* lower_node.c */
/* A node of an op, its type checked first. */
Val lower_add(Lower *l, Use use, Op op, const Attrs *attrs, int count, Node *const *inputs);
Val lower_leaf(Lower *l, Loc loc, Op op, Type type, const Attrs *attrs);
/* Values as inputs of one op: numbers take the element type of the tensors beside them. */
bool lower_inputs(Lower *l, int count, const Val *values, const Loc *locs, Node **nodes);
/* Swaps the last two axes; twice is not at all. */
Val lower_transpose(Lower *l, Loc loc, Node *node);
/* The input of a node that swaps the last two axes, else NULL. */
Node *transposed_of(const Node *node);
/* "[T, d = 768]" */
const char *shape_str(Lower *l, const Node *node);

/* lower_call.c */
Val lower_call(Lower *l, const Expr *expr);
Val lower_operator(Lower *l, const Expr *expr);

/* lower_index.c */
Val lower_index(Lower *l, const Expr *expr);
/* Bounds of a subscript on an axis of `extent` elements. */
bool lower_range(Lower *l, const Arg *arg, int64_t extent, int64_t *start, int64_t *stop);

/* lower_config.c */
/* `default from keys`. */
Val lower_from(Lower *l, const Expr *expr);
/* dim, real, bool, string, list. */
Val lower_setting(Lower *l, const Stmt *stmt);
/* const, with or without indices. */
Val lower_const(Lower *l, const Stmt *stmt);

/* lower_weight.c */
Val lower_weight(Lower *l, Stmt *stmt);
/* After the last weight: extents and sites that depend on all parts of a tensor. */
void lower_weights_finish(Lower *l);
