/* run.c - see run.h. */
#define _GNU_SOURCE
#include "runtime/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "runtime/cpu.h"

char *lrt_pages(int64_t bytes, const char *what, LrtError *error)
{
    if (bytes <= 0)
        bytes = 1;
    void *pages = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        lrt_report(error, LRT_FAILED, "out of memory: cannot allocate %lld MiB for %s", (long long)(bytes >> 20), what);
        return NULL;
    }
    madvise(pages, (size_t)bytes, MADV_HUGEPAGE);
    return pages;
}

void lrt_free_pages(char *pages, int64_t bytes)
{
    if (pages)
        munmap(pages, (size_t)(bytes > 0 ? bytes : 1));
}

/* Megabytes the system says are available; 0: not known. */
static int64_t available_bytes(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    long long kilobytes = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %lld kB", &kilobytes) == 1)
            break;
    if (file)
        fclose(file);
    return (int64_t)kilobytes * 1024;
}

int64_t lrt_resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long long size = 0, resident = 0;
    if (file) {
        if (fscanf(file, "%lld %lld", &size, &resident) != 2)
            resident = 0;
        fclose(file);
    }
    return (int64_t)resident * 4096;
}

int64_t lrt_peak_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
}

enum { CODE_AND_HEAP = 6 << 20 }; /* the program itself, libraries' tables, small allocations */

int64_t lrt_planned_bytes(const LrtProgram *p, int threads, int64_t *arena, int64_t *weights, int64_t *runtime)
{
    int64_t trained = p->kind == LRT_TRAIN ? 4 * p->params_bytes : p->params_bytes; /* parameters, gradients, two moments */
    *arena = p->arena_bytes + p->cache_bytes;
    *weights = p->weights_bytes;
    *runtime = trained + threads * p->scratch_bytes + p->max_tokens * 60 + CODE_AND_HEAP;
    return *arena + *weights + *runtime;
}

static bool check_memory(const LrtProgram *program, int threads, bool owns_weights, LrtError *error)
{
    int64_t arena, weights, runtime, available = available_bytes();
    int64_t planned = lrt_planned_bytes(program, threads, &arena, &weights, &runtime) - (owns_weights ? 0 : weights);
    if (!available || planned <= available)
        return true;
    return lrt_fail(error, LRT_FAILED,
                    "needs %lld MiB, but only %lld MiB of memory are available; compile with a smaller --batch or --length",
                    (long long)(planned >> 20), (long long)(available >> 20));
}

bool lrt_run_open(LrtRun *run, const LrtProgram *program, const char *tier, int threads, char *weights, LrtError *error)
{
    *run = (LrtRun){.program = program, .weights = weights, .owns_weights = !weights};
    run->tier = lrt_choose_tier(program, tier, error);
    if (run->tier < 0 || !check_memory(program, threads, run->owns_weights, error))
        return false;
    run->settings = json_loads(program->settings, 0, NULL);
    run->pool = lrt_pool_new(threads, program->scratch_bytes, error);
    LrtContext *c = &run->context;
    size_t n = (size_t)program->max_tokens;
    run->tokens = calloc(n + 1, sizeof *run->tokens);
    run->targets = calloc(n + 1, sizeof *run->targets);
    run->positions = calloc(n + 1, sizeof *run->positions);
    run->types = calloc(n + 1, sizeof *run->types);
    run->virtual_tokens = calloc(n + 1, sizeof *run->virtual_tokens);
    run->segment_of = calloc(n + 1, sizeof *run->segment_of);
    run->labels = calloc(n + 1, sizeof *run->labels);
    run->values = calloc(n + 1, sizeof *run->values);
    run->target_rows = calloc(n + 1, sizeof *run->target_rows);
    run->rows = calloc((size_t)program->max_rows + 1, sizeof *run->rows);
    run->sequences = calloc(n + 1, sizeof *run->sequences);
    run->segments = calloc(n + 1, sizeof *run->segments);
    run->segment_capacity = program->max_tokens;
    if (!run->pool || !run->tokens || !run->targets || !run->positions || !run->target_rows || !run->rows ||
        !run->types || !run->virtual_tokens || !run->segment_of || !run->labels || !run->values || !run->sequences || !run->segments)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    if (!run->weights && !(run->weights = lrt_pages(program->weights_bytes, "the weights", error)))
        return false;
    c->base[LRT_BASE_WEIGHTS] = run->weights;
    c->base[LRT_BASE_ARENA] = lrt_pages(program->arena_bytes, "activations", error);
    c->base[LRT_BASE_CACHE] = lrt_pages(program->cache_bytes, "the cache", error);
    c->base[LRT_BASE_PARAMS] = lrt_pages(program->params_bytes, "trained parameters", error);
    c->base[LRT_BASE_GRADS] = lrt_pages(program->params_bytes, "gradients", error);
    c->base[LRT_BASE_CONST] = (char *)(uintptr_t)program->const_data;
    c->tokens = run->tokens, c->targets = run->targets, c->positions = run->positions;
    c->types = run->types, c->virtual_tokens = run->virtual_tokens, c->segment_of = run->segment_of;
    c->labels = run->labels, c->values = run->values;
    c->sequences = run->sequences, c->segments = run->segments, c->target_rows = run->target_rows, c->rows = run->rows;
    c->parallel = lrt_parallel;
    c->pool = run->pool;
    c->threads = lrt_pool_threads(run->pool);
    return error->status == LRT_OK;
}

