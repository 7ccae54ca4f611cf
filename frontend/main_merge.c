/* main_merge.c - folds an adapter into the weights on their way into a program, and reports what storage made of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/main_merge.h"
#include "runtime/pack.h"

/* An adapter's tensor as f32. */
typedef struct Factor {
    float *data;
    int64_t rows, columns;
} Factor;

typedef struct Fold {
    const PeftMerge *merge;
    Factor a, b; /* a replaced tensor: b only */
    Factor l;    /* a scaled one: this only */
    Factor lb, ld; /* scales of the update's rows and of the rank */
} Fold;

struct Merger {
    const ModelFiles *files;
    Fold *folds;
    int count;
};

static bool read_factor(const ModelFiles *files, const char *name, Factor *factor, LrtError *error)
{
    const LrtTensor *tensor = lrt_safetensors_find(files->adapter, name);
    if (!tensor)
        return lrt_fail(error, LRT_INVALID, "%s: no tensor '%s'", files->adapter_path, name);
    int64_t count = lrt_tensor_elements(tensor);
    factor->rows = tensor->rank > 1 ? tensor->shape[0] : 1;
    factor->columns = tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
    factor->data = malloc(sizeof(float) * (size_t)(count + 1));
    if (!factor->data)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    if (!lrt_tensor_read_rows(tensor, 0, factor->rows, factor->data, error))
        return false;
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(factor->data[i]))
            return lrt_fail(error, LRT_INVALID, "%s: '%s' holds a value that is not a finite number; train it again",
                            files->adapter_path, name);
    return true;
}

/* Adds s B A of row `row` to `values`, `sum` being as long: summed in double in a fixed order. */
static void add_update(const Fold *fold, int64_t row, int64_t width, double *sum, double *values)
{
    const PeftMerge *m = fold->merge;
    const Factor *a = &fold->a, *b = &fold->b;
    int64_t rank = a->rows;
    if (!m->transposed && (row < m->out_start || row >= m->out_stop))
        return;
    int64_t first = m->transposed ? m->out_start : 0, last = m->transposed ? m->out_stop : width;
    int64_t shift = m->b_start - m->out_start;
    for (int64_t c = first; c < last; c++)
        sum[c] = 0;
    const float *ld = fold->ld.data, *lb = fold->lb.data;
    for (int64_t r = 0; r < rank; r++) {
        double weight = ld ? (double)ld[r] : 1;
        if (m->transposed)
            for (int64_t c = first; c < last; c++)
                sum[c] += (double)b->data[(c + shift) * rank + r] * (weight * (double)a->data[r * a->columns + row]);
        else
            for (int64_t c = first; c < last; c++)
                sum[c] += (double)b->data[(row + shift) * rank + r] * (weight * (double)a->data[r * a->columns + c]);
    }
    for (int64_t c = first; c < last; c++)
        values[c] += m->scale * sum[c] * (lb ? (double)lb[m->transposed ? c : row] : 1);
}

/* Multiplies what the vector is for of row `row`. */
static void scale_row(const Fold *fold, int64_t row, int64_t width, double *values)
{
    const PeftMerge *m = fold->merge;
    const float *l = fold->l.data;
    if (!m->transposed && (row < m->out_start || row >= m->out_stop))
        return;
    for (int64_t c = m->transposed ? m->out_start : 0; c < (m->transposed ? m->out_stop : width); c++)
        values[c] *= (double)l[m->transposed ? c : row];
}

/* Row `row` of the base tensor `name` with all that is folded into it, exact to double; `work` is as long as the row. */
static void merge_row(const Merger *merger, const char *name, int64_t row, int64_t width, double *work, double *values)
{
    for (int i = 0; i < merger->count; i++) {
        const Fold *fold = &merger->folds[i];
        if (strcmp(fold->merge->tensor, name) != 0)
            continue;
        if (fold->merge->factor)
            scale_row(fold, row, width, values);
        else if (fold->merge->a)
            add_update(fold, row, width, work, values);
        else
            for (int64_t c = 0; c < width; c++)
                values[c] = (double)fold->b.data[row * width + c];
    }
}

