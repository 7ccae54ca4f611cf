/* test_cross_entropy.c - the emitted loss over the vocabulary and its gradient against plain
 * loops in double, on every tier this CPU has; the same bits for any tier, order of tasks and
 * neighbours; near the same numbers with OpenBLAS's products. Operands end at a page that cannot
 * be read, padding holds NaN. */
#define _GNU_SOURCE /* mkdtemp, madvise */
#include "backend/emit_attention.h"
#include "runtime/pack.h"
#include "tests/unit/kernel_memory.h"
#include "tests/unit/run_suite.h"

/* --- what is tested --- */

typedef struct Case {
    int64_t k, vocabulary;
    int store;
    bool biased;
} Case;

static const Case cases[] = {
    {1, 1, LRT_STORE_F32, false}, {1, 17, LRT_STORE_F32, false}, {1, 4099, LRT_STORE_F32, false},
    {20, 1, LRT_STORE_F32, false}, {20, 17, LRT_STORE_F32, false}, {20, 211, LRT_STORE_F32, false},
    {20, 4099, LRT_STORE_F32, false}, {100, 1, LRT_STORE_F32, false}, {100, 211, LRT_STORE_F32, false},
    {100, 4099, LRT_STORE_F32, false}, {16, 128, LRT_STORE_F32, false}, {512, 129, LRT_STORE_F32, false},
    {1, 211, LRT_STORE_BF16, false}, {20, 17, LRT_STORE_BF16, false}, {20, 4099, LRT_STORE_BF16, false},
    {100, 211, LRT_STORE_BF16, false}, {100, 1, LRT_STORE_BF16, false}, {33, 255, LRT_STORE_BF16, false},
    {1, 211, LRT_STORE_Q8_0, false}, {20, 17, LRT_STORE_Q8_0, false}, {20, 4099, LRT_STORE_Q8_0, false},
    {100, 211, LRT_STORE_Q8_0, false}, {100, 1, LRT_STORE_Q8_0, false}, {33, 255, LRT_STORE_Q8_0, false},
    {100, 4099, LRT_STORE_BF16, false}, {64, 300, LRT_STORE_Q8_0, false}, {1, 1, LRT_STORE_F32, true},
    {20, 17, LRT_STORE_F32, true}, {20, 211, LRT_STORE_F32, true}, {100, 4099, LRT_STORE_F32, true},
    {16, 128, LRT_STORE_BF16, true}, {33, 255, LRT_STORE_Q8_0, true},
};
enum { CASES = sizeof cases / sizeof *cases };

/* Rows in flight; those with a target are first, first + every, ... */
typedef struct RowSet {
    int64_t tokens, first, every;
} RowSet;

static const RowSet row_sets[] = {
    {1, 0, 1},   {5, 9, 1},   {33, 0, 1},  {70, 2, 3},
    {70, 69, 1}, {70, 0, 99}, {511, 0, 1}, {1100, 1, 2},
};
enum { ROW_SETS = sizeof row_sets / sizeof *row_sets, MOST_ROWS = 1100 };

/* The generic tier calls fma for every product. */
static bool case_runs(int index, int tier, int64_t tokens)
{
    const Case *c = &cases[index];
    return tier_runs_here(tier) &&
           (tier != TARGET_GENERIC || (c->k <= 33 && c->vocabulary <= 255 && tokens <= 100));
}

enum { X, W, LOSS, D_X, BIAS, SLOTS };

static CrossEntropySpec spec_of(const Case *c, const char *name)
{
    return (CrossEntropySpec){
        .name = name,
        .k = c->k,
        .vocabulary = c->vocabulary,
        .max_rows = MOST_ROWS,
        .store = c->store,
        .x = {LRT_BASE_ARENA, X, pitch_of(c->k)},
        .w = {LRT_BASE_WEIGHTS, W, 0},
        .biased = c->biased,
        .bias = {LRT_BASE_WEIGHTS, BIAS, 0},
        .loss = {LRT_BASE_ARENA, LOSS, 4},
        .dx = {LRT_BASE_ARENA, D_X, pitch_of(c->k)},
    };
}

