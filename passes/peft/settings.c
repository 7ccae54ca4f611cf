/* settings.c - adapter_config.json as PEFT writes it (`json.dumps(indent=2, sort_keys=True)`): the keys that PEFT >= 0.10 reads. */
#include "passes/peft/settings.h"

#include <stdlib.h>
#include <string.h>

const char *peft_task_type(const Graph *graph)
{
    if (graph_classifies(graph))
        return "SEQ_CLS";
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->op == OP_INPUT && !strcmp(graph->nodes[i]->attrs.name, "targets"))
            return "CAUSAL_LM";
    return NULL;
}

static json_t *task_type(const Graph *graph)
{
    const char *task = peft_task_type(graph);
    return task ? json_string(task) : json_null();
}

const char *settings_text(Arena *arena, json_t *all)
{
    char *text = json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    const char *copy = arena_strdup(arena, text ? text : "{}");
    free(text);
    json_decref(all);
    return copy;
}

/* --- what all methods have ----------------------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

json_t *settings_list(const char **names, int count)
{
    json_t *list = count ? json_array() : json_null();
    if (count)
        qsort(names, (size_t)count, sizeof *names, by_text);
    for (int i = 0; i < count; i++)
        if (i == 0 || strcmp(names[i - 1], names[i]) != 0)
            json_array_append_new(list, json_string(names[i]));
    return list;
}

const char *settings_name(const char *path, bool (*only)(const void *user, const char *name), const void *user)
{
    for (const char *name = path + strlen(path); name > path; name--)
        if (name[-1] == '.' && only(user, name))
            return name;
    return path;
}

json_t *settings_layers(const PeftSpec *spec)
{
    json_t *list = spec->layer_count ? json_array() : json_null();
    for (int i = 0; i < spec->layer_count; i++)
        json_array_append_new(list, json_integer((json_int_t)spec->layers[i]));
    return list;
}

/* Modules of a model, sorted. */
typedef struct Modules {
    const Graph *graph;
    const char **names;
    int count;
} Modules;

static bool saves_only_these(const void *user, const char *name)
{
    const Modules *saved = user;
    for (int i = 0; i < saved->graph->param_count; i++) {
        const Param *param = saved->graph->params[i];
        if (param->module && module_ends_with(param->module, name) &&
            !bsearch(&param->module, saved->names, (size_t)saved->count, sizeof *saved->names, by_text))
            return false;
    }
    return true;
}

/* Biases are not among them: LoRA has a setting of its own for these. */
json_t *settings_saved(const PeftRewrite *r)
{
    const PeftSpec *spec = r->spec;
    Arena *arena = r->graph->arena;
    Modules saved = {r->graph, ARENA_ARRAY(arena, const char *, r->graph->param_count * spec->train_count + 1), 0};
    for (int t = 0; t < spec->train_count && !spec->train_is_modules; t++)
        for (int i = 0; i < r->graph->param_count && strcmp(spec->train[t], "bias") != 0; i++) {
            const Param *param = r->graph->params[i];
            if (param->role && param->module && !strcmp(param->role, spec->train[t]))
                saved.names[saved.count++] = param->module;
        }
    qsort(saved.names, (size_t)saved.count, sizeof *saved.names, by_text);
    const char **names = ARENA_ARRAY(arena, const char *, saved.count + spec->train_count + 2);
    int count = 0;
    for (int i = 0; i < saved.count; i++) {
        bool named = false;
        for (int k = 0; k < count && !named; k++)
            named = module_ends_with(saved.names[i], names[k]);
        if (!named)
            names[count++] = settings_name(saved.names[i], saves_only_these, &saved);
    }
    for (int t = 0; t < spec->train_count && spec->train_is_modules; t++)
        names[count++] = spec->train[t];
    if (graph_classifies(r->graph))
        names[count++] = "classifier", names[count++] = "score";
    return settings_list(names, count);
}

/* "a+b" */
static json_t *joined(Arena *arena, const char *const *names, int64_t count)
{
    Text text = {.arena = arena};
    for (int64_t i = 0; i < count; i++)
        text_format(&text, "%s%s", i ? "+" : "", names[i]);
    return json_string(text.data ? text.data : "");
}

/* {"method": NAME, "key": value ...}, the layers and the roles trained whole if any are asked for */
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
        else if (key->kind == PEFT_KEY_NAMES && *peft_names_count(field))
            json_object_set_new(all, key->name, joined(arena, *(const char *const *const *)field, *peft_names_count(field)));
    }
    if (spec->layer_count)
        json_object_set_new(all, "layers_to_transform", settings_layers(spec));
    for (int t = 0; t < spec->train_count; t++) {
        if (t == 0)
            json_object_set_new(all, "train", json_array());
        json_array_append_new(json_object_get(all, "train"), json_string(spec->train[t]));
    }
    return settings_text(arena, all);
}

