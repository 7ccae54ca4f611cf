/* emit_gemm.c - the driver of C = A W (+ U L): tasks, panels, strips of rows.
 *
 *   task       a block of rows x a group of panels
 *   panel step one main tile's panels: as stored, or produced into scratch
 *   strip      the tile's rows of A x panels -> tile in scratch (+ U x L panels) -> epilogue
 *
 * Up to 4 rows (decoding) go through tiles of so many rows that are wider instead: one pass
 * over the weights with enough independent chains, in the form in which they are stored.
 *
 * A thread's scratch: the tile | produced panels of W | produced panels of L | the waiting sums of
 * a long product (emit_gemm_long.c). */
#include "backend/gemm_driver.h"

#include <assert.h>

enum {
    FEW_ROWS = 4,
    SPLIT_ROWS = 64,        /* from this many rows on tasks are blocks of rows, too */
    TASKS_WANTED = 32,      /* of a large product, so that all threads end together */
    TASKS_FEW = 96,         /* of a product with few rows */
    GROUP_BYTES = 1 << 17,  /* of weights that are worth a task */
    PRODUCED_ROWS = 128,    /* rows that pay for producing a panel */
    SHARED_BYTES = 8 << 20, /* of the operand that stays in the third-level cache */
};

/* --- what does not depend on the number of rows ------------------------------------------- */

PanelSource gemm_source_of_w(const GemmSpec *spec)
{
    return (PanelSource){.store = spec->store, .transposed = spec->transposed, .k = spec->k, .n = spec->n};
}

static PanelSource source_of_l(const GemmSpec *spec)
{
    return (PanelSource){.store = LRT_STORE_F32, .transposed = spec->l_transposed, .k = spec->rank, .n = spec->n};
}

static bool is_produced(const GemmSpec *spec)
{
    PanelSource w = gemm_source_of_w(spec), l = source_of_l(spec);
    return !panel_as_stored(&w) || (spec->rank && !panel_as_stored(&l));
}

/* Whether few rows can read the panels as they are stored. */
static bool can_stream(const GemmSpec *spec)
{
    return !spec->transposed && !(spec->rank && spec->l_transposed);
}

/* Bytes of a panel step's produced panels. */
static int64_t produced_bytes(const GemmSpec *spec, int64_t panels)
{
    PanelSource w = gemm_source_of_w(spec), l = source_of_l(spec);
    int64_t steps = panel_as_stored(&w) ? 0 : gemm_is_long(spec) ? GEMM_PART_STEPS : spec->k;
    steps += spec->rank && !panel_as_stored(&l) ? spec->rank : 0;
    return steps * panels * PANEL_ROW;
}

static int64_t round_up(int64_t value, int64_t to)
{
    return (value + to - 1) / to * to;
}

/* Panels of a task when there are few rows: whole tiles of the streaming kernels. */
static int64_t few_panels_each(const GemmSpec *spec)
{
    int64_t by_bytes = GROUP_BYTES / panel_bytes(spec->store, spec->k);
    int64_t by_tasks = (gemm_panels(spec) + TASKS_FEW - 1) / TASKS_FEW;
    return round_up(by_bytes > by_tasks ? by_bytes : by_tasks, TILE_PANELS);
}

/* Bytes of the sums of a long product that wait, of a task with many rows or with few. */
static int64_t sums_bytes(const Target *target, const GemmSpec *spec)
{
    int64_t panels = (gemm_panels(spec) + gemm_long_groups(target, spec) - 1) / gemm_long_groups(target, spec);
    int64_t many = gemm_long_rows(target) * round_up(panels, tile_panels(target));
    int64_t few = SPLIT_ROWS * round_up(few_panels_each(spec), tile_panels(target));
    return gemm_is_long(spec) ? (many > few ? many : few) * PANEL_ROW : 0;
}

int64_t gemm_scratch_bytes(const GemmSpec *spec)
{
    int64_t most = 0;
    for (int tier = 0; tier < TARGET_COUNT; tier++) {
        int64_t bytes = produced_bytes(spec, tile_panels(&targets[tier])) + sums_bytes(&targets[tier], spec);
        most = bytes > most ? bytes : most;
    }
    return TILE_BYTES + most;
}

/* --- tasks -------------------------------------------------------------------------------- */

/* As stored: a block of A stays in the second-level cache while the task's panels pass by, and
 * those in the third-level cache while the blocks of A take turns.  Produced: a panel stays in
 * the second-level cache while the task's rows pass by, and those in the third-level cache
 * while the panels take turns, if so many rows fit there that they pay for the panel.  Long: so many
 * rows and panels that their sums can wait.  Rows are split further when there are too few panels
 * for many threads. */
