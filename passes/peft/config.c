/* config.c - see config.h.  Fields of adapter_config.json: PEFT's LoraConfig. */
#include "passes/peft/config.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* --- adapter_config.json --------------------------------------------------------------------------------------------- */

typedef struct Reader {
    PeftSpec *spec;
    const json_t *root;
    const char *path;
    Arena *arena;
    Diag *diag;
} Reader;

static bool bad(Reader *r, const char *key, const char *expected)
{
    diag_error(r->diag, peft_nowhere, "%s: \"%s\" is not %s", r->path, key, expected);
    return false;
}

/* A list of strings, or null.  A string is given to *single where that is allowed. */
static bool read_names(Reader *r, const char *key, const char *const **names, int64_t *count, const char **single)
{
    const json_t *value = json_object_get(r->root, key);
    *count = 0;
    if (!value || json_is_null(value))
        return true;
    if (json_is_string(value) && single) {
        *single = arena_strdup(r->arena, json_string_value(value));
        return true;
    }
    if (!json_is_array(value))
        return bad(r, key, single ? "a list of names or a string" : "a list of names");
    const char **list = ARENA_ARRAY(r->arena, const char *, json_array_size(value) + 1);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        if (!json_is_string(item))
            return bad(r, key, "a list of names");
        list[(*count)++] = arena_strdup(r->arena, json_string_value(item));
    }
    *names = list;
    return true;
}

static bool read_number(Reader *r, const char *key, double *value)
{
    const json_t *item = json_object_get(r->root, key);
    if (!item || json_is_null(item))
        return true;
    if (!json_is_number(item))
        return bad(r, key, "a number");
    *value = json_number_value(item);
    return true;
}

static bool read_layers(Reader *r)
{
    const json_t *value = json_object_get(r->root, "layers_to_transform");
    if (!value || json_is_null(value))
        return true;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    int64_t *layers = ARENA_ARRAY(r->arena, int64_t, count + 1);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(item))
            return bad(r, "layers_to_transform", "a list of layers");
        layers[i] = json_integer_value(item);
    }
    r->spec->layers = layers;
    r->spec->layer_count = (int)count;
    return true;
}

/* of_roles: keys are roles, else regular expressions. */
static bool read_patterns(Reader *r, bool of_roles)
{
    static const char *const keys[] = {"rank_pattern", "alpha_pattern"};
    PeftPattern *patterns = NULL;
    int capacity = 0;
    for (int k = 0; k < 2; k++) {
        json_t *table = json_object_get(r->root, keys[k]);
        if (!table || json_is_null(table))
            continue;
        if (!json_is_object(table))
            return bad(r, keys[k], "an object");
        const char *name;
        json_t *value;
        json_object_foreach(table, name, value) {
            if (!json_is_number(value))
                return bad(r, keys[k], "an object of numbers");
            PeftPattern pattern = {.key = arena_strdup(r->arena, name), .is_role = of_roles};
            if (k == 0)
                pattern.rank = (int64_t)json_number_value(value);
            else
                pattern.alpha = json_number_value(value);
            ARENA_PUSH(r->arena, patterns, r->spec->pattern_count, capacity, pattern);
        }
    }
    r->spec->patterns = patterns;
    return true;
}

/* Whether a field says anything but "not used". */
static bool is_set(const json_t *value)
{
    if (!value || json_is_null(value) || json_is_false(value))
        return false;
    if (json_is_object(value) || json_is_array(value))
        return json_is_object(value) ? json_object_size(value) > 0 : json_array_size(value) > 0;
    return true;
}

/* Fields that change what the adapter computes and that this compiler does not implement. */
static bool refuse_unsupported(Reader *r)
{
    static const char *const fields[] = {
        "lora_bias", "layer_replication", "trainable_token_indices", "alora_invocation_tokens", "use_qalora",
        "target_parameters", "use_bdlora", "arrow_config", "velora_config", "monteclora_config", "kasa_config",
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!is_set(json_object_get(r->root, fields[i])))
            continue;
        diag_error(r->diag, peft_nowhere, "%s: \"%s\" is set, which is not supported", r->path, fields[i]);
        return false;
    }
    return true;
}

static bool read_bias(Reader *r)
{
    static const char *const names[] = {"none", "all", "lora_only"};
    const json_t *value = json_object_get(r->root, "bias");
    if (!value || json_is_null(value))
        return true;
    for (int i = 0; i < 3; i++)
        if (json_is_string(value) && !strcmp(json_string_value(value), names[i])) {
            r->spec->bias = (PeftBias)i;
            return true;
        }
    return bad(r, "bias", "\"none\", \"all\" or \"lora_only\"");
}

static void read_initial(Reader *r)
{
    const char *initial = json_string_value(json_object_get(r->root, "init_lora_weights"));
    r->spec->initial = arena_strdup(r->arena, initial ? initial : "");
}

