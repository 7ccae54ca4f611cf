/* emit_attention.h - streaming attention (Dao et al., FlashAttention, 2022), forward and backward, and the fused loss
 * over the vocabulary; no buffer of T x T or T x vocabulary. */
#pragma once
#include "backend/emit_gemm.h"
#include "backend/ll.h"

/* 16 scores of a query: those of keys key .. key + 15, of `keys` that there are (i64).  Code for a function of the place is called where
 * the kernel computes these scores, `where` before `bias`. */
typedef struct ScorePlace {
    Val head, position, key, keys;
} ScorePlace;
typedef Val (*ScoreCode)(void *user, const ScorePlace *place);

/* o = softmax(scale q k' + bias where mask) v for each head; keys of a segment are rows key_start .. key_start + past + length - 1 of the
 * key buffer; row i of a segment has position past + i.  lse: natural log-sum-exp of the scaled scores. */
typedef struct AttentionSpec {
    const char *name;
    int64_t heads, kv_heads, head_dim;
    double scale;
    double cap;            /* a scaled score s becomes cap tanh(s / cap); 0: it stays */
    bool causal;
    int64_t window;        /* keys with position - window < key; 0: no limit */
    int64_t max_tokens;    /* rows in flight */
    int64_t max_keys;      /* longest sequence: past + length */
    Operand q, k, v;       /* rows [heads * head_dim], [kv_heads * head_dim] */
    Operand o;             /* forward: result; backward: the forward's result */
    Operand lse;           /* f32 rows [heads]; forward: may have slot -1 (not wanted) */
    Operand d_o, d_q, d_k, d_v; /* backward only; d_q, d_k, d_v are overwritten */
    Operand work;          /* backward only: attention_work_bytes() of the arena, for partial sums between its kernels */
    /* Relative positions: the score has q Kr[c] + k Qr[c] as well, c = table[position - key + reach]. */
    int relative;          /* 1: the first term, 2: the second, 3: both, 0: none */
    int64_t buckets, reach;
    Operand kr, qr;        /* rows [heads * head_dim], one for each bucket */
    Operand table;         /* f32 [2 reach + 1], not falling */
    Operand d_kr, d_qr;    /* backward only; overwritten; slot -1: not wanted */
    ScoreCode where;       /* which scores count, <16 x i1>; NULL: all that causal and window allow */
    ScoreCode bias;        /* what is added to the scaled scores, <16 x float>; NULL: nothing */
    void *score_user;      /* what these two get */
    bool openblas;
} AttentionSpec;

Val emit_attention(Emit *e, const AttentionSpec *spec);
Val emit_attention_tasks(Emit *e, const AttentionSpec *spec, Val context);
int64_t attention_scratch_bytes(const AttentionSpec *spec);

/* Backward: up to two kernels, run one after the other (the second sums partial dK, dV over the heads of a group in head
 * order; NULL if there is none). */
void emit_attention_grad(Emit *e, const AttentionSpec *spec, Val kernels[2]);
Val emit_attention_grad_tasks(Emit *e, const AttentionSpec *spec, Val context, int which);
int64_t attention_grad_scratch_bytes(const AttentionSpec *spec);
int64_t attention_work_bytes(const AttentionSpec *spec);

/* loss[i] = logsumexp(x_i W) - (x_i W)[target_i]; dx = gradient of the sum of losses; rows without target get 0 in both.
 * One pass over the vocabulary in chunks: online maximum and sum, dx rescaled (attention with keys = values = vocabulary).
 * Only context->target_rows are computed.  dx is left unspecified when context->want_gradients is 0. */
typedef struct CrossEntropySpec {
    const char *name;
    int64_t k, vocabulary;
    int64_t max_rows;
    int store;             /* enum LrtStore of W */
    Operand x;             /* rows [k] */
    Operand w;             /* panels of [k, vocabulary] */
    bool biased;
    Operand bias;          /* [vocabulary], with room to the next whole vector */
    Operand loss;          /* f32 [rows], pitch 4 */
    Operand dx;            /* rows [k] */
    bool openblas;
} CrossEntropySpec;
Val emit_cross_entropy(Emit *e, const CrossEntropySpec *spec);
Val emit_cross_entropy_tasks(Emit *e, const CrossEntropySpec *spec, Val context);
int64_t cross_entropy_scratch_bytes(const CrossEntropySpec *spec);
