/* emit_blas.c - see emit_blas.h.
 *
 *   C = A W (+ U L)   task = a block of rows x a group of panels: dense copies of the panels,
 *                     the products into scratch, then the epilogue
 *   G += A' B         task = a block of rows x a group of panels of G: the sum over all tokens
 *                     into scratch, then added to the panels
 *
 * Blocks and groups of some hundred rows and columns are enough for cblas_sgemm to reach its
 * speed (measured: 256 x 256 is within 5 % of any larger product).
 *
 * A thread's scratch: dense W [k] | dense L [rank] | C [rows of a block], all of one pitch. */
#include "backend/emit_blas.h"

#include "backend/emit_panel.h"
#include "backend/emit_tile.h"

enum {
    ROWS_MOST = 512,   /* of a block */
    ROWS_LEAST = 128,
    TN_ROWS_LEAST = 64,
    PANELS_MOST = 16,  /* of a group */
    PANELS_LEAST = 4,
    TASKS_WANTED = 16, /* of a large product, so that all threads have some */
    FEW_ROWS = 16,     /* that do not pay for copying panels */
};

/* As cblas.h has them. */
enum { BLAS_ROW_MAJOR = 101, BLAS_AS_STORED = 111, BLAS_TRANSPOSED = 112 };

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* --- calls -------------------------------------------------------------------------------- */

/* Calls a function of OpenBLAS, which returns nothing. */
static void call(Emit *e, const char *name, Val *args, int count)
{
    LLVMTypeRef params[16];
    for (int i = 0; i < count; i++)
        params[i] = LLVMTypeOf(args[i]);
    LLVMTypeRef type = LLVMFunctionType(e->t_void, params, (unsigned)count, 0);
    Val function = LLVMGetNamedFunction(e->module, name);
    if (!function)
        function = LLVMAddFunction(e->module, name, type);
    LLVMBuildCall2(e->builder, type, function, args, (unsigned)count, "");
}

static Val int_of(Emit *e, Val number)
{
    return LLVMBuildTrunc(e->builder, number, e->t_i32, "");
}

/* A pitch in floats. */
static Val floats_of(Emit *e, Val bytes)
{
    return int_of(e, ll_div(e, bytes, ll_i64(e, 4)));
}

void blas_sgemm(Emit *e, const Sgemm *p)
{
    Val args[] = {
        ll_i32(e, BLAS_ROW_MAJOR),
        ll_i32(e, p->a_transposed ? BLAS_TRANSPOSED : BLAS_AS_STORED),
        ll_i32(e, p->b_transposed ? BLAS_TRANSPOSED : BLAS_AS_STORED),
        int_of(e, p->m),
        int_of(e, p->n),
        int_of(e, p->k),
        ll_f32(e, 1),
        p->a,
        floats_of(e, p->a_pitch),
        p->b,
        floats_of(e, p->b_pitch),
        ll_f32(e, p->accumulate ? 1 : 0),
        p->c,
        floats_of(e, p->c_pitch),
    };
    call(e, "cblas_sgemm", args, sizeof args / sizeof *args);
}

void blas_start(Emit *e)
{
    Val one = ll_i32(e, 1);
    call(e, "openblas_set_num_threads", &one, 1);
}

/* --- groups of panels --------------------------------------------------------------------- */

/* Columns of the right operand that a task works on. */
typedef struct Group {
    int64_t panels, each, count; /* of the product; of a group; groups */
    int64_t pitch;               /* of dense rows */
} Group;

/* At least `wanted` groups, if they are wide enough. */
static Group group_panels(int64_t columns, int64_t wanted)
{
    Group g = {.panels = ceil_div(columns, LANES)};
    int64_t least = ceil_div(g.panels, PANELS_MOST), most = larger(g.panels / PANELS_LEAST, least);
    g.each = ceil_div(g.panels, larger(smaller(wanted, most), least));
    g.count = ceil_div(g.panels, g.each);
    g.pitch = g.each * PANEL_ROW;
    if (g.pitch % 512 == 0) /* rows would collide in the cache */
        g.pitch += PANEL_ROW;
    return g;
}

