/* shape.h - type inference: one rule for each op, named in ops.def. */
#pragma once
#include "ir/graph.h"

/* Computes the type(s) of an op's result.  On a violation returns false and sets *reason to a message such as
 * "inner dimensions differ: 768 and 512".  Tuple ops: results receive all types (arena array in *results). */
bool shape_infer(Arena *arena, Op op, const Attrs *attrs, int input_count, Node *const *inputs, Type *type,
                 Type **results, int *result_count, const char **reason);
