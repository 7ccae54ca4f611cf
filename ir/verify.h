/* verify.h - checks every invariant of a graph; runs after every pass. */
#pragma once
#include "ir/graph.h"

/* NULL when the graph is sound; otherwise a message (arena text) that prints the node. */
const char *graph_verify(const Graph *graph, Arena *arena);
