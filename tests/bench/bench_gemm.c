/* bench_gemm.c - emitted products against the measured peak of fused multiply-adds and against
 * OpenBLAS.
 *
 *   bench_gemm [ROWS [REPETITIONS [TIER]]]
 *
 * One thread, CPU time, medians; peak, ours and OpenBLAS take turns within each repetition, so
 * that a change of clock speed meets all of them alike. */
#define _GNU_SOURCE /* mkdtemp, madvise */
#include <cblas.h>
#include <sys/mman.h>
#include <time.h>

#include "backend/emit_gemm.h"
#include "runtime/pack.h"
#include "tests/emit_library.h"

void openblas_set_num_threads(int threads);

typedef enum Form { FORM_NN, FORM_TRANSPOSED, FORM_TN } Form;

static const struct Shape {
    Form form;
    int store;
    int64_t k, n, rank;
} shapes[] = {
    {FORM_NN, LRT_STORE_F32, 576, 576, 0},
    {FORM_NN, LRT_STORE_F32, 576, 1536, 0},
    {FORM_NN, LRT_STORE_F32, 1536, 576, 0},
    {FORM_NN, LRT_STORE_F32, 768, 3072, 0},
    {FORM_NN, LRT_STORE_F32, 3072, 768, 0},
    {FORM_NN, LRT_STORE_F32, 2048, 8192, 0},
    {FORM_NN, LRT_STORE_F32, 576, 1536, 8},
    {FORM_TRANSPOSED, LRT_STORE_F32, 576, 576, 0},
    {FORM_TRANSPOSED, LRT_STORE_F32, 1536, 576, 0},
    {FORM_TRANSPOSED, LRT_STORE_F32, 576, 1536, 0},
    {FORM_TRANSPOSED, LRT_STORE_F32, 3072, 768, 0},
    {FORM_TRANSPOSED, LRT_STORE_F32, 768, 3072, 0},
    {FORM_NN, LRT_STORE_BF16, 768, 3072, 0},
    {FORM_NN, LRT_STORE_Q8_0, 768, 3072, 0},
    {FORM_TRANSPOSED, LRT_STORE_BF16, 3072, 768, 0},
    {FORM_TRANSPOSED, LRT_STORE_Q8_0, 3072, 768, 0},
    {FORM_NN, LRT_STORE_F32, 8192, 2048, 0},
    {FORM_NN, LRT_STORE_BF16, 8192, 2048, 0},
    {FORM_TRANSPOSED, LRT_STORE_F32, 49152, 576, 0},
    {FORM_NN, LRT_STORE_F32, 576, 8, 0},
    {FORM_TRANSPOSED, LRT_STORE_F32, 576, 8, 0},
    {FORM_TN, LRT_STORE_F32, 576, 8, 0},
    {FORM_TN, LRT_STORE_F32, 8, 576, 0},
    {FORM_TN, LRT_STORE_F32, 16, 3072, 0},
    {FORM_TN, LRT_STORE_F32, 576, 1536, 0},
    {FORM_TN, LRT_STORE_F32, 768, 3072, 0},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

enum { SLOT_A, SLOT_B, SLOT_U, SLOT_L, SLOT_C, SLOT_COUNT };

static int64_t pitch_of(int64_t columns)
{
    int64_t pitch = (columns + LANES - 1) / LANES * LANES * 4;
    return pitch % 2048 ? pitch : pitch + 64;
}

static void store_chunk(Emit *e, void *user, Val acc, Val row, Val column)
{
    const Operand *to = user;
    Val at = ll_at(e, operand_pointer(e, *to), ll_mul(e, row, ll_i64(e, to->pitch)));
    ll_store(e, acc, ll_at(e, at, ll_mul(e, column, ll_i64(e, 4))), 4);
}

/* i64 peak(i64 rounds): rounds x PEAK_CHAINS x 32 operations on registers. */
static int peak_chains(const Target *target)
{
    return target->width == LANES ? 16 : target->width == LANES / 2 ? 6 : 2;
}

static void emit_peak(Emit *e)
{
    Val rounds = library_count(e, "peak");
    Val sums[16], next[16], x = ll_splat(e, LLVMBuildSIToFP(e->builder, rounds, e->t_f32, ""));
    int chains = peak_chains(e->target);
    for (int i = 0; i < chains; i++)
        sums[i] = ll_vec(e, i);
    Loop loop = loop_begin(e, ll_i64(e, 0), rounds, ll_i64(e, 1), sums, chains, true);
    for (int i = 0; i < chains; i++)
        next[i] = ll_fma(e, x, x, loop.carried[i]);
    loop_end(e, &loop, next, sums);
    Val total = sums[0];
    for (int i = 1; i < chains; i++)
        total = ll_fadd(e, total, sums[i]);
    LLVMBuildRet(e->builder,
                 LLVMBuildFPToSI(e->builder, ll_reduce_max(e, total), e->t_i64, ""));
}

static int64_t scratch_bytes[SHAPES];

static void *build_library(int tier, int64_t rows)
{
    Arena *arena = arena_new();
    Emit *e = emit_new(arena, "bench_gemm");
    e->tier = (TargetId)tier;
    e->target = &targets[tier];
    emit_peak(e);
    for (int i = 0; i < SHAPES; i++) {
        const struct Shape *s = &shapes[i];
        const char *name = arena_format(arena, "kernel%d", i);
        const char *run = arena_format(arena, "run%d", i),
                   *tasks = arena_format(arena, "tasks%d", i);
        Operand a = {LRT_BASE_ARENA, SLOT_A, pitch_of(s->k)},
                b = {LRT_BASE_ARENA, SLOT_B, pitch_of(s->n)};
        Operand c = {LRT_BASE_ARENA, SLOT_C, pitch_of(s->n)};
        if (s->form == FORM_TN) {
            GemmTnSpec spec = {
                .name = name, .max_rows = rows, .k = s->k, .n = s->n, .a = a, .b = b, .g = c};
            library_export(e, run, emit_gemm_tn(e, &spec));
            LLVMBuildRet(e->builder, emit_gemm_tn_tasks(e, &spec, library_count(e, tasks)));
            scratch_bytes[i] = gemm_tn_scratch_bytes(&spec);
            continue;
        }
        GemmSpec spec = {
            .name = name,
            .max_rows = rows,
            .k = s->k,
            .n = s->n,
            .a = a,
            .w = b,
            .store = s->store,
            .transposed = s->form == FORM_TRANSPOSED,
            .rank = s->rank,
            .u = {LRT_BASE_ARENA, SLOT_U, pitch_of(s->rank)},
            .l = {LRT_BASE_ARENA, SLOT_L, 0},
            .epilogue = store_chunk,
            .user = &c,
        };
        library_export(e, run, emit_gemm(e, &spec));
        LLVMBuildRet(e->builder, emit_gemm_tasks(e, &spec, library_count(e, tasks)));
        scratch_bytes[i] = gemm_scratch_bytes(&spec);
    }
    void *library = library_open(e);
    emit_free(e);
    arena_free(arena);
    return library;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

static float *random_floats(int64_t bytes)
{
    size_t page = (size_t)1 << 21, size = ((size_t)bytes + page - 1) / page * page;
    float *values = aligned_alloc(page, size);
    library_check(values != NULL, "out of memory");
    if (!getenv("SMALL_PAGES"))
        madvise(values, size, MADV_HUGEPAGE); /* as the runtime does */
    for (int64_t i = 0; i < bytes / 4; i++)
        values[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    return values;
}

static void openblas(const struct Shape *s, int m, const float *a, const float *b, float *c)
{
    int k = (int)s->k, n = (int)s->n, lda = (int)(pitch_of(s->k) / 4),
        ldn = (int)(pitch_of(s->n) / 4);
    if (s->form == FORM_TN)
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, k, n, m, 1, a, lda, b, ldn, 1, c,
                    ldn);
    else if (s->form == FORM_NN)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, lda, b, n, 0, c,
                    ldn);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, a, lda, b, k, 0, c,
                    ldn);
}

