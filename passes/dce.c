/* dce.c - drops what no output needs. */
#include "passes/passes.h"

bool pass_dce(Graph *graph, PassContext *context)
{
    (void)context;
    graph_compact(graph);
    return true;
}
