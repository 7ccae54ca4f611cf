/* safetensors.c - the safetensors format: u64 header length, JSON header, tensors without holes.
 *
 * Checked before anything is used: header size and syntax, types, shapes and their products, that the tensors cover the data
 * exactly.  Written byte for byte as the safetensors library writes. */
#include <stdlib.h>
#include <string.h>

#include "runtime/checkpoint.h"
#include "runtime/file.h"

enum { HEADER_MAX = 100000000, ROWS_BYTES = 1 << 20 };

struct LrtSafetensors {
    LrtMap map;
    char *path;
    json_t *header, *names; /* own the names */
    LrtTensor *tensors;
    int count;
};

static const struct {
    const char *name;
    int block, bytes;
} dtypes[LRT_DTYPE_COUNT] = {
#define DTYPE(id, name, block, bytes) [LRT_##id] = {name, block, bytes},
#include "runtime/dtypes.def"
};

const char *lrt_dtype_name(LrtDtype dtype)
{
    return dtypes[dtype].name;
}

/* Only the plain types are safetensors'. */
static bool find_dtype(const char *name, LrtDtype *dtype)
{
    for (int i = 0; i < LRT_DTYPE_COUNT; i++)
        if (dtypes[i].block == 1 && !strcmp(dtypes[i].name, name)) {
            *dtype = (LrtDtype)i;
            return true;
        }
    return false;
}

int64_t lrt_tensor_elements(const LrtTensor *tensor)
{
    int64_t elements = 1;
    for (int i = 0; i < tensor->rank; i++)
        elements *= tensor->shape[i];
    return elements;
}

int64_t lrt_tensor_rows(const LrtTensor *tensor)
{
    return tensor->rank > 1 ? tensor->shape[0] : 1;
}

int64_t lrt_tensor_width(const LrtTensor *tensor)
{
    int64_t width = 1;
    for (int i = tensor->rank > 1; i < tensor->rank; i++)
        width *= tensor->shape[i];
    return width;
}

LrtTensor *lrt_tensor_named(LrtTensor *tensors, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(tensors[i].name, name))
            return &tensors[i];
    return NULL;
}

static bool bad(const LrtSafetensors *file, const char *name, const char *what, LrtError *error)
{
    return lrt_fail(error, LRT_INVALID, "%s: tensor '%s': %s; the file is damaged, fetch it again", file->path, name, what);
}

static bool read_shape(const LrtSafetensors *file, LrtTensor *tensor, const json_t *shape, LrtError *error)
{
    if (!json_is_array(shape))
        return bad(file, tensor->name, "no shape", error);
    if (json_array_size(shape) > LRT_MAX_RANK)
        return bad(file, tensor->name, "more than 4 dimensions", error);
    tensor->rank = (int)json_array_size(shape);
    int64_t elements = 1; /* of a shape without zeros, so that no part of a product overflows */
    for (int i = 0; i < tensor->rank; i++) {
        const json_t *extent = json_array_get(shape, (size_t)i);
        tensor->shape[i] = json_is_integer(extent) ? json_integer_value(extent) : -1;
        if (tensor->shape[i] < 0 ||
            __builtin_mul_overflow(elements, tensor->shape[i] ? tensor->shape[i] : 1, &elements) || elements > INT64_MAX / 16)
            return bad(file, tensor->name, "its shape makes no sense", error);
    }
    return true;
}

static bool read_entry(LrtSafetensors *file, LrtTensor *tensor, const char *name, const json_t *entry, size_t data,
                       LrtError *error)
{
    tensor->name = name;
    const json_t *dtype = json_object_get(entry, "dtype"), *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_string(dtype) || !json_is_array(offsets) || json_array_size(offsets) != 2)
        return bad(file, name, "no dtype or data_offsets", error);
    if (!find_dtype(json_string_value(dtype), &tensor->dtype))
        return lrt_fail(error, LRT_INVALID, "%s: tensor '%s' has type %s, which is not supported; convert it to F32, F16 or BF16",
                        file->path, name, json_string_value(dtype));
    if (!read_shape(file, tensor, json_object_get(entry, "shape"), error))
        return false;
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (!json_is_integer(first) || !json_is_integer(last))
        return bad(file, name, "data_offsets are not whole numbers", error);
    int64_t begin = json_integer_value(first), end = json_integer_value(last);
    int64_t available = (int64_t)(file->map.size - data);
    if (begin < 0 || end < begin || end > available)
        return bad(file, name, "its data lies outside the file, which may be truncated", error);
    if (end - begin != lrt_tensor_elements(tensor) * dtypes[tensor->dtype].bytes)
        return bad(file, name, "its data does not have the size of its shape", error);
    tensor->data = file->map.data + data + begin;
    tensor->bytes = (size_t)(end - begin);
    return true;
}