const char *peft_settings(const PeftRewrite *r, const PeftMethod *method)
{
    return method->settings ? method->settings(r) : documented_settings(r->graph->arena, r->spec, method);
}

/* --- (IA)3 --------------------------------------------------------------------------------------------------------------- */

static void add_once(json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!strcmp(json_string_value(json_array_get(list, i)), name))
            return;
    json_array_append_new(list, json_string(name));
}

/* Has a module a vector of the method whose tensors end so? */
static bool has_vector(Graph *graph, const char *module, const char *end)
{
    const char *tensor = peft_name(graph, module, end);
    for (int i = 0; i < graph->param_count; i++)
        if (graph->params[i]->adapter && !strcmp(graph->params[i]->tensor, tensor))
            return true;
    return false;
}

/* The last two parts of a module's path tell `mlp.c_proj` from `attn.c_proj`.  The whole path where it is in some layers only
 * (`whole`), or where the two also name a module of the same layer that has no vector: `attention.output.dense` is an `output.dense`. */
static void add_module(Graph *graph, json_t *list, const char *module, const char *end, int layer, bool whole)
{
    const char *last = strrchr(module, '.'), *start = last;
    while (start && start > module && start[-1] != '.')
        start--;
    for (int i = 0; start && !whole && i < graph->param_count; i++) {
        const Param *other = graph->params[i];
        whole = other->module && other->layer == layer && path_has_suffix(other->module, start) && !has_vector(graph, other->module, end);
    }
    add_once(list, start && !whole ? start : module);
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
        add_module(r->graph, targets, path, end, param->layer, r->spec->layer_count > 0);
        if (!param->transposed)
            add_module(r->graph, feedforward, path, end, param->layer, r->spec->layer_count > 0);
    }
    bool conv1d = false;
    for (int i = 0; i < r->graph->param_count; i++)
        conv1d = conv1d || (r->graph->params[i]->layer >= 0 && r->graph->params[i]->role && !r->graph->params[i]->transposed &&
                            r->graph->params[i]->file_rank == 2 && !r->graph->params[i]->adapter);
    json_t *saved = settings_saved(r);
    json_t *all = json_pack("{s:n, s:s?, s:n, s:b, s:o, s:b, s:b, s:o, s:s, s:n, s:o, s:o}", "auto_mapping",
                            "base_model_name_or_path", r->spec->base, "exclude_modules", "fan_in_fan_out", conv1d,
                            "feedforward_modules", feedforward, "inference_mode", 1, "init_ia3_weights", 1, "modules_to_save", saved,
                            "peft_type", "IA3", "revision", "target_modules", targets, "task_type", task_type(r->graph));
    return settings_text(r->graph->arena, all);
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
            add_module(r->graph, targets,
                       arena_strndup(r->graph->arena, param->tensor, length - sizeof end + 1) + strlen("base_model.model."), end,
                       param->layer, false);
    }
    for (int i = 0; i < r->result->merge_count; i++)
        conv1d = conv1d || (r->result->merges[i].rank_factor && r->result->merges[i].transposed);
    json_t *saved = settings_saved(r);
    json_t *all =
        json_pack("{s:n, s:s?, s:s, s:f, s:b, s:b, s:b, s:n, s:o, s:o, s:s, s:i, s:I, s:n, s:b, s:o, s:o, s:f}", "auto_mapping",
                  "base_model_name_or_path", r->spec->base, "bias", "none", "d_initial", r->spec->d_initial, "fan_in_fan_out", conv1d,
                  "inference_mode", 1, "init_weights", 1, "layers_pattern", "layers_to_transform", settings_layers(r->spec),
                  "modules_to_save", saved, "peft_type", "VERA", "projection_prng_key", 0, "r", (json_int_t)r->spec->rank, "revision",
                  "save_projection", 1, "target_modules", targets, "task_type", task_type(r->graph), "vera_dropout", 0.0);
    return settings_text(r->graph->arena, all);
}

/* --- learned tokens ----------------------------------------------------------------------------------------------------- */

/* What all prompt methods of PEFT have.  `token_dim` is what one learned token is wide; heads times their size make it. */
static json_t *prompt_settings(const PeftRewrite *r, const char *type, int64_t heads, int64_t token_dim)
{
    return json_pack("{s:n, s:s?, s:b, s:o, s:I, s:i, s:i, s:I, s:s, s:n, s:o, s:I}", "auto_mapping", "base_model_name_or_path",
                     r->spec->base, "inference_mode", 1, "modules_to_save", settings_saved(r), "num_attention_heads", (json_int_t)heads,
                     "num_layers", r->graph->layer_count, "num_transformer_submodules", 1, "num_virtual_tokens",
                     (json_int_t)r->spec->prefix, "peft_type", type, "revision", "task_type", task_type(r->graph), "token_dim",
                     (json_int_t)token_dim);
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
    return settings_text(r->graph->arena, all);
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
    return settings_text(r->graph->arena, all);
}