/* The group's panels side by side. */
static void make_dense(Emit *e, PanelSource source, const Group *g, Val stored, Val panel,
                       Val panels, Val to)
{
    source.pitch = g->pitch;
    Val function = emit_panel(e, &source);
    Loop loop = loop_begin(e, ll_i64(e, 0), panels, ll_i64(e, 1), NULL, 0, true);
    Val out = ll_at(e, to, ll_mul(e, loop.index, ll_i64(e, PANEL_ROW)));
    emit_panel_call(e, function, stored, ll_add(e, panel, loop.index), out);
    loop_end(e, &loop, NULL, NULL);
}

/* --- C = A W (+ U L) ---------------------------------------------------------------------- */

static Group groups_of(const GemmSpec *spec)
{
    return group_panels(spec->n, 1);
}

static int64_t rows_most(const GemmSpec *spec)
{
    return smaller(spec->max_rows, ROWS_MOST);
}

int64_t blas_gemm_scratch_bytes(const GemmSpec *spec)
{
    return (spec->k + spec->rank + rows_most(spec)) * groups_of(spec).pitch;
}

/* Rows of a block. */
static Val rows_each(Emit *e, const GemmSpec *spec, Val rows)
{
    int64_t blocks = ceil_div(TASKS_WANTED, groups_of(spec).count);
    Val each = ll_max(e, ll_ceil_div(e, rows, ll_i64(e, blocks)), ll_i64(e, ROWS_LEAST));
    return ll_min(e, each, ll_i64(e, rows_most(spec)));
}

Val blas_gemm_tasks(Emit *e, const GemmSpec *spec, Val rows)
{
    Val blocks = ll_ceil_div(e, rows, rows_each(e, spec, rows));
    return ll_mul(e, blocks, ll_i64(e, groups_of(spec).count));
}

/* A task. */
typedef struct Product {
    Emit *e;
    const GemmSpec *spec;
    Group g;
    Val first_row, rows, panel, panels;
    Val c; /* in scratch */
} Product;

/* C (+)= the task's rows of `left` times `right`. */
static Sgemm describe(Product *p, Operand left, const PanelSource *right, bool accumulate)
{
    Emit *e = p->e;
    Sgemm s = {.m = p->rows, .k = ll_i64(e, right->k), .a_pitch = ll_i64(e, left.pitch)};
    s.a = ll_at(e, operand_pointer(e, left), ll_mul(e, p->first_row, s.a_pitch));
    s.c = p->c;
    s.c_pitch = ll_i64(e, p->g.pitch);
    s.accumulate = accumulate;
    return s;
}

static void multiply_dense(Product *p, Operand left, const PanelSource *right, Operand stored,
                           Val dense, bool accumulate)
{
    Emit *e = p->e;
    make_dense(e, *right, &p->g, operand_pointer(e, stored), p->panel, p->panels, dense);
    Sgemm s = describe(p, left, right, accumulate);
    s.n = ll_mul(e, p->panels, ll_i64(e, LANES));
    s.b = dense;
    s.b_pitch = ll_i64(e, p->g.pitch);
    blas_sgemm(e, &s);
}

/* Few rows do not pay for a copy: panel by panel, as stored. */
static void multiply_stored(Product *p, Operand left, const PanelSource *right, Operand stored,
                            bool accumulate)
{
    Emit *e = p->e;
    Sgemm s = describe(p, left, right, accumulate);
    Val from = operand_pointer(e, stored), c = s.c;
    s.n = ll_i64(e, LANES);
    s.b_pitch = ll_i64(e, PANEL_ROW);
    Loop loop = loop_begin(e, ll_i64(e, 0), p->panels, ll_i64(e, 1), NULL, 0, true);
    Val number = ll_add(e, p->panel, loop.index);
    s.b = ll_at(e, from, ll_mul(e, number, ll_i64(e, panel_bytes(right->store, right->k))));
    s.c = ll_at(e, c, ll_mul(e, loop.index, ll_i64(e, PANEL_ROW)));
    blas_sgemm(e, &s);
    loop_end(e, &loop, NULL, NULL);
}

