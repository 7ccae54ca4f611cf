/* emit_gemm_tn.c - G += A' B, a sum over rows (tokens).
 *
 * The order of summation: rows 256 c .. 256 c + 255 are chunk c, one chain of fused
 * multiply-adds; chunks are leaves of a binary tree, pairs first.  The tree is a binary
 * counter: a level of the stack holds the sum of 2^level chunks, equal levels are added as soon
 * as there are two; at the end the levels left are added from the lowest up.
 *
 *   task    some strips of B, each as wide as a tile, x a group of tiles (rows of G = columns of A)
 *   chunk   strip by strip, while the chunk's part of A is in the second-level cache; where a
 *           tile takes half of a cache line of A or less, that part is copied first, tile by tile
 *   strip   tile by tile, while the chunk's part of the strip is in the first-level cache
 *
 * Heights of tiles differ by at most one, so that two functions do for any k.
 *
 * A thread's scratch: the finished tile | the chunk of a strip, without gaps between its rows |
 * the chunk's part of A [tile][row] | stacks [strip][tile][level]. */
#include "backend/emit_gemm.h"
#include "backend/emit_tile.h"

enum {
    CHUNK_ROWS = 256,
    GROUP_TILES = 24, /* this and the next bound the stacks */
    GROUP_STRIPS = 4,
    COPY_TILES = 4,       /* tiles that pay for copying the chunk of B */
    COPY_STRIPS = 12,     /* GROUP_STRIPS where they have to pay for copying A */
    COPY_ROWS = 8,        /* rows of a tile up to which A is copied: half a line */
    COPY_AHEAD = 8,       /* rows to prefetch, of A and of the copy */
    COPY_GAP = PANEL_ROW, /* between tiles: keeps their lines in different sets */
    TN_TASKS = 32,
};

typedef struct Tiles {
    int panels;           /* of a tile */
    int rows;             /* of the first `tall` tiles; the others have one less */
    int64_t count, tall;  /* along k */
    int64_t each, groups; /* tiles of a task, groups of tiles */
    int64_t strips;       /* along n */
    int64_t wide, steps;  /* strips of a task, groups of strips */
    bool copies_a, copies_b;
} Tiles;

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static Tiles plan_tiles(const Target *target, const GemmTnSpec *spec)
{
    Tiles t;
    int64_t panels = ceil_div(spec->n, LANES);
    t.panels = tile_panels(target) < panels ? tile_panels(target) : (int)panels;
    int vectors = t.panels * LANES / target->width;
    int most = (target->registers - vectors - 1) / vectors;
    most = most > TILE_ROWS ? TILE_ROWS : most;
    t.count = ceil_div(spec->k, most);
    t.rows = (int)ceil_div(spec->k, t.count);
    t.tall = t.count - (t.count * t.rows - spec->k);
    t.strips = ceil_div(panels, t.panels);
    int64_t groups = ceil_div(TN_TASKS, t.strips);
    t.each = ceil_div(t.count, groups < t.count ? groups : t.count);
    t.each = t.each > GROUP_TILES ? GROUP_TILES : t.each;
    t.groups = ceil_div(t.count, t.each);
    t.copies_b = t.each >= COPY_TILES;
    t.copies_a = t.copies_b && t.rows <= COPY_ROWS;
    int64_t widest = t.copies_a ? COPY_STRIPS : GROUP_STRIPS;
    t.wide = t.strips * t.groups / TN_TASKS;
    t.wide = t.wide < 1 ? 1 : t.wide > widest ? widest : t.wide;
    t.steps = ceil_div(t.strips, t.wide);
    return t;
}

static int64_t tile_bytes(const Tiles *t)
{
    return (int64_t)t->rows * t->panels * PANEL_ROW;
}

/* Levels of the counter. */
static int64_t count_levels(const GemmTnSpec *spec)
{
    int64_t levels = 1;
    while (ceil_div(spec->max_rows, CHUNK_ROWS) >> levels)
        levels++;
    return levels;
}

