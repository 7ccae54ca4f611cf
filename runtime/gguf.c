/* gguf.c - see gguf.h.  Every length is checked against what is left of the file before it is used. */
#include "runtime/gguf.h"

#include <stdlib.h>
#include <string.h>

static const int type_bytes[GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/* A cursor over the file; once something is wrong it stays wrong. */
typedef struct Reader {
    const GgufFile *file;
    size_t at;
    LrtError *error;
} Reader;

static bool damaged(Reader *r, const char *what)
{
    return lrt_fail(r->error, LRT_INVALID, "%s: byte %zu: %s; the file is damaged or truncated, fetch it again", r->file->path,
                    r->at, what);
}

static bool take(Reader *r, uint64_t size, const uint8_t **data)
{
    if (r->error->status != LRT_OK)
        return false;
    if (size > r->file->map.size - r->at)
        return damaged(r, "the file ends inside its header");
    *data = r->file->map.data + r->at;
    r->at += (size_t)size;
    return true;
}

static uint64_t integer(const uint8_t *data, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | data[i];
    return value;
}

static bool take_integer(Reader *r, int bytes, uint64_t *value)
{
    const uint8_t *data = NULL;
    if (!take(r, (uint64_t)bytes, &data))
        return false;
    *value = integer(data, bytes);
    return true;
}

static bool take_string(Reader *r, GgufString *string)
{
    const uint8_t *data = NULL;
    if (!take_integer(r, 8, &string->length) || !take(r, string->length, &data))
        return false;
    string->data = (const char *)data;
    return true;
}

static bool skip_elements(Reader *r, GgufType type, uint64_t count)
{
    const uint8_t *data;
    GgufString string;
    if (type != GGUF_STRING) {
        if (count > SIZE_MAX / 8)
            return damaged(r, "an array is longer than the file");
        return take(r, count * (uint64_t)type_bytes[type], &data);
    }
    for (uint64_t i = 0; i < count; i++)
        if (!take_string(r, &string))
            return false;
    return true;
}

static bool read_value(Reader *r, GgufValue *value)
{
    uint64_t type;
    if (!take_string(r, &value->key) || !take_integer(r, 4, &type))
        return false;
    value->count = 1;
    if (type == GGUF_ARRAY) {
        value->is_array = true;
        if (!take_integer(r, 4, &type) || !take_integer(r, 8, &value->count))
            return false;
        if (type == GGUF_ARRAY)
            return damaged(r, "arrays of arrays are not supported");
    }
    if (type >= GGUF_TYPE_COUNT)
        return damaged(r, "unknown type of a metadata value");
    value->type = (GgufType)type;
    value->data = r->file->map.data + r->at;
    return skip_elements(r, value->type, value->count);
}

/* ggml's numbers of the element types that are known here. */
static bool find_type(uint64_t id, LrtDtype *dtype)
{
    static const struct {
        uint64_t id;
        LrtDtype dtype;
    } known[] = {{0, LRT_F32},  {1, LRT_F16},  {2, LRT_Q4_0}, {3, LRT_Q4_1}, {6, LRT_Q5_0}, {7, LRT_Q5_1},
                 {8, LRT_Q8_0}, {26, LRT_I32}, {27, LRT_I64}, {28, LRT_F64}, {30, LRT_BF16}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].id == id) {
            *dtype = known[i].dtype;
            return true;
        }
    return false;
}

