/* initial.c - see initial.h. */
#include "runtime/initial.h"

#include <stdlib.h>
#include <string.h>

static int64_t size_of_a(const LrtFold *f)
{
    return f->rank * f->inputs;
}

static int64_t size_of_b(const LrtFold *f)
{
    return f->rank * (f->out_stop - f->out_start);
}

static bool read_fold(LrtInitial *initial, json_t *place)
{
    LrtFold *f = &initial->folds[initial->count];
    int64_t numbers = initial->image.trailer.weights_bytes / (int64_t)sizeof(float);
    json_int_t offset, rank, inputs, start, stop;
    int transposed;
    if (json_unpack(place, "{s:s, s:s, s:s, s:I, s:I, s:F, s:b, s:[I, I], s:I}", "tensor", &f->tensor, "a", &f->a_name, "b", &f->b_name,
                    "rank", &rank, "inputs", &inputs, "scale", &f->scale, "transposed", &transposed, "out", &start, &stop, "offset",
                    &offset) != 0)
        return false;
    f->rank = rank, f->inputs = inputs, f->transposed = transposed;
    f->out_start = start, f->out_stop = stop;
    bool sizes = rank >= 1 && inputs >= 1 && inputs <= numbers && start >= 0 && stop > start && stop <= numbers && offset >= 0;
    if (!sizes || offset > numbers || stop - start + inputs > (numbers - offset) / rank)
        return false;
    f->a = (const float *)(const void *)initial->image.weights + offset;
    f->b = f->a + size_of_a(f);
    initial->count++;
    return true;
}

bool lrt_initial_open(LrtInitial *initial, LrtError *error)
{
    *initial = (LrtInitial){0};
    if (!lrt_image_open_self(&initial->image, error))
        return false;
    initial->places = json_loadb(initial->image.settings, (size_t)initial->image.trailer.settings_bytes, 0, NULL);
    initial->folds = calloc(json_array_size(initial->places) + 1, sizeof *initial->folds);
    bool ok = (initial->folds != NULL) || lrt_fail(error, LRT_FAILED, "out of memory");
    for (size_t i = 0; ok && i < json_array_size(initial->places); i++)
        ok = read_fold(initial, json_array_get(initial->places, i)) ||
             lrt_fail(error, LRT_INVALID, "its initial values are damaged; compile it again");
    if (!ok)
        lrt_initial_close(initial);
    return ok;
}

void lrt_initial_close(LrtInitial *initial)
{
    free(initial->folds);
    json_decref(initial->places);
    lrt_image_close(&initial->image);
    *initial = (LrtInitial){0};
}

bool lrt_initial_append(const char *program, const LrtFold *folds, int count, LrtError *error)
{
    json_t *places = json_array();
    int64_t numbers = 0;
    for (int i = 0; i < count; i++)
        numbers += size_of_a(&folds[i]) + size_of_b(&folds[i]);
    float *values = malloc(sizeof *values * (size_t)(numbers + 1)), *at = values;
    for (const LrtFold *f = folds; values && f < folds + count; f++) {
        json_array_append_new(places, json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:b, s:[I, I], s:I}", "tensor", f->tensor, "a", f->a_name,
                                                "b", f->b_name, "rank", (json_int_t)f->rank, "inputs", (json_int_t)f->inputs, "scale",
                                                f->scale, "transposed", (int)f->transposed, "out", (json_int_t)f->out_start,
                                                (json_int_t)f->out_stop, "offset", (json_int_t)(at - values)));
        memcpy(at, f->a, sizeof *at * (size_t)size_of_a(f));
        at += size_of_a(f);
        memcpy(at, f->b, sizeof *at * (size_t)size_of_b(f));
        at += size_of_b(f);
    }
    char *text = values ? json_dumps(places, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    bool ok = text ? lrt_image_append(program, (const char *)values, numbers * (int64_t)sizeof *values, NULL, 0, text, error)
                   : lrt_fail(error, LRT_FAILED, "out of memory");
    free(text), free(values);
    json_decref(places);
    return ok;
}
