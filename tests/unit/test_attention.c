/* test_attention.c - emitted attention and its gradient against plain loops in double, on every
 * tier this CPU has; the same bits for any tier, order of tasks, neighbours and way of decoding;
 * near the same numbers with OpenBLAS's products.
 * Operands end at a page that cannot be read, padding holds NaN. */
#define _GNU_SOURCE /* mkdtemp, madvise */
#include "backend/emit_attention.h"
#include "tests/unit/kernel_memory.h"
#include "tests/unit/run_suite.h"

/* --- what is tested --- */

typedef struct Case {
    int64_t heads, kv_heads, head_dim;
    bool causal;
    int64_t window;
} Case;

#define HEADS(dim, causal, w1, w2)                                                             \
    {1, 1, dim, causal, w1}, {3, 1, dim, causal, w2}, {4, 4, dim, !(causal), w1},              \
    {                                                                                          \
        9, 3, dim, 1, w2                                                                       \
    }

static const Case cases[] = {
    HEADS(1, 1, 0, 5),  HEADS(12, 0, 0, 64), HEADS(16, 1, 0, 65),  HEADS(20, 1, 1, 0),
    HEADS(64, 1, 0, 3), HEADS(96, 0, 70, 0), HEADS(160, 1, 10, 0),
};
enum { CASES = sizeof cases / sizeof *cases };

/* The generic tier calls fma for every product. */
static bool case_runs(int index, int tier)
{
    return tier_runs_here(tier) && (tier != TARGET_GENERIC || cases[index].head_dim <= 20);
}

/* One of each head's size with shared keys, one without: compiling all would take the time of a tier. */
static bool with_openblas(int index)
{
    return index % 4 >= 2;
}

static const int32_t lengths[] = {1, 63, 64, 65, 130};
enum { SEGMENTS = sizeof lengths / sizeof *lengths, TOKENS = 1 + 63 + 64 + 65 + 130 };

enum { Q, K, V, O, LSE, D_O, D_Q, D_K, D_V, WORK, SLOTS };

static AttentionSpec spec_of(const Case *c, const char *name)
{
    int64_t q = pitch_of(c->heads * c->head_dim), kv = pitch_of(c->kv_heads * c->head_dim);
    return (AttentionSpec){
        .name = name,
        .heads = c->heads,
        .kv_heads = c->kv_heads,
        .head_dim = c->head_dim,
        .scale = 1.7 / sqrt((double)c->head_dim),
        .causal = c->causal,
        .window = c->window,
        .max_tokens = TOKENS,
        .max_keys = 130,
        .q = {LRT_BASE_ARENA, Q, q},
        .k = {LRT_BASE_CACHE, K, kv},
        .v = {LRT_BASE_CACHE, V, kv},
        .o = {LRT_BASE_ARENA, O, q},
        .lse = {LRT_BASE_ARENA, LSE, pitch_of(c->heads)},
        .d_o = {LRT_BASE_ARENA, D_O, q},
        .d_q = {LRT_BASE_ARENA, D_Q, q},
        .d_k = {LRT_BASE_ARENA, D_K, kv},
        .d_v = {LRT_BASE_ARENA, D_V, kv},
        .work = {LRT_BASE_ARENA, WORK, 0},
    };
}

static void *library;

static void export_kernel(Emit *e, const char *name, Val kernel)
{
    library_export(e, arena_format(e->arena, "run.%s", name), kernel);
}

/* Kernels o%d and g%d_%d, or with a prefix. */
static void export_case(Emit *e, int index, bool openblas)
{
    const char *prefix = openblas ? "openblas_" : "";
    AttentionSpec spec = spec_of(&cases[index], arena_format(e->arena, "%so%d", prefix, index));
    spec.openblas = openblas;
    export_kernel(e, spec.name, emit_attention(e, &spec));
    Val context = library_tasks(e, arena_format(e->arena, "tasks.%s", spec.name));
    LLVMBuildRet(e->builder, emit_attention_tasks(e, &spec, context));
    Val kernels[2];
    spec.name = arena_format(e->arena, "%sg%d", prefix, index);
    emit_attention_grad(e, &spec, kernels);
    for (int k = 0; k < 2 && kernels[k]; k++) {
        const char *name = arena_format(e->arena, "%s_%d", spec.name, k);
        export_kernel(e, name, kernels[k]);
        context = library_tasks(e, arena_format(e->arena, "tasks.%s", name));
        LLVMBuildRet(e->builder, emit_attention_grad_tasks(e, &spec, context, k));
    }
}