static int64_t stack_bytes(const GemmTnSpec *spec, const Tiles *t)
{
    return count_levels(spec) * tile_bytes(t);
}

static int64_t copy_b_bytes(const Tiles *t)
{
    return t->copies_b ? CHUNK_ROWS * t->panels * PANEL_ROW : 0;
}

/* A tile's columns of a chunk of A. */
static int64_t column_bytes(const Tiles *t)
{
    return CHUNK_ROWS * t->rows * 4 + COPY_GAP;
}

static int64_t copy_a_bytes(const Tiles *t)
{
    return t->copies_a ? t->each * column_bytes(t) : 0;
}

int64_t gemm_tn_scratch_bytes(const GemmTnSpec *spec)
{
    int64_t most = 0;
    for (int tier = 0; tier < TARGET_COUNT; tier++) {
        Tiles t = plan_tiles(&targets[tier], spec);
        int64_t bytes = TILE_BYTES + copy_b_bytes(&t) + copy_a_bytes(&t);
        bytes += t.wide * t.each * stack_bytes(spec, &t);
        most = bytes > most ? bytes : most;
    }
    return most;
}

Val emit_gemm_tn_tasks(Emit *e, const GemmTnSpec *spec, Val rows)
{
    (void)rows;
    Tiles t = plan_tiles(e->target, spec);
    return ll_i64(e, t.steps * t.groups);
}

/* --- the kernel --------------------------------------------------------------------------- */

typedef struct TnDriver {
    Emit *e;
    const GemmTnSpec *spec;
    Tiles t;
    Val a, b, g;
    Val tile, copy_b, copy_a, stacks; /* in scratch */
    Val first_tile, end_tile;
    Val first_strip, end_strip;
    Val strip;   /* of first_strip .. end_strip - 1: the one at hand */
    Val panel;   /* its first panel */
    Val panels;  /* t.panels, or 1 at the end of B */
    Val is_full; /* i1; NULL: always */
} TnDriver;

/* First row of G of tile `index`. */
static Val tile_start(TnDriver *d, Val index)
{
    Emit *e = d->e;
    Val short_before = ll_max(e, ll_sub(e, index, ll_i64(e, d->t.tall)), ll_i64(e, 0));
    return ll_sub(e, ll_mul(e, index, ll_i64(e, d->t.rows)), short_before);
}

static Val is_tall(TnDriver *d, Val index)
{
    return LLVMBuildICmp(d->e->builder, LLVMIntSLT, index, ll_i64(d->e, d->t.tall), "");
}

static Val tile_stack(TnDriver *d, Val index)
{
    Emit *e = d->e;
    Val number = ll_mul(e, ll_sub(e, d->strip, d->first_strip), ll_i64(e, d->t.each));
    number = ll_add(e, number, ll_sub(e, index, d->first_tile));
    return ll_at(e, d->stacks, ll_mul(e, number, ll_i64(e, stack_bytes(d->spec, &d->t))));
}

/* Level `level` of vector `index` of a stack. */
static Val stack_slot(TnDriver *d, Val stack, Val level, Val index)
{
    Emit *e = d->e;
    Val at = ll_at(e, stack, ll_mul(e, level, ll_i64(e, tile_bytes(&d->t))));
    return ll_at(e, at, ll_mul(e, index, ll_i64(e, PANEL_ROW)));
}

/* The function for tiles of this height or width, chosen at run time where the task may have
 * several. */
