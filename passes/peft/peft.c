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
        result->head_parameters += param->trained && param->role && !strcmp(param->role, "head") ? elements : 0;
    }
}

/* What was selected, by role and by kind of tensor. */
static const char *describe(const Graph *graph, const PeftResult *result)
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
    text_format(&text, "%s: %d tensors in %d of %d layers, %lld of %lld parameters trained (%.3f %%)\n", result->method, tensors, layers,
                graph->layer_count, (long long)result->trained_parameters, (long long)result->total_parameters,
                100 * (double)result->trained_parameters / (double)result->total_parameters);
    return text.data;
}

/* --- several methods ------------------------------------------------------------------------------------------------------- */

static bool check_combination(const PeftSpec *spec, Arena *arena, Diag *diag)
{
    static const char *const why[] = {[PEFT_PRODUCTS] = "rewrite the same products", [PEFT_MODULES] = "put modules into the blocks",
                                      [PEFT_TOKENS] = "put learned tokens into the sequence", [PEFT_WEIGHTS] = "train weights whole"};
    const PeftMethod *of_kind[4] = {NULL};
    for (; spec; spec = spec->next) {
        const PeftMethod *method = peft_find_method(spec->method);
        if (!method) {
            peft_unknown_method(spec->method, arena, diag);
            return false;
        }
        const PeftMethod *other = of_kind[method->kind];
        of_kind[method->kind] = method;
        if (other) {
            diag_error(diag, peft_nowhere, "methods '%s' and '%s' both %s; choose one", other->name, method->name, why[method->kind]);
            return false;
        }
    }
    return true;
}

/* A weight is trained whole or has an update, not both. */
static bool check_updates(const PeftResult *result, const PeftSpec *spec, Diag *diag)
{
    for (int i = 0; i < result->merge_count; i++) {
        const PeftMerge *m = &result->merges[i];
        if (!m->a || !m->param || !m->param->adapter)
            continue;
        diag_error(diag, peft_nowhere,
                   "%s: '%s' is to be trained whole and has an update of its own; choose one, or keep them apart with --layers",
                   spec->origin, m->tensor);
        return false;
    }
    return true;
}

/* What replaces a tensor comes before what changes it. */
static void put_replacements_first(PeftResult *result, Arena *arena)
{
    PeftMerge *sorted = ARENA_ARRAY(arena, PeftMerge, result->merge_count + 1);
    int count = 0;
    for (int changes = 0; changes < 2; changes++)
        for (int i = 0; i < result->merge_count; i++)
            if ((result->merges[i].a || result->merges[i].factor) == changes)
                sorted[count++] = result->merges[i];
    result->merges = sorted;
}

/* What PEFT's files have before the names of the base's tensors: the model is wrapped once to learn tokens, twice to change modules. */
static const char *saved_prefix(const PeftMethod *method)
{
    if (!method->settings)
        return NULL;
    return method->kind == PEFT_TOKENS ? "base_model." : "base_model.model.";
}

/* One method, with what is the same for all of them. */
static bool apply_one(PeftRewrite *r, const PeftSpec *first, const PeftSpec *spec)
{
    const PeftMethod *method = peft_find_method(spec->method);
    PeftSpec part = *spec;
    part.tensors = first->tensors, part.tensor_count = first->tensor_count;
    part.infer = first->infer, part.base = first->base;
    if (!part.layer_count)
        part.layers = first->layers, part.layer_count = first->layer_count;
    r->spec = &part;
    r->node_count = r->graph->node_count;
    r->map = ARENA_ARRAY(r->graph->arena, Node *, r->node_count + 1);
    int errors = r->diag->errors;
    if (!method->apply(r))
        return false;
    rewrite_train_further(r, saved_prefix(method));
    if (r->diag->errors > errors)
        return false;
    graph_replace_all(r->graph, r->map, r->node_count);
    r->result->settings = peft_settings(r, method);
    return true;
}

/* What several methods did: {"method": "combined", "parts": [SETTINGS, ...]} */
static void combine(PeftResult *result, Text *methods, Text *settings)
{
    text_add(settings, "\n]}");
    result->method = methods->data;
    result->settings = settings->data;
    result->peft_settings = NULL;
    result->block_count = 0;
    put_replacements_first(result, settings->arena);
}

bool peft(Graph *graph, const PeftSpec *spec, PeftResult *result, Diag *diag)
{
    PeftRewrite r = {.graph = graph, .result = result, .diag = diag};
    int errors = diag->errors;
    if (!check_combination(spec, graph->arena, diag))
        return false;
    Text methods = {.arena = graph->arena}, settings = methods;
    for (const PeftSpec *s = spec; s; s = s->next) {
        if (!apply_one(&r, spec, s))
            return false;
        result->method = peft_find_method(s->method)->name;
        text_format(&methods, "%s%s", s == spec ? "" : "+", result->method);
        text_format(&settings, "%s%s", s == spec ? "{\n\"method\": \"combined\",\n\"parts\": [\n" : ",\n", result->settings);
    }
    if (spec->next)
        combine(result, &methods, &settings);
    if (!check_updates(result, spec, diag))
        return false;
    count_parameters(graph, result);
    result->matched = describe(graph, result);
    return diag->errors == errors;
}