static void build_library(void)
{
    Arena *arena = arena_new();
    Emit *e = emit_new(arena, "test_attention");
    for (int tier = 0; tier < TARGET_COUNT; tier++) {
        e->tier = (TargetId)tier;
        e->target = &targets[tier];
        for (int i = 0; i < CASES; i++) {
            if (!case_runs(i, tier))
                continue;
            export_case(e, i, false);
            if (tier == TARGET_AVX2 && with_openblas(i))
                export_case(e, i, true);
        }
    }
    library = library_open(e);
    emit_free(e);
    arena_free(arena);
}

/* --- buffers --- */

typedef struct Buffers {
    Rows at[SLOTS];
    LrtSegment segments[SEGMENTS];
    LrtContext context;
    bool openblas; /* whose products */
} Buffers;

static int64_t columns_of(const Case *c, int slot)
{
    bool kv = slot == K || slot == V || slot == D_K || slot == D_V;
    return slot == LSE ? c->heads : (kv ? c->kv_heads : c->heads) * c->head_dim;
}

/* Random operands, NaN in what kernels write. */
static Buffers buffers_new(const Case *c, int64_t tokens, int64_t keys)
{
    Buffers b = {.context = {.n_tokens = tokens}};
    for (int slot = 0; slot < WORK; slot++) {
        bool given = slot <= V || slot == D_O;
        int64_t rows = slot == K || slot == V ? keys : tokens;
        b.at[slot] = (given ? rows_random : rows_new)(rows, columns_of(c, slot));
    }
    AttentionSpec spec = spec_of(c, "");
    b.at[WORK] = (Rows){.memory = guarded((attention_work_bytes(&spec) + 63) / 64 * 64)};
    return b;
}

static void buffers_free(Buffers *b)
{
    for (int slot = 0; slot < SLOTS; slot++)
        release(b->at[slot].memory);
}

/* The lengths one after another, keys beside queries. */
static void pack(Buffers *b)
{
    int32_t start = 0;
    for (int i = 0; i < SEGMENTS; start += lengths[i++])
        b->segments[i] = (LrtSegment){start, lengths[i], start, 0};
    b->context.segments = b->segments;
    b->context.n_segments = SEGMENTS;
}

static void forward(int index, int tier, Buffers *b, int order)
{
    AttentionSpec spec = spec_of(&cases[index], "");
    uint64_t record[SLOTS];
    char name[32];
    for (int slot = 0; slot < SLOTS; slot++)
        record[slot] = address_of(&b->at[slot]);
    snprintf(name, sizeof name, "%so%d", b->openblas ? "openblas_" : "", index);
    run_kernel(library, name, tier, &b->context, record, attention_scratch_bytes(&spec), order);
}

static void backward(int index, int tier, Buffers *b, int order)
{
    AttentionSpec spec = spec_of(&cases[index], "");
    uint64_t record[SLOTS];
    char name[32];
    for (int slot = 0; slot < SLOTS; slot++)
        record[slot] = address_of(&b->at[slot]);
    for (int k = 0; k < (spec.heads == spec.kv_heads ? 1 : 2); k++) {
        snprintf(name, sizeof name, "%sg%d_%d", b->openblas ? "openblas_" : "", index, k);
        run_kernel(library, name, tier, &b->context, record,
                   attention_grad_scratch_bytes(&spec), order);
    }
}

/* The same operands, results NaN again. */
static void forget_results(Buffers *b)
{
    static const int results[] = {O, LSE, D_Q, D_K, D_V, WORK};
    for (int i = 0; i < 6; i++)
        memset(b->at[results[i]].memory.data, 0xff, (size_t)b->at[results[i]].memory.size);
}

