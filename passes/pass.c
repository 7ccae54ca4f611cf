/* pass.c - see pass.h. */
#define _POSIX_C_SOURCE 200809L
#include "passes/pass.h"

#include <string.h>
#include <time.h>

#include "ir/text.h"
#include "ir/verify.h"
#include "passes/passes.h"

#define WHEN_ALL true, true
#define WHEN_TRAIN true, false
#define WHEN_INFER false, true

const PassInfo pass_table[] = {
#define PASS(name, when, summary) {#name, summary, pass_##name, WHEN_##when},
#include "passes/passes.def"
};
const int pass_count = sizeof pass_table / sizeof *pass_table;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int find_pass(PassContext *context, const char *option, const char *name)
{
    const char *names[64];
    for (int i = 0; i < pass_count; i++) {
        names[i] = pass_table[i].name;
        if (!strcmp(names[i], name))
            return i;
    }
    /* Later steps have names of their own; the driver stops after those. */
    if (!strcmp(name, "plan") || !strcmp(name, "all"))
        return pass_count;
    const char *near = nearest_word(name, names, pass_count);
    diag_error(context->diag, (Loc){0}, "%s: unknown pass '%s'%s%s%s; --list-passes shows them", option, name,
               near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
    return -1;
}

static bool run(Graph *graph, PassContext *context, const PassInfo *pass)
{
    double start = seconds();
    graph->layer = LAYER_NONE;
    graph->backward = false;
    if (!pass->run(graph, context))
        return false;
    const char *reason = graph_verify(graph, context->scratch);
    if (reason)
        ice("after pass '%s': %s", pass->name, reason);
    arena_reset(context->scratch);
    if (context->time_passes)
        fprintf(stderr, "%-12s %8.1f ms  %d nodes\n", pass->name, 1e3 * (seconds() - start), graph->node_count);
    if (context->print_after && (!strcmp(context->print_after, pass->name) || !strcmp(context->print_after, "all")))
        fprintf(context->out, "; after %s\n%s", pass->name, graph_print(graph, graph->arena));
    return true;
}

bool passes_run(Graph *graph, PassContext *context, bool *stopped)
{
    *stopped = false;
    if ((context->print_after && find_pass(context, "--print-after", context->print_after) < 0) ||
        (context->stop_after && find_pass(context, "--stop-after", context->stop_after) < 0))
        return false;
    graph_compact(graph);
    for (int i = 0; i < pass_count; i++) {
        const PassInfo *pass = &pass_table[i];
        if (!(context->training ? pass->when_training : pass->when_inferring))
            continue;
        if (!run(graph, context, pass))
            return false;
        if (context->stop_after && !strcmp(context->stop_after, pass->name)) {
            *stopped = true;
            return true;
        }
    }
    return true;
}

bool pass_run_one(Graph *graph, PassContext *context, const char *name)
{
    int index = find_pass(context, "--run-pass", name);
    return index >= 0 && index < pass_count && run(graph, context, &pass_table[index]);
}