static Val choose_tile(TnDriver *d, Val index, int64_t pitch_a, int64_t pitch_b)
{
    Emit *e = d->e;
    Val functions[2];
    for (int small = 0; small < 2; small++) {
        TileTn tile = {pitch_a, pitch_b, d->t.rows - small, d->t.panels};
        if (!tile.rows || (small && d->t.tall == d->t.count)) {
            functions[small] = functions[0];
            continue;
        }
        functions[small] = emit_tile_tn(e, &tile);
        if (!d->is_full)
            continue;
        tile.panels = 1;
        functions[small] = ll_select(e, d->is_full, functions[small], emit_tile_tn(e, &tile));
    }
    return functions[0] == functions[1]
               ? functions[0]
               : ll_select(e, is_tall(d, index), functions[0], functions[1]);
}

static Val count_trailing_zeros(Emit *e, Val value)
{
    Val args[] = {value, LLVMConstInt(e->t_i1, 0, 0)};
    return ll_intrinsic(e, "llvm.cttz", &e->t_i64, 1, args, 2);
}

/* Vectors of a tile: rows x panels; the narrower and shorter tiles leave the last ones of a
 * slot unused. */
static Val tile_vectors(TnDriver *d)
{
    return ll_mul(d->e, d->panels, ll_i64(d->e, d->t.rows));
}

/* Adds the finished tile of odd chunk `chunk` to the stack: carries over all levels that are
 * full. */
static void push_tile(TnDriver *d, Val stack, Val chunk)
{
    Emit *e = d->e;
    Val zero = ll_i64(e, 0), one = ll_i64(e, 1);
    Val level = count_trailing_zeros(e, LLVMBuildNot(e->builder, chunk, ""));
    Loop vectors = loop_begin(e, zero, tile_vectors(d), one, NULL, 0, true);
    Val sum = ll_load(e, e->t_vec,
                      ll_at(e, d->tile, ll_mul(e, vectors.index, ll_i64(e, PANEL_ROW))), 64);
    Loop levels = loop_begin(e, zero, level, one, &sum, 1, true);
    Val older = ll_load(e, e->t_vec, stack_slot(d, stack, levels.index, vectors.index), 64);
    Val next = ll_fadd(e, older, levels.carried[0]);
    loop_end(e, &levels, &next, &sum);
    ll_store(e, sum, stack_slot(d, stack, level, vectors.index), 64);
    loop_end(e, &vectors, NULL, NULL);
}

/* Where the copy of A has tile `index`. */
static Val copied_tile(TnDriver *d, Val index)
{
    Emit *e = d->e;
    Val number = ll_sub(e, index, d->first_tile);
    return ll_at(e, d->copy_a, ll_mul(e, number, ll_i64(e, column_bytes(&d->t))));
}

/* Row `row` of the chunk's part of A: of tiles `first` .. `end` - 1, which take `columns` columns
 * each. */
static void copy_tiles(TnDriver *d, Val a, Val row, Val first, Val end, int columns)
{
    Emit *e = d->e;
    int64_t pitch = d->spec->a.pitch, copied = d->t.rows * 4;
    a = ll_at(e, a, ll_mul(e, row, ll_i64(e, pitch)));
    a = ll_at(e, a, ll_mul(e, tile_start(d, first), ll_i64(e, 4)));
    Val copy = ll_at(e, copied_tile(d, first), ll_mul(e, row, ll_i64(e, copied)));
    Val zero = ll_i64(e, 0), one = ll_i64(e, 1);
    Loop loop = loop_begin(e, zero, ll_sub(e, end, first), one, NULL, 0, false);
    Val from = ll_at(e, a, ll_mul(e, loop.index, ll_i64(e, 4 * columns)));
    Val to = ll_at(e, copy, ll_mul(e, loop.index, ll_i64(e, column_bytes(&d->t))));
    ll_prefetch(e, ll_at_const(e, from, COPY_AHEAD * pitch), 3);
    ll_prefetch(e, ll_at_const(e, to, COPY_AHEAD * copied), 3);
    for (int lanes = COPY_ROWS, at = 0; lanes; lanes /= 2) {
        if (!(columns & lanes))
            continue;
        LLVMTypeRef type = LLVMVectorType(e->t_f32, (unsigned)lanes);
        ll_store(e, ll_load(e, type, ll_at_const(e, from, at), 4), ll_at_const(e, to, at), 4);
        at += 4 * lanes;
    }
    loop_end(e, &loop, NULL, NULL);
}

