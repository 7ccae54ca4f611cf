/* select.c - see select.h.  Name rules: PEFT's (`target_modules`, `layers_to_transform`, `rank_pattern`). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "passes/peft/select.h"

#include <pcre2.h>
#include <string.h>

bool path_has_suffix(const char *path, const char *name)
{
    size_t p = strlen(path), n = strlen(name);
    if (n > p || strcmp(path + p - n, name) != 0)
        return false;
    return n == p || path[p - n - 1] == '.';
}

bool module_ends_with(const char *path, const char *name)
{
    size_t n = strlen(name);
    for (const char *end = *path ? path : NULL; end;) {
        end = strchr(end + 1, '.');
        size_t p = end ? (size_t)(end - path) : strlen(path);
        if (n <= p && !strncmp(path + p - n, name, n))
            return true;
    }
    return false;
}

/* Compiled with both ends anchored, as re.fullmatch does. */
bool path_matches(const char *path, const char *regex, Diag *diag)
{
    int code;
    PCRE2_SIZE offset;
    uint32_t options = PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, options, &code, &offset, NULL);
    if (!compiled) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(code, message, sizeof message);
        diag_error(diag, peft_nowhere, "bad regular expression '%s' at character %zu: %s", regex, (size_t)offset, (char *)message);
        return false;
    }
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(compiled, NULL);
    int matched = pcre2_match(compiled, (PCRE2_SPTR)path, strlen(path), 0, 0, match, NULL);
    pcre2_match_data_free(match);
    pcre2_code_free(compiled);
    return matched >= 0;
}

FileSlice param_out(const Param *param)
{
    return param->slices[param->transposed ? 0 : 1];
}

static bool role_is(const Param *param, const char *role)
{
    return param->role && !strcmp(param->role, role);
}

static bool graph_has_role(const Graph *graph, const char *role)
{
    for (int i = 0; i < graph->param_count; i++)
        if (role_is(graph->params[i], role))
            return true;
    return false;
}

static bool is_all_linear(const PeftSpec *spec)
{
    return spec->target_count == 1 && !strcmp(spec->targets[0], "all-linear");
}

bool param_in_layers(const Graph *graph, const PeftSpec *spec, const Param *param, Diag *diag)
{
    bool listed = !spec->layer_count, named = !spec->layer_count || !spec->layer_name_count;
    for (int i = 0; i < spec->layer_count && !listed; i++)
        listed = spec->layers[i] == param->layer;
    for (int i = 0; i < spec->layer_name_count && !named; i++)
        named = path_matches(param->module, arena_format(graph->arena, "(.*\\.)?%s\\.%d\\..*", spec->layer_names[i], param->layer), diag);
    return listed && named;
}

static bool excluded(const Graph *graph, const PeftSpec *spec, const Param *param, Diag *diag)
{
    for (int i = 0; i < spec->exclude_count; i++)
        if (path_has_suffix(param->module, spec->exclude[i]))
            return true;
    if (spec->exclude_regex && path_matches(param->module, spec->exclude_regex, diag))
        return true;
    /* PEFT: a module that is trained whole, or lies in one, is no target. */
    for (int i = 0; i < spec->train_count && spec->train_is_modules; i++)
        if (path_matches(param->module, arena_format(graph->arena, "(.*\\.)?%s(\\..*)?", spec->train[i]), diag))
            return true;
    for (int i = 0; i < spec->train_count && !spec->train_is_modules && is_all_linear(spec); i++)
        if (role_is(param, spec->train[i]))
            return true;
    return false;
}

PeftBias peft_bias(const PeftSpec *spec)
{
    for (int i = 0; i < spec->train_count && !spec->train_is_modules; i++)
        if (!strcmp(spec->train[i], "bias"))
            return PEFT_BIAS_ALL;
    return spec->bias;
}

/* Does the spec select this parameter?  *by_role: through a role.  hits[i] counts what target i matched. */
static bool selects(const Graph *graph, const PeftSpec *spec, const Param *param, bool lookup, bool *by_role, int *hits,
                    Diag *diag)
{
    *by_role = false;
    if (excluded(graph, spec, param, diag))
        return false;
    if (spec->target_regex)
        return path_matches(param->module, spec->target_regex, diag) && param_in_layers(graph, spec, param, diag) && ++hits[0];
    if (is_all_linear(spec))
        return !lookup && !role_is(param, "head") && !role_is(param, "embed") && param_in_layers(graph, spec, param, diag) && ++hits[0];
    for (int i = 0; i < spec->target_count; i++) {
        bool is_role = (!spec->tensors || spec->by_role || spec->split) && graph_has_role(graph, spec->targets[i]);
        /* A tied table selected by role `head` or as a product is not a lookup. */
        if (is_role ? !role_is(param, spec->targets[i]) : !path_has_suffix(param->module, spec->targets[i]))
            continue;
        hits[i]++;
        bool exact = !is_role && !strcmp(param->module, spec->targets[i]); /* a whole path counts whatever the layers are */
        if (!exact && !param_in_layers(graph, spec, param, diag))
            continue;
        *by_role = is_role;
        return true;
    }
    return false;
}

static bool pattern_matches(const Graph *graph, const PeftPattern *pattern, const Param *param, Diag *diag)
{
    if (!pattern->is_role)
        return path_matches(param->module, arena_format(graph->arena, "(.*\\.)?(%s)", pattern->key), diag);
    return graph_has_role(graph, pattern->key) ? role_is(param, pattern->key) : path_has_suffix(param->module, pattern->key);
}

