/* relative.h - the terms of relative positions that a score may have beside q k' (DeBERTa's disentangled attention), for recognise. */
#pragma once
#include "passes/passes.h"

/* How far apart positions can be and still have a bucket of their own; farther ones have that of the farthest. */
enum { RELATIVE_REACH = 8192 };

typedef struct Relative {
    Node *kr, *qr;   /* [heads, buckets, size] or NULL: s += q Kr[c], s += k Qr[c] */
    Node *buckets;   /* table: c of each distance row - col, -RELATIVE_REACH .. RELATIVE_REACH */
    Node *index;     /* what `buckets` was made from */
} Relative;

/* Matches `term` as take(q @ Kr', c) or take(k @ Qr', c')'; *scale is multiplied by what it is scaled with.  c has to depend on row - col
  only, and as that grows by one, to stay or to grow by one. */
bool match_relative(Graph *graph, Node *term, const Node *q, const Node *k, Relative *relative, double *scale);
/* x c, c x and x / c for a number c: strips it off and multiplies *scale. */
Node *strip_scale(Node *node, double *scale);
