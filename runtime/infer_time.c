/* infer_time.c - --time: how long a forward pass takes. */
#define _GNU_SOURCE
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runtime/infer.h"

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The sequences one after another, up to the logits of the last token of each. */
static bool forward_all(Infer *f, const int32_t *tokens, int64_t length, int64_t batch)
{
    for (int64_t i = 0; i < batch; i++) {
        if (!lrt_infer_prompt(f, tokens, length))
            return false;
        if (!lrt_is_sequence_task(f->run.program))
            lrt_infer_head(f, f->run.context.n_tokens - 1, 1);
    }
    return true;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool print_times(Infer *f, double *seconds, int64_t count, int64_t length, int64_t batch)
{
    if (f->args.value[JSON]) {
        json_t *list = json_array();
        for (int64_t i = 0; i < count; i++)
            json_array_append_new(list, json_real(seconds[i]));
        char *text = json_dumps(list, JSON_REAL_PRECISION(6));
        if (text)
            puts(text);
        json_decref(list);
        free(text);
        return text || lrt_fail(f->error, LRT_FAILED, "out of memory");
    }
    qsort(seconds, (size_t)count, sizeof *seconds, by_size);
    printf("%lld x %lld tokens: median %.6g s of %lld passes, %.6g to %.6g\n", (long long)batch, (long long)length,
           seconds[count / 2], (long long)count, seconds[0], seconds[count - 1]);
    return true;
}

bool lrt_infer_time(Infer *f)
{
    int64_t count, length, batch;
    if (!lrt_args_integer(&f->args, TIME, 0, 1, 1 << 20, &count, f->error) ||
        !lrt_args_integer(&f->args, LENGTH, 128, 1, 1 << 24, &length, f->error) ||
        !lrt_args_integer(&f->args, BATCH, 1, 1, 1 << 20, &batch, f->error))
        return false;
    int32_t *tokens = malloc(sizeof *tokens * (size_t)length);
    double *seconds = malloc(sizeof *seconds * (size_t)count);
    bool ok = (tokens && seconds) || lrt_fail(f->error, LRT_FAILED, "out of memory");
    for (int64_t i = 0; ok && i < length; i++)
        tokens[i] = (int32_t)(7919 * i % f->run.program->vocabulary);
    ok = ok && forward_all(f, tokens, length, 1); /* pages and caches */
    for (int64_t i = 0; ok && i < count; i++) {
        double start = seconds_now();
        ok = forward_all(f, tokens, length, batch);
        seconds[i] = seconds_now() - start;
    }
    ok = ok && print_times(f, seconds, count, length, batch);
    free(tokens);
    free(seconds);
    return ok;
}
