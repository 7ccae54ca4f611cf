/* fuzz_safetensors.c - any bytes as a safetensors file: refused with a message, or every row of
 * every tensor can be read, under loralib's names as well. */
#include <stdint.h>
#include <stdlib.h>

#include "runtime/checkpoint.h"
#include "runtime/loralib.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const LrtTensor *tensor)
{
    LrtError error = {0};
    const int64_t elements = lrt_tensor_elements(tensor);
    float *numbers = malloc(sizeof *numbers * (size_t)elements + 1);
    int64_t *integers = malloc(sizeof *integers * (size_t)elements + 1);
    if (!numbers || !integers ||
        !lrt_tensor_read_rows(tensor, 0, lrt_tensor_rows(tensor), numbers, &error))
        abort();
    lrt_tensor_read_integers(tensor, integers, &error);
    free(numbers);
    free(integers);
}

/* An adapter of loralib, of two slices: refused, or its views can be read too. */
static void read_loralib(LrtSafetensors *file)
{
    LrtError error = {0};
    json_t *config = json_pack("{s: [s, s]}", "parts", "q", "v");
    bool ok = lrt_loralib_rename(file, "adapter", config, &error);
    if (ok != (error.status == LRT_OK))
        abort();
    for (int i = 0; ok && i < lrt_safetensors_count(file); i++)
        read_all(lrt_safetensors_tensor(file, i));
    json_decref(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 16)
        return 0;
    LrtError error = {0};
    LrtSafetensors *file = lrt_safetensors_open_memory(data, size, &error);
    if (!file != (error.status != LRT_OK) || !file != (error.text[0] != '\0'))
        abort();
    for (int i = 0; file && i < lrt_safetensors_count(file); i++) {
        const LrtTensor *tensor = lrt_safetensors_tensor(file, i);
        if (lrt_safetensors_find(file, tensor->name) != tensor)
            abort();
        read_all(tensor);
    }
    if (file)
        lrt_safetensors_metadata(file, "format");
    if (file && lrt_is_loralib(file))
        read_loralib(file);
    lrt_safetensors_close(file);
    return 0;
}
