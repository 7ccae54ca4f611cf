/* main_initial.c - see main_initial.h.  Decompositions are LAPACK's, in double. */
#include "frontend/main_initial.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/main_merge.h"
#include "runtime/initial.h"

/* LAPACK, column-major: eigenvalues number il .. iu of a symmetric matrix, and the two halves of a thin QR. */
extern void dsyevr_(const char *job, const char *range, const char *uplo, const int *n, double *a, const int *lda, const double *vl,
                    const double *vu, const int *il, const int *iu, const double *abstol, int *found, double *w, double *z,
                    const int *ldz, int *support, double *work, const int *lwork, int *iwork, const int *liwork, int *info);
extern void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work, const int *lwork, int *info);
extern void dorgqr_(const int *m, const int *n, const int *k, double *a, const int *lda, const double *tau, double *work,
                    const int *lwork, int *info);

/* The part of the weight as [outputs, inputs], row-major; the caller frees it. */
static double *read_matrix(const ModelFiles *files, const PeftMerge *m, LrtError *error)
{
    const LrtTensor *tensor = files->checkpoint ? lrt_find_weight(files->checkpoint, m->tensor) : NULL;
    int64_t outputs = m->out_stop - m->out_start, rows = m->transposed ? m->inputs : m->outputs,
            width = m->transposed ? m->outputs : m->inputs;
    if (!tensor || tensor->rank != 2 || tensor->shape[0] != rows || tensor->shape[1] != width) {
        lrt_report(error, LRT_INVALID, "'%s': initial values are computed from a matrix of the weights, %s", m->tensor,
                   files->checkpoint ? "which this is not" : "which are not given; add --weights PATH");
        return NULL;
    }
    float *row = malloc(sizeof *row * (size_t)width);
    double *w = malloc(sizeof *w * (size_t)(outputs * m->inputs));
    bool ok = (row && w) || lrt_fail(error, LRT_FAILED, "out of memory");
    for (int64_t r = 0; ok && r < rows; r++) {
        if (!m->transposed && (r < m->out_start || r >= m->out_stop))
            continue;
        ok = lrt_tensor_read_rows(tensor, r, 1, row, error);
        for (int64_t c = 0; ok && m->transposed && c < outputs; c++)
            w[c * m->inputs + r] = (double)row[m->out_start + c];
        for (int64_t c = 0; ok && !m->transposed && c < width; c++)
            w[(r - m->out_start) * m->inputs + c] = (double)row[c];
    }
    free(row);
    if (ok)
        return w;
    free(w);
    return NULL;
}

/* The `count` largest eigenvalues of a symmetric g [n, n] and their vectors, rows of z; ascending.  g is used up. */
static bool eigenvectors(double *g, int n, int count, double *values, double *z)
{
    int il = n - count + 1, found = 0, info = 0, size = -1, integers = -1, needed;
    double zero = 0, best;
    int *support = malloc(sizeof *support * 2 * (size_t)count);
    dsyevr_("V", "I", "L", &n, g, &n, &zero, &zero, &il, &n, &zero, &found, values, z, &n, support, &best, &size, &needed, &integers,
            &info);
    size = (int)best, integers = needed;
    double *work = malloc(sizeof *work * (size_t)size);
    int *iwork = malloc(sizeof *iwork * (size_t)integers);
    bool ok = support && work && iwork;
    if (ok)
        dsyevr_("V", "I", "L", &n, g, &n, &zero, &zero, &il, &n, &zero, &found, values, z, &n, support, work, &size, iwork, &integers,
                &info);
    free(support), free(work), free(iwork);
    return ok && info == 0 && found == count;
}