/* Later settings do not override: the first pattern that matches wins. */
static void set_rank(const Graph *graph, const PeftSpec *spec, PeftSite *site, Diag *diag)
{
    site->rank = spec->rank;
    site->alpha = spec->alpha;
    bool rank_set = false, alpha_set = false;
    for (int i = 0; i < spec->pattern_count; i++) {
        const PeftPattern *pattern = &spec->patterns[i];
        if (!pattern_matches(graph, pattern, site->param, diag))
            continue;
        if (pattern->rank && !rank_set)
            site->rank = pattern->rank, rank_set = true;
        if (pattern->alpha != 0 && !alpha_set)
            site->alpha = pattern->alpha, alpha_set = true;
    }
}

/* The roles of a model's weights, once each, and "q, k, ..." */
static int roles_of(const Graph *graph, const char **roles, Text *list)
{
    int count = 0;
    for (int i = 0; i < graph->param_count; i++) {
        const char *role = graph->params[i]->role;
        bool seen = !role;
        for (int k = 0; k < count && !seen; k++)
            seen = !strcmp(roles[k], role);
        if (seen)
            continue;
        roles[count++] = role;
        text_format(list, "%s%s", count > 1 ? ", " : "", role);
    }
    return count;
}

static void report_misses(const Graph *graph, const PeftSpec *spec, const int *hits, Diag *diag)
{
    int64_t targets = spec->target_regex || is_all_linear(spec) ? 1 : spec->target_count;
    Text missed = {.arena = graph->arena}, known = {.arena = graph->arena};
    const char *first = NULL;
    int misses = 0;
    for (int t = 0; t < targets; t++) {
        if (hits[t])
            continue;
        const char *target = spec->target_regex ? spec->target_regex : spec->targets[t];
        text_format(&missed, "%s'%s'", first ? ", " : "", target);
        first = first ? first : target;
        misses++;
    }
    if (!first)
        return;
    const char **roles = ARENA_ARRAY(graph->arena, const char *, graph->param_count + 1);
    int count = roles_of(graph, roles, &known);
    diag_error(diag, peft_nowhere, "%s: %s match%s no weight of model '%s'; its roles are %s", spec->origin, missed.data,
               misses > 1 ? "" : "es", graph->name, known.data ? known.data : "none");
    const char *near = nearest_word(first, roles, count);
    if (near)
        diag_note(diag, peft_nowhere, "did you mean '%s'?", near);
}

static void check_layers(const Graph *graph, const PeftSpec *spec, Diag *diag)
{
    int64_t layers = 0;
    for (int i = 0; i < graph->param_count; i++)
        if (graph->params[i]->layer >= layers)
            layers = graph->params[i]->layer + 1;
    for (int i = 0; i < spec->layer_count; i++)
        if (spec->layers[i] < 0 || spec->layers[i] >= layers)
            diag_error(diag, peft_nowhere, "%s: there is no layer %lld: model '%s' has %lld, counted from 0", spec->origin,
                       (long long)spec->layers[i], graph->name, (long long)layers);
}

static bool is_site(const Node *node)
{
    if (node->op == OP_GATHER)
        return node->inputs[0]->op == OP_PARAM && node->inputs[0]->type.rank == 2;
    return op_info[node->op].class == OC_GEMM && node->inputs[1]->op == OP_PARAM;
}

/* A tied table is an embedding: its use as the output head is not a place of its own. */
static bool used_in_lookup(const Graph *graph, const Param *param)
{
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (node->op == OP_GATHER && node->inputs[0]->op == OP_PARAM && node->inputs[0]->param == param)
            return true;
    }
    return false;
}

static bool used_in_product(const Graph *graph, const Param *param)
{
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 0; k < node->input_count; k++) {
            const Node *input = node->inputs[k];
            while (op_info[input->op].class == OC_VIEW)
                input = input->inputs[0];
            if (input->op == OP_PARAM && input->param == param && op_info[node->op].class == OC_GEMM)
                return true;
        }
    }
    return false;
}

bool param_is_tied(const Graph *graph, const Param *param)
{
    return used_in_lookup(graph, param) && used_in_product(graph, param);
}

PeftSite *peft_select(Graph *graph, const PeftSpec *spec, int *count, Diag *diag)
{
    PeftSite *sites = NULL;
    int capacity = 0, errors = diag->errors;
    int *hits = ARENA_ARRAY(graph->arena, int, spec->target_count + 1);
    *count = 0;
    check_layers(graph, spec, diag);
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (!is_site(node))
            continue;
        bool lookup = node->op == OP_GATHER;
        PeftSite site = {.node = node, .lookup = lookup, .input = node->inputs[lookup ? 1 : 0]};
        site.param = node->inputs[lookup ? 0 : 1]->param;
        if (!selects(graph, spec, site.param, lookup, &site.by_role, hits, diag) ||
            (!lookup && used_in_lookup(graph, site.param)))
            continue;
        set_rank(graph, spec, &site, diag);
        site.tied = lookup && used_in_product(graph, site.param);
        ARENA_PUSH(graph->arena, sites, *count, capacity, site);
    }
    if (!spec->tensors || *count == 0) /* PEFT's targets may name what its other settings leave out */
        report_misses(graph, spec, hits, diag);
    if (*count == 0 && diag->errors == errors)
        diag_error(diag, peft_nowhere, "%s: nothing that it names is in the layers that are asked for", spec->origin);
    return diag->errors == errors ? sites : NULL;
}

/* --- parameters of the adapter --------------------------------------------------------------------------------------- */

void param_into_adapter(Param *param, const PeftSpec *spec, const char *tensor)
{
    param->base = param->fresh ? NULL : param->tensor;
    param->tensor = tensor;
    param->adapter = true;
    param->trained = !spec->infer;
    if (!param->fresh)
        param->init = INIT_TENSOR;
}

const char *peft_name(Graph *graph, const char *path, const char *suffix)
{
    return arena_format(graph->arena, "base_model.model.%s%s", path, suffix);
}
