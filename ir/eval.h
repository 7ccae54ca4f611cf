/* eval.h - reference evaluator: plain loops in double precision; the oracle for gradients, passes and kernels. */
#pragma once
#include "ir/graph.h"

typedef struct Value {
    Type type; /* symbolic extents replaced by numbers */
    int64_t count;
    double *data;
} Value;

/* What the evaluator is given for leaves.  Extents: T = tokens, S = T unless `keys` > 0, R = rows.
 * `leaf` fills the value of an INPUT or PARAM (already allocated, zeroed).  With more keys than tokens it is also asked for
 * the SITE nodes "keys" and "values": what the cache holds, before the rows of these tokens are put in. */
typedef struct EvalInput {
    int64_t tokens, keys;
    int64_t first_position;      /* position of token 0 */
    const int64_t *rows;         /* rows asked for (R), */
    int64_t row_count;
    void (*leaf)(void *user, const Node *node, Value *value);
    void *user;
    uint64_t dropout_seed;       /* dropout draws from (seed, site path, position, feature); step and sequence are 0 */
    bool training;               /* dropout on */
} EvalInput;

/* Values of all nodes by id (tuple ops: result k of node n at eval_result).  Arena-allocated. */
typedef struct Evaluation Evaluation;
Evaluation *eval_graph(const Graph *graph, const EvalInput *input, Arena *arena);
const Value *eval_value(const Evaluation *evaluation, const Node *node, int result);
/* Scalar meaning of a MAP op, for constant folding; the caller cuts an i32 result towards zero. */
double eval_map(Op op, const double *inputs);
bool eval_is_map(Op op);
