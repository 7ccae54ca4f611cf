/* report.h - what the compiler did, for --report. */
#pragma once
#include <stdio.h>

#include "ir/schedule.h"
#include "passes/peft/peft.h"

/* Multiplications and additions of products with weights and of attention for one sequence, of a graph behind `recognise`; causal attention
 * is what its mask leaves of it.  Terms of relative positions are left out. */
double report_flops(const Graph *graph, int64_t tokens);
/* `result` may be empty (no method). */
void report_print(const Graph *graph, const Schedule *schedule, const PeftResult *result, FILE *out, Arena *arena);
