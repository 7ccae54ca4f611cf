/* peft.c - runs the chosen method and says what it did. */
#include "passes/peft/peft.h"

#include <string.h>

#include "passes/peft/settings.h"

#define PEFT(name) extern const PeftMethod peft_##name;
#include "passes/peft/peft.def"

const PeftMethod *const peft_methods[] = {
#define PEFT(name) &peft_##name,
#include "passes/peft/peft.def"
};
const int peft_method_count = sizeof peft_methods / sizeof *peft_methods;

static const PeftMethod *find_method(const char *name, Arena *arena, Diag *diag)
{
    const char **names = ARENA_ARRAY(arena, const char *, peft_method_count);
    for (int i = 0; i < peft_method_count; i++) {
        names[i] = peft_methods[i]->name;
        if (!strcmp(names[i], name))
            return peft_methods[i];
    }
    const char *near = nearest_word(name, names, peft_method_count);
    diag_error(diag, (Loc){0}, "unknown method '%s'%s%s%s; --list-methods shows what there is", name,
               near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
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

bool peft(Graph *graph, const PeftSpec *spec, PeftResult *result, Diag *diag)
{
    const PeftMethod *method = find_method(spec->method, graph->arena, diag);
    if (!method)
        return false;
    result->method = method->name;
    if (!method->apply(graph, spec, result, diag))
        return false;
    count_parameters(graph, result);
    result->settings = peft_settings(graph, spec, result);
    return true;
}