static bool read_peft_lora(Reader *r)
{
    PeftSpec *spec = r->spec;
    const char *single = NULL, *one_name = NULL;
    double rank = 8, alpha = 8;
    spec->method = "lora";
    spec->dropout = 0;
    spec->train_is_modules = true;
    if (!refuse_unsupported(r) || !read_bias(r) || !read_layers(r) || !read_patterns(r, false) ||
        !read_names(r, "target_modules", &spec->targets, &spec->target_count, &single) ||
        !read_names(r, "exclude_modules", &spec->exclude, &spec->exclude_count, &spec->exclude_regex) ||
        !read_names(r, "layers_pattern", &spec->layer_names, &spec->layer_name_count, &one_name) ||
        !read_names(r, "modules_to_save", &spec->train, &spec->train_count, NULL) || !read_number(r, "r", &rank) ||
        !read_number(r, "lora_alpha", &alpha) || !read_number(r, "lora_dropout", &spec->dropout))
        return false;
    if (one_name && *one_name) {
        const char **names = ARENA_ARRAY(r->arena, const char *, 1);
        names[0] = one_name;
        spec->layer_names = names;
        spec->layer_name_count = 1;
    }
    spec->rank = (int64_t)rank;
    spec->alpha = alpha;
    spec->rslora = json_is_true(json_object_get(r->root, "use_rslora"));
    spec->dora = json_is_true(json_object_get(r->root, "use_dora"));
    read_initial(r);
    if (single && !strcmp(single, "all-linear")) {
        const char **targets = ARENA_ARRAY(r->arena, const char *, 1);
        targets[0] = single;
        spec->targets = targets;
        spec->target_count = 1;
    } else {
        spec->target_regex = single;
    }
    if (spec->target_count || spec->target_regex)
        return true;
    diag_error(r->diag, peft_nowhere, "%s: \"target_modules\" is missing; name the modules the adapter is for", r->path);
    return false;
}

static bool read_peft_ia3(Reader *r)
{
    PeftSpec *spec = r->spec;
    const char *feedforward = NULL;
    spec->method = "ia3";
    spec->train_is_modules = true;
    if (!read_names(r, "target_modules", &spec->targets, &spec->target_count, &spec->target_regex) ||
        !read_names(r, "exclude_modules", &spec->exclude, &spec->exclude_count, NULL) ||
        !read_names(r, "modules_to_save", &spec->train, &spec->train_count, NULL) ||
        !read_names(r, "feedforward_modules", &spec->feedforward, &spec->feedforward_count, &feedforward))
        return false;
    if (feedforward)
        return bad(r, "feedforward_modules", "a list of names (a regular expression is not supported)");
    return spec->target_count || spec->target_regex || bad(r, "target_modules", "a list of the modules the adapter is for");
}

static bool read_peft_vera(Reader *r)
{
    PeftSpec *spec = r->spec;
    double rank = 256, dropout = 0;
    spec->method = "vera";
    spec->d_initial = 0.1;
    spec->train_is_modules = true;
    if (!read_layers(r) || !read_number(r, "r", &rank) || !read_number(r, "d_initial", &spec->d_initial) ||
        !read_number(r, "vera_dropout", &dropout) ||
        !read_names(r, "target_modules", &spec->targets, &spec->target_count, &spec->target_regex) ||
        !read_names(r, "modules_to_save", &spec->train, &spec->train_count, NULL))
        return false;
    spec->rank = (int64_t)rank;
    if (json_is_false(json_object_get(r->root, "save_projection")))
        return bad(r, "save_projection", "true: the random pair has to be in the file");
    return spec->target_count || spec->target_regex || bad(r, "target_modules", "a list of the modules the adapter is for");
}

/* Prompt and prefix tuning.  A reparametrised prefix is stored as what its network gave. */
static bool read_peft_prompt(Reader *r, const char *method)
{
    double tokens = 0, submodules = 1;
    r->spec->method = method;
    r->spec->train_is_modules = true;
    if (!read_number(r, "num_virtual_tokens", &tokens) || !read_number(r, "num_transformer_submodules", &submodules) ||
        !read_names(r, "modules_to_save", &r->spec->train, &r->spec->train_count, NULL))
        return false;
    if (submodules > 1)
        return bad(r, "num_transformer_submodules", "1: encoder-decoder models are not supported");
    r->spec->prefix = (int64_t)tokens;
    return tokens >= 1 || bad(r, "num_virtual_tokens", "a number of at least 1");
}

