/* attention.h - shared by the forward and the backward kernel of attention. */
#pragma once
#include "backend/emit_attention.h"
#include "backend/emit_block.h"

enum {
    ATTENTION_BLOCK = 64,                              /* queries, and keys, that are worked on together */
    ATTENTION_PITCH = ATTENTION_BLOCK * 4 + LANES * 4, /* bytes from row to row of a block of scores */
};

/* Where a task works. */
typedef struct AttentionTask {
    Val start, length, key_start, past; /* the segment */
    Val head, kv_head, block;
} AttentionTask;

int64_t attention_width(const AttentionSpec *spec); /* head_dim, in whole vectors */
Val attention_field(Emit *e, Val segment, size_t offset);
/* Tasks of blocks of `block` queries (0: one a segment) for every head. */
Val attention_count_tasks(Emit *e, const AttentionSpec *spec, Val context, int64_t block);
AttentionTask attention_find_task(Emit *e, const AttentionSpec *spec, int64_t block);
/* Row `row` of an operand, at the columns of a head. */
Val attention_rows(Emit *e, Operand operand, Val row, Val head, int64_t head_dim);
/* Which of the scores at a place count; what they are with their bias. */
Val attention_mask(Emit *e, const AttentionSpec *spec, const ScorePlace *place);
Val attention_biased(Emit *e, const AttentionSpec *spec, const ScorePlace *place, Val scores);
