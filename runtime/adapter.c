/* adapter.c - see adapter.h. */
#define _GNU_SOURCE
#include "runtime/adapter.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/loralib.h"
#include "runtime/weights.h"

bool lrt_make_directory(const char *path, LrtError *error)
{
    char *copy = strdup(path);
    if (!copy)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    bool ok = true;
    for (char *slash = copy + 1; ok; slash++) {
        if (*slash && *slash != '/')
            continue;
        char end = *slash;
        *slash = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            ok = lrt_fail(error, LRT_FAILED, "cannot make the directory '%s': %s", copy, strerror(errno));
        *slash = end;
        if (!end)
            break;
    }
    free(copy);
    if (ok && !lrt_is_directory(path))
        ok = lrt_fail(error, LRT_FAILED, "'%s' is not a directory", path);
    return ok;
}

static bool read_rows(void *user, const LrtTensor *tensor, int64_t first, int64_t count, float *rows, LrtError *error)
{
    const LrtRun *run = user;
    return lrt_adapter_rows(run->program, run->weights, run->context.base[LRT_BASE_PARAMS], tensor, first, count, rows, error);
}

/* Tensors without data are as they are trained. */
static bool write_folder(const LrtRun *run, const char *directory, const char *text, const LrtTensor *tensors, int count, LrtError *error)
{
    const char *metadata[5] = {NULL};
    int entries = 0;
    if (*run->base)
        metadata[entries++] = "loracc_base", metadata[entries++] = run->base;
    if (run->class_names)
        metadata[entries++] = "id2label", metadata[entries++] = run->class_names;
    char *path = lrt_path_join(directory, "adapter_model.safetensors");
    char *config = lrt_path_join(directory, "adapter_config.json");
    bool ok = path && config && lrt_make_directory(directory, error), fresh = ok && !lrt_file_exists(config);
    if (ok && !text)
        ok = lrt_fail(error, LRT_FAILED, "the program has no adapter configuration");
    ok = ok && lrt_file_write(config, text, strlen(text), error) &&
         lrt_safetensors_write_rows(path, tensors, count, metadata, read_rows, (void *)(uintptr_t)run, error);
    if (!ok && fresh)
        unlink(config); /* half an adapter is none */
    free(path);
    free(config);
    return ok;
}

/* Puts `tensor` in its place in the whole, one of list[0 .. *count), which is made if need be.  place: [name of the whole, rows,
 * columns, row, column, factor] */
static bool put_block(LrtTensor *list, int *count, const LrtTensor *tensor, const json_t *place)
{
    const char *name = json_string_value(json_array_get(place, 0));
    int64_t rows = json_integer_value(json_array_get(place, 1)), columns = json_integer_value(json_array_get(place, 2));
    int64_t row = json_integer_value(json_array_get(place, 3)), column = json_integer_value(json_array_get(place, 4));
    double factor = json_number_value(json_array_get(place, 5));
    LrtTensor *whole = lrt_tensor_named(list, *count, name);
    if (!whole) {
        void *data = calloc((size_t)(rows * columns) + 1, sizeof(float));
        if (!data)
            return false;
        whole = &list[(*count)++];
        *whole = (LrtTensor){.name = name, .dtype = LRT_F32, .rank = 2, .shape = {rows, columns}, .data = data};
    }
    const float *from = (const float *)(const void *)tensor->data;
    float *to = (float *)(uintptr_t)whole->data + row * columns + column;
    for (int64_t r = 0; r < tensor->shape[0]; r++)
        for (int64_t c = 0; c < tensor->shape[1]; c++)
            to[r * columns + c] = (float)(factor * (double)from[r * tensor->shape[1] + c]);
    return true;
}

/* DIRECTORY/peft: the equivalent adapter in PEFT's form, of an adapter whose form is another. */
static bool save_for_peft(const LrtRun *run, const char *directory, const json_t *peft, const LrtTensor *tensors, int count,
                          LrtError *error)
{
    const json_t *blocks = json_object_get(peft, "blocks");
    char *folder = lrt_path_join(directory, "peft");
    LrtTensor *list = calloc((size_t)count + 1, sizeof *list);
    int made = 0;
    bool ok = folder && list;
    for (int i = 0; ok && i < count; i++)
        if (json_object_get(blocks, tensors[i].name))
            ok = put_block(list, &made, &tensors[i], json_object_get(blocks, tensors[i].name));
    int all = made;
    for (int i = 0; ok && i < count; i++)
        if (!json_object_get(blocks, tensors[i].name))
            list[all++] = tensors[i];
    ok = ok ? write_folder(run, folder, json_string_value(json_object_get(peft, "config")), list, all, error)
            : lrt_fail(error, LRT_FAILED, "out of memory");
    lrt_free_tensors(list, made);
    free(folder);
    return ok;
}

