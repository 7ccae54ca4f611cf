/* passes.h - the passes of passes.def, as functions. */
#pragma once
#include "passes/pass.h"

#define PASS(name, when, summary) PassFunction pass_##name;
#include "passes/passes.def"

/* Runs rules until nothing changes; used by more than one pass. */
bool simplify_graph(Graph *graph, Arena *scratch);
/* What stands for a composite op; NULL for another. */
Node *expand_node(Graph *graph, Node *node);
/* A node without the views that only rename it (sites). */
Node *skip_sites(Node *node);
/* An expression of row (positions: the same), col and numbers, to be evaluated at many pairs of positions; NULL: it depends on something
 * else. */
typedef struct IndexCode IndexCode;
IndexCode *index_code(Arena *arena, const Node *node);
double index_at(IndexCode *code, double row, double col);
/* The first position for which a lookup at a function of the position has no row; `upto` if there is none below that. */
int64_t positions_of_tables(const Graph *graph, int64_t upto);
/* By id: only which scores of an attention count, and what is added to them, is made from it.  The graph is in topological order. */
bool *scores_only(const Graph *graph, Arena *arena);
/* The value of a scalar constant; false when it is none. */
bool const_value(const Node *node, double *value);