static void *library;

static void export_loss(Emit *e, const CrossEntropySpec *spec)
{
    library_export(e, arena_format(e->arena, "run.%s", spec->name), emit_cross_entropy(e, spec));
    Val context = library_tasks(e, arena_format(e->arena, "tasks.%s", spec->name));
    LLVMBuildRet(e->builder, emit_cross_entropy_tasks(e, spec, context));
}

static void build_library(void)
{
    Arena *arena = arena_new();
    Emit *e = emit_new(arena, "test_cross_entropy");
    for (int tier = 0; tier < TARGET_COUNT; tier++) {
        e->tier = (TargetId)tier;
        e->target = &targets[tier];
        for (int i = 0; i < CASES; i++) {
            if (!case_runs(i, tier, 1))
                continue;
            CrossEntropySpec spec = spec_of(&cases[i], arena_format(arena, "c%d", i));
            export_loss(e, &spec);
            if (tier != TARGET_AVX2)
                continue;
            spec.name = arena_format(arena, "openblas%d", i);
            spec.openblas = true;
            export_loss(e, &spec);
        }
    }
    library = library_open(e);
    emit_free(e);
    arena_free(arena);
}

/* --- buffers --- */

typedef struct Buffers {
    Rows x, loss, d_x;
    Guarded w, bias, targets, target_rows;
    float *w_values; /* [k][vocabulary], as stored */
    LrtContext context;
    bool openblas; /* whose products */
} Buffers;

/* Packs random weights; files hold one row for each token, or one for each of k. */
static void make_weights(const Case *c, Buffers *b)
{
    LrtParam p = {.layout = LRT_LAYOUT_PANELS, .store = c->store, .rows = c->k};
    p.cols = c->vocabulary;
    p.transposed = (int32_t)(c->k % 2 == 0);
    int64_t rows = lrt_file_rows(&p), cols = lrt_file_cols(&p);
    float *file = malloc((size_t)(rows * cols) * sizeof *file);
    for (int64_t i = 0; i < rows * cols; i++)
        file[i] = random_value();
    b->w = guarded(lrt_param_bytes(p.layout, p.store, p.rows, p.cols, 0));
    lrt_pack_rows(&p, b->w.data, 0, rows, file, cols);
    lrt_unpack_rows(&p, b->w.data, 0, rows, file, cols);
    b->w_values = malloc((size_t)(rows * cols) * sizeof *file);
    for (int64_t i = 0; i < c->k; i++)
        for (int64_t j = 0; j < c->vocabulary; j++)
            b->w_values[i * c->vocabulary + j] =
                file[p.transposed ? j * cols + i : i * cols + j];
    free(file);
}

static float *bias_of(const Buffers *b)
{
    return (float *)(void *)b->bias.data;
}

/* Random operands, NaN in what the kernel writes; rows without target as `set` says. */
static Buffers buffers_new(const Case *c, const RowSet *set)
{
    Buffers b = {.x = rows_random(set->tokens, c->k), .d_x = rows_new(set->tokens, c->k)};
    make_weights(c, &b);
    b.bias = guarded((c->vocabulary + LANES - 1) / LANES * LANES * 4);
    memset(b.bias.data, 0xff, (size_t)b.bias.size);
    for (int64_t i = 0; i < c->vocabulary; i++)
        bias_of(&b)[i] = random_value();
    b.loss = (Rows){guarded(set->tokens * 4), set->tokens, 1, 4};
    b.targets = guarded(set->tokens * 4), b.target_rows = guarded(set->tokens * 4);
    int32_t *targets_of = (int32_t *)(void *)b.targets.data, count = 0;
    int32_t *rows = (int32_t *)(void *)b.target_rows.data;
    memset(rows, 0, (size_t)b.target_rows.size);
    for (int64_t i = 0; i < set->tokens; i++) {
        targets_of[i] = -100;
        if (i < set->first || (i - set->first) % set->every)
            continue;
        targets_of[i] = (int32_t)(random_bits() % (uint64_t)c->vocabulary);
        if (i % 4 == 0)
            targets_of[i] = (int32_t)c->vocabulary - 1;
        rows[count++] = (int32_t)i;
    }
    b.context =
        (LrtContext){.n_tokens = set->tokens, .n_target_rows = count, .want_gradients = 1};
    b.context.targets = targets_of;
    b.context.target_rows = rows;
    return b;
}