/* --- the definition --- */

typedef struct Want {
    double *at[WORK];
} Want;

static Want want_new(const Buffers *b)
{
    Want w;
    for (int slot = 0; slot < WORK; slot++)
        w.at[slot] = calloc((size_t)(b->at[slot].rows * b->at[slot].columns), sizeof(double));
    return w;
}

static void want_free(Want *w)
{
    for (int slot = 0; slot < WORK; slot++)
        free(w->at[slot]);
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* p[0 .. keys - 1] of row `row`; gives the log-sum-exp. */
static double softmax_of(const Case *c, const Buffers *b, const LrtSegment *s, int64_t row,
                         int64_t head, double *p)
{
    int64_t keys = s->past + s->length, position = s->past + row, d = c->head_dim;
    int64_t kv = head / (c->heads / c->kv_heads) * d;
    double scale = spec_of(c, "").scale, max = -INFINITY, sum = 0;
    const float *q = row_of(&b->at[Q], s->start + row) + head * d;
    for (int64_t j = 0; j < keys; j++) {
        bool seen = (!c->causal || j <= position) && (!c->window || j > position - c->window);
        p[j] = seen ? scale * dot(q, row_of(&b->at[K], s->key_start + j) + kv, d) : -INFINITY;
        max = fmax(max, p[j]);
    }
    for (int64_t j = 0; j < keys; j++)
        sum += p[j] = exp(p[j] - max);
    for (int64_t j = 0; j < keys; j++)
        p[j] /= sum;
    return max + log(sum);
}

static void want_row(const Case *c, const Buffers *b, const LrtSegment *s, int64_t row,
                     int64_t head, Want *w, double *p)
{
    int64_t d = c->head_dim, keys = s->past + s->length, kv = head / (c->heads / c->kv_heads) * d;
    int64_t width = c->heads * d, kv_width = c->kv_heads * d, at = s->start + row;
    double *o = w->at[O] + at * width + head * d, delta = 0, scale = spec_of(c, "").scale;
    const float *q = row_of(&b->at[Q], at) + head * d, *d_o = row_of(&b->at[D_O], at) + head * d;
    w->at[LSE][at * c->heads + head] = softmax_of(c, b, s, row, head, p);
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < d; i++)
            o[i] += p[j] * (double)row_of(&b->at[V], s->key_start + j)[kv + i];
    if (s->key_start != s->start)
        return; /* no gradients with a cache */
    for (int64_t i = 0; i < d; i++)
        delta += o[i] * (double)d_o[i];
    for (int64_t j = 0; j < keys; j++) {
        int64_t key = s->key_start + j;
        const float *k = row_of(&b->at[K], key) + kv, *v = row_of(&b->at[V], key) + kv;
        double ds = scale * p[j] * (dot(d_o, v, d) - delta);
        for (int64_t i = 0; i < d; i++) {
            w->at[D_Q][at * width + head * d + i] += ds * (double)k[i];
            w->at[D_K][key * kv_width + kv + i] += ds * (double)q[i];
            w->at[D_V][key * kv_width + kv + i] += p[j] * (double)d_o[i];
        }
    }
}

static Want want_of(const Case *c, const Buffers *b)
{
    Want w = want_new(b);
    double p[256];
    for (int64_t i = 0; i < b->context.n_segments; i++)
        for (int64_t row = 0; row < b->context.segments[i].length; row++)
            for (int64_t head = 0; head < c->heads; head++)
                want_row(c, b, &b->context.segments[i], row, head, &w, p);
    return w;
}

/* --- tests --- */

static const char *describe(const Case *c, int tier, const char *what)
{
    static char text[128];
    snprintf(text, sizeof text, "%s, %d/%d heads of %d%s, window %d, %s", what, (int)c->heads,
             (int)c->kv_heads, (int)c->head_dim, c->causal ? ", causal" : "", (int)c->window,
             targets[tier].text);
    return text;
}