static void multiply(Product *p)
{
    Emit *e = p->e;
    const GemmSpec *spec = p->spec;
    PanelSource w = {.store = spec->store, .transposed = spec->transposed, .k = spec->k, .n = spec->n};
    PanelSource l = {.store = LRT_STORE_F32, .transposed = spec->l_transposed, .k = spec->rank, .n = spec->n};
    bool as_stored = panel_as_stored(&w) && (!spec->rank || panel_as_stored(&l));
    Val few = LLVMBuildICmp(e->builder, LLVMIntSLE, p->rows, ll_i64(e, as_stored ? FEW_ROWS : 0), "");
    if (as_stored) {
        If branch = if_begin(e, few);
        multiply_stored(p, spec->a, &w, spec->w, false);
        if (spec->rank)
            multiply_stored(p, spec->u, &l, spec->l, true);
        if_end(e, &branch);
    }
    If branch = if_begin(e, LLVMBuildNot(e->builder, few, ""));
    Val dense = emit_param(e, KERNEL_SCRATCH);
    multiply_dense(p, spec->a, &w, spec->w, dense, false);
    dense = ll_at_const(e, dense, spec->k * p->g.pitch);
    if (spec->rank)
        multiply_dense(p, spec->u, &l, spec->l, dense, true);
    if_end(e, &branch);
}

/* Hands C to the epilogue. */
static void finish(Product *p)
{
    Emit *e = p->e;
    Val zero = ll_i64(e, 0), one = ll_i64(e, 1);
    Loop row = loop_begin(e, zero, p->rows, one, NULL, 0, true);
    Val from = ll_at(e, p->c, ll_mul(e, row.index, ll_i64(e, p->g.pitch)));
    Loop panel = loop_begin(e, zero, p->panels, one, NULL, 0, true);
    Val at = ll_at(e, from, ll_mul(e, panel.index, ll_i64(e, PANEL_ROW)));
    Val column = ll_mul(e, ll_add(e, p->panel, panel.index), ll_i64(e, LANES));
    p->spec->epilogue(e, p->spec->user, ll_load(e, e->t_vec, at, 64),
                      ll_add(e, p->first_row, row.index), column);
    loop_end(e, &panel, NULL, NULL);
    loop_end(e, &row, NULL, NULL);
}

Val blas_gemm(Emit *e, const GemmSpec *spec)
{
    Val function = emit_kernel(e, spec->name);
    Product p = {.e = e, .spec = spec, .g = groups_of(spec)};
    Val context = emit_param(e, KERNEL_CONTEXT), task = emit_param(e, KERNEL_TASK);
    Val rows = ll_rows(e, context, spec->row_dim);
    Val each = rows_each(e, spec, rows), groups = ll_i64(e, p.g.count);
    p.first_row = ll_mul(e, ll_div(e, task, groups), each);
    p.rows = ll_min(e, ll_sub(e, rows, p.first_row), each);
    p.panel = ll_mul(e, ll_rem(e, task, groups), ll_i64(e, p.g.each));
    p.panels = ll_min(e, ll_sub(e, ll_i64(e, p.g.panels), p.panel), ll_i64(e, p.g.each));
    p.c = ll_at_const(e, emit_param(e, KERNEL_SCRATCH), (spec->k + spec->rank) * p.g.pitch);
    multiply(&p);
    finish(&p);
    emit_return(e);
    return function;
}

/* --- G += A' B ---------------------------------------------------------------------------- */

typedef struct TnBlocks {
    int64_t each, count; /* rows of G in a block; blocks */
    Group group;
} TnBlocks;

static TnBlocks tn_blocks(const GemmTnSpec *spec)
{
    TnBlocks t;
    int64_t least = ceil_div(spec->k, ROWS_MOST), most = larger(spec->k / TN_ROWS_LEAST, least);
    int64_t wanted = ceil_div(TASKS_WANTED, group_panels(spec->n, 1).count);
    t.each = ceil_div(spec->k, larger(smaller(wanted, most), least));
    t.count = ceil_div(spec->k, t.each);
    t.group = group_panels(spec->n, ceil_div(TASKS_WANTED, t.count));
    return t;
}

