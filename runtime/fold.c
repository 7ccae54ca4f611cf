/* fold.c - see fold.h. */
#include "runtime/fold.h"

#include <stdlib.h>
#include <string.h>

/* Summed in double in a fixed order. */
static void add_update(const LrtFold *f, int64_t row, int64_t width, double *sum, double *values)
{
    if (!f->transposed && (row < f->out_start || row >= f->out_stop))
        return;
    int64_t first = f->transposed ? f->out_start : 0, last = f->transposed ? f->out_stop : width;
    for (int64_t c = first; c < last; c++)
        sum[c] = 0;
    for (int64_t r = 0; r < f->rank; r++) {
        double weight = f->rank_factor ? (double)f->rank_factor[r] : 1;
        if (f->transposed)
            for (int64_t c = first; c < last; c++)
                sum[c] += (double)f->b[(c - first) * f->rank + r] * (weight * (double)f->a[r * f->inputs + row]);
        else
            for (int64_t c = first; c < last; c++)
                sum[c] += (double)f->b[(row - f->out_start) * f->rank + r] * (weight * (double)f->a[r * f->inputs + c]);
    }
    for (int64_t c = first; c < last; c++)
        values[c] += f->scale * sum[c] * (f->row_factor ? (double)f->row_factor[f->transposed ? c : row] : 1);
}

static void multiply(const LrtFold *f, int64_t row, int64_t width, double *values)
{
    if (!f->transposed && (row < f->out_start || row >= f->out_stop))
        return;
    for (int64_t c = f->transposed ? f->out_start : 0; c < (f->transposed ? f->out_stop : width); c++)
        values[c] *= (double)f->factor[f->transposed ? c : row];
}

void lrt_fold_row(const LrtFold *folds, int count, const char *tensor, int64_t row, int64_t width, double *work, double *values)
{
    for (const LrtFold *f = folds; f < folds + count; f++) {
        if (strcmp(f->tensor, tensor) != 0)
            continue;
        if (f->factor)
            multiply(f, row, width, values);
        else if (f->a)
            add_update(f, row, width, work, values);
        else
            for (int64_t c = 0; c < width; c++)
                values[c] = (double)f->b[row * width + c];
    }
}

bool lrt_fold_squares(const LrtFold *folds, int count, const LrtTensor *tensor, const char *name, bool of_rows, double *sums,
                      LrtError *error)
{
    int64_t rows = lrt_tensor_rows(tensor), width = lrt_tensor_width(tensor);
    float *row = malloc(sizeof *row * (size_t)(width + 1));
    double *values = malloc(sizeof *values * 2 * (size_t)(width + 1));
    bool ok = (row && values) || lrt_fail(error, LRT_FAILED, "out of memory");
    for (int64_t i = 0; i < (of_rows ? rows : width); i++)
        sums[i] = 0;
    for (int64_t r = 0; ok && r < rows; r++) {
        ok = lrt_tensor_read_rows(tensor, r, 1, row, error);
        for (int64_t c = 0; ok && c < width; c++)
            values[c] = (double)row[c];
        if (ok)
            lrt_fold_row(folds, count, name, r, width, values + width, values);
        for (int64_t c = 0; ok && c < width; c++)
            sums[of_rows ? r : c] += values[c] * values[c];
    }
    lrt_tensor_forget(tensor);
    free(row), free(values);
    return ok;
}

bool lrt_is_folded(const LrtFold *folds, int count, const char *tensor)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(folds[i].tensor, tensor))
            return true;
    return false;
}
