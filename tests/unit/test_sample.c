/* test_sample.c - choosing tokens against a definition of its own (how often each is drawn,
 * within five standard deviations), and the random numbers against answers that were published
 * for the algorithms. */
#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/random.h"
#include "runtime/sample.h"
#include "tests/unit/run_suite.h"

/* --- random numbers --- */

/* FNV-1a, 64 bits: Fowler, Noll and Vo's own test vectors. */
START_TEST(streams_are_fnv_1a)
{
    ck_assert_uint_eq(lrt_stream(""), 0xcbf29ce484222325u);
    ck_assert_uint_eq(lrt_stream("a"), 0xaf63dc4c8601ec8cu);
    ck_assert_uint_eq(lrt_stream("foobar"), 0x85944171f73967e8u);
    ck_assert_uint_ne(lrt_stream("\xff"), lrt_stream("\x7f"));
}
END_TEST

/* SplitMix64 (Steele, Lea and Flood 2014; Vigna's splitmix64.c): output n of seed s is mix(s +
 * n gamma). Since lrt_random(seed, stream, index) is mix(mix(mix(seed) ^ stream) ^ index) and
 * mix(0) is the first output of seed 0, the right arguments lay bare one mix. */
static uint64_t splitmix(uint64_t state)
{
    const uint64_t zero = 0xe220a8397b1dcdafu;
    return lrt_random(0, zero, zero ^ state);
}

START_TEST(numbers_are_those_of_splitmix64)
{
    static const uint64_t of_0[] = {0xe220a8397b1dcdafu, 0x6e789e6aa1b965f4u,
                                    0x06c45d188009454fu, 0xf88bb8a8724c81ecu};
    static const uint64_t of_1234567[] = {6457827717110365317u, 3203168211198807973u,
                                          9817491932198370423u, 4593380528125082431u,
                                          16408922859458223821u};
    const uint64_t gamma = 0x9e3779b97f4a7c15u;
    for (uint64_t n = 0; n < 4; n++)
        ck_assert_uint_eq(splitmix(n * gamma), of_0[n]);
    for (uint64_t n = 0; n < 5; n++)
        ck_assert_uint_eq(splitmix(1234567 + n * gamma), of_1234567[n]);
}
END_TEST

enum { NUMBERS = 200000, BINS = 64 };

/* The mean of NUMBERS values is within 5 sigma of what it should be. */
static void expect_moment(double sum, double mean, double variance, const char *what)
{
    double off = sum / NUMBERS - mean, sigma = sqrt(variance / NUMBERS);
    ck_assert_msg(fabs(off) <= 5 * sigma, "%s: off by %g sigma", what, off / sigma);
}

START_TEST(uniform_numbers_are_uniform)
{
    uint64_t stream = lrt_stream("a stream"), other = lrt_stream("another stream");
    double sum = 0, squares = 0, next = 0, streams = 0, seeds = 0, chi = 0;
    int bins[BINS] = {0};
    for (uint64_t i = 0; i < NUMBERS; i++) {
        double u = lrt_uniform(7, stream, i);
        if (!(u >= 0 && u < 1))
            ck_abort_msg("number %d is %g", (int)i, u);
        bins[(int)(u * BINS)]++;
        sum += u, squares += u * u;
        next += (u - 0.5) * (lrt_uniform(7, stream, i + 1) - 0.5);
        streams += (u - 0.5) * (lrt_uniform(7, other, i) - 0.5);
        seeds += (u - 0.5) * (lrt_uniform(8, stream, i) - 0.5);
    }
    expect_moment(sum, 1 / 2.0, 1 / 12.0, "mean");
    expect_moment(squares, 1 / 3.0, 4 / 45.0, "square");
    expect_moment(next, 0, 1 / 144.0, "neighbours");
    expect_moment(streams, 0, 1 / 144.0, "streams");
    expect_moment(seeds, 0, 1 / 144.0, "seeds");
    for (int i = 0; i < BINS; i++)
        chi += pow(bins[i] - (double)NUMBERS / BINS, 2) / ((double)NUMBERS / BINS);
    ck_assert_double_le(fabs(chi - (BINS - 1)), 5 * sqrt(2.0 * (BINS - 1)));
}
END_TEST