START_TEST(results_are_those_of_plain_loops)
{
    const Case *c = &cases[_i];
    random_state = (uint64_t)_i;
    Buffers b = buffers_new(c, TOKENS, TOKENS);
    pack(&b);
    Want want = want_of(c, &b);
    for (int run = 0; run <= TARGET_COUNT; run++) {
        b.openblas = run == TARGET_COUNT;
        int tier = b.openblas ? TARGET_AVX2 : run;
        if (!case_runs(_i, tier) || (b.openblas && !with_openblas(_i)))
            continue;
        forget_results(&b);
        forward(_i, tier, &b, 0);
        rows_near(&b.at[O], want.at[O], 2e-6, describe(c, tier, "o"));
        rows_near(&b.at[LSE], want.at[LSE], 2e-6, describe(c, tier, "lse"));
        backward(_i, tier, &b, 0);
        rows_near(&b.at[D_Q], want.at[D_Q], 5e-6, describe(c, tier, "dq"));
        rows_near(&b.at[D_K], want.at[D_K], 5e-6, describe(c, tier, "dk"));
        rows_near(&b.at[D_V], want.at[D_V], 5e-6, describe(c, tier, "dv"));
    }
    want_free(&want);
    buffers_free(&b);
}
END_TEST

static void expect_same(const Case *c, const Buffers *a, int64_t a_row, const Buffers *b,
                        int64_t b_row, int64_t count, int tier, const char *what)
{
    static const int results[] = {O, LSE, D_Q, D_K, D_V};
    for (int i = 0; i < 5; i++)
        rows_equal(&a->at[results[i]], a_row, &b->at[results[i]], b_row, count,
                   describe(c, tier, what));
}

START_TEST(bits_depend_on_neither_tier_nor_order_nor_neighbours)
{
    const Case *c = &cases[_i];
    random_state = (uint64_t)_i;
    Buffers first = buffers_new(c, TOKENS, TOKENS);
    random_state = (uint64_t)_i;
    Buffers other = buffers_new(c, TOKENS, TOKENS);
    pack(&first), pack(&other);
    forward(_i, TARGET_AVX2, &first, 0);
    backward(_i, TARGET_AVX2, &first, 0);
    for (int tier = 0; tier < TARGET_COUNT; tier++) {
        if (!case_runs(_i, tier))
            continue;
        for (int order = 0; order < (tier == TARGET_GENERIC ? 1 : 3); order++) {
            forget_results(&other);
            forward(_i, tier, &other, order);
            backward(_i, tier, &other, order);
            expect_same(c, &first, 0, &other, 0, TOKENS, tier, "tier and order");
        }
    }
    for (int s = 0; s < SEGMENTS; s++) { /* alone, in rows of its own */
        const LrtSegment *segment = &first.segments[s];
        Buffers alone = buffers_new(c, segment->length, segment->length);
        static const int given[] = {Q, K, V, D_O};
        for (int i = 0; i < 4; i++)
            memcpy(alone.at[given[i]].memory.data, row_of(&first.at[given[i]], segment->start),
                   (size_t)alone.at[given[i]].memory.size);
        alone.segments[0] = (LrtSegment){.length = segment->length};
        alone.context.segments = alone.segments;
        alone.context.n_segments = 1;
        forward(_i, TARGET_AVX2, &alone, 0);
        backward(_i, TARGET_AVX2, &alone, 0);
        expect_same(c, &first, segment->start, &alone, 0, segment->length, TARGET_AVX2, "alone");
        buffers_free(&alone);
    }
    buffers_free(&first), buffers_free(&other);
}
END_TEST

/* Two sequences in a cache, rows of nobody around them. */
enum { LONG = 130, SHORT = 66, LONG_AT = 7, SHORT_AT = 150, CACHE_ROWS = 150 + 66 };

static void set_segments(Buffers *b, int32_t long_past, int32_t long_length, int32_t short_past,
                         int32_t short_length)
{
    b->segments[0] = (LrtSegment){0, long_length, LONG_AT, long_past};
    b->segments[1] = (LrtSegment){long_length, short_length, SHORT_AT, short_past};
    b->context.segments = b->segments;
    b->context.n_segments = 2;
    b->context.n_tokens = long_length + short_length;
}

