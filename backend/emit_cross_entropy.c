/* emit_cross_entropy.c - loss over the vocabulary and its gradient, in one pass and without the logits.
 *
 *   z = x W + b      loss = logsumexp(z) - z[target]      dx = softmax(z) W' - W[:, target]
 *
 * This is attention with the vocabulary as keys and values: chunks of 128 columns of W outside, rows inside, online maximum and
 * sum, dx rescaled as the maximum grows.  Task = up to 256 rows that have a target; they are copied together first.
 *
 *   turn     the chunk's panels to panels of W', while they come from memory
 *   scores   strips of the main tile's rows x its panels over all of k; the next chunk is fetched meanwhile
 *   rows     bias, maximum, exponentials, sum
 *   dx       two panels of W' x the rows, from the first-level cache */
#include "backend/emit_attention.h"
#include "backend/emit_blas.h"
#include "backend/emit_block.h"
#include "backend/emit_math.h"
#include "backend/emit_panel.h"
#include "backend/emit_tile.h"

enum {
    ROWS = 256,                         /* rows of a task at most */
    ROWS_FEW = 32,                      /* ... that are worth a thread: every task turns all of W */
    CHUNK = 128,                        /* columns of the vocabulary that are worked on together */
    PANELS = CHUNK / LANES,
    SCORE_PITCH = CHUNK * 4 + 64,
    TURNED = 2,                         /* panels of W' that dx takes at once */
};

static const double nothing = -1e30;

/* Offsets in the thread's scratch. */
typedef struct Places {
    int64_t x, d_x, turned, panels, scores, max, sum, target, bytes;
    int64_t row;                     /* bytes of a row of x and dx */
    int64_t turned_row, turned_step; /* of W': from row to row of a panel, from panel to panel; OpenBLAS wants rows */
} Places;

static Places places_of(const CrossEntropySpec *spec)
{
    Places p;
    int64_t width = (spec->k + LANES - 1) / LANES * LANES;
    p.row = width * 4 + (width * 4 % 2048 == 0 ? 64 : 0);
    p.x = 0;
    p.d_x = p.x + ROWS * p.row;
    p.turned = p.d_x + ROWS * p.row;
    p.turned_row = spec->openblas ? p.row : PANEL_ROW;
    p.turned_step = spec->openblas ? PANEL_ROW : CHUNK * PANEL_ROW;
    p.panels = p.turned + CHUNK * p.row;
    p.scores = p.panels + (spec->store == LRT_STORE_F32 ? 0 : PANELS * spec->k * PANEL_ROW);
    p.max = p.scores + ROWS * SCORE_PITCH;
    p.sum = p.max + ROWS * 4;
    p.target = p.sum + ROWS * 4;
    p.bytes = p.target + ROWS * 4;
    return p;
}

int64_t cross_entropy_scratch_bytes(const CrossEntropySpec *spec)
{
    return places_of(spec).bytes;
}

typedef struct Loss {
    Emit *e;
    const CrossEntropySpec *spec;
    Places p;
    Val first, count; /* rows of the task, in context->target_rows */
    Val want;         /* whether dx is wanted */
} Loss;

static Val scratch_at(Loss *l, int64_t offset)
{
    return ll_at_const(l->e, emit_param(l->e, KERNEL_SCRATCH), offset);
}

static Val slot_at(Loss *l, int64_t offset, Val index)
{
    return ll_at(l->e, scratch_at(l, offset), ll_mul(l->e, index, ll_i64(l->e, 4)));
}

static Val load_i32(Emit *e, Val array, Val index)
{
    Val at = ll_at(e, array, ll_mul(e, index, ll_i64(e, 4)));
    return LLVMBuildSExt(e->builder, ll_load(e, e->t_i32, at, 4), e->t_i64, "");
}

