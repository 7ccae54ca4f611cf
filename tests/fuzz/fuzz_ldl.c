/* fuzz_ldl.c - any bytes as a model description: no crash, and what prints parses to the same
 * text.
 *
 * The first byte chooses what the compiler is told about a checkpoint; the rest is the
 * description. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/frontend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned sum(const char *text)
{
    unsigned s = 0;
    while (*text)
        s = s * 31 + (unsigned char)*text++;
    return s;
}

/* A value of any kind for any key, the same each time. */
static ConfigValue config(void *user, const char *key)
{
    static const int64_t integers[] = {0, 1, 2, 3, 8, 64, -1, INT64_MAX, INT64_MIN};
    const unsigned s = sum(key) + *(const unsigned *)user;
    ConfigValue value = {.kind = (ConfigKind)(s % 8)};
    value.boolean = s & 8;
    value.integer = integers[s / 8 % 9];
    value.real = value.kind == CONFIG_INT ? (double)value.integer : 1.5;
    value.string = s & 16 ? "gelu" : "";
    value.length = (int)(s / 16 % 4);
    return value;
}

static bool tensor(void *user, const char *name, CheckpointTensor *found)
{
    const unsigned s = sum(name) + *(const unsigned *)user;
    *found = (CheckpointTensor){.name = name, .rank = (int)(s % 4)};
    for (int i = 0; i < found->rank; i++)
        found->shape[i] = 1 << (s / 8 % 8);
    return s & 4;
}

/* print(parse(text)) parses, and prints the same again. */
static void check_print(const Source *source, FILE *out)
{
    Arena *arena = arena_new();
    Diag diag = diag_new(out);
    const char *once = ldl_print(source, arena, &diag);
    if (once) {
        const Source *printed =
            source_from_memory(arena, "printed.ldl", once, (int)strlen(once));
        const char *twice = ldl_print(printed, arena, &diag);
        if (!twice || strcmp(once, twice)) {
            fprintf(stderr, "%s\n---\n%s\n", once, twice ? twice : "does not parse");
            abort();
        }
    }
    arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *out;
    if (!out)
        out = fopen("/dev/null", "w");
    if (size == 0 || size > 1 << 16 || !out)
        return 0;
    unsigned seed = data[0];
    Arena *arena = arena_new();
    Diag diag = diag_new(out);
    const Source *source =
        source_from_memory(arena, "fuzz.ldl", (const char *)data + 1, (int)size - 1);
    const Checkpoint checkpoint = {.user = &seed,
                                   .path = "fuzz",
                                   .config = config,
                                   .tensor = tensor,
                                   .tensors_known = data[0] & 2};
    const Graph *graph = ldl_compile(source, data[0] & 1 ? &checkpoint : NULL, arena, &diag);
    if (!graph == !diag.errors) {
        fprintf(stderr, "a graph and errors, or neither\n");
        abort();
    }
    check_print(source, out);
    arena_free(arena);
    return 0;
}
