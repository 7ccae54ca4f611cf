/* gemm_driver.h - what the parts of the driver of C = A W (+ U L) share: emit_gemm.c, emit_gemm_long.c. */
#pragma once
#include "backend/emit_gemm.h"
#include "backend/emit_panel.h"
#include "backend/emit_tile.h"

typedef struct Split {
    Val rows_each, panels_each; /* of a task */
    Val row_tasks, panel_tasks;
} Split;

typedef struct Driver {
    Emit *e;
    const GemmSpec *spec;
    Val finish;
    Val tile, sums; /* in scratch */
    Val a, w, u, l; /* operands */
    Split split;
    Val first_row, end_row, first_panel, end_panel; /* of this task */
} Driver;

/* What a strip of rows is multiplied with. */
typedef struct PanelStep {
    Val w, l;    /* first panel of each */
    Val panel;   /* its number */
    Val panels;  /* how many there are: `full`, or 1 at the end of the product */
    Val is_full; /* i1; NULL: always */
    int full;
    int store;
} PanelStep;

static inline int64_t gemm_panels(const GemmSpec *spec) { return (spec->n + LANES - 1) / LANES; }
PanelSource gemm_source_of_w(const GemmSpec *spec);

/* The `full` panels from number `panel` on, as they are stored, or a single one if the task has no more. */
PanelStep gemm_step_at(Driver *d, Val panel, int full);
/* Writes the step's panels to `to`. */
void gemm_produce(Driver *d, const PanelStep *step, const PanelSource *source, Val stored, Val to);
/* The step's panels of L to `to`, if the tiles cannot read them as they are stored. */
void gemm_produce_l(Driver *d, PanelStep *step, Val to);
/* The function for the step's panels, chosen at run time if their number is not certain; sets tile.panels. */
Val gemm_tile_function(Driver *d, const PanelStep *step, Tile tile);
/* The second term, and what becomes of the sums (`pitch` bytes from row to row) of rows row .. row + rows - 1, a constant number. */
void gemm_finish_strip(Driver *d, const PanelStep *step, Val sums, int64_t pitch, Val row, int rows);

/* --- products of many steps ---------------------------------------------------------------------------------------- */

enum {
    GEMM_LONG_STEPS = 4096, /* from here on neither a tile's rows of A nor its panels are sure to stay in the second-level cache */
    GEMM_PART_STEPS = 256,  /* whole blocks of every element type */
};
static inline bool gemm_is_long(const GemmSpec *spec) { return spec->k >= GEMM_LONG_STEPS; }
/* The most rows of a task, and the fewest groups of panels. */
int64_t gemm_long_rows(const Target *target);
int64_t gemm_long_groups(const Target *target, const GemmSpec *spec);
/* All of the task; d->sums: room for each of its rows, and all panels of its steps. */
void emit_gemm_long(Driver *d);