/* Row of the model's buffers that row i of the task is. */
static Val row_of(Loss *l, Val i)
{
    Emit *e = l->e;
    Val rows = CONTEXT_PTR(e, emit_param(e, KERNEL_CONTEXT), target_rows);
    return load_i32(e, rows, ll_add(e, l->first, i));
}

static Val target_of(Loss *l, Val i)
{
    return load_i32(l->e, CONTEXT_PTR(l->e, emit_param(l->e, KERNEL_CONTEXT), targets), row_of(l, i));
}

/* As few tasks as keep all threads busy to the end. */
static Val rows_per_task(Emit *e, Val context, Val rows)
{
    Val threads = ll_max(e, LLVMBuildSExt(e->builder, CONTEXT_I32(e, context, threads), e->t_i64, ""), ll_i64(e, 1));
    Val rounds = ll_max(e, ll_ceil_div(e, rows, ll_mul(e, threads, ll_i64(e, ROWS))), ll_i64(e, 1));
    return ll_max(e, ll_ceil_div(e, rows, ll_mul(e, threads, rounds)), ll_i64(e, ROWS_FEW));
}

static void gather_rows(Loss *l)
{
    Emit *e = l->e;
    Loop rows = loop_begin(e, ll_i64(e, 0), l->count, ll_i64(e, 1), NULL, 0, false);
    Val from = ll_at(e, operand_pointer(e, l->spec->x), ll_mul(e, row_of(l, rows.index), ll_i64(e, l->spec->x.pitch)));
    Val at = ll_mul(e, rows.index, ll_i64(e, l->p.row));
    Val to = ll_at(e, scratch_at(l, l->p.x), at), d_x = ll_at(e, scratch_at(l, l->p.d_x), at);
    Loop columns = loop_begin(e, ll_i64(e, 0), ll_i64(e, (l->spec->k + LANES - 1) / LANES * LANES * 4), ll_i64(e, LANES * 4),
                              NULL, 0, true);
    ll_store(e, ll_load(e, e->t_vec, ll_at(e, from, columns.index), 4), ll_at(e, to, columns.index), 4);
    ll_store(e, ll_vec(e, 0), ll_at(e, d_x, columns.index), 4);
    loop_end(e, &columns, NULL, NULL);
    ll_store(e, ll_f32(e, nothing), slot_at(l, l->p.max, rows.index), 4);
    ll_store(e, ll_f32(e, 0), slot_at(l, l->p.sum, rows.index), 4);
    ll_store(e, ll_f32(e, 0), slot_at(l, l->p.target, rows.index), 4);
    loop_end(e, &rows, NULL, NULL);
}

/* Scores v LANES and on of a chunk's row, with the bias of their columns. */
static Val biased_scores(Loss *l, Val scores, Val column, int v)
{
    Emit *e = l->e;
    Val values = ll_load(e, e->t_vec, ll_at_const(e, scores, v * LANES * 4), 4);
    if (!l->spec->biased)
        return values;
    int64_t last = (l->spec->vocabulary - 1) / LANES * LANES; /* what lies beyond is masked, but must not be read */
    Val first = ll_min(e, ll_add(e, column, ll_i64(e, v * LANES)), ll_i64(e, last));
    return ll_fadd(e, values, ll_load(e, e->t_vec, ll_at(e, operand_pointer(e, l->spec->bias), ll_mul(e, first, ll_i64(e, 4))), 4));
}

