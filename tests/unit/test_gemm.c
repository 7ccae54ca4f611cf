/* test_gemm.c - emitted products against a chain of fmaf in plain C, bit by bit, on every tier
 * this CPU has, and against OpenBLAS; products that are left to OpenBLAS against it, too.
 * Operands end at a page that cannot be read, padding holds NaN, tasks run in several orders. */
#define _GNU_SOURCE /* mkdtemp, madvise */
#include <cblas.h>
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/emit_blas.h"
#include "backend/emit_gemm.h"
#include "backend/emit_panel.h"
#include "runtime/pack.h"
#include "tests/emit_library.h"
#include "tests/unit/run_suite.h"

/* The compiler may not include the runtime's header, so both spell out the block's form. */
_Static_assert((int)PANEL_Q8_BYTES == (int)LRT_Q8_BYTES, "one format");

/* --- what is tested ----------------------------------------------------------------------- */

typedef struct Case {
    int64_t k, n, rank;
    bool transposed, l_transposed;
    int store;
    bool small; /* for the generic tier, where a multiply-add is a call */
    int64_t max_rows;
} Case;

static const Case cases[] = {
    {1, 1, 0, 0, 0, LRT_STORE_F32, 1, 300},     {3, 17, 0, 0, 0, LRT_STORE_F32, 1, 300},
    {20, 60, 3, 0, 0, LRT_STORE_F32, 1, 300},   {20, 60, 3, 1, 1, LRT_STORE_F32, 1, 300},
    {17, 31, 16, 1, 0, LRT_STORE_F32, 1, 300},  {31, 33, 5, 0, 1, LRT_STORE_F32, 1, 300},
    {15, 16, 1, 1, 1, LRT_STORE_F32, 1, 300},   {101, 97, 8, 0, 0, LRT_STORE_F32, 0, 300},
    {101, 97, 8, 1, 1, LRT_STORE_F32, 0, 300},  {576, 8, 0, 0, 0, LRT_STORE_F32, 0, 300},
    {512, 144, 8, 0, 0, LRT_STORE_F32, 0, 700}, {8, 576, 0, 1, 0, LRT_STORE_F32, 0, 300},
    {576, 1, 0, 1, 0, LRT_STORE_F32, 0, 300},   {64, 80, 0, 0, 0, LRT_STORE_F32, 1, 1},
    {20, 60, 3, 0, 0, LRT_STORE_BF16, 1, 300},  {37, 35, 0, 1, 0, LRT_STORE_BF16, 1, 300},
    {1, 33, 0, 0, 0, LRT_STORE_BF16, 1, 70},    {128, 96, 4, 1, 0, LRT_STORE_BF16, 0, 300},
    {20, 60, 3, 0, 0, LRT_STORE_Q8_0, 1, 300},  {75, 35, 0, 1, 0, LRT_STORE_Q8_0, 1, 300},
    {130, 50, 0, 0, 0, LRT_STORE_Q8_0, 1, 300}, {33, 45, 0, 1, 0, LRT_STORE_Q8_0, 1, 70},
    {128, 96, 4, 0, 0, LRT_STORE_Q8_0, 0, 300}, {20, 600, 3, 0, 0, LRT_STORE_F32, 0, 700},
    {20, 300, 3, 1, 1, LRT_STORE_BF16, 0, 300}, {4200, 70, 3, 1, 1, LRT_STORE_F32, 0, 300},
    {4097, 70, 0, 0, 0, LRT_STORE_F32, 0, 700}, {4098, 1100, 0, 1, 0, LRT_STORE_F32, 0, 70},
    {4127, 45, 2, 0, 1, LRT_STORE_BF16, 0, 300}, {4129, 45, 0, 1, 0, LRT_STORE_BF16, 0, 300},
    {4130, 45, 0, 0, 0, LRT_STORE_Q8_0, 0, 300}, {4608, 45, 4, 1, 0, LRT_STORE_Q8_0, 0, 300},
};
enum { CASES = sizeof cases / sizeof *cases };

static const int64_t row_counts[] = {0, 1, 2, 3, 4, 5, 7, 13, 14, 15, 29, 63, 64, 97, 300, 700};
enum { ROW_COUNTS = sizeof row_counts / sizeof *row_counts };

typedef struct TnCase {
    int64_t k, n, max_rows;
    bool small;
} TnCase;