static Split split_product(Emit *e, const GemmSpec *spec, Val rows)
{
    bool produced = is_produced(spec), is_long = gemm_is_long(spec);
    int64_t mr = e->target->mr, panels = gemm_panels(spec), step = tile_panels(e->target);
    int64_t block = (produced ? SHARED_BYTES : (int64_t)e->target->block_kb * 1024) /
                    spec->a.pitch / mr * mr;
    int64_t least_rows = produced ? PRODUCED_ROWS : 4 * mr, least_block = produced ? PRODUCED_ROWS : mr;
    int64_t most_groups = produced ? (panels + step - 1) / step : (panels + 7) / 8;
    int64_t least_groups = 1 + (panels * panel_bytes(spec->store, spec->k) - 1) / SHARED_BYTES;
    block = is_long ? gemm_long_rows(e->target) : block < least_block ? least_block : block;
    least_groups = is_long ? gemm_long_groups(e->target, spec) : least_groups;
    least_groups = least_groups < most_groups ? least_groups : most_groups;

    Val one = ll_i64(e, 1);
    Val wanted = ll_min(e, ll_i64(e, (TASKS_WANTED + most_groups - 1) / most_groups),
                        ll_div(e, rows, ll_i64(e, least_rows)));
    Val blocks = ll_max(e, ll_max(e, wanted, ll_ceil_div(e, rows, ll_i64(e, block))), one);
    Val strips = ll_ceil_div(e, ll_ceil_div(e, rows, blocks), ll_i64(e, mr));
    Val rows_each = ll_mul(e, ll_max(e, strips, one), ll_i64(e, mr));
    blocks = ll_max(e, ll_ceil_div(e, rows, rows_each), one);
    Val groups =
        ll_min(e, ll_i64(e, most_groups), ll_ceil_div(e, ll_i64(e, TASKS_WANTED), blocks));
    groups = ll_max(e, groups, ll_i64(e, least_groups));
    Val steps = ll_ceil_div(e, ll_ceil_div(e, ll_i64(e, panels), groups), ll_i64(e, step));
    Val panels_each = ll_mul(e, steps, ll_i64(e, step));

    Val split = LLVMBuildICmp(e->builder, LLVMIntSGE, rows, ll_i64(e, SPLIT_ROWS), "");
    Split s;
    s.rows_each = ll_select(e, split, rows_each, ll_max(e, rows, one));
    s.panels_each = ll_select(e, split, panels_each, ll_i64(e, few_panels_each(spec)));
    s.row_tasks = ll_select(e, split, blocks, one);
    s.panel_tasks = ll_ceil_div(e, ll_i64(e, panels), s.panels_each);
    return s;
}

Val emit_gemm_tasks(Emit *e, const GemmSpec *spec, Val rows)
{
    Split split = split_product(e, spec, rows);
    return ll_mul(e, split.row_tasks, split.panel_tasks);
}

/* --- epilogue ----------------------------------------------------------------------------- */

/* void (context, record, task, scratch, tile, pitch, row, rows, panel, panels): hands the tile to
 * the caller's epilogue.  A function, so that its code exists once. */
enum { FINISH_TILE = 4, FINISH_PITCH, FINISH_ROW, FINISH_ROWS, FINISH_PANEL, FINISH_PANELS, FINISH_PARAMS };

static LLVMTypeRef finish_type(Emit *e, LLVMTypeRef params[FINISH_PARAMS])
{
    LLVMTypeRef types[FINISH_PARAMS] = {e->t_ptr, e->t_ptr, e->t_i64, e->t_ptr, e->t_ptr,
                                        e->t_i64, e->t_i64, e->t_i64, e->t_i64, e->t_i64};
    for (int i = 0; i < FINISH_PARAMS; i++)
        params[i] = types[i];
    return LLVMFunctionType(e->t_void, params, FINISH_PARAMS, 0);
}

