/* main_files.c - checkpoints, adapters and the runtime library, for the driver. */
#define _GNU_SOURCE
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/main.h"
#include "frontend/main_initial.h"
#include "passes/peft/config.h"
#include "runtime/adapter.h"
#include "runtime/file.h"
#include "runtime/weights.h"

static const Loc nowhere = {0};

static const char *absolute(Arena *arena, const char *path)
{
    char full[PATH_MAX];
    return arena_strdup(arena, realpath(path, full) ? full : path);
}

/* --- ir/checkpoint.h over runtime/checkpoint.h -------------------------------------------------------------------------- */

static const json_t *config_of(const ModelFiles *files)
{
    return files->config ? files->config : files->checkpoint ? lrt_checkpoint_config(files->checkpoint) : NULL;
}

/* "rope_parameters.rope_theta", "attention_layers.3" */
static const json_t *walk(const json_t *value, const char *key)
{
    while (value && *key) {
        char part[128];
        size_t length = strcspn(key, ".");
        if (length >= sizeof part)
            return NULL;
        memcpy(part, key, length);
        part[length] = '\0';
        value = json_is_array(value) ? json_array_get(value, strtoul(part, NULL, 10)) : json_object_get(value, part);
        key += length + (key[length] == '.');
    }
    return value;
}

static ConfigValue read_config(void *user, const char *key)
{
    const ModelFiles *files = user;
    const json_t *value = json_object_get(files->overrides, key);
    value = value ? value : walk(config_of(files), key);
    ConfigValue result = {.kind = CONFIG_ABSENT};
    if (!value)
        return result;
    switch (json_typeof(value)) {
    case JSON_NULL: result.kind = CONFIG_NULL; break;
    case JSON_TRUE:
    case JSON_FALSE: result.kind = CONFIG_BOOL, result.boolean = json_is_true(value); break;
    case JSON_INTEGER:
        result.kind = CONFIG_INT;
        result.integer = json_integer_value(value);
        result.real = (double)result.integer;
        break;
    case JSON_REAL: result.kind = CONFIG_REAL, result.real = json_real_value(value); break;
    case JSON_STRING: result.kind = CONFIG_STRING, result.string = json_string_value(value); break;
    case JSON_ARRAY: result.kind = CONFIG_LIST, result.length = (int)json_array_size(value); break;
    case JSON_OBJECT: result.kind = CONFIG_OBJECT, result.length = (int)json_object_size(value); break;
    }
    return result;
}

static bool find_tensor(void *user, const char *name, CheckpointTensor *out)
{
    const ModelFiles *files = user;
    const LrtTensor *tensor = files->checkpoint ? lrt_checkpoint_find(files->checkpoint, name) : NULL;
    if (!tensor)
        return false;
    *out = (CheckpointTensor){.name = tensor->name, .rank = tensor->rank};
    for (int i = 0; i < tensor->rank; i++)
        out->shape[i] = tensor->shape[i];
    return true;
}

/* Values are JSON, or else strings. */
static bool read_overrides(ModelFiles *files, const char *set, Arena *arena, Diag *diag)
{
    int count;
    const char *const *items = set ? peft_parse_names(set, &count, arena) : NULL;
    for (int i = 0; items && i < count; i++) {
        const char *value = strchr(items[i], '=');
        if (!value || value == items[i]) {
            diag_error(diag, nowhere, "--set: '%s' is not KEY=VALUE", items[i]);
            return false;
        }
        json_t *parsed = json_loads(value + 1, JSON_DECODE_ANY, NULL);
        files->overrides = files->overrides ? files->overrides : json_object();
        json_object_set_new(files->overrides, arena_strndup(arena, items[i], (size_t)(value - items[i])),
                            parsed ? parsed : json_string(value + 1));
    }
    return true;
}

bool main_open_checkpoint(ModelFiles *files, const char *weights, const char *config, const char *set, Arena *arena, Diag *diag)
{
    LrtError error = {LRT_OK, ""};
    files->view = (Checkpoint){.user = files, .path = weights ? weights : config, .config = read_config, .tensor = find_tensor};
    if (!read_overrides(files, set, arena, diag))
        return false;
    if (weights && !(files->checkpoint = lrt_checkpoint_open(weights, &error))) {
        diag_error(diag, nowhere, "%s", error.text);
        return false;
    }
    if (config && !(files->config = lrt_json_read(config, &error))) {
        diag_error(diag, nowhere, "%s", error.text);
        return false;
    }
    if (weights && !config_of(files)) {
        diag_error(diag, nowhere, "%s: no config.json beside it; give one with --config", weights);
        return false;
    }
    files->view.tensors_known = files->checkpoint != NULL;
    files->interface = weights || config || set ? &files->view : NULL;
    if (weights)
        files->weights_path = absolute(arena, weights);
    json_t *text = weights && lrt_is_directory(weights) ? json_string(files->weights_path) : NULL; /* none if it is not UTF-8 */
    files->folder = text ? files->weights_path : NULL;
    json_decref(text);
    return !files->interface || main_check_family(files->interface, diag);
}

