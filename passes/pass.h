/* pass.h - running the pipeline: verify, print, stop, time. */
#pragma once
#include <stdbool.h>
#include <stdio.h>

#include "ir/diag.h"
#include "ir/graph.h"
#include "passes/peft/peft.h"

typedef struct PassContext {
    Diag *diag;
    const PeftSpec *peft;    /* NULL: none */
    PeftResult *peft_result; /* filled by the peft pass */
    bool training;
    int64_t length;          /* tokens of the longest sequence, without those a method adds; 0: any */
    bool no_dropout;         /* --model-dropout off; inference never has any */
    const char *print_after; /* pass name or "all"; NULL: nothing */
    const char *stop_after;
    bool time_passes;
    FILE *out;               /* for --print-after */
    Arena *scratch;          /* reset after every pass */
} PassContext;

/* A pass changes the graph in place; false after reporting errors. */
typedef bool PassFunction(Graph *graph, PassContext *context);

typedef struct PassInfo {
    const char *name, *summary;
    PassFunction *run;
    bool when_training, when_inferring;
} PassInfo;
extern const PassInfo pass_table[];
extern const int pass_count;

/* All passes in order.  After each: graph_compact is the pass's own business, the verifier runs always.
 * *stopped: --stop-after ended the pipeline. */
bool passes_run(Graph *graph, PassContext *context, bool *stopped);
/* One pass by name, for tests on graph text. */
bool pass_run_one(Graph *graph, PassContext *context, const char *name);