/* Row i of the task: exponentials in place, maximum and sum, dx rescaled, the target's logit picked up. */
static void score_row(Loss *l, Val i, Val column)
{
    Emit *e = l->e;
    Val scores = ll_at(e, scratch_at(l, l->p.scores), ll_mul(e, i, ll_i64(e, SCORE_PITCH)));
    Val values[PANELS], largest = ll_vec(e, nothing), total = ll_vec(e, 0);
    Val relative = ll_sub(e, target_of(l, i), column);
    Val within = LLVMBuildAnd(e->builder, LLVMBuildICmp(e->builder, LLVMIntSGE, relative, ll_i64(e, 0), ""),
                              LLVMBuildICmp(e->builder, LLVMIntSLT, relative, ll_i64(e, CHUNK), ""), "");
    If hit = if_begin(e, within);
    Val logit = ll_load(e, e->t_f32, ll_at(e, scores, ll_mul(e, relative, ll_i64(e, 4))), 4);
    if (l->spec->biased) {
        Val at = ll_mul(e, ll_add(e, relative, column), ll_i64(e, 4));
        logit = ll_fadd(e, logit, ll_load(e, e->t_f32, ll_at(e, operand_pointer(e, l->spec->bias), at), 4));
    }
    ll_store(e, logit, slot_at(l, l->p.target, i), 4);
    if_end(e, &hit);
    for (int v = 0; v < PANELS; v++) {
        Val left = ll_sub(e, ll_i64(e, l->spec->vocabulary - v * LANES), column);
        Val mask = LLVMBuildICmp(e->builder, LLVMIntSLT, ll_lanes(e),
                                 ll_splat(e, LLVMBuildTrunc(e->builder, left, e->t_i32, "")), "");
        values[v] = ll_select(e, mask, biased_scores(l, scores, column, v), ll_vec(e, nothing));
        largest = ll_fmax(e, values[v], largest);
    }
    Val old = ll_load(e, e->t_f32, slot_at(l, l->p.max, i), 4);
    Val now = ll_fmax(e, ll_reduce_max(e, largest), old), shift = ll_splat(e, now);
    for (int v = 0; v < PANELS; v++) {
        Val p = math_exp(e, ll_fsub(e, values[v], shift));
        total = ll_fadd(e, total, p);
        ll_store(e, p, ll_at_const(e, scores, v * LANES * 4), 4);
    }
    Val factor = math_exp(e, ll_splat(e, ll_fsub(e, old, now)));
    Val lane = LLVMBuildExtractElement(e->builder, factor, ll_i32(e, 0), "");
    Val sum = ll_fma(e, ll_load(e, e->t_f32, slot_at(l, l->p.sum, i), 4), lane, ll_reduce_add(e, total));
    ll_store(e, now, slot_at(l, l->p.max, i), 4);
    ll_store(e, sum, slot_at(l, l->p.sum, i), 4);
    If grew = if_begin(e, LLVMBuildFCmp(e->builder, LLVMRealOGT, now, old, ""));
    Val d_x = ll_at(e, scratch_at(l, l->p.d_x), ll_mul(e, i, ll_i64(e, l->p.row)));
    Loop columns = loop_begin(e, ll_i64(e, 0), ll_i64(e, l->p.row / 64 * 64), ll_i64(e, LANES * 4), NULL, 0, true);
    Val at = ll_at(e, d_x, columns.index);
    ll_store(e, ll_fmul(e, ll_load(e, e->t_vec, at, 4), factor), at, 4);
    loop_end(e, &columns, NULL, NULL);
    if_end(e, &grew);
}

/* A panel of W turned into 16 rows of W'. */
static void turn_panel(Loss *l, Val from, Val to)
{
    Emit *e = l->e;
    int64_t k = l->spec->k, step = l->p.turned_step, row = l->p.turned_row;
    Loop rows = loop_begin(e, ll_i64(e, 0), ll_i64(e, k / LANES * LANES), ll_i64(e, LANES), NULL, 0, false);
    Val source = ll_at(e, from, ll_mul(e, rows.index, ll_i64(e, LANES * 4)));
    Val target = ll_at(e, to, ll_mul(e, rows.index, ll_i64(e, step / LANES)));
    Val lines[LANES];
    for (int i = 0; i < LANES; i++)
        lines[i] = ll_load(e, e->t_vec, ll_at_const(e, source, i * LANES * 4), 4);
    emit_transpose(e, lines);
    for (int i = 0; i < LANES; i++)
        ll_store(e, lines[i], ll_at_const(e, target, i * row), 4);
    loop_end(e, &rows, NULL, NULL);
    int64_t done = k / LANES * LANES;
    if (done == k)
        return;
    for (int i = 0; i < LANES; i++)
        lines[i] = done + i < k ? ll_load(e, e->t_vec, ll_at_const(e, from, (done + i) * LANES * 4), 4) : ll_vec(e, 0);
    emit_transpose(e, lines);
    for (int i = 0; i < LANES; i++)
        ll_store(e, lines[i], ll_at_const(e, to, i * row + done / LANES * step), 4);
}

