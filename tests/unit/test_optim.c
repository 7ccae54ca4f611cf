/* test_optim.c - AdamW as Loshchilov and Hutter (2019, algorithm 2) define it, clipping by the
 * norm of all gradients, and schedules, against formulas in double: the moments as sums over
 * all past gradients, not as recurrences. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cpu.h"
#include "runtime/optim.h"
#include "tests/unit/run_suite.h"

/* --- a program's parameters --- */

typedef struct Part {
    int64_t rows, cols;
    bool trained, fast;
} Part;

static const Part parts[] = {
    {1, 1, 1, 0},  {1, 16, 1, 1}, {1, 37, 1, 0},   {1, 100, 0, 0},
    {1, 17, 1, 1}, {5, 33, 1, 0}, {1, 1000, 1, 0}, {3, 8, 0, 1}, {1, 9000, 1, 1},
};
enum { PARTS = sizeof parts / sizeof *parts, STEPS = 25 };

typedef struct Model {
    LrtParam params[PARTS];
    LrtProgram program;
    int64_t count; /* floats, padding included */
} Model;

/* Trained parts one after another, padded to 64 bytes; frozen ones are elsewhere, but their
 * offsets look like those of trained ones. */
static void model_init(Model *m)
{
    memset(m, 0, sizeof *m);
    for (int i = 0; i < PARTS; i++) {
        LrtParam *p = &m->params[i];
        *p = (LrtParam){.trained = parts[i].trained, .fast = parts[i].fast};
        p->layout = LRT_LAYOUT_VECTOR;
        p->rows = parts[i].rows, p->cols = parts[i].cols;
        p->bytes = (p->rows * p->cols * 4 + 63) / 64 * 64;
        p->offset = p->trained ? m->count * 4 : 0;
        m->count += p->trained ? p->bytes / 4 : 0;
    }
    m->program = (LrtProgram){.params = m->params, .param_count = PARTS};
    m->program.params_bytes = m->count * 4;
}

static float *floats_new(const Model *m)
{
    return calloc((size_t)m->count, sizeof(float));
}

static uint64_t random_state;

static double random_value(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int32_t)(random_state >> 32) * 0x1p-31;
}

/* Random values, zeros between the parts. */
static void fill(const Model *m, float *values, double scale)
{
    for (int i = 0; i < PARTS; i++)
        for (int64_t j = 0; j < parts[i].rows * parts[i].cols && parts[i].trained; j++)
            values[m->params[i].offset / 4 + j] = (float)(scale * random_value());
}

static LrtPool *pool_of(int threads)
{
    LrtError error = {0};
    LrtPool *pool = lrt_pool_new(threads, 0, &error);
    ck_assert_msg(pool != NULL, "%s", error.text);
    return pool;
}

static LrtPieces pieces_of(const LrtProgram *program)
{
    LrtError error = {0};
    LrtPieces pieces;
    ck_assert_msg(lrt_pieces_open(&pieces, program, &error), "%s", error.text);
    return pieces;
}

/* --- clearing --- */

START_TEST(all_gradients_are_cleared_and_nothing_else)
{
    enum { BEHIND = 16 };
    Model m;
    model_init(&m);
    LrtPool *pool = pool_of(1 + _i);
    LrtPieces pieces = pieces_of(&m.program);
    float *grads = calloc((size_t)m.count + BEHIND, sizeof *grads);
    for (int64_t i = 0; i < m.count + BEHIND; i++)
        grads[i] = NAN;
    lrt_clear_gradients(&pieces, (char *)grads, pool);
    for (int64_t i = 0; i < m.count + BEHIND; i++)
        ck_assert(i < m.count ? grads[i] == 0 : isnan(grads[i]));
    free(grads);
    lrt_pieces_close(&pieces);
    lrt_pool_free(pool);
}
END_TEST

/* --- AdamW --- */

