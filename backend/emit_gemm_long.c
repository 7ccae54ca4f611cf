/* emit_gemm_long.c - products of many steps along k: a vocabulary, a wide MLP.
 *
 * k is cut into parts.  A block of A stays in the second-level cache while a part of all the
 * task's panels passes by; the sums wait in scratch, [panel step][row][panels of a step], and go
 * on with the next part: they are the same chains. */
#include "backend/gemm_driver.h"

enum { SUMS_BYTES = 1 << 20 }; /* that wait: about, of a task */

int64_t gemm_long_rows(const Target *target)
{
    return (int64_t)target->block_kb * 1024 / (GEMM_PART_STEPS * 4) / target->mr * target->mr;
}

int64_t gemm_long_groups(const Target *target, const GemmSpec *spec)
{
    int64_t bytes = gemm_panels(spec) * gemm_long_rows(target) * PANEL_ROW;
    return (bytes + SUMS_BYTES - 1) / SUMS_BYTES;
}

/* A part of a long product: `steps` steps from `first` on. */
typedef struct Part {
    Driver *d;
    PanelStep step;
    Val first;
    int64_t steps, stride; /* stride: bytes from panel to panel where they are stored; 0: produced */
} Part;

static int64_t sums_pitch(const Driver *d)
{
    return tile_panels(d->e->target) * PANEL_ROW;
}

/* The waiting sums of a row of the panel step that begins with this panel. */
static Val sums_at(Driver *d, Val panel, Val row)
{
    Emit *e = d->e;
    Val step = ll_div(e, ll_sub(e, panel, d->first_panel), ll_i64(e, tile_panels(e->target)));
    Val rows = ll_add(e, ll_mul(e, step, d->split.rows_each), ll_sub(e, row, d->first_row));
    return ll_at(e, d->sums, ll_mul(e, rows, ll_i64(e, sums_pitch(d))));
}

static void part_strip(Emit *e, void *user, Val row, int rows)
{
    Part *part = user;
    Driver *d = part->d;
    Tile tile = {.k = part->steps, .pitch = d->spec->a.pitch, .store = part->step.store, .rows = rows, .accumulate = true,
                 .pitch_c = sums_pitch(d), .stride = part->stride};
    Val a = ll_at(e, d->a, ll_mul(e, row, ll_i64(e, d->spec->a.pitch)));
    a = ll_at(e, a, ll_mul(e, part->first, ll_i64(e, 4)));
    emit_tile_call(e, gemm_tile_function(d, &part->step, tile), a, part->step.w, sums_at(d, part->step.panel, row), part->step.w);
}

static void waiting_strip(Emit *e, void *user, Val row, int rows)
{
    (void)e;
    Part *part = user;
    gemm_finish_strip(part->d, &part->step, sums_at(part->d, part->step.panel, row), sums_pitch(part->d), row, rows);
}

/* All rows of the task, strip by strip. */
static void emit_strips(Driver *d, RowsCode *code, Part *part)
{
    Emit *e = d->e;
    int mr = e->target->mr;
    Val rows = ll_sub(e, d->end_row, d->first_row), whole = ll_sub(e, d->end_row, ll_rem(e, rows, ll_i64(e, mr)));
    Loop loop = loop_begin(e, d->first_row, whole, ll_i64(e, mr), NULL, 0, false);
    code(e, part, loop.index, mr);
    loop_end(e, &loop, NULL, NULL);
    emit_rest(e, whole, d->end_row, mr, code, part);
}

/* The part's panels: where they are stored, or produced. */
static void part_panels(Part *part, Val panel)
{
    Driver *d = part->d;
    Emit *e = d->e;
    const GemmSpec *spec = d->spec;
    part->step = gemm_step_at(d, panel, tile_panels(e->target));
    PanelSource w = gemm_source_of_w(spec);
    int64_t rows = spec->transposed ? LANES : panel_block_rows(spec->store);
    int64_t bytes = spec->transposed ? panel_bytes(spec->store, spec->n) : panel_block_bytes(spec->store);
    Val offset = ll_mul(e, ll_div(e, part->first, ll_i64(e, rows)), ll_i64(e, bytes));
    int64_t stride = panel_bytes(spec->store, spec->k); /* from stored panel to panel, if not transposed */
    if (panel_as_stored(&w)) {
        part->step.w = ll_at(e, part->step.w, offset);
        part->stride = stride;
        return;
    }
    w.stride = spec->transposed ? 0 : stride;
    w.k = part->steps;
    part->step.w = ll_at_const(e, d->tile, TILE_BYTES);
    part->step.store = LRT_STORE_F32;
    gemm_produce(d, &part->step, &w, ll_at(e, d->w, offset), part->step.w);
}

static Loop panels_begin(Driver *d)
{
    return loop_begin(d->e, d->first_panel, d->end_panel, ll_i64(d->e, tile_panels(d->e->target)), NULL, 0, false);
}

static void emit_part(Driver *d, Val first, int64_t steps)
{
    Part part = {.d = d, .first = first, .steps = steps};
    Loop panels = panels_begin(d);
    part_panels(&part, panels.index);
    emit_strips(d, part_strip, &part);
    loop_end(d->e, &panels, NULL, NULL);
}

void emit_gemm_long(Driver *d)
{
    Emit *e = d->e;
    int64_t k = d->spec->k, whole = k / GEMM_PART_STEPS * GEMM_PART_STEPS;
    Loop panels = panels_begin(d);
    Val bytes = ll_mul(e, ll_sub(e, d->end_row, d->first_row), ll_i64(e, sums_pitch(d)));
    LLVMBuildMemSet(e->builder, sums_at(d, panels.index, d->first_row), LLVMConstInt(e->t_i8, 0, 0), bytes, 64);
    loop_end(e, &panels, NULL, NULL);
    Loop parts = loop_begin(e, ll_i64(e, 0), ll_i64(e, whole), ll_i64(e, GEMM_PART_STEPS), NULL, 0, true);
    emit_part(d, parts.index, GEMM_PART_STEPS);
    loop_end(e, &parts, NULL, NULL);
    if (whole < k)
        emit_part(d, ll_i64(e, whole), k - whole);
    panels = panels_begin(d);
    Part part = {.d = d, .step = gemm_step_at(d, panels.index, tile_panels(e->target))};
    gemm_produce_l(d, &part.step, ll_at_const(e, d->tile, TILE_BYTES));
    emit_strips(d, waiting_strip, &part);
    loop_end(e, &panels, NULL, NULL);
}