/* The chunk's panels as f32, where W is stored as something else; else where they are. */
static Val chunk_panels(Loss *l, Val panel, Val count)
{
    Emit *e = l->e;
    Val w = operand_pointer(e, l->spec->w);
    if (l->spec->store == LRT_STORE_F32)
        return ll_at(e, w, ll_mul(e, panel, ll_i64(e, l->spec->k * PANEL_ROW)));
    PanelSource source = {.store = l->spec->store, .k = l->spec->k, .n = l->spec->vocabulary};
    EmitState state = emit_save(e);
    Val function = emit_panel(e, &source);
    emit_restore(e, state);
    Loop panels = loop_begin(e, ll_i64(e, 0), count, ll_i64(e, 1), NULL, 0, true);
    Val to = ll_at(e, scratch_at(l, l->p.panels), ll_mul(e, panels.index, ll_i64(e, l->spec->k * PANEL_ROW)));
    emit_panel_call(e, function, w, ll_add(e, panel, panels.index), to);
    loop_end(e, &panels, NULL, NULL);
    return scratch_at(l, l->p.panels);
}

/* What a strip of scores is made of. */
typedef struct Strip {
    Loss *l;
    Val w;       /* the first of its panels */
    Val scores;  /* of row 0 in these panels */
    int panels;
    Val ahead;   /* what to fetch meanwhile; NULL: nothing */
} Strip;

static void score_strip(Emit *e, void *user, Val row, int rows)
{
    const Strip *strip = user;
    Loss *l = strip->l;
    Tile tile = {.k = l->spec->k, .pitch = l->p.row, .store = LRT_STORE_F32, .rows = rows, .panels = strip->panels,
                 .ahead = strip->ahead ? 1 : 0, .pitch_c = SCORE_PITCH};
    Val x = ll_at(e, scratch_at(l, l->p.x), ll_mul(e, row, ll_i64(e, l->p.row)));
    Val scores = ll_at(e, strip->scores, ll_mul(e, row, ll_i64(e, SCORE_PITCH)));
    emit_tile_call(e, emit_tile(e, &tile), x, strip->w, scores, strip->ahead ? strip->ahead : strip->w);
}

/* Strip `number` of the chunk fetches its part of what is stored of the next chunk. */
static Val part_of_next(Loss *l, Val next, Val number)
{
    Emit *e = l->e;
    int64_t part = l->spec->k / TILE_UNROLL * 64, bytes = PANELS * panel_bytes(l->spec->store, l->spec->k);
    if (!part)
        return NULL;
    Val needed = LLVMBuildICmp(e->builder, LLVMIntSLT, number, ll_i64(e, (bytes + part - 1) / part), "");
    return ll_at(e, next, ll_select(e, needed, ll_mul(e, number, ll_i64(e, part)), ll_i64(e, 0)));
}