static const TnCase tn_cases[] = {
    {1, 1, 1100, 1},  {3, 17, 1100, 1},   {8, 60, 1100, 0}, {60, 8, 1100, 0}, {33, 31, 1100, 0},
    {15, 96, 300, 0}, {101, 100, 600, 0}, {20, 3, 2600, 0}, {576, 8, 600, 0}, {8, 576, 600, 0},
    {600, 300, 300, 0}, {350, 1100, 257, 0},
};
enum { TN_CASES = sizeof tn_cases / sizeof *tn_cases };

static const int64_t tn_row_counts[] = {0, 1, 5, 255, 256, 257, 512, 600, 1025, 1100, 2600};
enum { TN_ROW_COUNTS = sizeof tn_row_counts / sizeof *tn_row_counts };

/* --- the emitted library ------------------------------------------------------------------ */

enum { SLOT_A, SLOT_W, SLOT_U, SLOT_L, SLOT_C, SLOT_COUNT };

static int64_t pitch_of(int64_t columns)
{
    int64_t pitch = (columns + LANES - 1) / LANES * LANES * 4;
    return pitch % 2048 ? pitch : pitch + 64;
}

typedef struct StoreTo {
    Operand c;
} StoreTo;

static void store_chunk(Emit *e, void *user, Val acc, Val row, Val column)
{
    const StoreTo *to = user;
    Val at = ll_at(e, operand_pointer(e, to->c), ll_mul(e, row, ll_i64(e, to->c.pitch)));
    ll_store(e, acc, ll_at(e, at, ll_mul(e, column, ll_i64(e, 4))), 4);
}

static GemmSpec spec_of(const Case *c, const char *name, StoreTo *to)
{
    to->c = (Operand){LRT_BASE_ARENA, SLOT_C, pitch_of(c->n)};
    return (GemmSpec){
        .name = name,
        .row_dim = c->max_rows == 1 ? DIM_R : DIM_T,
        .max_rows = c->max_rows,
        .k = c->k,
        .n = c->n,
        .a = {LRT_BASE_ARENA, SLOT_A, pitch_of(c->k)},
        .w = {LRT_BASE_WEIGHTS, SLOT_W, 0},
        .transposed = c->transposed,
        .store = c->store,
        .rank = c->rank,
        .u = {LRT_BASE_ARENA, SLOT_U, pitch_of(c->rank)},
        .l = {LRT_BASE_PARAMS, SLOT_L, 0},
        .l_transposed = c->l_transposed,
        .epilogue = store_chunk,
        .user = to,
    };
}

static GemmTnSpec tn_spec_of(const TnCase *c, const char *name)
{
    return (GemmTnSpec){
        .name = name,
        .row_dim = DIM_T,
        .max_rows = c->max_rows,
        .k = c->k,
        .n = c->n,
        .a = {LRT_BASE_ARENA, SLOT_A, pitch_of(c->k)},
        .b = {LRT_BASE_ARENA, SLOT_W, pitch_of(c->n)},
        .g = {LRT_BASE_GRADS, SLOT_C, 0},
    };
}

static void *library;

/* Functions run.NAME and tasks.NAME of a kernel. */
static Val export_kernel(Emit *e, const char *name, Val kernel)
{
    library_export(e, arena_format(e->arena, "run.%s", name), kernel);
    return library_count(e, arena_format(e->arena, "tasks.%s", name));
}

static void build_library(void)
{
    Arena *arena = arena_new();
    Emit *e = emit_new(arena, "test_gemm");
    for (int tier = 0; tier < TARGET_COUNT; tier++) {
        e->tier = (TargetId)tier;
        e->target = &targets[tier];
        for (int i = 0; i < CASES; i++) {
            if (tier == TARGET_GENERIC && !cases[i].small)
                continue;
            StoreTo to;
            const char *name = arena_format(arena, "gemm%d", i);
            GemmSpec spec = spec_of(&cases[i], name, &to);
            Val rows = export_kernel(e, name, emit_gemm(e, &spec));
            LLVMBuildRet(e->builder, emit_gemm_tasks(e, &spec, rows));
            spec.name = arena_format(arena, "blas%d", i);
            rows = export_kernel(e, spec.name, blas_gemm(e, &spec));
            LLVMBuildRet(e->builder, blas_gemm_tasks(e, &spec, rows));
        }
        for (int i = 0; i < TN_CASES; i++) {
            if (tier == TARGET_GENERIC && !tn_cases[i].small)
                continue;
            const char *name = arena_format(arena, "tn%d", i);
            GemmTnSpec spec = tn_spec_of(&tn_cases[i], name);
            Val rows = export_kernel(e, name, emit_gemm_tn(e, &spec));
            LLVMBuildRet(e->builder, emit_gemm_tn_tasks(e, &spec, rows));
            spec.name = arena_format(arena, "blas_tn%d", i);
            rows = export_kernel(e, spec.name, blas_gemm_tn(e, &spec));
            LLVMBuildRet(e->builder, blas_gemm_tn_tasks(e, &spec, rows));
        }
    }
    library = library_open(e);
    emit_free(e);
    arena_free(arena);
}

