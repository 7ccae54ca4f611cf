/* main_merge.c - folds an adapter into the weights on their way into a program, and reports what storage made of it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "frontend/main_merge.h"
#include "frontend/main_initial.h"
#include "runtime/pack.h"

/* A tensor of the adapter as f32. */
static bool read_values(const Merger *merger, const char *name, const float **values, LrtTensor *shape, LrtError *error)
{
    const ModelFiles *files = merger->files;
    const LrtTensor *tensor = lrt_safetensors_find(files->adapter, name);
    if (!tensor)
        return lrt_fail(error, LRT_INVALID, "%s: no tensor '%s'", files->adapter_path, name);
    int64_t count = lrt_tensor_elements(tensor);
    float *data = ARENA_ARRAY(merger->arena, float, count + 1);
    if (!lrt_tensor_read_rows(tensor, 0, lrt_tensor_rows(tensor), data, error))
        return false;
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(data[i]))
            return lrt_fail(error, LRT_INVALID, "%s: '%s' holds a value that is not a finite number; train it again",
                            files->adapter_path, name);
    *values = data;
    *shape = *tensor;
    return true;
}

/* Turns magnitudes into factors: divided by the norms of what the folds so far make of the tensor. */
static bool normalise(const Merger *merger, const PeftMerge *m, float *magnitudes, int64_t count, LrtError *error)
{
    const LrtTensor *tensor = lrt_find_weight(merger->files->checkpoint, m->tensor);
    if (!tensor || tensor->rank != 2 || tensor->shape[m->transposed ? 1 : 0] != count)
        return lrt_fail(error, LRT_INVALID, "%s: '%s' does not fit '%s'", merger->files->adapter_path, m->factor, m->tensor);
    double *sums = ARENA_ARRAY(merger->arena, double, count + 1);
    if (!lrt_fold_squares(merger->folds, merger->count, tensor, m->tensor, !m->transposed, sums, error))
        return false;
    for (int64_t i = 0; i < count; i++)
        magnitudes[i] = (float)((double)magnitudes[i] / sqrt(sums[i]));
    return true;
}

static LrtFold place_of(const PeftMerge *m)
{
    return (LrtFold){.tensor = m->tensor, .rank = m->rank, .inputs = m->inputs, .scale = m->scale, .transposed = m->transposed,
                     .out_start = m->out_start, .out_stop = m->out_stop};
}

static bool add_merge(Merger *merger, const PeftMerge *m, LrtError *error)
{
    LrtFold *fold = &merger->folds[merger->count];
    LrtTensor shape = {0};
    *fold = place_of(m);
    if (m->a && !read_values(merger, m->a, &fold->a, &shape, error))
        return false;
    if (m->a)
        fold->rank = shape.shape[0], fold->inputs = shape.shape[1]; /* VeRA's pair is as wide as its widest matrix */
    if ((m->b && !read_values(merger, m->b, &fold->b, &shape, error)) ||
        (m->row_factor && !read_values(merger, m->row_factor, &fold->row_factor, &shape, error)) ||
        (m->rank_factor && !read_values(merger, m->rank_factor, &fold->rank_factor, &shape, error)) ||
        (m->factor && !read_values(merger, m->factor, &fold->factor, &shape, error)) ||
        (m->normalised && !normalise(merger, m, (float *)(uintptr_t)fold->factor, lrt_tensor_elements(&shape), error)))
        return false;
    merger->count++;
    return true;
}

/* What the pair began as, taken out of the base again. */
static bool add_initial(Merger *merger, const PeftMerge *m, LrtError *error)
{
    LrtFold *fold = &merger->folds[merger->count];
    int64_t outputs = m->out_stop - m->out_start;
    float *a = ARENA_ARRAY(merger->arena, float, m->rank * m->inputs), *b = ARENA_ARRAY(merger->arena, float, m->rank * outputs);
    *fold = place_of(m);
    fold->a = a, fold->b = b;
    fold->a_name = m->a, fold->b_name = m->b;
    fold->scale = -m->scale;
    if (!main_initial_pair(merger->files, m, a, b, error))
        return false;
    merger->count++;
    return true;
}

/* Decompositions take their time: a line every two seconds. */
static void show_progress(int done, int all, time_t *shown)
{
    if (time(NULL) - *shown < 2)
        return;
    fprintf(stderr, "initial values: %d of %d matrices decomposed\n", done, all);
    *shown = time(NULL);
}

bool merger_open(Merger *merger, const ModelFiles *files, const PeftResult *result, bool beside, Arena *arena, LrtError *error)
{
    *merger = (Merger){.files = files, .arena = arena, .folds = ARENA_ARRAY(arena, LrtFold, 2 * result->merge_count + 1)};
    time_t shown = time(NULL);
    for (int i = 0; i < result->merge_count; i++) {
        const PeftMerge *m = &result->merges[i];
        if (m->initial)
            show_progress(i, result->merge_count, &shown);
        if ((m->initial && !add_initial(merger, m, error)) || (!beside && !add_merge(merger, m, error)))
            return false;
    }
    return true;
}