/* Keys that nobody may look at: those of no sequence and those after `long_keys`, `short_keys`. */
static void hide_keys(Buffers *to, const Buffers *from, int64_t long_keys, int64_t short_keys)
{
    for (int slot = K; slot <= V; slot++)
        for (int64_t i = 0; i < CACHE_ROWS; i++) {
            bool seen = (i >= LONG_AT && i < LONG_AT + long_keys) ||
                        (i >= SHORT_AT && i < SHORT_AT + short_keys);
            for (int64_t j = 0; j < to->at[slot].columns; j++)
                row_of(&to->at[slot], i)[j] = seen ? row_of(&from->at[slot], i)[j] : NAN;
        }
}

START_TEST(decoding_with_a_cache_is_the_same_as_all_at_once)
{
    const Case *c = &cases[_i];
    if (!c->causal)
        return;
    random_state = (uint64_t)_i;
    Buffers whole = buffers_new(c, LONG + SHORT, CACHE_ROWS);
    Buffers step = buffers_new(c, LONG + SHORT, CACHE_ROWS);
    hide_keys(&step, &whole, LONG, SHORT);
    hide_keys(&whole, &step, LONG, SHORT);
    set_segments(&whole, 0, LONG, 0, SHORT);
    forward(_i, TARGET_AVX2, &whole, 0);
    Want want = want_of(c, &whole);
    rows_near(&whole.at[O], want.at[O], 2e-6, describe(c, TARGET_AVX2, "cache"));
    want_free(&want);
    for (int tier = 0; tier < TARGET_COUNT; tier++) {
        if (!case_runs(_i, tier))
            continue;
        int64_t most = tier == TARGET_GENERIC ? 3 : LONG;
        for (int32_t past = 0; past < most; past++) { /* a token of each, until one ends */
            if (past % 64 > 2 && past % 64 < 62)
                continue; /* what is new happens at the edges of a block of 64 */
            int32_t other = past < SHORT ? past : SHORT - 1;
            forget_results(&step);
            hide_keys(&step, &whole, past + 1, other + 1);
            set_segments(&step, past, 1, other, 1);
            memcpy(row_of(&step.at[Q], 0), row_of(&whole.at[Q], past), (size_t)step.at[Q].pitch);
            memcpy(row_of(&step.at[Q], 1), row_of(&whole.at[Q], LONG + other),
                   (size_t)step.at[Q].pitch);
            forward(_i, tier, &step, past % 3);
            for (int slot = O; slot <= LSE; slot++) {
                rows_equal(&step.at[slot], 0, &whole.at[slot], past, 1,
                           describe(c, tier, "one token"));
                rows_equal(&step.at[slot], 1, &whole.at[slot], LONG + other, 1,
                           describe(c, tier, "one token of another"));
            }
        }
    }
    buffers_free(&whole), buffers_free(&step);
}
END_TEST

START_TEST(chunks_after_a_cache_are_those_of_plain_loops)
{
    static const int32_t splits[][2] = {{1, 2}, {50, 1}, {63, 33}, {64, 65}, {65, 64}, {129, 3}};
    const Case *c = &cases[_i];
    random_state = (uint64_t)_i;
    for (int s = 0; s < 6; s++) {
        int32_t past = splits[s][0], short_past = splits[s][1];
        Buffers b = buffers_new(c, LONG - past + SHORT - short_past, CACHE_ROWS);
        Buffers keys = buffers_new(c, 1, CACHE_ROWS);
        hide_keys(&b, &keys, LONG, SHORT);
        set_segments(&b, past, LONG - past, short_past, SHORT - short_past);
        Want want = want_of(c, &b);
        forward(_i, TARGET_AVX2, &b, 2);
        rows_near(&b.at[O], want.at[O], 2e-6, describe(c, TARGET_AVX2, "o after a cache"));
        rows_near(&b.at[LSE], want.at[LSE], 2e-6, describe(c, TARGET_AVX2, "lse after a cache"));
        want_free(&want);
        buffers_free(&b), buffers_free(&keys);
    }
}
END_TEST

