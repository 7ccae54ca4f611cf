/* grad.h - gradient rules, one for each name in the grad column of ops.def. */
#pragma once
#include "ir/graph.h"

/* dy: gradients of the results of n (a tuple's may be NULL: not used); dx: receives gradients of the inputs, NULL: none. */
typedef void GradRule(Graph *g, Node *n, Node **dy, Node **dx);
extern GradRule *const grad_rules[OP_COUNT]; /* NULL: not differentiable */
