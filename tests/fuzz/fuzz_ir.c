/* fuzz_ir.c - any bytes as IR text: no crash; what is read is sound, and its print reads and
 * prints the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ir/text.h"
#include "ir/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fail(const char *what, const char *text)
{
    fprintf(stderr, "%s\n%s\n", what, text);
    abort();
}

static void check(Graph *graph, Arena *arena, Diag *diag)
{
    const char *once = graph_print(graph, arena), *wrong = graph_verify(graph, arena);
    if (wrong)
        fail(wrong, once);
    const Source *printed = source_from_memory(arena, "printed.ir", once, (int)strlen(once));
    const Graph *again = graph_read(arena, printed, diag);
    if (!again || strcmp(once, graph_print(again, arena)) != 0)
        fail("does not round-trip", once);
    const char *copied = graph_print(graph_clone(graph, arena), arena);
    if (strcmp(once, copied) != 0)
        fail("its clone differs", copied);
    graph_compact(graph);
    wrong = graph_verify(graph, arena);
    if (wrong)
        fail(wrong, once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *out;
    if (!out)
        out = fopen("/dev/null", "w");
    if (size > 1 << 16 || !out)
        return 0;
    Arena *arena = arena_new();
    Diag diag = diag_new(out);
    Graph *graph = graph_read(
        arena, source_from_memory(arena, "fuzz.ir", (const char *)data, (int)size), &diag);
    if (!graph == !diag.errors)
        fail("a graph and errors, or neither", "");
    if (graph)
        check(graph, arena, &diag);
    arena_free(arena);
    return 0;
}
