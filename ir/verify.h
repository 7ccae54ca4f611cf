/* verify.h - checks every invariant of a graph; runs after every pass. */
#pragma once
#include "ir/graph.h"

/* NULL when the graph is sound; otherwise a message (arena text) that prints the node. */
const char *graph_verify(const Graph *graph, Arena *arena);
/* One node, whose place is its id; the message does not print it. */
const char *node_verify(const Graph *graph, const Node *node, Arena *arena);