static int by_offset(const void *a, const void *b)
{
    const LrtTensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static bool check_cover(LrtSafetensors *file, size_t data, LrtError *error)
{
    const uint8_t *next = file->map.data + data;
    qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, by_offset);
    for (int i = 0; i < file->count; i++) {
        if (file->tensors[i].data != next)
            return bad(file, file->tensors[i].name, "its data overlaps another tensor's or leaves a hole", error);
        next += file->tensors[i].bytes;
    }
    if (next != file->map.data + file->map.size)
        return lrt_fail(error, LRT_INVALID, "%s: %zu bytes follow the last tensor; the file is damaged, fetch it again",
                        file->path, (size_t)(file->map.data + file->map.size - next));
    return true;
}

static bool read_header(LrtSafetensors *file, LrtError *error)
{
    uint64_t length = 0;
    if (file->map.size < 8)
        return lrt_fail(error, LRT_INVALID, "%s: too short for a safetensors file", file->path);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | file->map.data[i];
    if (length > HEADER_MAX || length > file->map.size - 8)
        return lrt_fail(error, LRT_INVALID,
                        "%s: header of %llu bytes is larger than the file or than 100 MB; not a safetensors file, or truncated", file->path,
                        (unsigned long long)length);
    json_error_t where;
    file->header = json_loadb((const char *)file->map.data + 8, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(file->header) || file->map.data[8] != '{')
        return lrt_fail(error, LRT_INVALID, "%s: header at byte %d is not a JSON object: %s", file->path, 8 + where.position,
                        file->header ? "another JSON value" : where.text);
    file->tensors = calloc(json_object_size(file->header) + 1, sizeof *file->tensors);
    if (!file->tensors)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry) {
        if (!strcmp(name, "__metadata__"))
            continue;
        if (!read_entry(file, &file->tensors[file->count], name, entry, 8 + (size_t)length, error))
            return false;
        file->count++;
    }
    return check_cover(file, 8 + (size_t)length, error);
}

static LrtSafetensors *open_map(LrtMap map, const char *path, LrtError *error)
{
    LrtSafetensors *file = calloc(1, sizeof *file);
    if (!file) {
        lrt_unmap(&map);
        lrt_report(error, LRT_FAILED, "out of memory");
        return NULL;
    }
    file->map = map;
    file->path = malloc(strlen(path) + 1);
    if (!file->path) {
        lrt_report(error, LRT_FAILED, "out of memory");
        lrt_safetensors_close(file);
        return NULL;
    }
    memcpy(file->path, path, strlen(path) + 1);
    if (read_header(file, error))
        return file;
    lrt_safetensors_close(file);
    return NULL;
}

LrtSafetensors *lrt_safetensors_open(const char *path, LrtError *error)
{
    LrtMap map;
    return lrt_map_file(&map, path, error) ? open_map(map, path, error) : NULL;
}

LrtSafetensors *lrt_safetensors_open_memory(const void *data, size_t size, LrtError *error)
{
    return open_map((LrtMap){(uint8_t *)data, size, false}, "memory", error);
}

void lrt_safetensors_close(LrtSafetensors *file)
{
    if (!file)
        return;
    json_decref(file->header);
    json_decref(file->names);
    lrt_unmap(&file->map);
    free(file->tensors);
    free(file->path);
    free(file);
}

int lrt_safetensors_count(const LrtSafetensors *file)
{
    return file->count;
}

const LrtTensor *lrt_safetensors_tensor(const LrtSafetensors *file, int index)
{
    return &file->tensors[index];
}

const LrtTensor *lrt_safetensors_find(const LrtSafetensors *file, const char *name)
{
    return lrt_tensor_named(file->tensors, file->count, name);
}

void lrt_safetensors_replace(LrtSafetensors *file, LrtTensor *tensors, int count, json_t *names)
{
    free(file->tensors);
    json_decref(file->names);
    file->tensors = tensors;
    file->count = count;
    file->names = names;
}

bool lrt_safetensors_replaced(const LrtSafetensors *file)
{
    return file->names != NULL;
}

