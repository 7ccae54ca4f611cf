/* weights.c - see weights.h. */
#include "runtime/weights.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack.h"
#include "runtime/random.h"

enum { ROWS_AT_ONCE = 64, HELD_BYTES = 4 << 20 };

const LrtTensor *lrt_find_weight(const LrtCheckpoint *checkpoint, const char *name)
{
    const LrtTensor *tensor = lrt_checkpoint_find(checkpoint, name);
    const char *dot = strchr(name, '.');
    return tensor || !dot ? tensor : lrt_checkpoint_find(checkpoint, dot + 1);
}

/* --- from a file ---------------------------------------------------------------------------------------------------- */

static bool check_shape(const LrtParam *p, const LrtTensor *tensor, const char *file, LrtError *error)
{
    bool same = tensor->rank == p->file_rank;
    for (int i = 0; same && i < tensor->rank; i++)
        same = tensor->shape[i] == p->file_shape[i];
    if (same)
        return true;
    return lrt_fail(error, LRT_INVALID, "%s: tensor '%s' has another shape than the program was compiled for ([%lld, %lld], "
                    "expected [%lld, %lld]); compile it for this model", file, tensor->name, (long long)tensor->shape[0],
                    (long long)(tensor->rank > 1 ? tensor->shape[1] : 1), (long long)p->file_shape[0],
                    (long long)(p->file_rank > 1 ? p->file_shape[1] : 1));
}

/* Extent of a third axis, along which a parameter is one place (a convolution's kernel); else 1. */
static int64_t depth_of(const LrtParam *p)
{
    return p->file_rank == 3 ? p->file_shape[2] : 1;
}

/* Rows of the whole tensor, with what is folded into it. */
static bool fold_rows(const LrtSources *s, const LrtTensor *tensor, const char *name, int64_t first, int64_t count, float *rows,
                      LrtError *error)
{
    if (!lrt_is_folded(s->folds, s->fold_count, name))
        return true;
    int64_t width = lrt_tensor_width(tensor);
    double *values = malloc(sizeof *values * 2 * (size_t)(width + 1));
    if (!values)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    for (int64_t r = 0; r < count; r++) {
        for (int64_t c = 0; c < width; c++)
            values[c] = (double)rows[r * width + c];
        lrt_fold_row(s->folds, s->fold_count, name, first + r, width, values + width, values);
        for (int64_t c = 0; c < width; c++)
            rows[r * width + c] = (float)values[c];
    }
    free(values);
    return true;
}

static bool read_param(const LrtParam *p, const LrtSources *s, const LrtTensor *tensor, const char *name, bool folded,
                       char *stored, LrtError *error)
{
    bool matrix = p->file_rank > 1;
    int64_t width = p->file_shape[matrix ? 1 : 0], first = matrix ? p->file_start[0] : 0;
    int64_t column = p->file_start[matrix ? 1 : 0], rows = lrt_file_rows(p), depth = depth_of(p);
    /* Q8_0 wants whole blocks of 32 rows; 64 are. */
    float *buffer = malloc(sizeof *buffer * (size_t)(ROWS_AT_ONCE * width * depth));
    if (!buffer)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    bool ok = true;
    int64_t held = 0;
    for (int64_t row = 0; ok && row < rows; row += ROWS_AT_ONCE) {
        int64_t count = rows - row < ROWS_AT_ONCE ? rows - row : ROWS_AT_ONCE;
        held += count * width * depth * (int64_t)sizeof *buffer;
        ok = lrt_tensor_read_rows(tensor, first + row, count, buffer, error) &&
             (!folded || fold_rows(s, tensor, name, first + row, count, buffer, error));
        for (int64_t i = 0; ok && depth > 1 && i < count * width; i++)
            buffer[i] = buffer[i * depth + p->file_start[2]];
        if (ok)
            lrt_pack_rows(p, stored, row, count, buffer + column, width);
        if (held >= HELD_BYTES)
            lrt_tensor_forget(tensor), held = 0;
    }
    lrt_tensor_forget(tensor);
    free(buffer);
    return ok;
}

/* --- fresh values ------------------------------------------------------------------------------------------------------ */

static float fresh_value(const LrtParam *p, uint64_t seed, uint64_t stream, uint64_t index)
{
    switch (p->init) {
    case LRT_INIT_ONE: return 1;
    case LRT_INIT_UNIFORM: return (float)((2 * lrt_uniform(seed, stream, index) - 1) * p->init_scale);
    case LRT_INIT_CONSTANT: return (float)p->init_scale;
    case LRT_INIT_NORMAL: return (float)(lrt_normal(seed, stream, index) * p->init_scale);
    default: return 0;
    }
}