static Val emit_finish(Emit *e, const GemmSpec *spec)
{
    LLVMTypeRef params[FINISH_PARAMS];
    finish_type(e, params);
    EmitState state = emit_save(e);
    const char *name = arena_format(e->arena, "%s.finish", spec->name);
    Val function = emit_function(e, name, e->t_void, params, FINISH_PARAMS, true);
    Val tile = emit_param(e, FINISH_TILE), zero = ll_i64(e, 0), one = ll_i64(e, 1);
    Loop rows = loop_begin(e, zero, emit_param(e, FINISH_ROWS), one, NULL, 0, true);
    Val row = ll_add(e, emit_param(e, FINISH_ROW), rows.index);
    Val tile_row = ll_at(e, tile, ll_mul(e, rows.index, emit_param(e, FINISH_PITCH)));
    Loop panels = loop_begin(e, zero, emit_param(e, FINISH_PANELS), one, NULL, 0, true);
    Val column =
        ll_mul(e, ll_add(e, emit_param(e, FINISH_PANEL), panels.index), ll_i64(e, LANES));
    Val from = ll_at(e, tile_row, ll_mul(e, panels.index, ll_i64(e, PANEL_ROW)));
    spec->epilogue(e, spec->user, ll_load(e, e->t_vec, from, 64), row, column);
    loop_end(e, &panels, NULL, NULL);
    loop_end(e, &rows, NULL, NULL);
    emit_return(e);
    emit_restore(e, state);
    return function;
}

/* --- tiles -------------------------------------------------------------------------------- */

/* What a strip prefetches into the second-level cache: lines every TILE_UNROLL steps. */
typedef struct Ahead {
    Val from;
    int lines;
} Ahead;

Val gemm_tile_function(Driver *d, const PanelStep *step, Tile tile)
{
    tile.panels = step->full;
    Val function = emit_tile(d->e, &tile);
    if (!step->is_full)
        return function;
    tile.panels = 1;
    return ll_select(d->e, step->is_full, function, emit_tile(d->e, &tile));
}

void gemm_finish_strip(Driver *d, const PanelStep *step, Val sums, int64_t pitch, Val row, int rows)
{
    Emit *e = d->e;
    const GemmSpec *spec = d->spec;
    if (spec->rank) {
        Tile second = {.k = spec->rank, .pitch = spec->u.pitch, .rows = rows, .accumulate = true, .pitch_c = pitch};
        Val u = ll_at(e, d->u, ll_mul(e, row, ll_i64(e, spec->u.pitch)));
        emit_tile_call(e, gemm_tile_function(d, step, second), u, step->l, sums, step->l);
    }
    LLVMTypeRef params[FINISH_PARAMS];
    LLVMTypeRef type = finish_type(e, params);
    Val args[FINISH_PARAMS];
    for (int i = 0; i < FINISH_TILE; i++)
        args[i] = emit_param(e, i);
    args[FINISH_TILE] = sums;
    args[FINISH_PITCH] = ll_i64(e, pitch);
    args[FINISH_ROW] = row;
    args[FINISH_ROWS] = ll_i64(e, rows);
    args[FINISH_PANEL] = step->panel;
    args[FINISH_PANELS] = step->panels;
    LLVMBuildCall2(e->builder, type, d->finish, args, FINISH_PARAMS, "");
}

/* Rows row .. row + rows - 1 (a constant) of the result. */
static void emit_strip(Driver *d, const PanelStep *step, Val row, int rows, Ahead ahead)
{
    Emit *e = d->e;
    const GemmSpec *spec = d->spec;
    Tile tile = {.k = spec->k, .pitch = spec->a.pitch, .store = step->store, .rows = rows};
    tile.ahead = ahead.lines;
    Val a = ll_at(e, d->a, ll_mul(e, row, ll_i64(e, spec->a.pitch)));
    emit_tile_call(e, gemm_tile_function(d, step, tile), a, step->w, d->tile,
                   ahead.lines ? ahead.from : step->w);
    gemm_finish_strip(d, step, d->tile, TILE_PITCH, row, rows);
}

typedef struct Rest {
    Driver *d;
    const PanelStep *step;
} Rest;

static void rest_strip(Emit *e, void *user, Val row, int rows)
{
    (void)e;
    Rest *rest = user;
    emit_strip(rest->d, rest->step, row, rows, (Ahead){NULL, 0});
}

/* The rows that do not fill a strip. */
static void emit_rest_strips(Driver *d, const PanelStep *step, Val row)
{
    Rest rest = {d, step};
    emit_rest(d->e, row, d->end_row, d->e->target->mr, rest_strip, &rest);
}

/* --- panels ------------------------------------------------------------------------------- */

/* The `full` panels from number `panel` on, as they are stored. */
static PanelStep whole_step(Driver *d, Val panel, int full)
{
    Emit *e = d->e;
    const GemmSpec *spec = d->spec;
    PanelStep step = {
        .panel = panel, .full = full, .store = spec->store, .panels = ll_i64(e, full)};
    step.w = ll_at(e, d->w, ll_mul(e, panel, ll_i64(e, panel_bytes(spec->store, spec->k))));
    if (spec->rank)
        step.l = ll_at(e, d->l, ll_mul(e, panel, ll_i64(e, spec->rank * PANEL_ROW)));
    return step;
}