static const LrtOptimizer optimizers[] = {
    {.lr = 1e-3, .lr_ratio = 1, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
    {.lr = 0.05,
     .lr_ratio = 16,
     .beta1 = 0.9,
     .beta2 = 0.95,
     .epsilon = 1e-6,
     .weight_decay = 0.1},
    {.lr = 0.3,
     .lr_ratio = 0.5,
     .beta1 = 0,
     .beta2 = 0.5,
     .epsilon = 1e-3,
     .weight_decay = 0.5},
    {.lr = 1e-2, .lr_ratio = 4, .beta1 = 0.5, .beta2 = 0, .epsilon = 1, .weight_decay = 1},
};
enum { OPTIMIZERS = sizeof optimizers / sizeof *optimizers };

typedef struct Run {
    Model model;
    float *params, *m, *v, *grads[STEPS];
    double rates[STEPS], factors[STEPS];
} Run;

static Run *run_new(uint64_t seed)
{
    Run *r = malloc(sizeof *r);
    model_init(&r->model);
    r->params = floats_new(&r->model);
    r->m = floats_new(&r->model), r->v = floats_new(&r->model);
    random_state = seed;
    fill(&r->model, r->params, 1);
    for (int t = 0; t < STEPS; t++) {
        r->grads[t] = floats_new(&r->model);
        fill(&r->model, r->grads[t], pow(10, t % 5 - 3));
        r->rates[t] = fabs(random_value());
        r->factors[t] = t % 3 == 0 ? 1 : fabs(random_value());
    }
    return r;
}

static void run_free(Run *r)
{
    for (int t = 0; t < STEPS; t++)
        free(r->grads[t]);
    free(r->params), free(r->m), free(r->v);
    free(r);
}

static void run_steps(Run *r, const LrtOptimizer *o, int tier, int threads)
{
    LrtPool *pool = pool_of(threads);
    LrtPieces pieces = pieces_of(&r->model.program);
    for (int t = 0; t < STEPS; t++)
        lrt_adamw(&pieces, o, o->lr * r->rates[t], t + 1, r->factors[t],
                  (char *)r->params, (const char *)r->grads[t], (char *)r->m, (char *)r->v,
                  tier, pool);
    lrt_pieces_close(&pieces);
    lrt_pool_free(pool);
}

/* (1 - b) sum over i <= t of b^(t - i) g_i^power, and that without its bias. */
static double moment(const Run *r, int64_t at, int t, double b, int power, bool corrected)
{
    double sum = 0, weights = 0;
    for (int i = 0; i <= t; i++) {
        double weight = (1 - b) * pow(b, t - i);
        sum += weight * pow((double)r->grads[i][at] * r->factors[i], power);
        weights += weight; /* 1 - b^(t + 1) */
    }
    return corrected ? sum / weights : sum;
}

/* The parameter at `at` after all steps, from `value`. */
static double parameter(const Run *r, const LrtOptimizer *o, int64_t at, bool fast,
                        double value)
{
    for (int t = 0; t < STEPS; t++) {
        double rate = o->lr * r->rates[t] * (fast ? o->lr_ratio : 1);
        double m = moment(r, at, t, o->beta1, 1, true), v = moment(r, at, t, o->beta2, 2, true);
        value -= rate * (m / (sqrt(v) + o->epsilon) + o->weight_decay * value);
    }
    return value;
}

static void expect_near(double got, double want, double scale, const char *what, int part,
                        int64_t j)
{
    if (!(fabs(got - want) <= scale)) /* each ck_assert writes to a file */
        ck_abort_msg("%s: part %d [%d] is %.9g, not %.9g", what, part, (int)j, got, want);
}

START_TEST(adamw_is_that_of_the_paper)
{
    const LrtOptimizer *o = &optimizers[_i];
    Run *r = run_new((uint64_t)_i), *start = run_new((uint64_t)_i);
    run_steps(r, o, LRT_TIER_GENERIC, 2);
    for (int i = 0; i < PARTS; i++)
        for (int64_t j = 0; j < parts[i].rows * parts[i].cols && parts[i].trained; j++) {
            int64_t at = r->model.params[i].offset / 4 + j;
            double m = moment(r, at, STEPS - 1, o->beta1, 1, false);
            double v = moment(r, at, STEPS - 1, o->beta2, 2, false);
            double p = parameter(r, o, at, parts[i].fast, (double)start->params[at]);
            expect_near((double)r->m[at], m, 1e-6 * (fabs(m) + 0.3), "m", i, j);
            expect_near((double)r->v[at], v, 2e-6 * v, "v", i, j);
            expect_near((double)r->params[at], p, 3e-6 * (fabs(p) + 1), "p", i, j);
        }
    run_free(r), run_free(start);
}
END_TEST

/* Without a gradient only the decay is left: p (1 - rate wd)^t. */
START_TEST(weight_decay_is_decoupled)
{
    LrtOptimizer o = optimizers[1];
    Run *r = run_new(3), *start = run_new(3);
    for (int t = 0; t < STEPS; t++) {
        memset(r->grads[t], 0, (size_t)r->model.count * sizeof(float));
        r->rates[t] = 1;
    }
    run_steps(r, &o, LRT_TIER_GENERIC, 1);
    for (int i = 0; i < PARTS; i++)
        for (int64_t j = 0; j < parts[i].rows * parts[i].cols && parts[i].trained; j++) {
            int64_t at = r->model.params[i].offset / 4 + j;
            double rate = o.lr * (parts[i].fast ? o.lr_ratio : 1);
            double want = (double)start->params[at] * pow(1 - rate * o.weight_decay, STEPS);
            expect_near((double)r->params[at], want, 3e-6, "decayed", i, j);
            expect_near((double)r->m[at], 0, 0, "m", i, j);
        }
    run_free(r), run_free(start);
}
END_TEST

/* The first step is lr in size, whatever the gradient's size, thanks to the correction of both
 * biases. */
START_TEST(the_first_step_has_the_size_of_the_rate)
{
    LrtOptimizer o = {
        .lr = 0.125, .lr_ratio = 1, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-30};
    LrtPool *pool = pool_of(1);
    for (int e = -15; e <= 15; e++) {
        LrtParam param = {.trained = 1, .bytes = 64, .cols = 1, .rows = 1};
        LrtProgram program = {.params = &param, .param_count = 1};
        float p[16] = {1}, g[16] = {(float)((e % 2 ? -1 : 1) * pow(10, e))}, m[16] = {0},
              v[16] = {0};
        LrtPieces pieces = pieces_of(&program);
        lrt_adamw(&pieces, &o, o.lr, 1, 1, (char *)p, (char *)g, (char *)m, (char *)v, LRT_TIER_GENERIC, pool);
        lrt_pieces_close(&pieces);
        expect_near((double)p[0], e % 2 ? 1.125 : 0.875, 1e-7, "first step", e, 0);
    }
    lrt_pool_free(pool);
}
END_TEST

/* Padding stays zero, what is not trained is not touched, and threads and instruction sets change no bit. */
START_TEST(padding_and_threads_change_nothing)
{
    static const int threads[] = {1, 2, 3, 7};
    Run *first = run_new(9);
    run_steps(first, &optimizers[1], LRT_TIER_GENERIC, 1);
    size_t bytes = (size_t)first->model.count * sizeof(float);
    for (int n = 0; n < 4 * LRT_TIER_COUNT; n++) {
        if (!lrt_tier_runs(n / 4))
            continue;
        Run *r = run_new(9);
        run_steps(r, &optimizers[1], n / 4, threads[n % 4]);
        ck_assert_int_eq(memcmp(first->params, r->params, bytes), 0);
        ck_assert_int_eq(memcmp(first->m, r->m, bytes), 0);
        ck_assert_int_eq(memcmp(first->v, r->v, bytes), 0);
        run_free(r);
    }
    for (int i = 0; i < PARTS; i++)
        for (int64_t j = parts[i].rows * parts[i].cols; j < first->model.params[i].bytes / 4;
             j++)
            if (parts[i].trained)
                expect_near((double)first->params[first->model.params[i].offset / 4 + j], 0, 0,
                            "padding", i, j);
    run_free(first);
}
END_TEST

/* --- clipping --- */

START_TEST(the_norm_is_that_of_all_trained_gradients)
{
    static const int threads[] = {1, 2, 3, 7};
    static const double scales[] = {1, 1e-20, 1e25, 0};
    Model m;
    model_init(&m);
    float *g = floats_new(&m);
    LrtPieces pieces = pieces_of(&m.program);
    for (int s = 0; s < 4; s++) {
        double sum = 0, first = 0;
        fill(&m, g, scales[s]);
        for (int64_t i = m.count; i-- > 0;)
            sum += (double)g[i] * (double)g[i];
        for (int n = 0; n < 4; n++) {
            LrtPool *pool = pool_of(threads[n]);
            double norm = lrt_gradient_norm(&pieces, (const char *)g, pool);
            first = n == 0 ? norm : first;
            ck_assert_msg(memcmp(&norm, &first, sizeof norm) == 0, "%d threads", threads[n]);
            ck_assert_double_le(fabs(norm - sqrt(sum)), 1e-13 * sqrt(sum));
            lrt_pool_free(pool);
        }
    }
    lrt_pieces_close(&pieces);
    free(g);
}
END_TEST

/* With beta1 = 0 the first moment is the gradient that the step used: clipped, its norm is the
 * limit. */
START_TEST(a_factor_scales_all_gradients)
{
    LrtOptimizer o = optimizers[2];
    double limit = 0.25;
    Run *r = run_new(4);
    LrtPool *pool = pool_of(2);
    LrtPieces pieces = pieces_of(&r->model.program);
    double norm = lrt_gradient_norm(&pieces, (const char *)r->grads[3], pool);
    ck_assert_double_gt(norm, limit);
    lrt_adamw(&pieces, &o, o.lr, 1, limit / (norm + 1e-6), (char *)r->params,
              (const char *)r->grads[3], (char *)r->m, (char *)r->v, LRT_TIER_GENERIC, pool);
    norm = lrt_gradient_norm(&pieces, (const char *)r->m, pool);
    ck_assert_double_le(fabs(norm - limit), 1e-6);
    lrt_pieces_close(&pieces);
    lrt_pool_free(pool);
    run_free(r);
}
END_TEST

/* --- schedules --- */

/* transformers.get_{constant,linear,cosine}_schedule_with_warmup, from its documentation: up
 * from 0 in a line, then 1, a line to 0 at `steps`, or half a wave to 0. */
static double schedule(LrtScheduleKind kind, int64_t step, int64_t steps, int64_t warmup)
{
    double t = (double)step, end = (double)steps, w = (double)warmup;
    if (t < w)
        return t / w;
    double left = fmin(1, fmax(0, end - t) / fmax(1, end - w));
    double wave = sin(1.57079632679489661923 * (1 - (t - w) / fmax(1, end - w)));
    return kind == LRT_CONSTANT ? 1 : kind == LRT_LINEAR ? left : wave * wave;
}

START_TEST(schedules_are_those_of_transformers)
{
    static const int64_t spans[][2] = {{10, 2},  {1, 0}, {1, 1},   {2, 1},    {7, 7},
                                       {100, 0}, {3, 5}, {64, 63}, {1000, 30}};
    for (int s = 0; s < 9; s++)
        for (int64_t step = 0; step <= spans[s][0] + 5; step++) {
            double got = lrt_schedule((LrtScheduleKind)_i, step, spans[s][0], spans[s][1]);
            double want = schedule((LrtScheduleKind)_i, step, spans[s][0], spans[s][1]);
            if (!(fabs(got - want) <= 1e-12))
                ck_abort_msg("schedule %d, step %d of %d after %d: %.17g, not %.17g", _i,
                             (int)step, (int)spans[s][0], (int)spans[s][1], got, want);
        }
    ck_assert_double_eq(lrt_schedule((LrtScheduleKind)_i, 0, 10, 5), 0);
    ck_assert_double_eq(lrt_schedule((LrtScheduleKind)_i, 5, 10, 5), 1);
    ck_assert_double_eq(lrt_schedule((LrtScheduleKind)_i, 0, 10, 0), 1);
}
END_TEST

/* The number after `key` in `text`, and where it ends. */
static double number_after(const char *text, const char *key, char **end)
{
    const char *at = strstr(text, key);
    ck_assert_msg(at != NULL, "no %s", key);
    return strtod(at + strlen(key), end);
}

START_TEST(the_linear_schedule_is_that_of_the_golden_runs)
{
    char text[16384] = "", *at;
    FILE *file =
        fopen(LORACC_SOURCE "/tests/data/goldens/gpt2/adapters/lora_attention/train/train.json",
              "rb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_gt(fread(text, 1, sizeof text - 1, file), 0);
    fclose(file);
    double lr = number_after(text, "\"lr\":", &at),
           steps = number_after(text, "\"steps\":", &at);
    double warmup = number_after(text, "\"warmup_steps\":", &at);
    double want = number_after(text, "\"lr_of_step\": [", &at);
    ck_assert_double_ge(steps, 2);
    for (int64_t step = 0; step < (int64_t)steps; step++) {
        double got = lr * lrt_schedule(LRT_LINEAR, step, (int64_t)steps, (int64_t)warmup);
        ck_assert_double_le(fabs(got - want), 1e-15);
        want = strtod(at + 1, &at); /* after the comma */
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("optim");
    TCase *adamw = tcase_create("adamw");
    tcase_add_loop_test(adamw, adamw_is_that_of_the_paper, 0, OPTIMIZERS);
    tcase_add_test(adamw, weight_decay_is_decoupled);
    tcase_add_test(adamw, the_first_step_has_the_size_of_the_rate);
    tcase_add_test(adamw, padding_and_threads_change_nothing);
    suite_add_tcase(suite, adamw);
    TCase *clearing = tcase_create("clearing");
    tcase_add_loop_test(clearing, all_gradients_are_cleared_and_nothing_else, 0, 3);
    suite_add_tcase(suite, clearing);
    TCase *clipping = tcase_create("clipping");
    tcase_add_test(clipping, the_norm_is_that_of_all_trained_gradients);
    tcase_add_test(clipping, a_factor_scales_all_gradients);
    suite_add_tcase(suite, clipping);
    TCase *schedules = tcase_create("schedules");
    tcase_add_loop_test(schedules, schedules_are_those_of_transformers, 0, 3);
    tcase_add_test(schedules, the_linear_schedule_is_that_of_the_golden_runs);
    suite_add_tcase(suite, schedules);
    return run_suite(suite);
}
