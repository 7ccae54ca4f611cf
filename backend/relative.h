/* relative.h - scores of relative positions, for the kernels of attention.
 *
 * Distances between a block of queries and a block of keys are at most 127 steps of 1 apart, and buckets do not fall with the distance:
 * so all of their buckets lie in a band of 128 rows of Kr and Qr, which products are made with.  A bucket's row is then the same for
 * all pairs of one distance, a diagonal of the block: work goes from diagonal to diagonal, 16 queries at a time.
 *
 *   diagonal x: the pairs (query r, key c) with c - r + 63 = x, of distance query - key + 63 - x */
#pragma once
#include "backend/attention.h"

enum {
    BAND = 2 * ATTENTION_BLOCK,
    BAND_PITCH = BAND * 4 + LANES * 4, /* bytes from row to row of what is BAND wide */
};

/* Offsets in the thread's scratch; of what a kernel does not use there is no room. */
typedef struct RelativePlaces {
    int64_t kr, qr;         /* rows of the band [BAND][row] */
    int64_t q_t;            /* q turned [width][query] */
    int64_t p, pk;          /* Kr q' [BAND][query], Qr k' [BAND][key]; backward: then their gradients */
    int64_t diagonals;      /* [BAND][query] */
    int64_t rows;           /* the same turned, [query][BAND]: what a pair's score gets; backward: then dS */
    int64_t d_kr, d_qr;     /* backward: sums over the whole head [buckets][row], where they are wanted */
    int64_t bytes;          /* where they end */
} RelativePlaces;

RelativePlaces relative_places(const AttentionSpec *spec, int64_t from, bool backward);

typedef struct RelativeBlock {
    Emit *e;
    const AttentionSpec *spec;
    RelativePlaces places;
    int64_t row;            /* bytes of a head's row in scratch */
    Val head, query, key;   /* positions of the first query and the first key of the blocks */
    Val band, count;        /* first bucket of the band, how many */
} RelativeBlock;

/* Loads the band and multiplies q (a block of scratch rows) and k (k_t, turned) with it.  `scale`: of the second term, where q is scaled
 * already. */
void relative_load(RelativeBlock *b, Val q, Val k_t, double scale);
/* What query r has to add to the scores of 16 keys from number `first` of the block on. */
Val relative_scores(RelativeBlock *b, Val r, int first);
/* Adds what dS (rows of ATTENTION_PITCH, zero where no key is) means for q, k and the tables; d_q and d_k are scratch rows. */
void relative_gradients(RelativeBlock *b, Val d_s, Val q, Val k, Val d_q, Val d_k, Val query_count, Val key_count);