PanelStep gemm_step_at(Driver *d, Val panel, int full)
{
    Emit *e = d->e;
    PanelStep step = whole_step(d, panel, full);
    assert(full <= 2);
    if (gemm_panels(d->spec) % full) {
        Val left = ll_sub(e, d->end_panel, panel);
        step.is_full = LLVMBuildICmp(e->builder, LLVMIntSGE, left, step.panels, "");
        step.panels = ll_select(e, step.is_full, step.panels, ll_i64(e, 1));
    }
    return step;
}

void gemm_produce(Driver *d, const PanelStep *step, const PanelSource *source, Val stored, Val to)
{
    Emit *e = d->e;
    Loop loop = loop_begin(e, ll_i64(e, 0), step->panels, ll_i64(e, 1), NULL, 0, true);
    Val out = ll_at(e, to, ll_mul(e, loop.index, ll_i64(e, source->k * PANEL_ROW)));
    emit_panel_call(e, emit_panel(e, source), stored, ll_add(e, step->panel, loop.index), out);
    loop_end(e, &loop, NULL, NULL);
}

void gemm_produce_l(Driver *d, PanelStep *step, Val to)
{
    PanelSource l = source_of_l(d->spec);
    if (d->spec->rank && !panel_as_stored(&l)) {
        gemm_produce(d, step, &l, d->l, to);
        step->l = to;
    }
}

static void produce_panels(Driver *d, PanelStep *step)
{
    PanelSource w = gemm_source_of_w(d->spec);
    Val to = ll_at_const(d->e, d->tile, TILE_BYTES);
    if (!panel_as_stored(&w)) {
        gemm_produce(d, step, &w, d->w, to);
        step->w = to;
        step->store = LRT_STORE_F32;
        to = ll_at_const(d->e, to, step->full * d->spec->k * PANEL_ROW);
    }
    gemm_produce_l(d, step, to);
}

/* As stored: the next panels, each strip its part of them, in order.  Produced: the rows of the
 * next strip. */
static Ahead prefetch_from(Driver *d, const PanelStep *step, Val strip, Val row)
{
    Emit *e = d->e;
    const GemmSpec *spec = d->spec;
    int64_t rounds = spec->k / TILE_UNROLL, mr = e->target->mr;
    if (!rounds)
        return (Ahead){NULL, 0};
    if (is_produced(spec)) {
        int64_t bytes = mr * spec->a.pitch;
        Val next = ll_mul(e, ll_add(e, row, ll_i64(e, mr)), ll_i64(e, spec->a.pitch));
        return (Ahead){ll_at(e, d->a, next), (int)((bytes / 64 + rounds - 1) / rounds)};
    }
    int64_t part = rounds * 64, bytes = step->full * spec->k * PANEL_ROW;
    Val needed =
        LLVMBuildICmp(e->builder, LLVMIntSLT, strip, ll_i64(e, (bytes + part - 1) / part), "");
    Val next = ll_at(e, ll_at_const(e, step->w, bytes), ll_mul(e, strip, ll_i64(e, part)));
    return (Ahead){ll_select(e, needed, next, step->w), 1};
}

static void emit_panels(Driver *d)
{
    Emit *e = d->e;
    int mr = e->target->mr, full = tile_panels(e->target);
    Val rows = ll_sub(e, d->end_row, d->first_row);
    Val strips = ll_div(e, rows, ll_i64(e, mr));
    Loop panels = loop_begin(e, d->first_panel, d->end_panel, ll_i64(e, full), NULL, 0, false);
    PanelStep step = gemm_step_at(d, panels.index, full);
    produce_panels(d, &step);
    Loop loop = loop_begin(e, ll_i64(e, 0), strips, ll_i64(e, 1), NULL, 0, false);
    Val row = ll_add(e, d->first_row, ll_mul(e, loop.index, ll_i64(e, mr)));
    emit_strip(d, &step, row, mr, prefetch_from(d, &step, loop.index, row));
    loop_end(e, &loop, NULL, NULL);
    emit_rest_strips(d, &step, ll_add(e, d->first_row, ll_mul(e, strips, ll_i64(e, mr))));
    loop_end(e, &panels, NULL, NULL);
}

/* Less than a strip of rows, which would not pay for producing panels: as stored, whatever
 * their form. */