const char *lrt_safetensors_metadata(const LrtSafetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

/* The library's order: types by descending size class (8, 4, 2, 1 bytes, in its enum's order), then names. */
static int type_rank(LrtDtype dtype)
{
    static const LrtDtype order[] = {LRT_I64, LRT_F64, LRT_F32, LRT_I32, LRT_BF16, LRT_F16, LRT_U8, LRT_BOOL};
    int rank = 0;
    while (rank < (int)(sizeof order / sizeof *order) && order[rank] != dtype)
        rank++;
    return rank;
}

static int in_file_order(const void *a, const void *b)
{
    const LrtTensor *x = *(const LrtTensor *const *)a, *y = *(const LrtTensor *const *)b;
    int difference = type_rank(x->dtype) - type_rank(y->dtype);
    return difference ? difference : strcmp(x->name, y->name);
}

static size_t tensor_bytes(const LrtTensor *tensor)
{
    return (size_t)lrt_tensor_elements(tensor) * (size_t)dtypes[tensor->dtype].bytes;
}

static json_t *make_header(const LrtTensor **order, int count, const char *const *metadata)
{
    json_t *header = json_object(), *meta = json_object();
    json_object_set_new(meta, "format", json_string("pt"));
    for (; metadata && metadata[0]; metadata += 2)
        json_object_set_new(meta, metadata[0], json_string(metadata[1]));
    json_object_set_new(header, "__metadata__", meta);
    size_t offset = 0;
    for (int i = 0; i < count; i++) {
        json_t *shape = json_array();
        for (int k = 0; k < order[i]->rank; k++)
            json_array_append_new(shape, json_integer(order[i]->shape[k]));
        size_t end = offset + tensor_bytes(order[i]);
        json_object_set_new(header, order[i]->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtypes[order[i]->dtype].name, "shape", shape,
                                      "data_offsets", (json_int_t)offset, (json_int_t)end));
        offset = end;
    }
    return header;
}

static bool write_header(LrtOutput *output, const LrtTensor **order, int count, const char *const *metadata, LrtError *error)
{
    json_t *header = make_header(order, count, metadata);
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (!text)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    uint8_t size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (uint8_t)(padded >> (8 * i));
    bool ok = lrt_output_write(output, size, 8, error) && lrt_output_write(output, text, length, error) &&
              lrt_output_write(output, "        ", padded - length, error);
    free(text);
    return ok;
}

static bool write_rows(LrtOutput *output, const LrtTensor *tensor, LrtRowReader *read, void *user, LrtError *error)
{
    int64_t rows = lrt_tensor_rows(tensor), width = lrt_tensor_width(tensor);
    int64_t once = width < ROWS_BYTES / 4 ? ROWS_BYTES / 4 / (width + 1) + 1 : 1;
    float *values = malloc(sizeof *values * (size_t)(once * width + 1));
    bool ok = values || lrt_fail(error, LRT_FAILED, "out of memory");
    for (int64_t r = 0; ok && r < rows; r += once) {
        int64_t count = rows - r < once ? rows - r : once;
        ok = read(user, tensor, r, count, values, error) &&
             lrt_output_write(output, values, sizeof *values * (size_t)(count * width), error);
    }
    free(values);
    return ok;
}

bool lrt_safetensors_write(const char *path, const LrtTensor *tensors, int count, const char *const *metadata,
                           LrtError *error)
{
    return lrt_safetensors_write_rows(path, tensors, count, metadata, NULL, NULL, error);
}

bool lrt_safetensors_write_rows(const char *path, const LrtTensor *tensors, int count, const char *const *metadata, LrtRowReader *read,
                                void *user, LrtError *error)
{
    const LrtTensor **order = calloc((size_t)count + 1, sizeof *order);
    LrtOutput output;
    if (!order)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    for (int i = 0; i < count; i++)
        order[i] = &tensors[i];
    qsort(order, (size_t)count, sizeof *order, in_file_order);
    bool ok = lrt_output_open(&output, path, error);
    if (ok) {
        ok = write_header(&output, order, count, metadata, error);
        for (int i = 0; ok && i < count; i++)
            ok = order[i]->data ? lrt_output_write(&output, order[i]->data, tensor_bytes(order[i]), error)
                                : write_rows(&output, order[i], read, user, error);
        ok = lrt_output_close(&output, ok, error) && ok;
    }
    free(order);
    return ok;
}