void lrt_run_close(LrtRun *run)
{
    if (!run->program)
        return;
    lrt_pool_free(run->pool);
    lrt_free_pages(run->context.base[LRT_BASE_ARENA], run->program->arena_bytes);
    lrt_free_pages(run->context.base[LRT_BASE_CACHE], run->program->cache_bytes);
    lrt_free_pages(run->context.base[LRT_BASE_PARAMS], run->program->params_bytes);
    lrt_free_pages(run->context.base[LRT_BASE_GRADS], run->program->params_bytes);
    if (run->owns_weights)
        lrt_free_pages(run->weights, run->program->weights_bytes);
    free(run->tokens), free(run->targets), free(run->positions), free(run->target_rows), free(run->rows);
    free(run->class_names);
    free(run->types), free(run->virtual_tokens), free(run->segment_of), free(run->labels), free(run->values);
    free(run->sequences), free(run->segments);
    json_decref(run->settings);
    *run = (LrtRun){0};
}

void lrt_batch_clear(LrtRun *run)
{
    run->context.n_tokens = run->context.n_segments = run->context.n_target_rows = run->context.n_rows = 0;
}

bool lrt_is_sequence_task(const LrtProgram *program)
{
    return program->task == LRT_TASK_CLASSES || program->task == LRT_TASK_VALUES;
}

static bool has_infix(const LrtProgram *p, const LrtSequence *s)
{
    return p->infix > 0 && s->prompt > 0 && s->prompt <= s->length;
}

/* Rows that the sequence takes. */
static int64_t rows_of(const LrtProgram *p, const LrtSequence *s)
{
    return s->length + (s->first_position ? 0 : p->prefix) + (has_infix(p, s) ? p->infix : 0);
}

static bool check_capacity(const LrtRun *run, const LrtSequence *s, LrtError *error)
{
    const LrtContext *c = &run->context;
    const LrtProgram *p = run->program;
    int64_t rows = rows_of(p, s);
    if (rows + s->first_position > p->max_length)
        return lrt_fail(error, LRT_INVALID, "a sequence of %lld tokens is longer than the %lld this program was compiled for; "
                        "compile with a larger --length", (long long)(s->length + s->first_position),
                        (long long)(p->max_length - p->prefix - p->infix));
    if (c->n_tokens + rows > p->max_tokens)
        return lrt_fail(error, LRT_INVALID, "a batch of more than %lld tokens; compile with a larger --batch", (long long)p->max_tokens);
    if (c->n_segments == p->max_sequences)
        return lrt_fail(error, LRT_INVALID, "a batch of more than %lld sequences; compile with a larger --batch",
                        (long long)p->max_sequences);
    if (p->task == LRT_TASK_CLASSES && s->label >= p->logits)
        return lrt_fail(error, LRT_INVALID, "label %d is not one of the model's %lld classes", (int)s->label, (long long)p->logits);
    return true;
}