/* Scores of all rows in the chunk's panels first .. end - 1, `width` at a time; `w`: its panels, `next`: those of the next one. */
static void score_panels(Loss *l, Val w, Val next, Val first, Val end, int width)
{
    Emit *e = l->e;
    Val mr = ll_i64(e, e->target->mr), strips = ll_div(e, l->count, mr), whole = ll_mul(e, strips, mr);
    Loop panels = loop_begin(e, first, end, ll_i64(e, width), NULL, 0, false);
    Strip strip = {.l = l, .panels = width};
    strip.w = ll_at(e, w, ll_mul(e, panels.index, ll_i64(e, l->spec->k * PANEL_ROW)));
    strip.scores = ll_at(e, scratch_at(l, l->p.scores), ll_mul(e, panels.index, ll_i64(e, PANEL_ROW)));
    Val before = ll_mul(e, ll_div(e, panels.index, ll_i64(e, width)), strips);
    Loop rows = loop_begin(e, ll_i64(e, 0), strips, ll_i64(e, 1), NULL, 0, false);
    strip.ahead = part_of_next(l, next, ll_add(e, before, rows.index));
    score_strip(e, &strip, ll_mul(e, rows.index, mr), e->target->mr);
    loop_end(e, &rows, NULL, NULL);
    strip.ahead = NULL;
    emit_rest(e, whole, l->count, e->target->mr, score_strip, &strip);
    loop_end(e, &panels, NULL, NULL);
}

static void score_rows(Loss *l, Val w, Val next, Val panels)
{
    Emit *e = l->e;
    int width = tile_panels(e->target) < PANELS ? tile_panels(e->target) : PANELS;
    Val whole = ll_mul(e, ll_div(e, panels, ll_i64(e, width)), ll_i64(e, width));
    score_panels(l, w, next, ll_i64(e, 0), whole, width);
    if (width > 1)
        score_panels(l, w, next, whole, panels, 1);
}

/* The same from the turned panels, which are dense as OpenBLAS wants them. */
static void score_openblas(Loss *l, Val panels)
{
    Emit *e = l->e;
    Sgemm product = {
        .m = l->count,
        .n = ll_mul(e, panels, ll_i64(e, LANES)),
        .k = ll_i64(e, l->spec->k),
        .a = scratch_at(l, l->p.x),
        .a_pitch = ll_i64(e, l->p.row),
        .b = scratch_at(l, l->p.turned),
        .b_pitch = ll_i64(e, l->p.row),
        .b_transposed = true,
        .c = scratch_at(l, l->p.scores),
        .c_pitch = ll_i64(e, SCORE_PITCH),
    };
    blas_sgemm(e, &product);
}

/* dx += exponentials W', `vectors` vectors of it from number `first` on. */
static void add_vectors(Loss *l, Val first, int vectors, Val columns)
{
    Emit *e = l->e;
    Block product = {SCORE_PITCH, l->p.turned_row, l->p.turned_step, l->p.row, vectors, false, true, l->spec->openblas};
    emit_block(e, &product, scratch_at(l, l->p.scores),
               ll_at(e, scratch_at(l, l->p.turned), ll_mul(e, first, ll_i64(e, l->p.turned_step))),
               ll_at(e, scratch_at(l, l->p.d_x), ll_mul(e, first, ll_i64(e, PANEL_ROW))), l->count, columns, NULL);
}

static void add_to_dx(Loss *l, Val panels)
{
    Emit *e = l->e;
    int vectors = (int)((l->spec->k + LANES - 1) / LANES);
    Val zero = ll_i64(e, 0), columns = ll_mul(e, panels, ll_i64(e, LANES));
    if (l->spec->openblas) {
        add_vectors(l, zero, vectors, columns);
        return;
    }
    Loop loop = loop_begin(e, zero, ll_i64(e, vectors / TURNED * TURNED), ll_i64(e, TURNED), NULL, 0, false);
    add_vectors(l, loop.index, TURNED, columns);
    loop_end(e, &loop, NULL, NULL);
    if (vectors % TURNED)
        add_vectors(l, ll_i64(e, vectors - vectors % TURNED), vectors % TURNED, columns);
}