static void copy_a(TnDriver *d, Val a, Val rows)
{
    Emit *e = d->e;
    Val tall = ll_max(e, d->first_tile, ll_min(e, d->end_tile, ll_i64(e, d->t.tall)));
    Loop loop = loop_begin(e, ll_i64(e, 0), rows, ll_i64(e, 1), NULL, 0, true);
    copy_tiles(d, a, loop.index, d->first_tile, tall, d->t.rows);
    if (d->t.tall < d->t.count)
        copy_tiles(d, a, loop.index, tall, d->end_tile, d->t.rows - 1);
    loop_end(e, &loop, NULL, NULL);
}

static void copy_b(TnDriver *d, Val b, Val rows)
{
    Emit *e = d->e;
    Val one = ll_i64(e, 1);
    Loop loop = loop_begin(e, ll_i64(e, 0), rows, one, NULL, 0, true);
    Val from = ll_at(e, b, ll_mul(e, loop.index, ll_i64(e, d->spec->b.pitch)));
    Val to = ll_at(e, d->copy_b, ll_mul(e, loop.index, ll_i64(e, d->t.panels * PANEL_ROW)));
    Loop panels = loop_begin(e, ll_i64(e, 0), d->panels, one, NULL, 0, true);
    Val offset = ll_mul(e, panels.index, ll_i64(e, PANEL_ROW));
    ll_store(e, ll_load(e, e->t_vec, ll_at(e, from, offset), 4), ll_at(e, to, offset), 64);
    loop_end(e, &panels, NULL, NULL);
    loop_end(e, &loop, NULL, NULL);
}

/* Into the second-level cache: the share that falls to tile `index` of the strip that starts at
 * `b`, the next one to be copied. */
static void prefetch_b(TnDriver *d, Val b, Val index)
{
    Emit *e = d->e;
    int64_t share = ceil_div(CHUNK_ROWS, d->t.each);
    Val first = ll_mul(e, ll_sub(e, index, d->first_tile), ll_i64(e, share));
    Loop loop = loop_begin(e, ll_i64(e, 0), ll_i64(e, share), ll_i64(e, 1), NULL, 0, true);
    Val row = ll_add(e, first, loop.index);
    row = ll_at(e, b, ll_mul(e, row, ll_i64(e, d->spec->b.pitch)));
    for (int p = 0; p < d->t.panels; p++)
        ll_prefetch(e, ll_at_const(e, row, p * PANEL_ROW), 2);
    loop_end(e, &loop, NULL, NULL);
}

/* The columns of A that tile `index` takes, in the rows from `a` on or in their copy. */
static Val tile_columns(TnDriver *d, Val a, Val index)
{
    if (d->t.copies_a)
        return copied_tile(d, index);
    return ll_at(d->e, a, ll_mul(d->e, tile_start(d, index), ll_i64(d->e, 4)));
}

/* The strip at hand of chunk `chunk`, whose rows are `first` .. `first` + `rows` - 1, those of A
 * from `a` on. */