/* --- the report ------------------------------------------------------------------------------------------------------- */

enum { BLOCK = 32 };

typedef struct Sums {
    int64_t numbers;
    double largest_error, errors, largest_update, updates, kept;
} Sums;

/* Rows first .. first + count - 1 of the parameter's part of the file, as stored without and with the update. */
static bool measure_rows(const Merger *merger, const LrtParam *p, const LrtTensor *tensor, int64_t first, int64_t count,
                         const float *base, const float *merged, Sums *s, LrtError *error)
{
    int64_t width = lrt_tensor_width(tensor), columns = lrt_file_cols(p);
    int64_t row = p->file_rank > 1 ? p->file_start[0] : 0, column = p->file_rank > 1 ? p->file_start[1] : p->file_start[0];
    int64_t depth = p->file_rank == 3 ? p->file_shape[2] : 1, place = p->file_rank == 3 ? p->file_start[2] : 0;
    float *original = malloc((sizeof *original + 2 * sizeof(double)) * (size_t)(width + 1));
    if (!original)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    double *exact = (double *)(void *)(original + (width + 1) / 2 * 2), *work = exact + width;
    bool ok = true;
    for (int64_t r = 0; ok && r < count; r++) {
        ok = lrt_tensor_read_rows(tensor, row + first + r, 1, original, error);
        for (int64_t c = 0; ok && c < width; c++)
            exact[c] = (double)original[c];
        if (ok)
            lrt_fold_row(merger->folds, merger->count, p->name, row + first + r, width, work, exact);
        for (int64_t c = 0; ok && c < columns; c++) {
            int64_t at = (column + c) * depth + place;
            double update = exact[at] - (double)original[at];
            double rounding = (double)merged[r * columns + c] - exact[at];
            s->largest_error = fmax(s->largest_error, fabs(rounding));
            s->largest_update = fmax(s->largest_update, fabs(update));
            s->errors += rounding * rounding;
            s->updates += update * update;
            s->kept += update * ((double)merged[r * columns + c] - (double)base[r * columns + c]);
        }
        s->numbers += columns;
    }
    free(original);
    return ok;
}

static bool measure(const Merger *merger, const LrtParam *p, const char *stored, LrtPool *pool, Sums *s, LrtError *error)
{
    LrtParam alone = *p;
    alone.offset = 0;
    const LrtProgram program = {.params = &alone, .param_count = 1, .weights_bytes = p->bytes};
    const LrtSources sources = {.checkpoint = merger->files->checkpoint};
    const LrtTensor *tensor = lrt_find_weight(sources.checkpoint, p->name);
    int64_t rows = lrt_file_rows(p), columns = lrt_file_cols(p);
    char *base = lrt_pages(p->bytes, "the merge report", error);
    float *values = malloc(sizeof *values * 2 * BLOCK * (size_t)(columns + 1));
    bool ok = base && (values || lrt_fail(error, LRT_FAILED, "out of memory")) && tensor &&
              lrt_load_params(&program, &sources, base, NULL, pool, error);
    for (int64_t r = 0; ok && r < rows; r += BLOCK) {
        int64_t count = rows - r < BLOCK ? rows - r : BLOCK;
        lrt_unpack_rows(&alone, base, r, count, values, columns);
        lrt_unpack_rows(&alone, stored, r, count, values + BLOCK * columns, columns);
        ok = measure_rows(merger, p, tensor, r, count, values, values + BLOCK * columns, s, error);
    }
    free(values);
    lrt_free_pages(base, p->bytes);
    return ok;
}

json_t *merger_report(const Merger *merger, const LrtProgram *program, const char *weights, LrtPool *pool, LrtError *error)
{
    json_t *report = json_array();
    for (int i = 0; i < program->param_count; i++) {
        const LrtParam *p = &program->params[i];
        if (p->adapter || !lrt_is_folded(merger->folds, merger->count, p->name))
            continue;
        Sums s = {0};
        if (!measure(merger, p, weights + p->offset, pool, &s, error))
            break;
        double n = (double)(s.numbers ? s.numbers : 1);
        json_array_append_new(report, json_pack("{s:s, s:I, s:f, s:f, s:f, s:f, s:f}", "tensor", p->name, "numbers", (json_int_t)s.numbers,
                                                "largest_update", s.largest_update, "rms_update", sqrt(s.updates / n), "largest_error",
                                                s.largest_error, "rms_error", sqrt(s.errors / n), "survives",
                                                s.updates > 0 ? s.kept / s.updates : 1.0));
    }
    return report;
}
