/* pass_run.h - what the tests of passes share: numbers for the leaves, running passes, gradients against differences. */
#pragma once
#include <math.h>

#include "ir/build.h"
#include "ir/dropout.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "passes/grad.h"
#include "passes/passes.h"
#include "tests/unit/ldl_fake.h"

/* --- leaves --- */

/* Numbers that depend on name and place; one element may be moved by `delta`. */
typedef struct Leaves {
    const char *moved;
    int64_t at;
    double delta;
    bool fresh; /* an adapter as it starts: one factor of each pair is zero */
} Leaves;

static inline double some_number(const char *name, int64_t i)
{
    uint32_t x = (uint32_t)dropout_site(name) + 2654435761u * (uint32_t)(i + 1);
    x = (x ^ (x >> 16)) * 0x21f0aaadu;
    x = (x ^ (x >> 15)) * 0x735a2d97u;
    return ((double)(x ^ (x >> 15)) / 4294967296.0 - 0.5) * 3;
}

/* "pick" takes no row twice, "twice" does, in "targets" every third has none. */
static inline double some_index(const char *name, int64_t i)
{
    if (!strcmp(name, "targets"))
        return i % 3 == 1 ? -100 : (double)(i * 2 % 5);
    return (double)(!strcmp(name, "twice") ? i * i % 3 : i * 3 % 7);
}

static inline double leaf_number(const Leaves *leaves, const Node *node, int64_t i)
{
    const char *name = node->attrs.name;
    if (node->type.dtype != DT_F32)
        return some_index(name, i);
    if (!strcmp(name, "loss_scale"))
        return 0.7;
    if (leaves->fresh && (strstr(name, "lora_B") || strstr(name, "lora_embedding_A")))
        return 0;
    double x = some_number(name, i);
    return name[0] == '+' ? fabs(x) + 0.5 : x; /* positive, for logarithms and roots */
}

static inline void fill_leaf(void *user, const Node *node, Value *value)
{
    const Leaves *leaves = user;
    for (int64_t i = 0; i < value->count; i++)
        value->data[i] = leaf_number(leaves, node, i);
    if (leaves->moved && !strcmp(leaves->moved, node->attrs.name))
        value->data[leaves->at] += leaves->delta;
}

enum { TOKENS = 5 };

static inline Evaluation *evaluate(const Graph *graph, Leaves *leaves, bool training, Arena *memory)
{
    static const int64_t all_rows[TOKENS] = {0, 1, 2, 3, 4};
    const EvalInput input = {.tokens = TOKENS,
                             .rows = all_rows,
                             .row_count = TOKENS,
                             .leaf = fill_leaf,
                             .user = leaves,
                             .dropout_seed = 11,
                             .training = training};
    return eval_graph(graph, &input, memory);
}

/* --- running passes --- */

typedef struct Run {
    char *messages; /* complete after run_end */
    size_t size;
    Diag diag;
    PeftResult result;
    PassContext context;
} Run;

static inline void run_begin(Run *run, bool training, const PeftSpec *peft_spec)
{
    *run = (Run){0};
    run->diag = diag_new(open_memstream(&run->messages, &run->size));
    run->context = (PassContext){.diag = &run->diag,
                                 .peft = peft_spec,
                                 .peft_result = &run->result,
                                 .training = training,
                                 .length = TOKENS,
                                 .scratch = arena_new()};
}

/* `part`: what the messages contain; NULL: there is none. */
static inline void run_end(Run *run, const char *part)
{
    fclose(run->diag.out);
    arena_free(run->context.scratch);
    ck_assert_msg(part ? strstr(run->messages, part) != NULL : run->size == 0,
                  "expected '%s', got: %s", part ? part : "nothing", run->messages);
    free(run->messages);
}

static inline void run_pass(Run *run, Graph *graph, const char *name)
{
    bool ok = pass_run_one(graph, &run->context, name);
    fflush(run->diag.out);
    ck_assert_msg(ok, "%s: %s", name, run->messages);
}

/* --- gradients --- */

/* Sum of the losses, times the seed of the gradients. */
static inline double loss_of(const Graph *graph, Leaves *leaves)
{
    Arena *memory = arena_new();
    const Value *loss =
        eval_value(evaluate(graph, leaves, true, memory), graph_find_output(graph, "loss"), 0);
    double sum = 0;
    for (int64_t i = 0; i < loss->count; i++)
        sum += loss->data[i];
    arena_free(memory);
    return 0.7 * sum;
}

/* Central, of sixth order. */
static inline double difference(const Graph *graph, const char *name, int64_t at)
{
    static const double factor[] = {45, -9, 1};
    const double h = 5e-4;
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        double step = h * (i + 1);
        double more = loss_of(graph, &(Leaves){.moved = name, .at = at, .delta = step});
        double less = loss_of(graph, &(Leaves){.moved = name, .at = at, .delta = -step});
        sum += factor[i] * (more - less);
    }
    return sum / (60 * h);
}

/* Every "grad.NAME" against differences of `forward`, relative to the largest of that gradient;
 * one element of `every`.  Gives how many gradients there are. */
static inline int check_gradients(const Graph *forward, const Graph *graph, int64_t every,
                           const char *what)
{
    const Evaluation *evaluation = evaluate(graph, &(Leaves){0}, true, arena);
    int gradients = 0;
    for (int o = 0; o < graph->output_count; o++) {
        const char *name = graph->outputs[o].name;
        if (strncmp(name, "grad.", 5) != 0)
            continue;
        gradients++;
        const Value *got = eval_value(evaluation, graph->outputs[o].node, 0);
        double most = 1e-3;
        for (int64_t i = 0; i < got->count; i++)
            most = fmax(most, fabs(got->data[i]));
        for (int64_t i = 0; i < got->count; i += every) {
            double want = difference(forward, name + 5, i);
            ck_assert_msg(fabs(got->data[i] - want) <= 1e-6 * most,
                          "%s: %s[%lld] is %.12g, differences give %.12g", what, name,
                          (long long)i, got->data[i], want);
        }
    }
    return gradients;
}

static inline int trained_count(const Graph *graph)
{
    int trained = 0;
    for (int i = 0; i < graph->param_count; i++)
        trained += graph->params[i]->trained;
    return trained;
}