/* --- adapters ------------------------------------------------------------------------------------------------------------- */

/* Settings on slices need not say the rank. */
static int64_t rank_of(const PeftSpec *spec)
{
    for (int i = 0; i < spec->tensor_count; i++)
        if (strstr(spec->tensors[i].name, ".lora_A.weight"))
            return spec->tensors[i].shape[0];
    return 0;
}

bool main_read_adapter(ModelFiles *files, const char *path, PeftSpec *spec, Arena *arena, Diag *diag)
{
    LrtError error = {LRT_OK, ""};
    const char *config = arena_format(arena, "%s/adapter_config.json", path);
    LrtMap map;
    if (!lrt_map_file(&map, config, &error)) {
        diag_error(diag, nowhere, "%s; an adapter is a folder with adapter_config.json and adapter_model.safetensors", error.text);
        return false;
    }
    files->adapter_config = arena_strndup(arena, (const char *)map.data, map.size);
    lrt_unmap(&map);
    files->adapter_path = absolute(arena, path);
    if (!peft_parse_config(spec, files->adapter_config, config, arena, diag))
        return false;
    if (!(files->adapter = lrt_adapter_open(path, &error))) {
        diag_error(diag, nowhere, "%s", error.text);
        return false;
    }
    spec->tensor_count = lrt_safetensors_count(files->adapter);
    PeftTensor *tensors = ARENA_ARRAY(arena, PeftTensor, spec->tensor_count + 1);
    for (int i = 0; i < spec->tensor_count; i++) {
        const LrtTensor *tensor = lrt_safetensors_tensor(files->adapter, i);
        tensors[i] = (PeftTensor){.name = tensor->name, .rank = tensor->rank};
        for (int k = 0; k < tensor->rank; k++)
            tensors[i].shape[k] = tensor->shape[k];
    }
    spec->tensors = tensors;
    spec->stacked = spec->split && lrt_safetensors_replaced(files->adapter);
    if (spec->split && !spec->rank)
        spec->rank = rank_of(spec);
    return true;
}

bool main_check_base(const ModelFiles *files, Diag *diag)
{
    LrtError error = {LRT_OK, ""};
    if (!files->checkpoint || lrt_adapter_check_base(files->adapter, files->adapter_path, files->checkpoint, &error))
        return true;
    diag_error(diag, nowhere, "%s", error.text);
    return false;
}

static bool has_place(const char *name, const Graph *graph, const PeftResult *result)
{
    static const char copy[] = ".base_layer.weight"; /* PEFT puts the frozen table beside an embedding's adapter */
    size_t length = strlen(name);
    if (length >= sizeof copy && !strcmp(name + length - sizeof copy + 1, copy))
        return true;
    if (strstr(name, ".modules_to_save.") || strstr(name, ".original_module."))
        return true; /* biases of saved modules a second and third time: PEFT writes them with bias "all", and needs them not */
    for (int i = 0; i < graph->param_count; i++)
        if (graph->params[i]->adapter && graph->params[i]->tensor && !strcmp(graph->params[i]->tensor, name))
            return true;
    for (int i = 0; i < result->merge_count; i++)
        if ((result->merges[i].a && !strcmp(result->merges[i].a, name)) || (result->merges[i].b && !strcmp(result->merges[i].b, name)) ||
            (result->merges[i].factor && !strcmp(result->merges[i].factor, name)) ||
            (result->merges[i].row_factor && !strcmp(result->merges[i].row_factor, name)) ||
            (result->merges[i].rank_factor && !strcmp(result->merges[i].rank_factor, name)))
            return true;
    return false;
}

bool main_check_all_used(const ModelFiles *files, const Graph *graph, const PeftResult *result, Diag *diag)
{
    for (int i = 0; i < lrt_safetensors_count(files->adapter); i++) {
        const char *name = lrt_safetensors_tensor(files->adapter, i)->name;
        if (has_place(name, graph, result))
            continue;
        diag_error(diag, nowhere, "%s: tensor '%s' has no place in model '%s' as the adapter's config describes it", files->adapter_path,
                   name, graph->name);
        return false;
    }
    return true;
}

