/* text.h - the graph's text form; print(read(t)) equals t and read(print(g)) equals g. */
#pragma once
#include "ir/diag.h"
#include "ir/graph.h"

/* The whole graph as text (arena). */
const char *graph_print(const Graph *graph, Arena *arena);
/* One node as a line of text, for messages. */
const char *node_str(const Node *node, Arena *arena);
/* Reads IR text; NULL after reporting errors. */
Graph *graph_read(Arena *arena, const Source *source, Diag *diag);
/* How IR text and reports spell an Init. */
extern const char *const init_names[INIT_COUNT];