static void emit_short(Driver *d)
{
    Emit *e = d->e;
    int full = tile_panels(e->target);
    Loop panels = loop_begin(e, d->first_panel, d->end_panel, ll_i64(e, full), NULL, 0, false);
    PanelStep step = gemm_step_at(d, panels.index, full);
    emit_rest_strips(d, &step, d->first_row);
    loop_end(e, &panels, NULL, NULL);
}

/* Few rows: one pass over the weights, whole tiles, then single panels. */
static void emit_stream(Driver *d, int rows)
{
    Emit *e = d->e;
    int full = tile_panels_few(e->target, rows);
    int64_t panels = gemm_panels(d->spec);
    Val whole = ll_sub(e, d->end_panel,
                       ll_rem(e, ll_sub(e, d->end_panel, d->first_panel), ll_i64(e, full)));
    for (int part = 0; part < 2; part++) {
        int width = part ? 1 : full;
        if (part ? panels % full == 0 : panels < full)
            continue;
        Loop loop = loop_begin(e, part ? whole : d->first_panel, part ? d->end_panel : whole,
                               ll_i64(e, width), NULL, 0, false);
        PanelStep step = whole_step(d, loop.index, width);
        emit_strip(d, &step, ll_i64(e, 0), rows, (Ahead){NULL, 0});
        loop_end(e, &loop, NULL, NULL);
    }
}

/* --- kernel ------------------------------------------------------------------------------- */

static void begin_task(Driver *d, Val rows)
{
    Emit *e = d->e;
    Val task = emit_param(e, KERNEL_TASK);
    d->split = split_product(e, d->spec, rows);
    /* What the other tasks at this time share changes slowest: panels as stored, or rows where
     * panels are produced or the product is long. */
    bool share_rows = is_produced(d->spec) || gemm_is_long(d->spec);
    Val inner = share_rows ? d->split.panel_tasks : d->split.row_tasks;
    Val fast = ll_rem(e, task, inner), slow = ll_div(e, task, inner);
    Val block = share_rows ? slow : fast, group = share_rows ? fast : slow;
    d->first_row = ll_mul(e, block, d->split.rows_each);
    d->end_row = ll_min(e, ll_add(e, d->first_row, d->split.rows_each), rows);
    d->first_panel = ll_mul(e, group, d->split.panels_each);
    d->end_panel = ll_min(e, ll_add(e, d->first_panel, d->split.panels_each),
                          ll_i64(e, gemm_panels(d->spec)));
    d->tile = emit_param(e, KERNEL_SCRATCH);
    d->sums = ll_at_const(e, d->tile, TILE_BYTES + produced_bytes(d->spec, tile_panels(e->target)));
    d->a = operand_pointer(e, d->spec->a);
    d->w = operand_pointer(e, d->spec->w);
    if (d->spec->rank) {
        d->u = operand_pointer(e, d->spec->u);
        d->l = operand_pointer(e, d->spec->l);
    }
}

Val emit_gemm(Emit *e, const GemmSpec *spec)
{
    Driver d = {.e = e, .spec = spec};
    d.finish = emit_finish(e, spec);
    Val function = emit_kernel(e, spec->name);
    Val context = emit_param(e, KERNEL_CONTEXT);
    Val rows = ll_rows(e, context, spec->row_dim);
    begin_task(&d, rows);
    /* Rows up to which the kernel does something else than for many. */
    int64_t few = can_stream(spec) ? FEW_ROWS : 0;
    int64_t small = few;
    if (few && spec->store != LRT_STORE_F32 && e->target->mr - 1 > few)
        small = e->target->mr - 1;
    for (int64_t count = 1; count <= few && count <= spec->max_rows; count++) {
        If branch =
            if_begin(e, LLVMBuildICmp(e->builder, LLVMIntEQ, rows, ll_i64(e, count), ""));
        emit_stream(&d, (int)count);
        if_end(e, &branch);
    }
    if (small > few && spec->max_rows > few) {
        Val more = LLVMBuildICmp(e->builder, LLVMIntSGT, rows, ll_i64(e, few), "");
        Val less = LLVMBuildICmp(e->builder, LLVMIntSLE, rows, ll_i64(e, small), "");
        If branch = if_begin(e, LLVMBuildAnd(e->builder, more, less, ""));
        emit_short(&d);
        if_end(e, &branch);
    }
    if (spec->max_rows > small) {
        If branch =
            if_begin(e, LLVMBuildICmp(e->builder, LLVMIntSGT, rows, ll_i64(e, small), ""));
        if (gemm_is_long(spec))
            emit_gemm_long(&d);
        else
            emit_panels(&d);
        if_end(e, &branch);
    }
    emit_return(e);
    return function;
}