/* {"method": NAME, "key": value, ...} as settings.c writes it. */
static bool read_keys(Reader *r, const PeftMethod *method)
{
    const char *name;
    json_t *value;
    r->spec->method = method->name;
    peft_defaults(r->spec, method, r->arena);
    r->spec->by_role = true;
    json_object_foreach((json_t *)(uintptr_t)r->root, name, value) {
        if (!strcmp(name, "method") || !strcmp(name, "layers_to_transform") || !strcmp(name, "train"))
            continue;
        char number[40];
        const char *text = json_string_value(value);
        if (json_is_number(value)) {
            snprintf(number, sizeof number, "%.17g", json_number_value(value));
            text = number;
        }
        if (json_is_boolean(value))
            text = json_is_true(value) ? "1" : "0";
        if (!text)
            return bad(r, name, "a number or a string");
        if (!peft_set_key(r->spec, method, name, text, r->path, r->arena, r->diag))
            return false;
    }
    return read_layers(r) && read_names(r, "train", &r->spec->train, &r->spec->train_count, NULL);
}

static bool read_split_lora(Reader *r)
{
    PeftSpec *spec = r->spec;
    double rank = 0, alpha = 0;
    spec->method = "lora";
    spec->split = true;
    spec->dropout = 0;
    spec->train_is_modules = true;
    if (!read_names(r, "parts", &spec->targets, &spec->target_count, NULL) || !read_number(r, "r", &rank) ||
        !read_number(r, "alpha", &alpha) || !read_number(r, "lora_dropout", &spec->dropout) || !read_patterns(r, true) ||
        !read_bias(r) || !read_layers(r) || !read_names(r, "modules_to_save", &spec->train, &spec->train_count, NULL))
        return false;
    if (!spec->target_count)
        return bad(r, "parts", "a list of the roles of slices, such as [\"q\", \"v\"]");
    spec->rank = (int64_t)rank; /* 0: as the tensors have it */
    spec->alpha = alpha;
    spec->rslora = json_is_true(json_object_get(r->root, "use_rslora"));
    read_initial(r);
    return alpha > 0 || bad(r, "alpha", "a number above 0; what the pairs give is multiplied by alpha / r");
}

static bool read_any(Reader *r);

static bool is_combined(const json_t *root)
{
    const char *method = json_string_value(json_object_get(root, "method"));
    return method && !strcmp(method, "combined");
}

/* Several methods, in their order. */
static bool read_combined(Reader *r)
{
    const json_t *parts = json_object_get(r->root, "parts");
    PeftSpec *spec = r->spec;
    for (size_t i = 0; i < json_array_size(parts); i++) {
        Reader part = *r;
        part.root = json_array_get(parts, i);
        if (i)
            spec = spec->next = ARENA_NEW(r->arena, PeftSpec);
        part.spec = spec;
        spec->origin = r->path;
        if (is_combined(part.root))
            return bad(r, "parts", "a list of the settings of single methods");
        if (!read_any(&part))
            return false;
    }
    return json_array_size(parts) > 0 || bad(r, "parts", "a list of the settings of single methods");
}

static bool read_any(Reader *r)
{
    const json_t *type = json_object_get(r->root, "peft_type"), *method = json_object_get(r->root, "method");
    if (json_is_string(type)) {
        if (!strcmp(json_string_value(type), "LORA"))
            return read_peft_lora(r);
        if (!strcmp(json_string_value(type), "IA3"))
            return read_peft_ia3(r);
        if (!strcmp(json_string_value(type), "VERA"))
            return read_peft_vera(r);
        if (!strcmp(json_string_value(type), "PROMPT_TUNING"))
            return read_peft_prompt(r, "prompt_tuning");
        if (!strcmp(json_string_value(type), "PREFIX_TUNING"))
            return read_peft_prompt(r, "prefix_tuning");
        diag_error(r->diag, peft_nowhere,
                   "%s: adapters of type '%s' are not supported; LORA, VERA, IA3, PROMPT_TUNING and PREFIX_TUNING are", r->path,
                   json_string_value(type));
        return false;
    }
    if (json_is_string(method) && !strcmp(json_string_value(method), "split_lora"))
        return read_split_lora(r);
    if (is_combined(r->root))
        return read_combined(r);
    const PeftMethod *known = json_is_string(method) ? peft_find_method(json_string_value(method)) : NULL;
    if (known && !known->settings)
        return read_keys(r, known);
    if (json_is_string(method))
        diag_error(r->diag, peft_nowhere, "%s: adapters of method '%s' are not supported", r->path, json_string_value(method));
    else
        diag_error(r->diag, peft_nowhere, "%s: no \"peft_type\": not an adapter's configuration", r->path);
    return false;
}

bool peft_parse_config(PeftSpec *spec, const char *json, const char *path, Arena *arena, Diag *diag)
{
    json_error_t error;
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root)) {
        diag_error(diag, peft_nowhere, "%s:%d:%d: not a JSON object: %s", path, error.line, error.column, error.text);
        json_decref(root);
        return false;
    }
    Reader reader = {spec, root, path, arena, diag};
    bool ok = read_any(&reader);
    json_decref(root);
    spec->origin = path;
    return ok;
}