static void vocabulary_chunk(Loss *l, Val column)
{
    Emit *e = l->e;
    int64_t panel_size = l->spec->k * PANEL_ROW, all = (l->spec->vocabulary + LANES - 1) / LANES;
    Val panel = ll_div(e, column, ll_i64(e, LANES));
    Val panels = ll_min(e, ll_sub(e, ll_i64(e, all), panel), ll_i64(e, PANELS));
    Val next = ll_add(e, panel, ll_i64(e, PANELS));
    next = ll_at(e, operand_pointer(e, l->spec->w), ll_mul(e, next, ll_i64(e, panel_bytes(l->spec->store, l->spec->k))));
    Val w = chunk_panels(l, panel, panels);
    If turning = if_begin(e, l->spec->openblas ? LLVMConstInt(e->t_i1, 1, 0) : l->want);
    Loop turn = loop_begin(e, ll_i64(e, 0), panels, ll_i64(e, 1), NULL, 0, true);
    turn_panel(l, ll_at(e, w, ll_mul(e, turn.index, ll_i64(e, panel_size))),
               ll_at(e, scratch_at(l, l->p.turned), ll_mul(e, turn.index, ll_i64(e, LANES * l->p.turned_row))));
    loop_end(e, &turn, NULL, NULL);
    if_end(e, &turning);
    if (l->spec->openblas)
        score_openblas(l, panels);
    else
        score_rows(l, w, next, panels);
    Loop row = loop_begin(e, ll_i64(e, 0), l->count, ll_i64(e, 1), NULL, 0, true);
    score_row(l, row.index, column);
    loop_end(e, &row, NULL, NULL);
    If adding = if_begin(e, l->want);
    add_to_dx(l, panels);
    if_end(e, &adding);
}

static void finish_row(Loss *l, Val i)
{
    Emit *e = l->e;
    Val sum = ll_splat(e, ll_load(e, e->t_f32, slot_at(l, l->p.sum, i), 4));
    Val max = ll_splat(e, ll_load(e, e->t_f32, slot_at(l, l->p.max, i), 4));
    Val logit = ll_splat(e, ll_load(e, e->t_f32, slot_at(l, l->p.target, i), 4));
    Val loss = ll_fsub(e, ll_fadd(e, max, math_log(e, sum)), logit), row = row_of(l, i);
    Val at = ll_at(e, operand_pointer(e, l->spec->loss), ll_mul(e, row, ll_i64(e, 4)));
    ll_store(e, LLVMBuildExtractElement(e->builder, loss, ll_i32(e, 0), ""), at, 4);
    If wanted = if_begin(e, l->want);
    Val from = ll_at(e, scratch_at(l, l->p.d_x), ll_mul(e, i, ll_i64(e, l->p.row)));
    Val to = ll_at(e, operand_pointer(e, l->spec->dx), ll_mul(e, row, ll_i64(e, l->spec->dx.pitch)));
    Val target = target_of(l, i), factor = ll_fdiv(e, ll_vec(e, 1), sum);
    int64_t panel_size = panel_bytes(l->spec->store, l->spec->k);
    Val panel = ll_at(e, operand_pointer(e, l->spec->w), ll_mul(e, ll_div(e, target, ll_i64(e, LANES)), ll_i64(e, panel_size)));
    Val lane = ll_rem(e, target, ll_i64(e, LANES)); /* W[:, target] is subtracted */
    Loop columns = loop_begin(e, ll_i64(e, 0), ll_i64(e, l->spec->k), ll_i64(e, LANES), NULL, 0, true);
    Val offset = ll_mul(e, columns.index, ll_i64(e, 4));
    Val column = panel_column(e, l->spec->store, l->spec->k, panel, lane, columns.index);
    Val d = ll_fma(e, ll_load(e, e->t_vec, ll_at(e, from, offset), 4), factor, LLVMBuildFNeg(e->builder, column, ""));
    ll_store(e, d, ll_at(e, to, offset), 4);
    loop_end(e, &columns, NULL, NULL);
    if_end(e, &wanted);
}

