/* emit_panel.h - where panels come from: as stored, widened, dequantised, transposed.
 *
 * A stored panel holds 16 columns of a matrix, row after row; runtime/pack.h has the forms of
 * the element types.  Whatever the source, the values are the same f32 numbers: widening and
 * dequantising are exact. */
#pragma once
#include "backend/ll.h"

/* A block of a Q8_0 panel: 16 f16 scales, then 32 rows of 16 int8 (as in runtime/pack.h). */
enum {
    PANEL_Q8_ROWS = 32,
    PANEL_Q8_SCALES = 32,
    PANEL_Q8_BYTES = PANEL_Q8_SCALES + PANEL_Q8_ROWS * LANES
};

typedef struct PanelSource {
    int store;       /* enum LrtStore */
    bool transposed; /* stored is the transpose: [n, k] in panels of 16 of its k columns */
    int64_t k, n;    /* of the product's right operand */
    int64_t pitch;   /* bytes from row to row of what is written; 0: a panel's, without gaps */
    int64_t stride;  /* bytes from stored panel to stored panel, if k is only a part of theirs; not of transposed ones */
} PanelSource;

/* Whether products read the stored panels themselves. */
bool panel_as_stored(const PanelSource *source);
/* Bytes of one stored panel of a matrix with `rows` rows, of the block of rows that is its
 * unit, and the rows of a block. */
int64_t panel_bytes(int store, int64_t rows);
int64_t panel_block_bytes(int store);
int64_t panel_block_rows(int store);

/* Row `row` (a constant) of the block at `block`, as f32; `scale`: panel_scale of the block,
 * made once. */
Val panel_scale(Emit *e, int store, Val block);
Val panel_row(Emit *e, int store, Val block, Val scale, int64_t row);

/* 16 elements of one column of a stored panel with `rows` rows: column `lane` (i64), from row `first` (i64, a multiple of 16).
 * Elements past the end repeat the last one. */
Val panel_column(Emit *e, int store, int64_t rows, Val panel, Val lane, Val first);

/* void (stored, panel, to): writes panel number `panel` of the right operand to `to`, f32
 * [k][16] with the source's pitch.  Columns past n are zero. */
Val emit_panel(Emit *e, const PanelSource *source);
void emit_panel_call(Emit *e, Val function, Val stored, Val panel, Val to);

/* rows[i] lane j becomes rows[j] lane i. */
void emit_transpose(Emit *e, Val rows[LANES]);
