/* emit_tile.h - the inner product: a few rows of A times a few panels, in registers.
 *
 *           panel 0   panel 1
 *           k [16]    [16]          Each element of the tile is one chain of fused
 *   A  k   +-------+-------+        multiply-adds over k in ascending order, from zero or
 *   [====] | tile in regs  | rows   from what the tile holds.  Rows, panels and unrolling
 *          +-------+-------+        differ by tier; the chains do not.
 *
 * Tile functions are shared by all products of the same k, row pitch and element type. */
#pragma once
#include "backend/ll.h"

enum {
    TILE_PANELS = 4,                      /* most panels side by side */
    TILE_ROWS = 16,                       /* most rows */
    TILE_PITCH = TILE_PANELS * LANES * 4, /* bytes from row to row of a tile in memory */
    TILE_BYTES = TILE_ROWS * TILE_PITCH,
    PANEL_ROW = LANES * 4, /* bytes of a row of an f32 panel */
};

typedef struct Tile {
    int64_t k;      /* steps */
    int64_t pitch;  /* bytes from row to row of A */
    int store;      /* enum LrtStore of the panels */
    int64_t stride; /* bytes from panel to panel; 0: they follow each other without gaps */
    int rows, panels;
    bool accumulate; /* go on from the tile's contents */
    int ahead;       /* lines to prefetch into the second-level cache every TILE_UNROLL steps */
    int64_t pitch_c; /* bytes from row to row of the tile, a multiple of 64; 0: TILE_PITCH */
} Tile;

enum { TILE_UNROLL = 4 };

/* void (a, panels, tile, ahead): tile [rows][pitch_c bytes] */
Val emit_tile(Emit *e, const Tile *tile);
/* Calls one of several functions with that signature. */
void emit_tile_call(Emit *e, Val function, Val a, Val panels, Val tile, Val ahead);

/* Sums over rows: tile[i][j] = sum over rows m < steps of A[m][i] * B[m][j]. */
typedef struct TileTn {
    int64_t pitch_a, pitch_b;
    int rows, panels; /* panels of B: 16 columns each, side by side in its rows */
} TileTn;
/* void (a, b, steps, tile): tile without gaps, [rows][panels * 16] */
Val emit_tile_tn(Emit *e, const TileTn *tile);

/* Panels of the tier's main tile, and of one of 1 .. 4 rows that streams weights. */
int tile_panels(const Target *target);
int tile_panels_few(const Target *target, int rows);