static bool check_token(const LrtProgram *p, int32_t token, int32_t target, int32_t type, LrtError *error)
{
    if (token < 0 || token >= p->vocabulary)
        return lrt_fail(error, LRT_INVALID, "token %d is not one of the model's %lld", (int)token, (long long)p->vocabulary);
    if (target >= p->logits && !(p->task == LRT_TASK_CLASSES || p->task == LRT_TASK_VALUES))
        return lrt_fail(error, LRT_INVALID, "label %d is not one of the model's %lld tokens", (int)target, (long long)p->logits);
    if (p->types && (type < 0 || type >= p->types))
        return lrt_fail(error, LRT_INVALID, "token type %d is not one of the model's %lld", (int)type, (long long)p->types);
    return true;
}

typedef struct Row {
    int32_t token, target, type, virtual_token;
} Row;

static void add_row(LrtRun *run, const LrtSequence *s, int64_t at, Row row)
{
    int64_t i = run->context.n_tokens + at;
    run->tokens[i] = row.token;
    run->targets[i] = row.target >= 0 ? row.target : LRT_NO_TARGET;
    run->types[i] = row.type;
    run->virtual_tokens[i] = row.virtual_token;
    run->positions[i] = (int32_t)(s->first_position + at);
    run->sequences[i] = s->number;
    run->segment_of[i] = (int32_t)run->context.n_segments;
}

/* Rows of learned tokens first .. last - 1; the last one predicts `target`. */
static int64_t add_virtual(LrtRun *run, const LrtSequence *s, int64_t at, int64_t first, int64_t last, int32_t target)
{
    for (int64_t i = first; i < last; i++)
        add_row(run, s, at++, (Row){0, i + 1 == last ? target : LRT_NO_TARGET, 0, (int32_t)i});
    return at;
}

bool lrt_batch_add(LrtRun *run, const LrtSequence *s, LrtError *error)
{
    LrtContext *c = &run->context;
    const LrtProgram *p = run->program;
    bool begins = s->first_position == 0, infix = has_infix(p, s);
    if (!check_capacity(run, s, error))
        return false;
    /* Prefix and infix frame a prompt, which is given, not learned. */
    int64_t given = p->virtual_logits && !p->predict_first ? s->prompt - 1 : 0;
    int64_t at = begins ? add_virtual(run, s, 0, 0, p->prefix, p->predict_first ? s->first_target : LRT_NO_TARGET) : 0;
    for (int64_t i = 0; i < s->length; i++) {
        int32_t target = s->targets && i >= given ? s->targets[i] : LRT_NO_TARGET, type = s->types ? s->types[i] : 0;
        if (!check_token(p, s->tokens[i], target, type, error))
            return false;
        bool ends_prompt = infix && i + 1 == s->prompt; /* what comes next is predicted behind the infix */
        add_row(run, s, at++, (Row){s->tokens[i], ends_prompt ? LRT_NO_TARGET : target, type, -1});
        if (ends_prompt)
            at = add_virtual(run, s, at, p->prefix, p->prefix + p->infix, target);
    }
    bool alone = p->kind == LRT_TRAIN || p->whole; /* keys are those of the batch itself, not of a cache */
    run->labels[c->n_segments] = s->label;
    run->values[c->n_segments] = s->value;
    run->segments[c->n_segments++] = (LrtSegment){(int32_t)c->n_tokens, (int32_t)at, alone ? (int32_t)c->n_tokens : 0,
                                                  alone ? 0 : (int32_t)s->first_position};
    c->n_tokens += at;
    return true;
}

int64_t lrt_batch_finish(LrtRun *run)
{
    LrtContext *c = &run->context;
    int64_t labelled = 0;
    c->n_target_rows = 0;
    for (int64_t i = 0; i < c->n_tokens; i++)
        if (run->targets[i] >= 0)
            run->target_rows[c->n_target_rows++] = (int32_t)i;
    if (!lrt_is_sequence_task(run->program))
        return c->n_target_rows;
    for (int64_t i = 0; i < c->n_segments; i++)
        labelled += run->program->task == LRT_TASK_VALUES || run->labels[i] >= 0;
    return labelled;
}