static void buffers_free(Buffers *b)
{
    release(b->x.memory), release(b->loss.memory), release(b->d_x.memory);
    release(b->w), release(b->bias), release(b->targets), release(b->target_rows);
    free(b->w_values);
}

static void forget_results(Buffers *b)
{
    memset(b->loss.memory.data, 0xff, (size_t)b->loss.memory.size);
    memset(b->d_x.memory.data, 0xff, (size_t)b->d_x.memory.size);
}

/* In one of several orders, and cut for so many threads. */
static void run_loss(int index, int tier, Buffers *b, int order)
{
    b->context.threads = 1 + 4 * order;
    CrossEntropySpec spec = spec_of(&cases[index], "");
    spec.openblas = b->openblas;
    uint64_t record[SLOTS] = {[X] = address_of(&b->x),
                              [W] = (uintptr_t)b->w.data,
                              [BIAS] = (uintptr_t)b->bias.data,
                              [LOSS] = address_of(&b->loss),
                              [D_X] = address_of(&b->d_x)};
    char name[32];
    snprintf(name, sizeof name, "%s%d", b->openblas ? "openblas" : "c", index);
    forget_results(b);
    run_kernel(library, name, tier, &b->context, record, cross_entropy_scratch_bytes(&spec),
               order);
}

/* --- the definition --- */

typedef struct Want {
    double *loss, *d_x;
} Want;

static Want want_of(const Case *c, const Buffers *b)
{
    int64_t rows = b->x.rows, n = c->vocabulary;
    Want w = {calloc((size_t)rows, sizeof(double)),
              calloc((size_t)(rows * c->k), sizeof(double))};
    double *p = malloc((size_t)n * sizeof *p);
    for (int64_t row = 0; row < rows; row++) {
        int32_t target = b->context.targets[row];
        if (target < 0)
            continue;
        for (int64_t j = 0; j < n; j++)
            p[j] = c->biased ? (double)bias_of(b)[j] : 0;
        for (int64_t i = 0; i < c->k; i++)
            for (int64_t j = 0; j < n; j++)
                p[j] += (double)row_of(&b->x, row)[i] * (double)b->w_values[i * n + j];
        double max = p[0], sum = 0, logit = p[target];
        for (int64_t j = 1; j < n; j++)
            max = fmax(max, p[j]);
        for (int64_t j = 0; j < n; j++)
            sum += p[j] = exp(p[j] - max);
        w.loss[row] = max + log(sum) - logit;
        for (int64_t i = 0; i < c->k; i++) {
            double d = 0;
            for (int64_t j = 0; j < n; j++)
                d += p[j] * (double)b->w_values[i * n + j];
            w.d_x[row * c->k + i] = d / sum - (double)b->w_values[i * n + target];
        }
    }
    free(p);
    return w;
}

static void want_free(Want *w)
{
    free(w->loss), free(w->d_x);
}

/* --- tests --- */

static const char *describe(int index, const RowSet *set, int tier, const char *what)
{
    static const char *const stores[] = {"f32", "bf16", "q8_0"};
    static char text[160];
    const Case *c = &cases[index];
    snprintf(text, sizeof text, "%s, k %d, vocabulary %d, %s%s, %d rows of which %d + i * %d, %s",
             what, (int)c->k, (int)c->vocabulary, stores[c->store], c->biased ? ", bias" : "", (int)set->tokens,
             (int)set->first, (int)set->every, targets[tier].text);
    return text;
}

