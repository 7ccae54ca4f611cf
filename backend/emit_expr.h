/* emit_expr.h - computing values in place: 16 columns of one row at a time. */
#pragma once
#include "backend/bind.h"

typedef struct Expr {
    Emit *e;
    Binding *binding;
    Val row;                 /* i64: index of the row */
    Val *row_value;          /* by node id: valid for the whole row (values of one column) */
    Val *chunk_value;        /* by node id: valid for the current row at chunk_column */
    Val *chunk_column;
    int *row_mark, *chunk_mark, *hoist_mark;
    int row_generation, chunk_generation;
    Val head, position;      /* (i64) of an attention's query, whose keys stand in the columns; NULL elsewhere */
    const Node *accumulator; /* a product's node: its value is `accumulated` */
    const Node *absent;      /* the low-rank product, whose sum the accumulator has already */
    Val accumulated;
} Expr;

Expr *vexpr_new(Arena *arena, Emit *e, Binding *binding);
void vexpr_row(Expr *x, Val row);   /* a new row: forgets everything */
void vexpr_chunk(Expr *x);          /* new columns: forgets what belongs to the last ones */
/* Columns column .. column + 15 of a node's value as <16 x float>, <16 x i32> or <16 x i1>; one-column values in all lanes. */
Val vexpr_value(Expr *x, const Node *node, Val column);
/* Stores those columns in the row's place in `to`: all 16 or, of one-column values, the number alone, for the next row's is beside it. */
void vexpr_store(Expr *x, const Node *node, Operand to, Val column);
/* Computes the one-column values below `node` now, so that they stay outside the loop over columns. */
void vexpr_hoist(Expr *x, const Node *node);
void vexpr_set_row(Expr *x, const Node *node, Val value); /* a finished reduction */

/* x where kept, scaled by 1 / (1 - rate), else 0 (ir/dropout.h); x itself when the context is not training. */
Val emit_dropout(Expr *x, const Node *node, Val value, Val column);
/* The value of a MAP op. */
Val emit_map(Expr *x, const Node *node, Val *inputs, Val column);