static const char *type_name(uint64_t id)
{
    static const char *const names[] = {
        [9] = "Q8_1",     [10] = "Q2_K",  [11] = "Q3_K",    [12] = "Q4_K",   [13] = "Q5_K",  [14] = "Q6_K",
        [15] = "Q8_K",    [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL",
        [21] = "IQ3_S",   [22] = "IQ2_S", [23] = "IQ4_XS",  [24] = "I8",     [25] = "I16",   [29] = "IQ1_M",
        [34] = "TQ1_0",   [35] = "TQ2_0", [39] = "MXFP4",
    };
    return id < sizeof names / sizeof *names && names[id] ? names[id] : "of an unknown number";
}

static bool read_shape(Reader *r, LrtTensor *tensor)
{
    uint64_t rank, extents[LRT_MAX_RANK];
    int64_t elements = 1;
    if (!take_integer(r, 4, &rank))
        return false;
    if (rank > LRT_MAX_RANK)
        return damaged(r, "a tensor of more than 4 dimensions");
    for (uint64_t i = 0; i < rank; i++) {
        if (!take_integer(r, 8, &extents[i]))
            return false;
        if (extents[i] == 0 || extents[i] > INT64_MAX || __builtin_mul_overflow(elements, (int64_t)extents[i], &elements) ||
            elements > INT64_MAX / 16)
            return damaged(r, "a tensor's shape makes no sense");
    }
    tensor->rank = (int)rank;
    for (int i = 0; i < tensor->rank; i++) /* GGUF has the fastest extent first */
        tensor->shape[i] = (int64_t)extents[tensor->rank - 1 - i];
    return true;
}

static bool read_tensor(Reader *r, LrtTensor *tensor, uint64_t *offset)
{
    GgufString name;
    uint64_t type;
    if (!take_string(r, &name))
        return false;
    char *copy = malloc((size_t)name.length + 1);
    if (!copy)
        return lrt_fail(r->error, LRT_FAILED, "out of memory");
    memcpy(copy, name.data, (size_t)name.length);
    copy[name.length] = '\0';
    tensor->name = copy;
    if (!read_shape(r, tensor) || !take_integer(r, 4, &type))
        return false;
    if (!find_type(type, &tensor->dtype))
        return lrt_fail(r->error, LRT_INVALID,
                        "%s: tensor '%s' is of type %s, which is not supported; use a file in F32, F16, BF16, Q8_0 or Q4_0 to Q5_1",
                        r->file->path, copy, type_name(type));
    return take_integer(r, 8, offset);
}

static const struct {
    int block, bytes;
} blocks[LRT_DTYPE_COUNT] = {
#define DTYPE(id, name, block, bytes) [LRT_##id] = {block, bytes},
#include "runtime/dtypes.def"
};

static bool place_tensor(Reader *r, LrtTensor *tensor, uint64_t offset, size_t data, uint64_t alignment)
{
    int64_t row = tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
    if (row % blocks[tensor->dtype].block != 0 || offset % alignment != 0)
        return lrt_fail(r->error, LRT_INVALID, "%s: tensor '%s' is not made of whole blocks, or not aligned; the file is damaged",
                        r->file->path, tensor->name);
    uint64_t bytes = (uint64_t)(lrt_tensor_elements(tensor) / blocks[tensor->dtype].block) *
                     (uint64_t)blocks[tensor->dtype].bytes;
    if (offset > r->file->map.size - data || bytes > r->file->map.size - data - offset)
        return lrt_fail(r->error, LRT_INVALID, "%s: tensor '%s' lies outside the file, which is truncated; fetch it again",
                        r->file->path, tensor->name);
    tensor->data = r->file->map.data + data + offset;
    tensor->bytes = (size_t)bytes;
    return true;
}

static bool read_tensors(GgufFile *file, Reader *r)
{
    uint64_t *offsets = calloc((size_t)file->tensor_count + 1, sizeof *offsets);
    if (!offsets)
        return lrt_fail(r->error, LRT_FAILED, "out of memory");
    bool ok = true;
    for (uint64_t i = 0; ok && i < file->tensor_count; i++)
        ok = read_tensor(r, &file->tensors[i], &offsets[i]);
    double alignment = gguf_number(file, "general.alignment", 32);
    uint64_t align = alignment >= 1 && alignment <= 65536 ? (uint64_t)alignment : 0;
    if (ok && (align == 0 || (align & (align - 1)) != 0))
        ok = damaged(r, "general.alignment is not a power of two");
    size_t data = ok ? (r->at + align - 1) / align * align : 0;
    if (ok && data > file->map.size && file->tensor_count)
        ok = damaged(r, "the file ends before its tensors");
    for (uint64_t i = 0; ok && i < file->tensor_count; i++)
        ok = place_tensor(r, &file->tensors[i], offsets[i], data, align);
    free(offsets);
    return ok;
}

static int by_key(const void *a, const void *b)
{
    const GgufValue *x = a, *y = b;
    uint64_t shorter = x->key.length < y->key.length ? x->key.length : y->key.length;
    int order = memcmp(x->key.data, y->key.data, (size_t)shorter);
    return order ? order : x->key.length < y->key.length ? -1 : x->key.length > y->key.length;
}

static bool read_file(GgufFile *file, LrtError *error)
{
    Reader r = {file, 0, error};
    const uint8_t *magic = NULL;
    uint64_t version;
    if (!take(&r, 4, &magic) || memcmp(magic, "GGUF", 4) != 0)
        return lrt_fail(error, LRT_INVALID, "%s: not a GGUF file", file->path);
    if (!take_integer(&r, 4, &version))
        return false;
    if (version != 3 && version != 2)
        return lrt_fail(error, LRT_INVALID, "%s: GGUF version %llu is not supported; version 3 is", file->path,
                        (unsigned long long)version);
    if (!take_integer(&r, 8, &file->tensor_count) || !take_integer(&r, 8, &file->value_count))
        return false;
    /* The smallest entries take 13 and 24 bytes: counts beyond that are lies. */
    if (file->value_count > file->map.size / 13 || file->tensor_count > file->map.size / 24) {
        file->tensor_count = file->value_count = 0;
        return damaged(&r, "more entries than the file can hold");
    }
    file->values = calloc((size_t)file->value_count + 1, sizeof *file->values);
    file->tensors = calloc((size_t)file->tensor_count + 1, sizeof *file->tensors);
    if (!file->values || !file->tensors)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    for (uint64_t i = 0; i < file->value_count; i++)
        if (!read_value(&r, &file->values[i]))
            return false;
    qsort(file->values, (size_t)file->value_count, sizeof *file->values, by_key);
    for (uint64_t i = 1; i < file->value_count; i++)
        if (by_key(&file->values[i - 1], &file->values[i]) == 0)
            return damaged(&r, "a metadata key occurs twice");
    return read_tensors(file, &r);
}

static GgufFile *open_map(LrtMap map, const char *path, LrtError *error)
{
    GgufFile *file = calloc(1, sizeof *file);
    char *copy = malloc(strlen(path) + 1);
    if (!file || !copy) {
        free(file);
        free(copy);
        lrt_unmap(&map);
        lrt_report(error, LRT_FAILED, "out of memory");
        return NULL;
    }
    memcpy(copy, path, strlen(path) + 1);
    file->map = map;
    file->path = copy;
    if (read_file(file, error))
        return file;
    gguf_close(file);
    return NULL;
}

GgufFile *gguf_open(const char *path, LrtError *error)
{
    LrtMap map;
    return lrt_map_file(&map, path, error) ? open_map(map, path, error) : NULL;
}

GgufFile *gguf_open_memory(const void *data, size_t size, LrtError *error)
{
    return open_map((LrtMap){(uint8_t *)data, size, false}, "memory", error);
}

void gguf_close(GgufFile *file)
{
    if (!file)
        return;
    for (uint64_t i = 0; file->tensors && i < file->tensor_count; i++)
        free((char *)file->tensors[i].name);
    free(file->tensors);
    free(file->values);
    free(file->path);
    lrt_unmap(&file->map);
    free(file);
}

const GgufValue *gguf_find(const GgufFile *file, const char *key)
{
    GgufValue wanted = {.key = {key, strlen(key)}};
    return bsearch(&wanted, file->values, (size_t)file->value_count, sizeof *file->values, by_key);
}

double gguf_element(const GgufValue *value, uint64_t index)
{
    const uint8_t *at = value->data + index * (uint64_t)type_bytes[value->type];
    uint64_t bits = integer(at, type_bytes[value->type]);
    float single;
    double real;
    switch (value->type) {
    case GGUF_I8: return (int8_t)bits;
    case GGUF_I16: return (int16_t)bits;
    case GGUF_I32: return (int32_t)bits;
    case GGUF_I64: return (double)(int64_t)bits;
    case GGUF_F32: memcpy(&single, at, 4); return (double)single;
    case GGUF_F64: memcpy(&real, at, 8); return real;
    default: return (double)bits;
    }
}

double gguf_number(const GgufFile *file, const char *key, double fallback)
{
    const GgufValue *value = gguf_find(file, key);
    return value && !value->is_array && value->type != GGUF_STRING ? gguf_element(value, 0) : fallback;
}

GgufString gguf_string(const GgufFile *file, const char *key)
{
    const GgufValue *value = gguf_find(file, key);
    if (!value || value->is_array || value->type != GGUF_STRING)
        return (GgufString){NULL, 0};
    return (GgufString){(const char *)value->data + 8, integer(value->data, 8)};
}

bool gguf_string_is(GgufString string, const char *text)
{
    return string.data && string.length == strlen(text) && !memcmp(string.data, text, (size_t)string.length);
}

bool gguf_strings(const GgufFile *file, const char *key, GgufString **strings, uint64_t *count, LrtError *error)
{
    const GgufValue *value = gguf_find(file, key);
    if (!value || !value->is_array || value->type != GGUF_STRING)
        return lrt_fail(error, LRT_INVALID, "%s: no list of strings '%s'; is this a model file with a tokenizer?", file->path,
                        key);
    *strings = calloc((size_t)value->count + 1, sizeof **strings);
    if (!*strings)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    const uint8_t *at = value->data;
    for (uint64_t i = 0; i < value->count; i++) {
        (*strings)[i] = (GgufString){(const char *)at + 8, integer(at, 8)};
        at += 8 + (*strings)[i].length;
    }
    *count = value->count;
    return true;
}