START_TEST(normal_numbers_are_normal)
{
    uint64_t stream = lrt_stream("normal");
    double sums[5] = {0}, within = 0;
    for (uint64_t i = 0; i < NUMBERS; i++) {
        double x = lrt_normal(7, stream, i);
        if (!isfinite(x))
            ck_abort_msg("number %d is %g", (int)i, x);
        for (int power = 1; power <= 4; power++)
            sums[power] += pow(x, power);
        within += fabs(x) < 1;
    }
    double erf1 = erf(sqrt(0.5));
    expect_moment(sums[1], 0, 1, "mean");
    expect_moment(sums[2], 1, 2, "variance");
    expect_moment(sums[3], 0, 15, "skewness");
    expect_moment(sums[4], 3, 96, "kurtosis");
    expect_moment(within, erf1, erf1 * (1 - erf1), "within one sigma");
}
END_TEST

/* --- choosing --- */

enum { VOCABULARY = 13, DRAWS = 20000 };

/* Equal ones among the likely and among the rest, and some that never come. */
static const float logits[VOCABULARY] = {0.5f, 2,  -1, 2,    3.25f, -80,  0.5f,
                                         1,    -1, 0,  -300, 1.5f,  0.25f};

static const LrtSampling settings[] = {
    {.temperature = 1, .top_p = 1, .seed = 1},
    {.temperature = 0.25, .top_p = 1, .seed = 2},
    {.temperature = 5, .top_p = 1, .seed = 3},
    {.temperature = 1, .top_k = 2, .top_p = 1, .seed = 4}, /* one of two that are equal */
    {.temperature = 1, .top_k = 5, .top_p = 1, .seed = 5},
    {.temperature = 1, .top_k = VOCABULARY, .top_p = 1, .seed = 6},
    {.temperature = 1, .top_k = 1000, .top_p = 1, .seed = 6},
    {.temperature = 1, .top_p = 0.6, .seed = 7},
    {.temperature = 2, .top_p = 0.9, .seed = 8},
    {.temperature = 1, .top_p = 1e-9, .seed = 9},
    {.temperature = 1, .top_k = 3, .top_p = 0.8, .seed = 10}, /* 0.8 of what top-k leaves */
    {.temperature = 1, .top_p = 1, .min_p = 0.2, .seed = 11},
    {.temperature = 1, .top_k = 6, .top_p = 0.95, .min_p = 0.15, .seed = 12},
    {.temperature = 1, .top_p = 1, .min_p = 1, .seed = 13},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

/* Whether `j` comes before `i`: a more likely one, or the first of equal ones. */
static bool comes_before(int j, int i)
{
    return logits[j] > logits[i] || (logits[j] == logits[i] && j < i);
}

/* Probabilities by filters one after another, each on what the last one left, renormalised (as
 * in transformers): the k most likely; the fewest of those whose sum reaches p; those of at
 * least min_p of the most likely. */
static void probabilities(const LrtSampling *s, double *p)
{
    double weight[VOCABULARY], total = 0, most = 0;
    int rank[VOCABULARY] = {0};
    for (int i = 0; i < VOCABULARY; i++) {
        weight[i] = exp((double)logits[i] / s->temperature);
        most = fmax(most, weight[i]);
        for (int j = 0; j < VOCABULARY; j++)
            rank[i] += comes_before(j, i);
        if (s->top_k && rank[i] >= s->top_k)
            weight[i] = 0;
        total += weight[i];
    }
    double left = 0;
    for (int i = 0; i < VOCABULARY; i++) {
        double before = 0;
        for (int j = 0; j < VOCABULARY; j++)
            before += comes_before(j, i) ? weight[j] : 0;
        bool kept = (rank[i] == 0 || before < s->top_p * total) && weight[i] >= s->min_p * most;
        left += p[i] = kept ? weight[i] : 0;
    }
    for (int i = 0; i < VOCABULARY; i++)
        p[i] /= left;
}

START_TEST(frequencies_are_those_of_the_definition)
{
    const LrtSampling *s = &settings[_i];
    double p[VOCABULARY];
    int drawn[VOCABULARY] = {0};
    probabilities(s, p);
    for (uint64_t step = 0; step < DRAWS; step++) {
        int32_t id = lrt_sample(s, logits, VOCABULARY, step);
        if (id < 0 || id >= VOCABULARY)
            ck_abort_msg("setting %d draws %d", _i, (int)id);
        drawn[id]++;
    }
    for (int i = 0; i < VOCABULARY; i++) {
        double sigma = sqrt(DRAWS * p[i] * (1 - p[i]));
        ck_assert_msg(fabs(drawn[i] - DRAWS * p[i]) <= 5 * sigma + 1e-6,
                      "setting %d, token %d: %d times, expected %g +- %g", _i, i, drawn[i],
                      DRAWS * p[i], sigma);
    }
}
END_TEST

START_TEST(the_same_seed_draws_the_same)
{
    LrtSampling s = settings[0], other = settings[0];
    int same = 0;
    other.seed++;
    for (uint64_t step = 0; step < 1000; step++) {
        int32_t id = lrt_sample(&s, logits, VOCABULARY, step);
        ck_assert_int_eq(id, lrt_sample(&s, logits, VOCABULARY, step));
        same += id == lrt_sample(&other, logits, VOCABULARY, step);
    }
    double p[VOCABULARY], chance = 0;
    probabilities(&s, p);
    for (int i = 0; i < VOCABULARY; i++)
        chance += p[i] * p[i];
    ck_assert_double_le(fabs(same - 1000 * chance), 5 * sqrt(1000 * chance * (1 - chance)));
}
END_TEST

/* Greedy and the settings that mean the same; the first of equal ones. */
START_TEST(one_candidate_is_the_most_likely)
{
    static const LrtSampling greedy[] = {
        {.temperature = 0, .top_p = 1},
        {.temperature = 0, .top_k = 5, .top_p = 0.5, .min_p = 0.1},
        {.temperature = 1, .top_k = 1, .top_p = 1},
        {.temperature = 100, .top_k = 1, .top_p = 0},
        {.temperature = 1, .top_p = 0},
        {.temperature = 1e-300, .top_p = 1},
    };
    for (int g = 0; g < 6; g++) {
        float tied[40], values[40];
        for (uint64_t step = 0; step < 200; step++) {
            int best = (int)(lrt_random(1, 2, step) % 40);
            for (uint64_t i = 0; i < 40; i++)
                values[i] = (float)lrt_normal(step, 3, i);
            values[best] = 10;
            ck_assert_int_eq(lrt_sample(&greedy[g], values, 40, step), best);
            memcpy(tied, values, sizeof tied);
            tied[39] = 10;
            if (g < 5) /* a tiny temperature leaves equal ones equal */
                ck_assert_int_eq(lrt_sample(&greedy[g], tied, 40, step), best);
        }
        float one = -7;
        ck_assert_int_eq(lrt_sample(&greedy[g], &one, 1, 0), 0);
    }
}
END_TEST

/* Far from zero, and tokens that are ruled out. */
START_TEST(large_logits_do_no_harm)
{
    LrtSampling s = {.temperature = 1, .top_p = 1, .seed = 5};
    float values[5] = {1e30f, -1e30f, 1e30f, -INFINITY, 0};
    int drawn[5] = {0};
    for (uint64_t step = 0; step < DRAWS; step++)
        drawn[lrt_sample(&s, values, 5, step)]++;
    ck_assert_int_eq(drawn[0] + drawn[2], DRAWS);
    ck_assert_int_le(abs(drawn[0] - DRAWS / 2), (int)(5 * sqrt(DRAWS / 4.0)));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sample");
    TCase *numbers = tcase_create("random");
    tcase_add_test(numbers, streams_are_fnv_1a);
    tcase_add_test(numbers, numbers_are_those_of_splitmix64);
    tcase_add_test(numbers, uniform_numbers_are_uniform);
    tcase_add_test(numbers, normal_numbers_are_normal);
    suite_add_tcase(suite, numbers);
    TCase *choosing = tcase_create("sample");
    tcase_add_loop_test(choosing, frequencies_are_those_of_the_definition, 0, SETTINGS);
    tcase_add_test(choosing, the_same_seed_draws_the_same);
    tcase_add_test(choosing, one_candidate_is_the_most_likely);
    tcase_add_test(choosing, large_logits_do_no_harm);
    suite_add_tcase(suite, choosing);
    return run_suite(suite);
}