static bool is_read_from(const Param *param, const char *name)
{
    return (param->file_name && !strcmp(param->file_name, name)) || (param->base && !strcmp(param->base, name));
}

enum { UNREAD_NAMED = 3 };

void main_note_unread(const ModelFiles *files, const Graph *graph, Arena *arena, Diag *diag)
{
    Text names = {.arena = arena};
    int unread = 0;
    for (int i = 0; files->checkpoint && i < lrt_checkpoint_count(files->checkpoint); i++) {
        const char *name = lrt_checkpoint_tensor(files->checkpoint, i)->name;
        bool read = false;
        for (int k = 0; k < graph->param_count && !read; k++)
            read = is_read_from(graph->params[k], name);
        if (!read && unread++ < UNREAD_NAMED)
            text_format(&names, "%s%s", unread > 1 ? ", " : "", name);
    }
    if (unread)
        diag_note(diag, nowhere, "%d tensor%s of the checkpoint %s no part in the description: %s%s", unread, unread > 1 ? "s" : "",
                  unread > 1 ? "have" : "has", names.data, unread > UNREAD_NAMED ? ", ..." : "");
}

void main_close(ModelFiles *files)
{
    lrt_checkpoint_close(files->checkpoint);
    lrt_safetensors_close(files->adapter);
    json_decref(files->config);
    json_decref(files->overrides);
}

/* --- settings ----------------------------------------------------------------------------------------------------------------- */

static json_t *blocks_of(const PeftResult *result)
{
    json_t *blocks = json_object();
    for (int i = 0; i < result->block_count; i++) {
        const PeftBlock *b = &result->blocks[i];
        json_object_set_new(blocks, b->tensor, json_pack("[s, I, I, I, I, f]", b->whole, (json_int_t)b->rows, (json_int_t)b->columns,
                                                         (json_int_t)b->row, (json_int_t)b->column, b->factor));
    }
    return blocks;
}

const char *main_settings(const ModelFiles *files, const PeftSpec *spec, const PeftResult *result, bool adapted, Arena *arena)
{
    json_t *all = json_object();
    bool training = adapted && !spec->infer;
    if (training && files->checkpoint) {
        char hash[LRT_HASH_TEXT];
        lrt_hash_text(lrt_checkpoint_hash(files->checkpoint), hash);
        json_object_set_new(all, "base_hash", json_string(hash));
    }
    if (training && files->weights_path)
        json_object_set_new(all, "weights", json_string(files->weights_path));
    if (training && files->adapter_path)
        json_object_set_new(all, "adapter", json_string(files->adapter_path));
    if (training)
        json_object_set_new(all, "adapter_config", json_string(files->adapter_config ? files->adapter_config : result->settings));
    if (training && main_has_initial(result))
        json_object_set_new(all, "initial", json_true());
    if (training && result->network)
        json_object_set_new(all, "network", json_pack("[s, s, s, s, s, s]", result->network->table, result->network->embedding,
                                                      result->network->weight1, result->network->bias1, result->network->weight2,
                                                      result->network->bias2));
    if (training && result->peft_settings)
        json_object_set_new(all, "peft", json_pack("{s: s, s: o}", "config", result->peft_settings, "blocks", blocks_of(result)));
    char *text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
    const char *copy = arena_strdup(arena, text ? text : "{}");
    free(text);
    json_decref(all);
    return copy;
}

const char *main_find_runtime(Arena *arena, Diag *diag)
{
    static const char *const places[] = {"libloracc-runtime.a", "../lib/loracc/libloracc-runtime.a",
                                         "../lib64/loracc/libloracc-runtime.a",
                                         "../lib/x86_64-linux-gnu/loracc/libloracc-runtime.a"};
    const char *given = getenv("LORACC_RUNTIME");
    if (given && *given)
        return given;
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length > 0) {
        self[length] = '\0';
        char *slash = strrchr(self, '/');
        *slash = '\0';
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            const char *path = arena_format(arena, "%s/%s", self, places[i]);
            if (access(path, R_OK) == 0)
                return path;
        }
    }
    diag_error(diag, nowhere,
               "the runtime library libloracc-runtime.a is not beside the compiler nor in ../lib/loracc; set LORACC_RUNTIME");
    return NULL;
}
