/* fuzz_gguf.c - any bytes as a GGUF file: refused with a message, or shown as a Hugging Face
 * model of which every row of every tensor can be read, all at once and one by one. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/gguf_names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void read_all(const LrtTensor *tensor)
{
    LrtError error = {0};
    const size_t elements = (size_t)lrt_tensor_elements(tensor);
    const int64_t rows = tensor->rank > 1 ? tensor->shape[0] : 1;
    const size_t width = elements / (size_t)rows;
    float *all = malloc(sizeof *all * elements), *row = malloc(sizeof *row * width);
    check(all && row && lrt_tensor_read_rows(tensor, 0, rows, all, &error));
    for (int64_t r = 0; r < rows && r < 64; r++) {
        check(lrt_tensor_read_rows(tensor, r, 1, row, &error));
        check(!memcmp(row, all + (size_t)r * width, sizeof *row * width));
    }
    free(all);
    free(row);
}

static void read_model(const GgufFile *file)
{
    LrtError error = {0};
    LrtTensor *tensors = calloc((size_t)file->tensor_count + 1, sizeof *tensors);
    int count = 0;
    json_t *config = gguf_config(file, &error);
    check(tensors && !config == (error.status != LRT_OK));
    if (config) {
        const bool renamed = gguf_rename(file, tensors, &count, &error);
        check(renamed == (error.status == LRT_OK));
        for (int i = 0; renamed && i < count; i++)
            read_all(&tensors[i]);
    }
    for (int i = 0; i < count; i++)
        free((char *)tensors[i].name);
    free(tensors);
    json_decref(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 14)
        return 0;
    LrtError error = {0};
    GgufFile *file = gguf_open_memory(data, size, &error);
    check(!file == (error.status != LRT_OK) && !file == (error.text[0] != '\0'));
    if (!file)
        return 0;
    for (uint64_t i = 0; i < file->tensor_count; i++)
        read_all(&file->tensors[i]);
    read_model(file);
    GgufString *strings = NULL;
    uint64_t count = 0;
    if (gguf_strings(file, "tokenizer.ggml.tokens", &strings, &count, &error))
        for (uint64_t i = 0; i < count; i++) /* every byte of it is in the file */
            check(strings[i].data + strings[i].length <= (const char *)data + size);
    free(strings);
    gguf_close(file);
    return 0;
}