typedef struct Bench {
    void *library;
    int tier, repetitions;
    int64_t rows;
    char *scratch;
} Bench;

static double peak_seconds(const Bench *b, double *operations)
{
    int64_t (*peak)(int64_t), rounds = 400000;
    LIBRARY_FIND(b->library, peak, "peak.%s", targets[b->tier].text);
    double start = now();
    volatile int64_t sink = peak(rounds);
    (void)sink;
    *operations = (double)rounds * (2 * LANES * peak_chains(&targets[b->tier]));
    return now() - start;
}

static void bench_shape(const Bench *bench, int index)
{
    static const char *const forms[] = {"nn", "transposed", "tn"}, *const stores[] = {
                                                                       "f32", "bf16", "q8_0"};
    const struct Shape *s = &shapes[index];
    int64_t m = bench->rows, padded_n = (s->n + 15) / 16 * 16, padded_k = (s->k + 15) / 16 * 16;
    LrtKernel *run;
    int64_t (*count)(int64_t);
    LIBRARY_FIND(bench->library, run, "run%d.%s", index, targets[bench->tier].text);
    LIBRARY_FIND(bench->library, count, "tasks%d.%s", index, targets[bench->tier].text);
    int64_t c_bytes = (m > s->k ? m : s->k) * pitch_of(s->n);
    float *a = random_floats(m * pitch_of(s->k)), *c = random_floats(c_bytes),
          *u = random_floats(m * 64);
    float *l = random_floats((s->rank + 1) * padded_n * 4);
    float *b = random_floats(s->form == FORM_TN ? m * pitch_of(s->n) : padded_k * padded_n * 4),
          *packed = b;
    if (s->store != LRT_STORE_F32) {
        bool transposed = s->form == FORM_TRANSPOSED;
        LrtParam p = {.layout = LRT_LAYOUT_PANELS, .store = s->store};
        p.rows = transposed ? s->n : s->k;
        p.cols = transposed ? s->k : s->n;
        packed = random_floats(lrt_param_bytes(p.layout, p.store, p.rows, p.cols, 0));
        lrt_pack_rows(&p, (char *)packed, 0, p.rows, b, p.cols);
    }
    uint64_t record[] = {(uintptr_t)a, (uintptr_t)packed, (uintptr_t)u, (uintptr_t)l,
                         (uintptr_t)c};
    LrtContext context = {.n_tokens = m};
    double ours[64], theirs[64], peaks[64],
        operations = 0, flops = 2.0 * (double)(m * s->n) * (double)(s->k + s->rank);
    int inner = flops < 2e8 ? (int)(2e8 / flops) : 1;
    for (int r = -1; r < bench->repetitions; r++) {
        int at = r < 0 ? 0 : r;
        peaks[at] = peak_seconds(bench, &operations);
        double start = now();
        for (int i = 0; i < inner; i++)
            for (int64_t task = 0, tasks = count(m); task < tasks; task++)
                run(&context, record, task, bench->scratch);
        ours[at] = (now() - start) / inner;
        start = now();
        for (int i = 0; i < inner; i++)
            openblas(s, (int)m, a, b, c);
        theirs[at] = (now() - start) / inner;
    }
    double peak = operations / median(peaks, bench->repetitions) / 1e9;
    double rate = flops / median(ours, bench->repetitions) / 1e9,
           blas = flops / median(theirs, bench->repetitions) / 1e9;
    printf("%-10s %-4s %5lld -> %-5lld r=%-2lld %3lld tasks %8.1f us %7.1f GF/s = %5.1f %% of "
           "%.1f; OpenBLAS %7.1f = %5.1f %%",
           forms[s->form], stores[s->store], (long long)s->k, (long long)s->n,
           (long long)s->rank, (long long)count(m), flops / rate / 1e3, rate, 100 * rate / peak,
           peak, blas, 100 * blas / peak);
    if (m <= 4 && s->form != FORM_TN) {
        int64_t bytes = lrt_param_bytes(LRT_LAYOUT_PANELS, s->store, s->k, s->n, 0);
        printf("; %.1f GB/s of weights", (double)bytes / (flops / rate));
    }
    printf("\n");
    if (packed != b)
        free(packed);
    free(a), free(b), free(c), free(u), free(l);
}

int main(int argc, char **argv)
{
    Bench bench = {.rows = argc > 1 ? atoi(argv[1]) : 2048,
                   .repetitions = argc > 2 ? atoi(argv[2]) : 7};
    bench.tier = TARGET_COUNT - 1;
    while (bench.tier > 0 && (!tier_runs_here(bench.tier) ||
                              (argc > 3 && strcmp(argv[3], targets[bench.tier].text))))
        bench.tier--;
    openblas_set_num_threads(1);
    bench.library = build_library(bench.tier, bench.rows);
    int64_t most = 0;
    for (int i = 0; i < SHAPES; i++)
        most = scratch_bytes[i] > most ? scratch_bytes[i] : most;
    bench.scratch = aligned_alloc(64, (size_t)(most + 63) / 64 * 64);
    printf("%s, %lld rows, medians of %d\n", targets[bench.tier].text, (long long)bench.rows,
           bench.repetitions);
    const char *only = getenv("ONLY");
    for (int i = 0; i < SHAPES; i++)
        if (!only || atoi(only) == i)
            bench_shape(&bench, i);
    free(bench.scratch);
    return 0;
}