/* y = x W' + b for x [rows, in], W [out, in], in double. */
static void linear(const double *x, int64_t rows, const LrtTensor *weight, const LrtTensor *bias, double *y)
{
    int64_t out = weight->shape[0], in = weight->shape[1];
    const float *w = (const float *)(const void *)weight->data, *b = (const float *)(const void *)bias->data;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++) {
            double sum = (double)b[o];
            for (int64_t i = 0; i < in; i++)
                sum += x[r * in + i] * (double)w[o * in + i];
            y[r * out + o] = sum;
        }
}

/* A table that a network makes takes the place of its tensors.  network: [table, embedding, weight1, bias1, weight2, bias2], table =
 * tanh(embedding weight1' + bias1) weight2' + bias2 */
static bool put_table(LrtTensor *tensors, int *count, const json_t *network, LrtError *error)
{
    LrtTensor *part[6] = {NULL};
    for (size_t i = 1; i < 6; i++)
        if (!(part[i] = lrt_tensor_named(tensors, *count, json_string_value(json_array_get(network, i)))))
            return lrt_fail(error, LRT_FAILED, "the program has no '%s'", json_string_value(json_array_get(network, i)));
    int64_t rows = part[1]->shape[0], in = part[1]->shape[1], width = part[2]->shape[0], out = part[4]->shape[0];
    double *values = malloc(sizeof *values * (size_t)(rows * (in + width + out))), *hidden = values + rows * in,
           *table = hidden + rows * width;
    float *data = malloc(sizeof *data * (size_t)(rows * out));
    if (!values || !data) {
        free(values), free(data);
        return lrt_fail(error, LRT_FAILED, "out of memory");
    }
    for (int64_t i = 0; i < rows * in; i++)
        values[i] = (double)((const float *)(const void *)part[1]->data)[i];
    linear(values, rows, part[2], part[3], hidden);
    for (int64_t i = 0; i < rows * width; i++)
        hidden[i] = tanh(hidden[i]);
    linear(hidden, rows, part[4], part[5], table);
    for (int64_t i = 0; i < rows * out; i++)
        data[i] = (float)table[i];
    free(values);
    free((void *)part[1]->data);
    *part[1] = (LrtTensor){.name = json_string_value(json_array_get(network, 0)), .dtype = LRT_F32, .rank = 2, .shape = {rows, out},
                           .data = (const uint8_t *)data};
    for (size_t i = 2; i < 6; i++) {
        LrtTensor *gone = lrt_tensor_named(tensors, *count, json_string_value(json_array_get(network, i)));
        free((void *)gone->data);
        *gone = tensors[--*count];
    }
    return true;
}

bool lrt_adapter_save(const LrtRun *run, const char *directory, LrtError *error)
{
    LrtTensor *tensors;
    int count;
    const json_t *network = json_object_get(run->settings, "network"), *peft = json_object_get(run->settings, "peft");
    const char *config = json_string_value(json_object_get(run->settings, "adapter_config"));
    if (!(network || peft
              ? lrt_adapter_tensors(run->program, run->weights, run->context.base[LRT_BASE_PARAMS], false, &tensors, &count, error)
              : lrt_adapter_list(run->program, false, &tensors, &count, error)))
        return false;
    bool ok = (!network || put_table(tensors, &count, network, error)) && write_folder(run, directory, config, tensors, count, error) &&
              (!peft || save_for_peft(run, directory, peft, tensors, count, error));
    lrt_free_tensors(tensors, count);
    return ok;
}

LrtSafetensors *lrt_adapter_open(const char *directory, LrtError *error)
{
    char *path = lrt_path_join(directory, "adapter_model.safetensors"), *config = lrt_path_join(directory, "adapter_config.json");
    LrtSafetensors *file = path && config ? lrt_safetensors_open(path, error) : NULL;
    if (file && lrt_is_loralib(file)) {
        json_t *settings = lrt_json_read(config, error);
        if (!settings || !lrt_loralib_rename(file, path, settings, error)) {
            lrt_safetensors_close(file);
            file = NULL;
        }
        json_decref(settings);
    }
    free(path);
    free(config);
    return file;
}

json_t *lrt_adapter_names(const LrtSafetensors *adapter)
{
    const char *text = lrt_safetensors_metadata(adapter, "id2label");
    json_t *names = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    return names ? json_pack("{s:o}", "id2label", names) : NULL;
}

bool lrt_adapter_check_base(const LrtSafetensors *adapter, const char *directory, const LrtCheckpoint *base, LrtError *error)
{
    const char *trained_on = lrt_safetensors_metadata(adapter, "loracc_base");
    char hash[LRT_HASH_TEXT];
    lrt_hash_text(lrt_checkpoint_hash(base), hash);
    return !trained_on || !strcmp(trained_on, hash) ||
           lrt_fail(error, LRT_INVALID,
                    "%s: trained on another base (%s) than '%s' (%s); give that one, or --any-base to use it all the same", directory,
                    trained_on, lrt_checkpoint_path(base), hash);
}