/* What a fold says that it begins as; NULL: none does. */
static const float *given_values(const LrtParam *p, const LrtSources *s)
{
    for (const LrtFold *f = s->folds; f < s->folds + s->fold_count; f++) {
        if (f->a_name && !strcmp(f->a_name, p->name))
            return f->a;
        if (f->b_name && !strcmp(f->b_name, p->name))
            return f->b;
    }
    return NULL;
}

/* An element's value depends on the tensor's name and its place in the file, not on how it is stored. */
static bool make_param(const LrtParam *p, const LrtSources *s, char *stored, LrtError *error)
{
    bool matrix = p->file_rank > 1;
    int64_t rows = lrt_file_rows(p), columns = lrt_file_cols(p), width = p->file_shape[matrix ? 1 : 0];
    int64_t first = matrix ? p->file_start[0] : 0, column = p->file_start[matrix ? 1 : 0];
    uint64_t stream = lrt_stream(p->name);
    const float *given = given_values(p, s);
    float *buffer = malloc(sizeof *buffer * (size_t)(rows * columns + 1));
    if (!buffer)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            int64_t at = (first + r) * width + column + c;
            buffer[r * columns + c] = given ? given[at] : fresh_value(p, s->seed, stream, (uint64_t)at);
        }
    lrt_pack_rows(p, stored, 0, rows, buffer, columns);
    free(buffer);
    return true;
}

/* A vector from the norms of a checkpoint's matrix, in double: as it is for what an adapter begins as, else with what is folded into it. */
static bool make_norms(const LrtParam *p, const LrtSources *s, const LrtTensor *tensor, char *stored, LrtError *error)
{
    bool rows = p->init == LRT_INIT_ROW_NORMS;
    if (tensor->rank != 2 || tensor->shape[rows ? 0 : 1] != p->file_shape[0])
        return lrt_fail(error, LRT_INVALID, "tensor '%s' has another shape than the program was compiled for; compile it for this model",
                        tensor->name);
    int64_t count = p->file_shape[0];
    float *values = malloc(sizeof *values * (size_t)(count + 1));
    double *sums = malloc(sizeof *sums * (size_t)(count + 1));
    bool ok = ((values && sums) || lrt_fail(error, LRT_FAILED, "out of memory")) &&
              lrt_fold_squares(s->folds, p->adapter ? 0 : s->fold_count, tensor, p->base, rows, sums, error);
    for (int64_t i = 0; ok && i < count; i++)
        values[i] = (float)pow(sums[i], p->init_scale);
    if (ok)
        lrt_pack_rows(p, stored, 0, 1, values + p->file_start[0], lrt_file_cols(p));
    free(values), free(sums);
    return ok;
}

/* --- all of them --------------------------------------------------------------------------------------------------------- */

typedef struct Load {
    const LrtProgram *program;
    const LrtSources *sources;
    char *weights, *params;
    LrtError *errors; /* one for each parameter */
} Load;

static bool load_param(const Load *l, const LrtParam *p, char *stored, LrtError *error)
{
    const LrtSources *s = l->sources;
    if (p->adapter && s->adapter) {
        const LrtTensor *tensor = lrt_safetensors_find(s->adapter, p->name);
        if (!tensor)
            return lrt_fail(error, LRT_INVALID, "%s: tensor '%s' is missing; is it an adapter of this program?",
                            s->adapter_path, p->name);
        return check_shape(p, tensor, s->adapter_path, error) && read_param(p, s, tensor, p->name, false, stored, error);
    }
    bool of_norms = p->init == LRT_INIT_ROW_NORMS || p->init == LRT_INIT_COLUMN_NORMS;
    if (p->adapter && !p->base)
        return make_param(p, s, stored, error);
    if (!s->checkpoint)
        return lrt_fail(error, LRT_INVALID, "no weights; give the checkpoint with --weights PATH");
    const char *name = p->base ? p->base : p->name;
    const LrtTensor *tensor = lrt_find_weight(s->checkpoint, name);
    if (!tensor)
        return lrt_fail(error, LRT_INVALID, "%s: tensor '%s' is missing; the program was compiled for another model",
                        lrt_checkpoint_path(s->checkpoint), name);
    if (of_norms)
        return make_norms(p, s, tensor, stored, error);
    return check_shape(p, tensor, lrt_checkpoint_path(s->checkpoint), error) &&
           read_param(p, s, tensor, name, !p->base, stored, error);
}

