/* frontend.h - LDL to graph. */
#pragma once
#include "ir/checkpoint.h"
#include "ir/diag.h"
#include "ir/graph.h"

/* Compiles a model description.  Sizes come from `checkpoint` (may be NULL: the description's
 * defaults). NULL after reporting errors.  The graph has outputs "logits" and, when the
 * description has a loss, "loss" (token losses [T, 1]).  Inputs: "tokens" i32[T]; losses over
 * the next token use input "targets" i32[T], which the program shifts. */
Graph *ldl_compile(const Source *source, const Checkpoint *checkpoint, Arena *arena,
                   Diag *diag);

/* Parses and prints the syntax tree back as LDL text (arena); NULL after reporting errors. */
const char *ldl_print(const Source *source, Arena *arena, Diag *diag);