/* Turns magnitudes into factors: divided by the norms of what the folds before this one make of the tensor. */
static bool normalise(Merger *merger, int index, LrtError *error)
{
    Fold *fold = &merger->folds[index];
    const PeftMerge *m = fold->merge;
    const LrtTensor *tensor = lrt_find_weight(merger->files->checkpoint, m->tensor);
    if (!tensor || tensor->rank != 2 || tensor->shape[m->transposed ? 1 : 0] != fold->l.columns)
        return lrt_fail(error, LRT_INVALID, "%s: '%s' does not fit '%s'", merger->files->adapter_path, m->factor, m->tensor);
    int64_t rows = tensor->shape[0], width = tensor->shape[1], count = fold->l.columns;
    float *row = malloc(sizeof *row * (size_t)(width + 1));
    double *values = malloc(sizeof *values * 2 * (size_t)(width + 1)), *sums = calloc((size_t)count + 1, sizeof *sums);
    bool ok = (row && values && sums) || lrt_fail(error, LRT_FAILED, "out of memory");
    int all = merger->count;
    merger->count = index;
    for (int64_t r = 0; ok && r < rows; r++) {
        ok = lrt_tensor_read_rows(tensor, r, 1, row, error);
        for (int64_t c = 0; ok && c < width; c++)
            values[c] = (double)row[c];
        if (ok)
            merge_row(merger, m->tensor, r, width, values + width, values);
        for (int64_t c = 0; ok && c < width; c++)
            sums[m->transposed ? c : r] += values[c] * values[c];
    }
    merger->count = all;
    for (int64_t i = 0; ok && i < count; i++)
        fold->l.data[i] = (float)((double)fold->l.data[i] / sqrt(sums[i]));
    free(row), free(values), free(sums);
    return ok;
}

Merger *merger_open(const ModelFiles *files, const PeftResult *result, Arena *arena, LrtError *error)
{
    Merger *merger = ARENA_NEW(arena, Merger);
    merger->files = files;
    merger->count = result->merge_count;
    merger->folds = ARENA_ARRAY(arena, Fold, merger->count + 1);
    for (int i = 0; i < merger->count; i++) {
        Fold *fold = &merger->folds[i];
        fold->merge = &result->merges[i];
        const PeftMerge *m = fold->merge;
        if ((m->a && !read_factor(files, m->a, &fold->a, error)) || (m->b && !read_factor(files, m->b, &fold->b, error)) ||
            (m->factor && !read_factor(files, m->factor, &fold->l, error)) ||
            (m->row_factor && !read_factor(files, m->row_factor, &fold->lb, error)) ||
            (m->rank_factor && !read_factor(files, m->rank_factor, &fold->ld, error)) ||
            (m->normalised && !normalise(merger, i, error))) {
            merger_close(merger);
            return NULL;
        }
    }
    return merger;
}

void merger_close(Merger *merger)
{
    for (int i = 0; merger && i < merger->count; i++) {
        free(merger->folds[i].a.data);
        free(merger->folds[i].b.data);
        free(merger->folds[i].l.data);
        free(merger->folds[i].lb.data);
        free(merger->folds[i].ld.data);
    }
}

static bool touches(const Merger *merger, const char *name)
{
    for (int i = 0; i < merger->count; i++)
        if (!strcmp(merger->folds[i].merge->tensor, name))
            return true;
    return false;
}

static int64_t row_width(const LrtTensor *tensor)
{
    return tensor->rank > 1 ? lrt_tensor_elements(tensor) / tensor->shape[0] : tensor->shape[0];
}

bool merger_edit(void *user, const LrtTensor *tensor, const char *name, int64_t first, int64_t count, float *rows, LrtError *error)
{
    const Merger *merger = user;
    int64_t width = row_width(tensor);
    if (!touches(merger, name))
        return true;
    double *values = malloc(sizeof *values * 2 * (size_t)width);
    if (!values)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    for (int64_t r = 0; r < count; r++) {
        for (int64_t c = 0; c < width; c++)
            values[c] = (double)rows[r * width + c];
        merge_row(merger, name, first + r, width, values + width, values);
        for (int64_t c = 0; c < width; c++)
            rows[r * width + c] = (float)values[c];
    }
    free(values);
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
    int64_t width = row_width(tensor), columns = lrt_file_cols(p);
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
            merge_row(merger, p->name, row + first + r, width, work, exact);
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
        if (p->adapter || !touches(merger, p->name))
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
