/* fold.h - updates folded into the rows of a checkpoint's weights on their way into a program. */
#pragma once
#include "runtime/checkpoint.h"

/* Of base tensor `tensor`, read as a linear layer [out, in] or, `transposed`, as [in, out]:
 *   a:      W[out_start + i, :] += scale * row_factor[.] * (b[i, :] * rank_factor) a;  a [rank, in], b [.., rank]
 *   factor: W[out_start + i, :] *= factor[out_start + i]
 *   else    W = b, as the file has it
 * The arrays are the owner's. */
typedef struct LrtFold {
    const char *tensor;
    const float *a, *b;
    const float *factor;
    const float *row_factor, *rank_factor; /* NULL: 1 */
    const char *a_name, *b_name; /* parameters of a new adapter that begin as a and b; NULL: none */
    int64_t rank, inputs;
    double scale;
    bool transposed;
    int64_t out_start, out_stop;
} LrtFold;

/* Row `row` of width `width` with all folds of its tensor, in their order, exact to double; `work` is as long as the row. */
void lrt_fold_row(const LrtFold *folds, int count, const char *tensor, int64_t row, int64_t width, double *work, double *values);
/* Sums of squares of the rows of a matrix (`of_rows`) or of its columns, with all folds of it. */
bool lrt_fold_squares(const LrtFold *folds, int count, const LrtTensor *tensor, const char *name, bool of_rows, double *sums,
                      LrtError *error);
bool lrt_is_folded(const LrtFold *folds, int count, const char *tensor);