int64_t blas_gemm_tn_scratch_bytes(const GemmTnSpec *spec)
{
    TnBlocks t = tn_blocks(spec);
    return t.each * t.group.pitch;
}

Val blas_gemm_tn_tasks(Emit *e, const GemmTnSpec *spec, Val rows)
{
    (void)rows;
    TnBlocks t = tn_blocks(spec);
    return ll_i64(e, t.count * t.group.count);
}

/* Adds `sums` to the panels.  What lies beyond column n of B is no number to rely on: those
 * columns of G stay as they are. */
static void add_to_panels(Emit *e, const GemmTnSpec *spec, const Group *g, Val sums, Val first_row,
                          Val rows, Val panel, Val panels)
{
    Val zero = ll_i64(e, 0), one = ll_i64(e, 1), to = operand_pointer(e, spec->g);
    Loop column = loop_begin(e, zero, panels, one, NULL, 0, true);
    Val number = ll_add(e, panel, column.index);
    Val left = ll_sub(e, ll_i64(e, spec->n), ll_mul(e, number, ll_i64(e, LANES)));
    Val valid = LLVMBuildICmp(e->builder, LLVMIntSLT, ll_lanes(e), ll_splat(e, int_of(e, left)), "");
    Val from = ll_at(e, sums, ll_mul(e, column.index, ll_i64(e, PANEL_ROW)));
    Val target = ll_add(e, ll_mul(e, number, ll_i64(e, spec->k)), first_row);
    target = ll_at(e, to, ll_mul(e, target, ll_i64(e, PANEL_ROW)));
    Loop row = loop_begin(e, zero, rows, one, NULL, 0, true);
    Val sum = ll_load(e, e->t_vec, ll_at(e, from, ll_mul(e, row.index, ll_i64(e, g->pitch))), 64);
    Val at = ll_at(e, target, ll_mul(e, row.index, ll_i64(e, PANEL_ROW)));
    Val old = ll_load(e, e->t_vec, at, 64);
    ll_store(e, ll_select(e, valid, ll_fadd(e, old, sum), old), at, 64);
    loop_end(e, &row, NULL, NULL);
    loop_end(e, &column, NULL, NULL);
}

Val blas_gemm_tn(Emit *e, const GemmTnSpec *spec)
{
    Val function = emit_kernel(e, spec->name);
    TnBlocks t = tn_blocks(spec);
    const Group *g = &t.group;
    Val context = emit_param(e, KERNEL_CONTEXT), task = emit_param(e, KERNEL_TASK);
    Val tokens = ll_rows(e, context, spec->row_dim);
    Val first_row = ll_mul(e, ll_rem(e, task, ll_i64(e, t.count)), ll_i64(e, t.each));
    Val rows = ll_min(e, ll_sub(e, ll_i64(e, spec->k), first_row), ll_i64(e, t.each));
    Val panel = ll_mul(e, ll_div(e, task, ll_i64(e, t.count)), ll_i64(e, g->each));
    Val panels = ll_min(e, ll_sub(e, ll_i64(e, g->panels), panel), ll_i64(e, g->each));
    Val first_column = ll_mul(e, panel, ll_i64(e, LANES)), sums = emit_param(e, KERNEL_SCRATCH);
    Val columns = ll_min(e, ll_sub(e, ll_i64(e, spec->n), first_column),
                         ll_mul(e, panels, ll_i64(e, LANES)));
    Sgemm product = {
        .m = rows,
        .n = columns,
        .k = tokens,
        .a = ll_at(e, operand_pointer(e, spec->a), ll_mul(e, first_row, ll_i64(e, 4))),
        .a_pitch = ll_i64(e, spec->a.pitch),
        .a_transposed = true,
        .b = ll_at(e, operand_pointer(e, spec->b), ll_mul(e, first_column, ll_i64(e, 4))),
        .b_pitch = ll_i64(e, spec->b.pitch),
        .c = sums,
        .c_pitch = ll_i64(e, g->pitch),
    };
    blas_sgemm(e, &product);
    add_to_panels(e, spec, g, sums, first_row, rows, panel, panels);
    emit_return(e);
    return function;
}