static void emit_strip(TnDriver *d, Val chunk, Val first, Val rows, Val a)
{
    Emit *e = d->e;
    Val b = ll_at(e, d->b, ll_mul(e, first, ll_i64(e, d->spec->b.pitch)));
    b = ll_at(e, b, ll_mul(e, d->panel, ll_i64(e, PANEL_ROW)));
    Val next = ll_at_const(e, b, d->t.panels * PANEL_ROW);
    int64_t pitch_a = d->t.copies_a ? d->t.rows * 4 : d->spec->a.pitch;
    int64_t pitch_b = d->spec->b.pitch;
    if (d->t.copies_b) {
        copy_b(d, b, rows);
        b = d->copy_b;
        pitch_b = d->t.panels * PANEL_ROW;
    }
    /* Every other chunk is a new lowest level as it is. */
    Val odd = LLVMBuildTrunc(e->builder, chunk, e->t_i1, "");
    Loop tiles = loop_begin(e, d->first_tile, d->end_tile, ll_i64(e, 1), NULL, 0, true);
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr, e->t_i64, e->t_ptr};
    LLVMTypeRef type = LLVMFunctionType(e->t_void, params, 4, 0);
    Val stack = tile_stack(d, tiles.index);
    if (d->t.copies_a)
        prefetch_b(d, next, tiles.index);
    Val args[] = {tile_columns(d, a, tiles.index), b, rows, ll_select(e, odd, d->tile, stack)};
    LLVMBuildCall2(e->builder, type, choose_tile(d, tiles.index, pitch_a, pitch_b), args, 4, "");
    If branch = if_begin(e, odd);
    push_tile(d, stack, chunk);
    if_end(e, &branch);
    loop_end(e, &tiles, NULL, NULL);
}

/* The sum of the levels in use, `chunks` being their bits, lowest first. */
static Val fold_stack(TnDriver *d, Val stack, Val chunks, Val index)
{
    Emit *e = d->e;
    Val lowest = count_trailing_zeros(e, chunks), one = ll_i64(e, 1);
    Val sum = ll_load(e, e->t_vec, stack_slot(d, stack, lowest, index), 64);
    Loop levels = loop_begin(e, ll_add(e, lowest, one), ll_i64(e, count_levels(d->spec)), one,
                             &sum, 1, false);
    Val bit =
        LLVMBuildAnd(e->builder, LLVMBuildLShr(e->builder, chunks, levels.index, ""), one, "");
    Val in_use = LLVMBuildICmp(e->builder, LLVMIntNE, bit, ll_i64(e, 0), "");
    Val more = ll_fadd(e, ll_load(e, e->t_vec, stack_slot(d, stack, levels.index, index), 64),
                       levels.carried[0]);
    Val next = ll_select(e, in_use, more, levels.carried[0]);
    loop_end(e, &levels, &next, &sum);
    return sum;
}

/* G += the totals.  What lies beyond column n of B is no number to rely on: those columns of G
 * stay as they are. */
static void add_totals(TnDriver *d, Val chunks)
{
    Emit *e = d->e;
    Val zero = ll_i64(e, 0), one = ll_i64(e, 1);
    Loop tiles = loop_begin(e, d->first_tile, d->end_tile, one, NULL, 0, true);
    Val stack = tile_stack(d, tiles.index), start = tile_start(d, tiles.index);
    Val end = tile_start(d, ll_add(e, tiles.index, one));
    Loop panels = loop_begin(e, zero, d->panels, one, NULL, 0, true);
    Val panel = ll_add(e, d->panel, panels.index);
    Val columns = ll_sub(e, ll_i64(e, d->spec->n), ll_mul(e, panel, ll_i64(e, LANES)));
    columns = LLVMBuildTrunc(e->builder, columns, e->t_i32, "");
    Val valid = LLVMBuildICmp(e->builder, LLVMIntSLT, ll_lanes(e), ll_splat(e, columns), "");
    Val row_base = ll_mul(e, panel, ll_i64(e, d->spec->k));
    Loop rows = loop_begin(e, start, end, one, NULL, 0, true);
    Val index = ll_add(e, ll_mul(e, ll_sub(e, rows.index, start), d->panels), panels.index);
    Val total = fold_stack(d, stack, chunks, index);
    Val at = ll_at(e, d->g, ll_mul(e, ll_add(e, row_base, rows.index), ll_i64(e, PANEL_ROW)));
    Val old = ll_load(e, e->t_vec, at, 64);
    ll_store(e, ll_select(e, valid, ll_fadd(e, old, total), old), at, 64);
    loop_end(e, &rows, NULL, NULL);
    loop_end(e, &panels, NULL, NULL);
    loop_end(e, &tiles, NULL, NULL);
}

