/* settings.c - adapter_config.json as PEFT writes it (`json.dumps(indent=2, sort_keys=True)`): the keys that PEFT >= 0.10 reads. */
#include "passes/peft/settings.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void add_string(Text *text, const char *string)
{
    text_add(text, "\"");
    for (const char *c = string; *c; c++) {
        if (*c == '"' || *c == '\\')
            text_format(text, "\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            text_format(text, "\\u%04x", (unsigned)*c);
        else
            text_addn(text, c, 1);
    }
    text_add(text, "\"");
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A list, sorted and without repetition; null when empty. */
static void add_list(Text *text, const char **names, int count)
{
    if (!count) {
        text_add(text, "null");
        return;
    }
    qsort(names, (size_t)count, sizeof *names, by_text);
    text_add(text, "[");
    for (int i = 0, written = 0; i < count; i++) {
        if (i && !strcmp(names[i - 1], names[i]))
            continue;
        text_add(text, written++ ? ",\n    " : "\n    ");
        add_string(text, names[i]);
    }
    text_add(text, "\n  ]");
}

static const char *last_part(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* Base modules of a spec's low-rank pairs, as suffixes that select them and nothing else of this model. */
static void add_targets(Graph *graph, Text *text, const PeftResult *result)
{
    const char **names = ARENA_ARRAY(graph->arena, const char *, result->merge_count + 1);
    int count = 0;
    for (int i = 0; i < result->merge_count; i++) {
        const char *a = result->merges[i].a;
        if (!a)
            continue;
        const char *end = strstr(a, ".lora_");
        const char *path = arena_strndup(graph->arena, a, (size_t)(end - a));
        if (!strncmp(path, "base_model.model.", 17))
            path += 17;
        names[count++] = path;
    }
    /* One name for modules of all layers if that selects only them. */
    for (int i = 0; i < count; i++) {
        const char *short_name = last_part(names[i]);
        bool only = true;
        for (int p = 0; p < graph->param_count && only; p++) {
            const Param *param = graph->params[p];
            bool linear = !param->adapter && param->file_rank == 2 && !strcmp(last_part(param->module), short_name);
            bool ours = false;
            for (int k = 0; k < count && linear && !ours; k++)
                ours = !strcmp(names[k], param->module) || (short_name != names[i] && !strcmp(names[k], short_name));
            only = !linear || ours;
        }
        if (only)
            names[i] = short_name;
    }
    add_list(text, names, count);
}

/* PEFT knows modules, not roles: the module name of the first weight with that role. */
static const char *pattern_key(const Graph *graph, const PeftPattern *pattern)
{
    for (int i = 0; pattern->is_role && i < graph->param_count; i++) {
        const Param *param = graph->params[i];
        if (param->role && !strcmp(param->role, pattern->key))
            return last_part(param->module);
    }
    return pattern->key;
}

static void add_patterns(const Graph *graph, Text *text, const PeftSpec *spec, bool alpha)
{
    int written = 0;
    text_add(text, "{");
    for (int i = 0; i < spec->pattern_count; i++) {
        const PeftPattern *pattern = &spec->patterns[i];
        if (alpha ? pattern->alpha == 0 : pattern->rank == 0)
            continue;
        text_add(text, written++ ? ",\n    " : "\n    ");
        add_string(text, pattern_key(graph, pattern));
        if (alpha)
            text_format(text, ": %.17g", pattern->alpha);
        else
            text_format(text, ": %lld", (long long)pattern->rank);
    }
    text_add(text, written ? "\n  }" : "}");
}

static void add_saved(Graph *graph, Text *text, const PeftSpec *spec)
{
    const char **names = ARENA_ARRAY(graph->arena, const char *, graph->param_count + spec->train_count + 3);
    int count = 0;
    if (graph_classifies(graph))
        names[count++] = "classifier", names[count++] = "score";
    if (spec->train_is_modules) {
        for (int i = 0; i < spec->train_count; i++)
            names[count++] = spec->train[i];
    } else {
        for (int t = 0; t < spec->train_count; t++)
            for (int i = 0; i < graph->param_count; i++) {
                const Param *param = graph->params[i];
                if (param->role && !strcmp(param->role, spec->train[t]) && param->adapter)
                    names[count++] = last_part(param->module);
            }
    }
    add_list(text, names, count);
}

static void add_split(Text *text, const PeftSpec *spec)
{
    text_format(text, "{\n  \"alpha\": %.17g,\n  \"method\": \"split_lora\",\n  \"parts\": [", spec->alpha);
    for (int i = 0; i < spec->target_count; i++) {
        text_add(text, i ? ",\n    " : "\n    ");
        add_string(text, spec->targets[i]);
    }
    text_format(text, "\n  ],\n  \"r\": %lld\n}", (long long)spec->rank);
}

/* "CAUSAL_LM", "SEQ_CLS", or null for what PEFT has no name for. */
static json_t *task_type(const Graph *graph)
{
    if (graph_classifies(graph))
        return json_string("SEQ_CLS");
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->op == OP_INPUT && !strcmp(graph->nodes[i]->attrs.name, "targets"))
            return json_string("CAUSAL_LM");
    return json_null();
}

static const char *write_json(Arena *arena, json_t *all)
{
    char *text = json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    const char *copy = arena_strdup(arena, text ? text : "{}");
    free(text);
    json_decref(all);
    return copy;
}

/* {"method": NAME, "key": value ...} */
static const char *documented_settings(Arena *arena, const PeftSpec *spec, const PeftMethod *method)
{
    json_t *all = json_pack("{s:s}", "method", method->name);
    for (int i = 0; i < method->key_count; i++) {
        const PeftKey *key = &method->keys[i];
        const void *field = (const char *)spec + key->field;
        if (key->kind == PEFT_KEY_INT)
            json_object_set_new(all, key->name, json_integer(*(const int64_t *)field));
        else if (key->kind == PEFT_KEY_REAL)
            json_object_set_new(all, key->name, json_real(*(const double *)field));
        else if (key->kind == PEFT_KEY_FLAG)
            json_object_set_new(all, key->name, json_boolean(*(const bool *)field));
        else if (key->kind == PEFT_KEY_TEXT)
            json_object_set_new(all, key->name, json_string(*(const char *const *)field));
    }
    return write_json(arena, all);
}

const char *peft_settings(const PeftRewrite *r, const PeftMethod *method)
{
    return method->settings ? method->settings(r) : documented_settings(r->graph->arena, r->spec, method);
}

/* --- (IA)3 --------------------------------------------------------------------------------------------------------------- */

/* The last two parts of a module's path tell `mlp.c_proj` from `attn.c_proj`. */
static void add_module(json_t *list, const char *module)
{
    const char *last = strrchr(module, '.'), *start = last;
    while (start && start > module && start[-1] != '.')
        start--;
    const char *name = start ? start : module;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!strcmp(json_string_value(json_array_get(list, i)), name))
            return;
    json_array_append_new(list, json_string(name));
}

const char *peft_ia3_settings(const PeftRewrite *r)
{
    json_t *targets = json_array(), *feedforward = json_array();
    static const char end[] = ".ia3_l";
    for (int i = 0; i < r->graph->param_count; i++) {
        const Param *param = r->graph->params[i];
        size_t length = param->adapter ? strlen(param->tensor) : 0;
        if (length < sizeof end || strcmp(param->tensor + length - sizeof end + 1, end) != 0)
            continue;
        const char *path = arena_strndup(r->graph->arena, param->tensor, length - sizeof end + 1) + strlen("base_model.model.");
        add_module(targets, path);
        if (!param->transposed)
            add_module(feedforward, path);
    }
    bool conv1d = false;
    for (int i = 0; i < r->graph->param_count; i++)
        conv1d = conv1d || (r->graph->params[i]->layer >= 0 && r->graph->params[i]->role && !r->graph->params[i]->transposed &&
                            r->graph->params[i]->file_rank == 2 && !r->graph->params[i]->adapter);
    json_t *saved = graph_classifies(r->graph) ? json_pack("[s,s]", "classifier", "score") : json_null();
    json_t *all = json_pack("{s:n, s:s, s:n, s:b, s:o, s:b, s:b, s:o, s:s, s:n, s:o, s:o}", "auto_mapping",
                            "base_model_name_or_path", r->graph->name, "exclude_modules", "fan_in_fan_out", conv1d,
                            "feedforward_modules", feedforward, "inference_mode", 1, "init_ia3_weights", 1, "modules_to_save", saved,
                            "peft_type", "IA3", "revision", "target_modules", targets, "task_type", task_type(r->graph));
    return write_json(r->graph->arena, all);
}

/* --- VeRA ---------------------------------------------------------------------------------------------------------------- */

const char *peft_vera_settings(const PeftRewrite *r)
{
    json_t *targets = json_array();
    static const char end[] = ".vera_lambda_b";
    bool conv1d = false;
    for (int i = 0; i < r->graph->param_count; i++) {
        const Param *param = r->graph->params[i];
        size_t length = param->adapter ? strlen(param->tensor) : 0;
        if (length >= sizeof end && !strcmp(param->tensor + length - sizeof end + 1, end))
            add_module(targets, arena_strndup(r->graph->arena, param->tensor, length - sizeof end + 1) + strlen("base_model.model."));
    }
    for (int i = 0; i < r->result->merge_count; i++)
        conv1d = conv1d || (r->result->merges[i].rank_factor && r->result->merges[i].transposed);
    json_t *saved = graph_classifies(r->graph) ? json_pack("[s,s]", "classifier", "score") : json_null();
    json_t *all = json_pack("{s:n, s:s, s:s, s:f, s:b, s:b, s:b, s:n, s:n, s:o, s:s, s:i, s:I, s:n, s:b, s:o, s:o, s:f}",
                            "auto_mapping", "base_model_name_or_path", r->graph->name, "bias", "none", "d_initial", r->spec->d_initial,
                            "fan_in_fan_out", conv1d, "inference_mode", 1, "init_weights", 1, "layers_pattern", "layers_to_transform",
                            "modules_to_save", saved, "peft_type", "VERA", "projection_prng_key", 0, "r", (json_int_t)r->spec->rank,
                            "revision", "save_projection", 1, "target_modules", targets, "task_type", task_type(r->graph),
                            "vera_dropout", 0.0);
    return write_json(r->graph->arena, all);
}

/* --- learned tokens ----------------------------------------------------------------------------------------------------- */

/* What all prompt methods of PEFT have.  `token_dim` is what one learned token is wide; heads times their size make it. */
static json_t *prompt_settings(const PeftRewrite *r, const char *type, int64_t heads, int64_t token_dim)
{
    return json_pack("{s:n, s:s, s:b, s:n, s:I, s:i, s:i, s:I, s:s, s:n, s:o, s:I}", "auto_mapping", "base_model_name_or_path",
                     r->graph->name, "inference_mode", 1, "modules_to_save", "num_attention_heads", (json_int_t)heads, "num_layers",
                     r->graph->layer_count, "num_transformer_submodules", 1, "num_virtual_tokens", (json_int_t)r->spec->prefix,
                     "peft_type", type, "revision", "task_type", task_type(r->graph), "token_dim", (json_int_t)token_dim);
}

/* The value [h, T, e] or [T, d] that a site of this kind marks; its width and heads. */
static void site_shape(const PeftRewrite *r, const char *kind, int64_t *heads, int64_t *width)
{
    *heads = 1, *width = 0;
    for (int i = 0; i < r->node_count; i++) {
        const Node *node = r->graph->nodes[i];
        if (node->op != OP_SITE || strcmp(node->attrs.name, kind) != 0)
            continue;
        bool split = node->type.rank == 3;
        *heads = split ? node->type.dim[0] : 1;
        *width = split ? node->type.dim[0] * node->type.dim[2] : node->type.dim[1];
        return;
    }
}

const char *peft_prefix_settings(const PeftRewrite *r)
{
    int64_t heads, width;
    site_shape(r, "keys", &heads, &width);
    json_t *all = prompt_settings(r, "PREFIX_TUNING", heads, width);
    json_object_set_new(all, "encoder_hidden_size", json_integer(width));
    json_object_set_new(all, "prefix_projection", json_false());
    return write_json(r->graph->arena, all);
}

const char *peft_prompt_settings(const PeftRewrite *r)
{
    int64_t heads, width, ignored;
    site_shape(r, "keys", &heads, &ignored);
    site_shape(r, "embedding", &ignored, &width);
    json_t *all = prompt_settings(r, "PROMPT_TUNING", heads, width);
    json_object_set_new(all, "prompt_tuning_init", json_string("RANDOM"));
    json_object_set_new(all, "prompt_tuning_init_text", json_null());
    json_object_set_new(all, "tokenizer_kwargs", json_null());
    json_object_set_new(all, "tokenizer_name_or_path", json_null());
    return write_json(r->graph->arena, all);
}

/* --- LoRA ---------------------------------------------------------------------------------------------------------------- */

const char *peft_lora_settings(const PeftRewrite *r)
{
    Graph *graph = r->graph;
    const PeftSpec *spec = r->spec;
    const PeftResult *result = r->result;
    static const char *const biases[] = {"none", "all", "lora_only"};
    Text text = {.arena = graph->arena};
    bool split = spec->split, conv1d = false;
    for (int i = 0; i < result->merge_count; i++) {
        const char *a = result->merges[i].a;
        split = split || (a && strncmp(a, "base_model.", 11) != 0);
        conv1d = conv1d || (a && result->merges[i].transposed && strstr(a, ".lora_A"));
    }
    if (split) {
        add_split(&text, spec);
        return text.data;
    }
    text_add(&text, "{\n  \"alpha_pattern\": ");
    add_patterns(graph, &text, spec, true);
    text_add(&text, ",\n  \"auto_mapping\": null,\n  \"base_model_name_or_path\": ");
    add_string(&text, graph->name);
    text_format(&text, ",\n  \"bias\": \"%s\",\n  \"fan_in_fan_out\": %s,\n  \"inference_mode\": true,\n", biases[spec->bias],
                conv1d ? "true" : "false");
    text_add(&text, "  \"init_lora_weights\": true,\n  \"layer_replication\": null,\n  \"layers_pattern\": null,\n"
                    "  \"layers_to_transform\": ");
    for (int i = 0; i < spec->layer_count; i++)
        text_format(&text, "%s%lld", i ? ",\n    " : "[\n    ", (long long)spec->layers[i]);
    text_add(&text, spec->layer_count ? "\n  ]" : "null");
    text_format(&text, ",\n  \"loftq_config\": {},\n  \"lora_alpha\": %.17g,\n  \"lora_dropout\": %.17g,\n", spec->alpha,
                spec->dropout);
    text_add(&text, "  \"megatron_config\": null,\n  \"megatron_core\": \"megatron.core\",\n  \"modules_to_save\": ");
    add_saved(graph, &text, spec);
    text_format(&text, ",\n  \"peft_type\": \"LORA\",\n  \"r\": %lld,\n  \"rank_pattern\": ", (long long)spec->rank);
    add_patterns(graph, &text, spec, false);
    text_add(&text, ",\n  \"revision\": null,\n  \"target_modules\": ");
    if (spec->target_regex)
        add_string(&text, spec->target_regex);
    else
        add_targets(graph, &text, result);
    json_t *task = task_type(graph);
    const char *task_name = json_string_value(task);
    text_format(&text, ",\n  \"task_type\": %s%s%s,\n  \"use_dora\": %s,\n  \"use_rslora\": %s\n}", task_name ? "\"" : "",
                task_name ? task_name : "null", task_name ? "\"" : "", spec->dora ? "true" : "false", spec->rslora ? "true" : "false");
    json_decref(task);
    return text.data;
}