static void load_task(void *user, int64_t task)
{
    Load *l = user;
    const LrtParam *p = &l->program->params[task];
    char *base = p->trained ? l->params : l->weights;
    if (base)
        load_param(l, p, base + p->offset, &l->errors[task]);
}

bool lrt_load_params(const LrtProgram *program, const LrtSources *sources, char *weights, char *params, LrtPool *pool,
                     LrtError *error)
{
    Load l = {program, sources, weights, params, calloc((size_t)program->param_count + 1, sizeof(LrtError))};
    bool ok = true;
    if (!l.errors)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    lrt_pool_run(pool, load_task, &l, program->param_count);
    for (int64_t i = 0; ok && i < program->param_count; i++)
        if (l.errors[i].status != LRT_OK)
            ok = lrt_fail(error, l.errors[i].status, "%s", l.errors[i].text);
    free(l.errors);
    return ok;
}

/* --- to a file ------------------------------------------------------------------------------------------------------------- */

void lrt_free_tensors(LrtTensor *tensors, int count)
{
    for (int i = 0; i < count; i++)
        free((void *)tensors[i].data);
    free(tensors);
}

/* Rows of a tensor that the parameter has. */
static bool unpack_part(const LrtParam *p, const char *stored, int64_t first, int64_t count, float *out, LrtError *error)
{
    bool matrix = p->file_rank > 1;
    int64_t start = matrix ? p->file_start[0] : 0, stop = start + lrt_file_rows(p), column = p->file_start[matrix ? 1 : 0];
    int64_t width = p->file_shape[matrix ? 1 : 0], columns = lrt_file_cols(p), depth = depth_of(p);
    int64_t from = first > start ? first : start, to = first + count < stop ? first + count : stop;
    if (from >= to)
        return true;
    if (depth == 1) {
        lrt_unpack_rows(p, stored, from - start, to - from, out + (from - first) * width + column, width);
        return true;
    }
    float *flat = malloc(sizeof *flat * (size_t)((to - from) * columns + 1));
    if (!flat)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    lrt_unpack_rows(p, stored, from - start, to - from, flat, columns);
    for (int64_t r = from; r < to; r++)
        for (int64_t c = 0; c < columns; c++)
            out[((r - first) * width + column + c) * depth + p->file_start[2]] = flat[(r - from) * columns + c];
    free(flat);
    return true;
}

bool lrt_adapter_rows(const LrtProgram *program, const char *weights, const char *trained, const LrtTensor *tensor, int64_t first,
                      int64_t count, float *rows, LrtError *error)
{
    memset(rows, 0, sizeof *rows * (size_t)(count * lrt_tensor_width(tensor)));
    for (const LrtParam *p = program->params; p < program->params + program->param_count; p++)
        if (p->adapter && !strcmp(p->name, tensor->name) &&
            !unpack_part(p, (p->trained ? trained : weights) + p->offset, first, count, rows, error))
            return false;
    return true;
}

bool lrt_adapter_list(const LrtProgram *program, bool only_trained, LrtTensor **tensors, int *count, LrtError *error)
{
    *count = 0;
    *tensors = calloc((size_t)program->param_count + 1, sizeof **tensors);
    if (!*tensors)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    for (int64_t i = 0; i < program->param_count; i++) {
        const LrtParam *p = &program->params[i];
        if (!p->adapter || (only_trained && !p->trained) || lrt_tensor_named(*tensors, *count, p->name))
            continue;
        LrtTensor *tensor = &(*tensors)[(*count)++];
        *tensor = (LrtTensor){.name = p->name, .dtype = LRT_F32, .rank = p->file_rank};
        for (int k = 0; k < p->file_rank; k++)
            tensor->shape[k] = p->file_shape[k];
    }
    return true;
}

bool lrt_adapter_tensors(const LrtProgram *program, const char *weights, const char *trained, bool only_trained,
                         LrtTensor **tensors, int *count, LrtError *error)
{
    if (!lrt_adapter_list(program, only_trained, tensors, count, error))
        return false;
    bool ok = true;
    for (int i = 0; ok && i < *count; i++) {
        LrtTensor *tensor = &(*tensors)[i];
        float *data = malloc(sizeof *data * (size_t)(lrt_tensor_elements(tensor) + 1));
        tensor->data = (const uint8_t *)data;
        ok = data ? lrt_adapter_rows(program, weights, trained, tensor, 0, lrt_tensor_rows(tensor), data, error)
                  : lrt_fail(error, LRT_FAILED, "out of memory");
    }
    if (!ok)
        lrt_free_tensors(*tensors, *count);
    return ok;
}