/* --- memory ------------------------------------------------------------------------------- */

/* Memory of exactly this many bytes, a multiple of 64: what follows cannot be read. */
typedef struct Guarded {
    char *map, *data;
    size_t bytes;
} Guarded;

static Guarded guarded(int64_t bytes, float fill)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE),
           size = ((size_t)bytes + page - 1) / page * page;
    Guarded g = {.bytes = size + page};
    g.map = mmap(NULL, g.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(g.map != MAP_FAILED);
    ck_assert_int_eq(mprotect(g.map + size, page, PROT_NONE), 0);
    g.data = g.map + size - bytes;
    for (int64_t i = 0; i < bytes / 4; i++)
        ((float *)(void *)g.data)[i] = fill;
    return g;
}

static void release(Guarded g)
{
    munmap(g.map, g.bytes);
}

static uint64_t random_state;

static float random_value(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(random_state >> 32) * 0x1p-31f;
}

/* Rows of random numbers; what pads them is NaN. */
static Guarded random_rows(int64_t rows, int64_t columns)
{
    int64_t pitch = pitch_of(columns);
    Guarded g = guarded(rows * pitch, NAN);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            ((float *)(void *)(g.data + i * pitch))[j] = random_value();
    return g;
}

/* A packed matrix: `values` receives [k][n], as the product sees it. */
static Guarded random_panels(int64_t k, int64_t n, bool transposed, int store, float *values)
{
    /* The file holds the stored matrix or its transpose; both ways of packing get their turn.
     */
    LrtParam p = {
        .layout = LRT_LAYOUT_PANELS, .store = store, .transposed = (int32_t)((k + n) % 2)};
    p.rows = transposed ? n : k;
    p.cols = transposed ? k : n;
    int64_t file_rows = lrt_file_rows(&p), file_cols = lrt_file_cols(&p);
    float *file = malloc((size_t)(file_rows * file_cols) * sizeof *file);
    for (int64_t i = 0; i < file_rows * file_cols; i++)
        file[i] = random_value();
    Guarded g = guarded(lrt_param_bytes(p.layout, p.store, p.rows, p.cols, 0), NAN);
    lrt_pack_rows(&p, g.data, 0, file_rows, file, file_cols);
    lrt_unpack_rows(&p, g.data, 0, file_rows, file, file_cols);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < n; j++) {
            bool by_column = (p.transposed != 0) != transposed;
            values[i * n + j] = by_column ? file[j * file_cols + i] : file[i * file_cols + j];
        }
    free(file);
    return g;
}

/* Runs the tasks in an order of their own; scratch is exactly as large as the kernel says and
 * dirty. */
static void run_tasks(const char *prefix, int index, int tier, LrtContext *context,
                      const uint64_t *record, int64_t scratch_bytes)
{
    LrtKernel *run;
    int64_t (*count)(int64_t);
    LIBRARY_FIND(library, run, "run.%s%d.%s", prefix, index, targets[tier].text);
    LIBRARY_FIND(library, count, "tasks.%s%d.%s", prefix, index, targets[tier].text);
    int64_t tasks = count(context->n_tokens + context->n_rows);
    Guarded scratch = guarded((scratch_bytes + 63) / 64 * 64, NAN);
    for (int64_t i = 0; i < tasks; i++) {
        int64_t task = tier == TARGET_AVX2 ? tasks - 1 - i : i;
        run(context, record, task, scratch.data);
    }
    release(scratch);
}

/* --- products ----------------------------------------------------------------------------- */

typedef struct Operands {
    Guarded a, w, u, l, c;
    float *w_values, *l_values;
    int64_t rows;
} Operands;

static const float *row_of(Guarded g, int64_t row, int64_t columns)
{
    return (const float *)(const void *)(g.data + row * pitch_of(columns));
}

