/* peft.c - runs the chosen method and says what it did. */
#include "passes/peft/rewrite.h"

#include <string.h>

#include "passes/peft/settings.h"

#define VARIANT(name, method, settings, summary)
#define PEFT(name) extern const PeftMethod peft_##name;
#include "passes/peft/peft.def"

const PeftMethod *const peft_methods[] = {
#define VARIANT(name, method, settings, summary)
#define PEFT(name) &peft_##name,
#include "passes/peft/peft.def"
};
const int peft_method_count = sizeof peft_methods / sizeof *peft_methods;

const PeftVariant peft_variants[] = {
#define VARIANT(name, method, settings, summary) {name, method, settings, summary},
#define PEFT(name)
#include "passes/peft/peft.def"
};
const int peft_variant_count = sizeof peft_variants / sizeof *peft_variants;

const PeftMethod *peft_find_method(const char *name)
{
    for (int i = 0; i < peft_method_count; i++)
        if (!strcmp(peft_methods[i]->name, name))
            return peft_methods[i];
    return NULL;
}

static void count_parameters(const Graph *graph, PeftResult *result)
{
    for (int i = 0; i < graph->param_count; i++) {
        const Param *param = graph->params[i];
        int64_t elements = 1;
        for (int k = 0; k < param->file_rank; k++)
            elements *= param->slices[k].stop - param->slices[k].start;
        result->total_parameters += elements;
        result->trained_parameters += param->trained ? elements : 0;
    }
}

/* What was selected, by role and by kind of tensor. */
static const char *describe(const Graph *graph, const PeftSpec *spec, const PeftResult *result)
{
    Text text = {.arena = graph->arena};
    int tensors = 0, layers = 0;
    bool *seen = ARENA_ARRAY(graph->arena, bool, graph->layer_count + 1);
    for (int i = 0; i < graph->param_count; i++) {
        const Param *param = graph->params[i];
        if (!param->adapter)
            continue;
        tensors++;
        if (param->layer >= 0 && param->layer < graph->layer_count && !seen[param->layer])
            seen[param->layer] = true, layers++;
    }
    text_format(&text, "%s: %d tensors in %d of %d layers, %lld of %lld parameters trained (%.3f %%)\n", spec->method, tensors, layers,
                graph->layer_count, (long long)result->trained_parameters, (long long)result->total_parameters,
                100 * (double)result->trained_parameters / (double)result->total_parameters);
    return text.data;
}

bool peft(Graph *graph, const PeftSpec *spec, PeftResult *result, Diag *diag)
{
    const PeftMethod *method = peft_find_method(spec->method);
    if (!method) {
        peft_unknown_method(spec->method, graph->arena, diag);
        return false;
    }
    PeftRewrite r = {.graph = graph, .spec = spec, .result = result, .diag = diag, .node_count = graph->node_count};
    r.map = ARENA_ARRAY(graph->arena, Node *, graph->node_count + 1);
    int errors = diag->errors;
    result->method = method->name;
    if (!method->apply(&r))
        return false;
    rewrite_train_further(&r, method->settings != NULL);
    if (diag->errors > errors)
        return false;
    graph_replace_all(graph, r.map, r.node_count);
    count_parameters(graph, result);
    result->settings = peft_settings(&r, method);
    result->matched = describe(graph, spec, result);
    return diag->errors == errors;
}