/* Queries, and so their scores, times a factor. */
static void scale_queries(Buffers *b, float even, float odd)
{
    for (int64_t i = 0; i < b->at[Q].rows; i++)
        for (int64_t j = 0; j < b->at[Q].columns; j++)
            row_of(&b->at[Q], i)[j] *= i % 2 ? odd : even;
}

/* Scores far from each other and far from zero: no overflow, probabilities of 0 and 1. */
START_TEST(large_scores_do_no_harm)
{
    const Case *c = &cases[_i];
    random_state = (uint64_t)_i;
    Buffers b = buffers_new(c, TOKENS, TOKENS);
    pack(&b);
    scale_queries(&b, -40, 3000);
    forward(_i, TARGET_AVX2, &b, 0);
    backward(_i, TARGET_AVX2, &b, 0);
    static const int results[] = {O, LSE, D_Q, D_K, D_V};
    for (int r = 0; r < 5; r++)
        for (int64_t i = 0; i < TOKENS; i++)
            for (int64_t j = 0; j < b.at[results[r]].columns; j++)
                ck_assert_msg(isfinite(row_of(&b.at[results[r]], i)[j]), "%s: %d [%d][%d]",
                              describe(c, TARGET_AVX2, "large"), results[r], (int)i, (int)j);
    buffers_free(&b);
}
END_TEST

static void query_gradient_near(int index, const Buffers *b, const Want *want, int64_t row, int64_t head)
{
    const Case *c = &cases[index];
    const float *got = row_of(&b->at[D_Q], row) + head * c->head_dim;
    const double *exact = want->at[D_Q] + row * b->at[D_Q].columns + head * c->head_dim;
    double most = 0;
    for (int64_t i = 0; i < c->head_dim; i++)
        most = fmax(most, fabs(exact[i]));
    for (int64_t i = 0; i < c->head_dim; i++)
        ck_assert_msg(fabs((double)got[i] - exact[i]) <= 1e-3 * most + 1e-9, "%s: row %d, head %d: %.9g, not %.9g",
                      describe(c, TARGET_AVX2, "peaked"), (int)row, (int)head, (double)got[i], exact[i]);
}

/* Where one key takes nearly all, dP - delta is the difference of near equals.  A query's gradient keeps the
 * precision of its scores, 24 bits of some 100, wherever one block holds all keys that it sees: not that of dP. */
START_TEST(peaked_attention_has_precise_gradients)
{
    const Case *c = &cases[_i];
    random_state = (uint64_t)_i;
    Buffers b = buffers_new(c, TOKENS, TOKENS);
    pack(&b);
    scale_queries(&b, 20, 20);
    Want want = want_of(c, &b);
    forward(_i, TARGET_AVX2, &b, 0);
    backward(_i, TARGET_AVX2, &b, 0);
    for (int s = 0; s < SEGMENTS; s++) {
        if (!c->causal && lengths[s] > 64)
            continue;
        for (int64_t row = 0; row < lengths[s] && row < 64; row++)
            for (int64_t head = 0; head < c->heads; head++)
                query_gradient_near(_i, &b, &want, b.segments[s].start + row, head);
    }
    want_free(&want);
    buffers_free(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attention");
    TCase *tc = tcase_create("attention");
    tcase_add_unchecked_fixture(tc, build_library, NULL);
    tcase_set_timeout(tc, 240);
    tcase_add_loop_test(tc, results_are_those_of_plain_loops, 0, CASES);
    tcase_add_loop_test(tc, bits_depend_on_neither_tier_nor_order_nor_neighbours, 0, CASES);
    tcase_add_loop_test(tc, decoding_with_a_cache_is_the_same_as_all_at_once, 0, CASES);
    tcase_add_loop_test(tc, chunks_after_a_cache_are_those_of_plain_loops, 0, CASES);
    tcase_add_loop_test(tc, large_scores_do_no_harm, 0, CASES);
    tcase_add_loop_test(tc, peaked_attention_has_precise_gradients, 0, CASES);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