/* Singular vectors of the shorter side are eigenvectors of W W' (or W'W); those of the other follow from W. */
static bool pissa(const PeftMerge *m, const double *w, float *a, float *b)
{
    int rows = (int)(m->out_stop - m->out_start), columns = (int)m->inputs, r = (int)m->rank;
    bool tall = rows > columns;
    int n = tall ? columns : rows, other = tall ? rows : columns;
    double *g = malloc(sizeof *g * (size_t)n * (size_t)n), *z = malloc(sizeof *z * (size_t)n * (size_t)r);
    double *values = malloc(sizeof *values * (size_t)n), *far = malloc(sizeof *far * (size_t)other * (size_t)r);
    bool ok = g && z && values && far;
    if (ok) {
        cblas_dsyrk(CblasRowMajor, CblasUpper, tall ? CblasTrans : CblasNoTrans, n, other, 1, w, columns, 0, g, n);
        ok = eigenvectors(g, n, r, values, z);
    }
    if (ok) /* far = z W, or z W' */
        cblas_dgemm(CblasRowMajor, CblasNoTrans, tall ? CblasTrans : CblasNoTrans, r, other, n, 1, z, n, w, columns, 0, far, other);
    for (int k = 0; ok && k < r; k++) {
        int from = r - 1 - k; /* largest first */
        double singular = sqrt(fmax(values[from], 0)), root = sqrt(singular / m->scale);
        const double *near_row = z + (size_t)from * (size_t)n, *far_row = far + (size_t)from * (size_t)other;
        double shrink = singular > 0 ? root / singular : 0;
        for (int i = 0; i < rows; i++)
            b[(size_t)i * (size_t)r + (size_t)k] = (float)(tall ? far_row[i] * shrink : near_row[i] * root);
        for (int i = 0; i < columns; i++)
            a[(size_t)k * (size_t)columns + (size_t)i] = (float)(tall ? near_row[i] * root : far_row[i] * shrink);
    }
    free(g), free(z), free(values), free(far);
    return ok;
}

/* The first r columns of Q depend on W's first r columns only; R = Q'W. */
static bool olora(const PeftMerge *m, const double *w, float *a, float *b)
{
    int rows = (int)(m->out_stop - m->out_start), columns = (int)m->inputs, r = (int)m->rank, size = 64 * r, info = 0;
    double *q = malloc(sizeof *q * (size_t)rows * (size_t)r), *tau = malloc(sizeof *tau * (size_t)r);
    double *work = malloc(sizeof *work * (size_t)size), *product = malloc(sizeof *product * (size_t)r * (size_t)columns);
    bool ok = q && tau && work && product;
    for (int c = 0; ok && c < r; c++)
        for (int i = 0; i < rows; i++)
            q[(size_t)c * (size_t)rows + (size_t)i] = w[(size_t)i * (size_t)columns + (size_t)c];
    if (ok)
        dgeqrf_(&rows, &r, q, &rows, tau, work, &size, &info);
    if (ok && info == 0)
        dorgqr_(&rows, &r, &r, q, &rows, tau, work, &size, &info);
    ok = ok && info == 0;
    if (ok)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, r, columns, rows, 1, q, rows, w, columns, 0, product, columns);
    for (int k = 0; ok && k < r; k++) {
        for (int i = 0; i < rows; i++)
            b[(size_t)i * (size_t)r + (size_t)k] = (float)q[(size_t)k * (size_t)rows + (size_t)i];
        for (int i = 0; i < columns; i++)
            a[(size_t)k * (size_t)columns + (size_t)i] = i < k ? 0 : (float)product[(size_t)k * (size_t)columns + (size_t)i];
    }
    free(q), free(tau), free(work), free(product);
    return ok;
}

bool main_initial_pair(const ModelFiles *files, const PeftMerge *m, float *a, float *b, LrtError *error)
{
    double *w = read_matrix(files, m, error);
    bool ok = w && ((!strcmp(m->initial, "olora") ? olora : pissa)(m, w, a, b) ||
                    lrt_fail(error, LRT_FAILED, "'%s' could not be decomposed: not finite, or out of memory", m->tensor));
    free(w);
    return ok;
}

bool main_has_initial(const PeftResult *result)
{
    for (int i = 0; i < result->merge_count; i++)
        if (result->merges[i].initial)
            return true;
    return false;
}

bool main_add_initial(const ModelFiles *files, const PeftResult *result, const char *program, Arena *arena, Diag *diag)
{
    LrtError error = {LRT_OK, ""};
    Merger merger;
    if (merger_open(&merger, files, result, true, arena, &error) && lrt_initial_append(program, merger.folds, merger.count, &error))
        return true;
    diag_error(diag, (Loc){0}, "%s", error.text);
    return false;
}