static void begin_tn_task(TnDriver *d)
{
    Emit *e = d->e;
    const Tiles *t = &d->t;
    Val task = emit_param(e, KERNEL_TASK);
    Val group = ll_rem(e, task, ll_i64(e, t->groups)),
        step = ll_div(e, task, ll_i64(e, t->groups));
    d->first_tile = ll_mul(e, group, ll_i64(e, t->each));
    d->end_tile = ll_min(e, ll_add(e, d->first_tile, ll_i64(e, t->each)), ll_i64(e, t->count));
    d->first_strip = ll_mul(e, step, ll_i64(e, t->wide));
    d->end_strip = ll_min(e, ll_add(e, d->first_strip, ll_i64(e, t->wide)), ll_i64(e, t->strips));
    d->a = operand_pointer(e, d->spec->a);
    d->b = operand_pointer(e, d->spec->b);
    d->g = operand_pointer(e, d->spec->g);
    d->tile = emit_param(e, KERNEL_SCRATCH);
    d->copy_b = ll_at_const(e, d->tile, TILE_BYTES);
    d->copy_a = ll_at_const(e, d->copy_b, copy_b_bytes(t));
    d->stacks = ll_at_const(e, d->copy_a, copy_a_bytes(t));
}

/* A loop over the task's strips. */
static Loop strips_begin(TnDriver *d)
{
    Emit *e = d->e;
    const Tiles *t = &d->t;
    Loop strips = loop_begin(e, d->first_strip, d->end_strip, ll_i64(e, 1), NULL, 0, true);
    d->strip = strips.index;
    d->panel = ll_mul(e, d->strip, ll_i64(e, t->panels));
    d->panels = ll_i64(e, t->panels);
    if (ceil_div(d->spec->n, LANES) % t->panels) {
        d->is_full = LLVMBuildICmp(e->builder, LLVMIntSLT, d->strip, ll_i64(e, t->strips - 1), "");
        d->panels = ll_select(e, d->is_full, d->panels, ll_i64(e, 1));
    }
    return strips;
}

static void emit_chunk(TnDriver *d, Val chunk, Val rows_total)
{
    Emit *e = d->e;
    Val first = ll_mul(e, chunk, ll_i64(e, CHUNK_ROWS));
    Val rows = ll_min(e, ll_sub(e, rows_total, first), ll_i64(e, CHUNK_ROWS));
    Val a = ll_at(e, d->a, ll_mul(e, first, ll_i64(e, d->spec->a.pitch)));
    if (d->t.copies_a)
        copy_a(d, a, rows);
    Loop strips = strips_begin(d);
    emit_strip(d, chunk, first, rows, a);
    loop_end(e, &strips, NULL, NULL);
}

Val emit_gemm_tn(Emit *e, const GemmTnSpec *spec)
{
    TnDriver d = {.e = e, .spec = spec, .t = plan_tiles(e->target, spec)};
    Val function = emit_kernel(e, spec->name);
    Val context = emit_param(e, KERNEL_CONTEXT), zero = ll_i64(e, 0);
    Val rows = ll_rows(e, context, spec->row_dim);
    If branch = if_begin(e, LLVMBuildICmp(e->builder, LLVMIntSGT, rows, zero, ""));
    begin_tn_task(&d);
    Val chunks = ll_ceil_div(e, rows, ll_i64(e, CHUNK_ROWS));
    Loop loop = loop_begin(e, zero, chunks, ll_i64(e, 1), NULL, 0, true);
    emit_chunk(&d, loop.index, rows);
    loop_end(e, &loop, NULL, NULL);
    Loop strips = strips_begin(&d);
    add_totals(&d, chunks);
    loop_end(e, &strips, NULL, NULL);
    if_end(e, &branch);
    emit_return(e);
    return function;
}