/* Exact zeros in rows without a target. */
static void others_are_zero(const Buffers *b, const char *what)
{
    for (int64_t i = 0; i < b->x.rows; i++)
        for (int64_t j = 0; j < b->x.columns && b->context.targets[i] < 0; j++)
            if (row_of(&b->loss, i)[0] != 0 || row_of(&b->d_x, i)[j] != 0)
                ck_abort_msg("%s: row %d has no target, but loss %g and dx[%d] %g", what,
                             (int)i, (double)row_of(&b->loss, i)[0], (int)j,
                             (double)row_of(&b->d_x, i)[j]);
}

START_TEST(results_are_those_of_plain_loops)
{
    for (int s = 0; s < ROW_SETS; s++) {
        const RowSet *set = &row_sets[s];
        random_state = (uint64_t)(_i * ROW_SETS + s);
        Buffers b = buffers_new(&cases[_i], set);
        Want want = want_of(&cases[_i], &b);
        for (int run = 0; run <= TARGET_COUNT; run++) {
            b.openblas = run == TARGET_COUNT;
            int tier = b.openblas ? TARGET_AVX2 : run;
            if (!case_runs(_i, tier, set->tokens))
                continue;
            run_loss(_i, tier, &b, 0);
            rows_near(&b.loss, want.loss, 2e-6, describe(_i, set, tier, "loss"));
            rows_near(&b.d_x, want.d_x, 3e-6 + 3e-7 * sqrt((double)cases[_i].k),
                      describe(_i, set, tier, "dx")); /* logits are sums of k */
            others_are_zero(&b, describe(_i, set, tier, "others"));
        }
        want_free(&want);
        buffers_free(&b);
    }
}
END_TEST

START_TEST(bits_depend_on_neither_tier_nor_order)
{
    for (int s = 0; s < ROW_SETS; s++) {
        const RowSet *set = &row_sets[s];
        random_state = (uint64_t)(_i * ROW_SETS + s);
        Buffers first = buffers_new(&cases[_i], set);
        random_state = (uint64_t)(_i * ROW_SETS + s);
        Buffers other = buffers_new(&cases[_i], set);
        run_loss(_i, TARGET_AVX2, &first, 0);
        for (int tier = 0; tier < TARGET_COUNT; tier++)
            for (int order = 0; order < 3 && case_runs(_i, tier, set->tokens); order++) {
                const char *what = describe(_i, set, tier, "tier and order");
                run_loss(_i, tier, &other, order);
                rows_equal(&first.loss, 0, &other.loss, 0, set->tokens, what);
                rows_equal(&first.d_x, 0, &other.d_x, 0, set->tokens, what);
            }
        buffers_free(&first), buffers_free(&other);
    }
}
END_TEST

/* The rows that are asked for get the same bits whoever else is: target_rows may leave out
 * rows. */
START_TEST(bits_do_not_depend_on_neighbours)
{
    static const int steps[] = {2, 7, 64, 600};
    const RowSet *set = &row_sets[ROW_SETS - 1];
    random_state = (uint64_t)_i;
    Buffers all = buffers_new(&cases[_i], set);
    random_state = (uint64_t)_i;
    Buffers some = buffers_new(&cases[_i], set);
    run_loss(_i, TARGET_AVX2, &all, 0);
    for (int s = 0; s < 4; s++) {
        int32_t *rows = (int32_t *)(void *)some.target_rows.data;
        int64_t count = 0;
        for (int64_t i = steps[s] / 2; i < all.context.n_target_rows; i += steps[s])
            rows[count++] = all.context.target_rows[i];
        some.context.n_target_rows = count;
        for (int tier = TARGET_GENERIC + 1; tier < TARGET_COUNT; tier++) {
            if (!case_runs(_i, tier, set->tokens))
                continue;
            const char *what = describe(_i, set, tier, "some rows");
            run_loss(_i, tier, &some, 0);
            for (int64_t i = 0; i < count; i++) {
                rows_equal(&all.loss, rows[i], &some.loss, rows[i], 1, what);
                rows_equal(&all.d_x, rows[i], &some.d_x, rows[i], 1, what);
            }
        }
    }
    buffers_free(&all), buffers_free(&some);
}
END_TEST