/* The definition: one chain over k, then over the rank. */
static float element(const Case *c, const Operands *o, int64_t i, int64_t j)
{
    const float *a = row_of(o->a, i, c->k);
    float sum = 0;
    for (int64_t k = 0; k < c->k; k++)
        sum = fmaf(a[k], o->w_values[k * c->n + j], sum);
    for (int64_t k = 0; k < c->rank; k++)
        sum = fmaf(row_of(o->u, i, c->rank)[k], o->l_values[k * c->n + j], sum);
    return sum;
}

static void compare_with_openblas(const Case *c, const Operands *o, const float *got,
                                  int64_t got_pitch)
{
    float *want = calloc((size_t)(o->rows * c->n) + 1, sizeof *want);
    int m = (int)o->rows, n = (int)c->n, k = (int)c->k, r = (int)c->rank;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, row_of(o->a, 0, c->k),
                (int)(pitch_of(c->k) / 4), o->w_values, n, 0, want, n);
    if (r)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, r, 1,
                    row_of(o->u, 0, c->rank), (int)(pitch_of(c->rank) / 4), o->l_values, n, 1,
                    want, n);
    double most = 0;
    for (int64_t i = 0; i < o->rows; i++)
        for (int64_t j = 0; j < c->n; j++) {
            double difference =
                fabs((double)got[i * got_pitch / 4 + j] - (double)want[i * c->n + j]);
            most = difference > most ? difference : most;
        }
    /* Each step of a chain rounds a sum that grows with the square root of their number; long
     * chains lose in proportion to it. */
    double steps = (double)(c->k + c->rank);
    ck_assert_msg(most <= 2e-6 * sqrt(steps) + 5e-8 * steps + 1e-6,
                  "OpenBLAS differs by %g", most);
    free(want);
}

/* Leaves the result in o->c. */
static void run_product(int index, int tier, bool blas, Operands *o)
{
    const Case *c = &cases[index];
    StoreTo to;
    GemmSpec spec = spec_of(c, "", &to);
    LrtContext context = {0};
    *(c->max_rows == 1 ? &context.n_rows : &context.n_tokens) = o->rows;
    uint64_t record[SLOT_COUNT] = {
        [SLOT_A] = (uintptr_t)o->a.data, [SLOT_W] = (uintptr_t)o->w.data,
        [SLOT_U] = (uintptr_t)o->u.data, [SLOT_L] = (uintptr_t)o->l.data,
        [SLOT_C] = (uintptr_t)o->c.data,
    };
    int64_t pitch = pitch_of(c->n);
    for (int64_t i = 0; i < o->rows * pitch / 4; i++)
        ((float *)(void *)o->c.data)[i] = NAN;
    run_tasks(blas ? "blas" : "gemm", index, tier, &context, record,
              blas ? blas_gemm_scratch_bytes(&spec) : gemm_scratch_bytes(&spec));
}

static void check_product(int index, int tier, Operands *o)
{
    const Case *c = &cases[index];
    run_product(index, tier, false, o);
    for (int64_t i = 0; i < o->rows; i++)
        for (int64_t j = 0; j < c->n; j++) {
            float got = row_of(o->c, i, c->n)[j], want = element(c, o, i, j);
            ck_assert_msg(memcmp(&got, &want, 4) == 0,
                          "case %d %s, %d rows: [%d][%d] is %.9g, not %.9g", index,
                          targets[tier].text, (int)o->rows, (int)i, (int)j, (double)got,
                          (double)want);
        }
    if (!o->rows)
        return;
    compare_with_openblas(c, o, row_of(o->c, 0, c->n), pitch_of(c->n));
    run_product(index, tier, true, o);
    compare_with_openblas(c, o, row_of(o->c, 0, c->n), pitch_of(c->n));
}

