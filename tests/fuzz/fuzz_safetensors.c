/* fuzz_safetensors.c - any bytes as a safetensors file: refused with a message, or every row of
 * every tensor can be read. */
#include <stdint.h>
#include <stdlib.h>

#include "runtime/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const LrtTensor *tensor)
{
    LrtError error = {0};
    const int64_t elements = lrt_tensor_elements(tensor);
    float *numbers = malloc(sizeof *numbers * (size_t)elements + 1);
    int64_t *integers = malloc(sizeof *integers * (size_t)elements + 1);
    if (!numbers || !integers ||
        !lrt_tensor_read_rows(tensor, 0, tensor->rank > 1 ? tensor->shape[0] : 1, numbers,
                              &error))
        abort();
    lrt_tensor_read_integers(tensor, integers, &error);
    free(numbers);
    free(integers);
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
    lrt_safetensors_close(file);
    return 0;
}
