/* build.h - one-line constructors for rules and passes.  All stamp graph->layer, loc, backward. */
#pragma once
#include "ir/graph.h"

static inline Node *b_op1(Graph *g, Op op, Node *a) { return graph_add(g, op, NULL, 1, &a); }
static inline Node *b_op2(Graph *g, Op op, Node *a, Node *b) { return graph_add(g, op, NULL, 2, (Node *[]){a, b}); }
static inline Node *b_add(Graph *g, Node *a, Node *b) { return b_op2(g, OP_ADD, a, b); }
static inline Node *b_sub(Graph *g, Node *a, Node *b) { return b_op2(g, OP_SUB, a, b); }
static inline Node *b_mul(Graph *g, Node *a, Node *b) { return b_op2(g, OP_MUL, a, b); }
static inline Node *b_div(Graph *g, Node *a, Node *b) { return b_op2(g, OP_DIV, a, b); }
static inline Node *b_neg(Graph *g, Node *a) { return b_op1(g, OP_NEG, a); }
Node *b_const(Graph *g, double value);
Node *b_true(Graph *g);
Node *b_scale(Graph *g, Node *a, double factor); /* a * const */
Node *b_offset(Graph *g, Node *a, double term);  /* a + const */
Node *b_matmul(Graph *g, Node *a, Node *b, bool ta, bool tb);
Node *b_sum(Graph *g, Node *a, int axis);        /* keeps the axis with extent 1 */
Node *b_sum_to(Graph *g, Node *a, Type shape);   /* a itself when it has that shape */
Node *b_broadcast(Graph *g, Node *a, Type shape);
Node *b_reshape(Graph *g, Node *a, int rank, const int64_t *dims);
Node *b_permute(Graph *g, Node *a, int rank, const int64_t *order);
Node *b_slice(Graph *g, Node *a, int axis, int64_t start, int64_t stop);
Node *b_result(Graph *g, Node *tuple, int index);
Node *b_input(Graph *g, const char *name, Type type);