/* Rows without a target, between the last target row before this task's and its own last (the last task: to the end). */
static void clear_others(Loss *l)
{
    Emit *e = l->e;
    Val context = emit_param(e, KERNEL_CONTEXT), zero = ll_i64(e, 0), one = ll_i64(e, 1);
    Val total = CONTEXT_I64(e, context, n_target_rows), tokens = CONTEXT_I64(e, context, n_tokens);
    Val is_first = LLVMBuildICmp(e->builder, LLVMIntEQ, l->first, zero, "");
    Val end_index = ll_add(e, l->first, l->count);
    Val is_last = LLVMBuildICmp(e->builder, LLVMIntSGE, end_index, total, "");
    Val none = LLVMBuildICmp(e->builder, LLVMIntEQ, total, zero, "");
    /* Without any target row the one task clears everything; its reads of target_rows stay at index 0. */
    Val before =
        row_of(l, ll_select(e, LLVMBuildOr(e->builder, is_first, none, ""), zero, LLVMConstInt(e->t_i64, (unsigned long long)-1, 1)));
    Val from = ll_select(e, is_first, zero, ll_add(e, before, one));
    Val last_row = row_of(l, ll_select(e, none, zero, ll_sub(e, l->count, one)));
    Val to = ll_select(e, is_last, tokens, ll_add(e, last_row, one));
    Loop rows = loop_begin(e, from, to, one, NULL, 0, false);
    Val target = load_i32(e, CONTEXT_PTR(e, context, targets), rows.index);
    If without = if_begin(e, LLVMBuildICmp(e->builder, LLVMIntSLT, target, zero, ""));
    Val loss = ll_at(e, operand_pointer(e, l->spec->loss), ll_mul(e, rows.index, ll_i64(e, 4)));
    ll_store(e, ll_f32(e, 0), loss, 4);
    Val d_x = ll_at(e, operand_pointer(e, l->spec->dx), ll_mul(e, rows.index, ll_i64(e, l->spec->dx.pitch)));
    Loop columns = loop_begin(e, zero, ll_i64(e, l->spec->k), ll_i64(e, LANES), NULL, 0, true);
    ll_store(e, ll_vec(e, 0), ll_at(e, d_x, ll_mul(e, columns.index, ll_i64(e, 4))), 4);
    loop_end(e, &columns, NULL, NULL);
    if_end(e, &without);
    loop_end(e, &rows, NULL, NULL);
}

Val emit_cross_entropy(Emit *e, const CrossEntropySpec *spec)
{
    Val function = emit_kernel(e, spec->name);
    Loss l = {.e = e, .spec = spec, .p = places_of(spec)};
    Val context = emit_param(e, KERNEL_CONTEXT);
    Val total = CONTEXT_I64(e, context, n_target_rows), block = rows_per_task(e, context, total);
    l.first = ll_mul(e, emit_param(e, KERNEL_TASK), block);
    l.count = ll_min(e, ll_sub(e, total, l.first), block);
    l.want = LLVMBuildICmp(e->builder, LLVMIntNE, CONTEXT_I32(e, context, want_gradients), ll_i32(e, 0), "");
    clear_others(&l);
    If any = if_begin(e, LLVMBuildICmp(e->builder, LLVMIntSGT, l.count, ll_i64(e, 0), ""));
    gather_rows(&l);
    Loop chunks = loop_begin(e, ll_i64(e, 0), ll_i64(e, spec->vocabulary), ll_i64(e, CHUNK), NULL, 0, true);
    vocabulary_chunk(&l, chunks.index);
    loop_end(e, &chunks, NULL, NULL);
    Loop rows = loop_begin(e, ll_i64(e, 0), l.count, ll_i64(e, 1), NULL, 0, true);
    finish_row(&l, rows.index);
    loop_end(e, &rows, NULL, NULL);
    if_end(e, &any);
    emit_return(e);
    return function;
}

Val emit_cross_entropy_tasks(Emit *e, const CrossEntropySpec *spec, Val context)
{
    (void)spec;
    Val total = CONTEXT_I64(e, context, n_target_rows);
    return ll_max(e, ll_ceil_div(e, total, rows_per_task(e, context, total)), ll_i64(e, 1));
}