START_TEST(losses_are_the_same_without_gradients)
{
    const RowSet *set = &row_sets[ROW_SETS - 1];
    random_state = (uint64_t)_i;
    Buffers with = buffers_new(&cases[_i], set);
    random_state = (uint64_t)_i;
    Buffers without = buffers_new(&cases[_i], set);
    without.context.want_gradients = 0;
    for (int tier = 0; tier < TARGET_COUNT; tier++) {
        if (!case_runs(_i, tier, set->tokens))
            continue;
        run_loss(_i, tier, &with, 0);
        run_loss(_i, tier, &without, 1);
        rows_equal(&with.loss, 0, &without.loss, 0, set->tokens,
                   describe(_i, set, tier, "no gradients"));
        if (tier != TARGET_AVX2)
            continue;
        without.openblas = true;
        run_loss(_i, tier, &without, 0);
        without.openblas = false;
        for (int64_t i = 0; i < set->tokens; i++)
            if (!(fabsf(row_of(&with.loss, i)[0] - row_of(&without.loss, i)[0]) <= 1e-4f))
                ck_abort_msg("%s: loss %d", describe(_i, set, tier, "OpenBLAS, no gradients"), (int)i);
    }
    buffers_free(&with), buffers_free(&without);
}
END_TEST

/* Logits of +-1e4 and more: no overflow, no negative loss; f32 logits that size are off by up
 * to 1e-3, so probabilities are, too. */
START_TEST(large_logits_do_no_harm)
{
    const RowSet *set = &row_sets[3];
    random_state = (uint64_t)_i;
    Buffers b = buffers_new(&cases[_i], set);
    for (int64_t i = 0; i < set->tokens; i++)
        for (int64_t j = 0; j < b.x.columns; j++)
            row_of(&b.x, i)[j] *= i % 2 ? 1e4f : -3e4f;
    Want want = want_of(&cases[_i], &b);
    for (int tier = 0; tier < TARGET_COUNT; tier++) {
        if (!case_runs(_i, tier, set->tokens))
            continue;
        run_loss(_i, tier, &b, 0);
        rows_near(&b.loss, want.loss, 2e-6, describe(_i, set, tier, "large loss"));
        rows_near(&b.d_x, want.d_x, 1e-2, describe(_i, set, tier, "large dx"));
        for (int64_t i = 0; i < set->tokens; i++)
            if (!(row_of(&b.loss, i)[0] >= 0))
                ck_abort_msg("%s: loss %d is %g", describe(_i, set, tier, "large"), (int)i,
                             (double)row_of(&b.loss, i)[0]);
    }
    want_free(&want);
    buffers_free(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cross entropy");
    TCase *tc = tcase_create("cross entropy");
    tcase_add_unchecked_fixture(tc, build_library, NULL);
    tcase_set_timeout(tc, 240);
    tcase_add_loop_test(tc, results_are_those_of_plain_loops, 0, CASES);
    tcase_add_loop_test(tc, bits_depend_on_neither_tier_nor_order, 0, CASES);
    tcase_add_loop_test(tc, bits_do_not_depend_on_neighbours, 0, CASES);
    tcase_add_loop_test(tc, losses_are_the_same_without_gradients, 0, CASES);
    tcase_add_loop_test(tc, large_logits_do_no_harm, 0, CASES);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