START_TEST(products_are_one_chain_on_every_tier_and_for_any_rows)
{
    const Case *c = &cases[_i];
    random_state = (uint64_t)_i;
    for (int m = 0; m < ROW_COUNTS; m++) {
        int64_t rows = row_counts[m];
        if (rows > c->max_rows)
            continue;
        Operands o = {.rows = rows};
        o.w_values = calloc((size_t)(c->k * c->n), sizeof(float));
        int64_t rank = c->rank ? c->rank : 1;
        o.l_values = calloc((size_t)(rank * c->n), sizeof(float));
        o.a = random_rows(rows, c->k);
        o.u = random_rows(rows, rank);
        o.c = guarded(rows * pitch_of(c->n), NAN);
        o.w = random_panels(c->k, c->n, c->transposed, c->store, o.w_values);
        o.l = random_panels(rank, c->n, c->l_transposed, LRT_STORE_F32, o.l_values);
        for (int tier = 0; tier < TARGET_COUNT; tier++)
            if (tier_runs_here(tier) && (tier != TARGET_GENERIC || (c->small && rows <= 100)))
                check_product(_i, tier, &o);
        release(o.a), release(o.u), release(o.c), release(o.w), release(o.l);
        free(o.w_values), free(o.l_values);
    }
}
END_TEST

/* --- sums over rows ----------------------------------------------------------------------- */

/* Chunks first .. first + count - 1 of 256 rows: the largest power of two less than `count`,
 * then the rest. */
static float tree_sum(const TnCase *c, Guarded a, Guarded b, int64_t rows, int64_t first,
                      int64_t count, int64_t i, int64_t j)
{
    float sum = 0;
    if (count == 1) {
        for (int64_t m = first * 256; m < rows && m < first * 256 + 256; m++)
            sum = fmaf(row_of(a, m, c->k)[i], row_of(b, m, c->n)[j], sum);
        return sum;
    }
    int64_t half = 1;
    while (2 * half < count)
        half *= 2;
    sum = tree_sum(c, a, b, rows, first, half, i, j);
    return sum + tree_sum(c, a, b, rows, first + half, count - half, i, j);
}

static void check_tn(int index, int tier, bool blas, Guarded a, Guarded b, int64_t rows)
{
    const TnCase *c = &tn_cases[index];
    GemmTnSpec spec = tn_spec_of(c, "");
    int64_t panels = (c->n + LANES - 1) / LANES;
    Guarded g = guarded(panels * c->k * LANES * 4, 0);
    float *values = (float *)(void *)g.data;
    for (int64_t i = 0; i < c->k; i++)
        for (int64_t j = 0; j < c->n; j++)
            values[(j / LANES * c->k + i) * LANES + j % LANES] = (float)(i - j);
    LrtContext context = {.n_tokens = rows};
    uint64_t record[SLOT_COUNT] = {[SLOT_A] = (uintptr_t)a.data,
                                   [SLOT_W] = (uintptr_t)b.data,
                                   [SLOT_C] = (uintptr_t)g.data};
    run_tasks(blas ? "blas_tn" : "tn", index, tier, &context, record,
              blas ? blas_gemm_tn_scratch_bytes(&spec) : gemm_tn_scratch_bytes(&spec));
    int64_t chunks = (rows + 255) / 256;
    for (int64_t i = 0; i < c->k; i++)
        for (int64_t j = 0; j < panels * LANES; j++) {
            float got = values[(j / LANES * c->k + i) * LANES + j % LANES], want = 0;
            if (j < c->n) {
                want = (float)(i - j);
                if (rows)
                    want += tree_sum(c, a, b, rows, 0, chunks, i, j);
            }
            double most = 2e-6 * sqrt((double)rows) + 1e-6 + 2e-7 * fabs((double)want);
            bool good = blas ? fabs((double)got - (double)want) <= most : memcmp(&got, &want, 4) == 0;
            ck_assert_msg(good,
                          "case %d %s, %d rows: [%d][%d] is %.9g, not %.9g", index,
                          targets[tier].text, (int)rows, (int)i, (int)j, (double)got,
                          (double)want);
        }
    release(g);
}

START_TEST(sums_over_rows_are_a_tree_of_chunks_on_every_tier)
{
    const TnCase *c = &tn_cases[_i];
    random_state = (uint64_t)_i;
    for (int m = 0; m < TN_ROW_COUNTS; m++) {
        int64_t rows = tn_row_counts[m];
        if (rows > c->max_rows)
            continue;
        Guarded a = random_rows(rows, c->k), b = random_rows(rows, c->n);
        for (int tier = 0; tier < TARGET_COUNT; tier++)
            if (tier_runs_here(tier) && (tier != TARGET_GENERIC || c->small)) {
                check_tn(_i, tier, false, a, b, rows);
                check_tn(_i, tier, true, a, b, rows);
            }
        release(a), release(b);
    }
}
END_TEST

/* --- packing
 * -------------------------------------------------------------------------------------------
 */

