/* report.h - what the compiler did, for --report. */
#pragma once
#include <stdio.h>

#include "ir/schedule.h"
#include "passes/peft/peft.h"

/* `result` may be empty (no method). */
void report_print(const Graph *graph, const Schedule *schedule, const PeftResult *result, FILE *out, Arena *arena);