START_TEST(packing_in_pieces_equals_packing_at_once)
{
    static const int64_t sizes[][2] = {{1, 1},   {33, 17}, {64, 48}, {7, 100},
                                       {100, 7}, {32, 16}, {1, 37}};
    static const int layouts[] = {LRT_LAYOUT_PANELS, LRT_LAYOUT_ROWS, LRT_LAYOUT_VECTOR};
    int store = _i % 3, transposed = _i / 3 % 2, layout = layouts[_i / 6];
    if (store == LRT_STORE_Q8_0 && layout != LRT_LAYOUT_PANELS)
        return;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        LrtParam p = {.layout = layout,
                      .store = store,
                      .transposed = transposed,
                      .rows = sizes[s][0],
                      .cols = sizes[s][1]};
        p.pitch = pitch_of(p.cols);
        if (layout == LRT_LAYOUT_VECTOR && p.rows != 1)
            continue;
        int64_t rows = lrt_file_rows(&p), cols = lrt_file_cols(&p), stride = cols + 3;
        int64_t bytes = lrt_param_bytes(layout, store, p.rows, p.cols, p.pitch);
        float *file = malloc((size_t)(rows * stride) * 4),
              *back = malloc((size_t)(rows * stride) * 4);
        for (int64_t i = 0; i < rows * stride; i++)
            file[i] = random_value();
        char *whole = calloc(1, (size_t)bytes), *pieces = calloc(1, (size_t)bytes);
        memset(whole, 0xff, (size_t)bytes), memset(pieces, 0xff, (size_t)bytes);
        lrt_pack_rows(&p, whole, 0, rows, file, stride);
        int64_t piece = store == LRT_STORE_Q8_0 && !transposed ? 32 : 5;
        for (int64_t i = (rows - 1) / piece * piece; i >= 0; i -= piece)
            lrt_pack_rows(&p, pieces, i, i + piece < rows ? piece : rows - i, file + i * stride,
                          stride);
        ck_assert_int_eq(memcmp(whole, pieces, (size_t)bytes), 0);
        for (int64_t i = 0; i < rows; i += 5)
            lrt_unpack_rows(&p, whole, i, i + 5 < rows ? 5 : rows - i, back + i * stride,
                            stride);
        double tolerance = store == LRT_STORE_F32    ? 0
                           : store == LRT_STORE_BF16 ? 0x1p-8
                                                     : 0x1p-7;
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++)
                ck_assert_double_le(fabs((double)(back[i * stride + j] - file[i * stride + j])),
                                    tolerance);
        free(file), free(back), free(whole), free(pieces);
    }
}
END_TEST

START_TEST(every_half_survives_a_round_trip)
{
    for (uint32_t half = 0; half < 0x10000; half++) {
        uint16_t back = lrt_to_f16(lrt_from_f16((uint16_t)half));
        bool is_nan = (half & 0x7fff) > 0x7c00;
        ck_assert_msg(is_nan ? (back & 0x7fff) > 0x7c00 : back == half, "%04x became %04x",
                      half, back);
    }
    ck_assert_uint_eq(lrt_to_f16(65519.0f), 0x7bff);
    ck_assert_uint_eq(lrt_to_f16(65520.0f), 0x7c00);
    ck_assert_uint_eq(lrt_to_f16(0x1.002p0f), 0x3c00);
    ck_assert_uint_eq(lrt_to_f16(0x1.006p0f), 0x3c02);
    ck_assert_uint_eq(lrt_to_bf16(0x1.01p0f), 0x3f80);
    ck_assert_uint_eq(lrt_to_bf16(0x1.03p0f), 0x3f82);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gemm");
    TCase *products = tcase_create("products");
    tcase_add_unchecked_fixture(products, build_library, NULL);
    tcase_set_timeout(products, 300);
    tcase_add_loop_test(products, products_are_one_chain_on_every_tier_and_for_any_rows, 0,
                        CASES);
    tcase_add_loop_test(products, sums_over_rows_are_a_tree_of_chunks_on_every_tier, 0,
                        TN_CASES);
    suite_add_tcase(suite, products);
    TCase *packing = tcase_create("packing");
    tcase_add_loop_test(packing, packing_in_pieces_equals_packing_at_once, 0, 18);
    tcase_add_test(packing, every_half_survives_a_round_trip);
    suite_add_tcase(suite, packing);
    return run_suite(suite);
}
