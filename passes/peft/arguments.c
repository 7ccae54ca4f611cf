/* arguments.c - methods and their settings as the command line writes them. */
#include <stdlib.h>
#include <string.h>

#include "passes/peft/config.h"

const char *const *peft_parse_names(const char *text, int *count, Arena *arena)
{
    const char **names = NULL;
    int capacity = 0;
    *count = 0;
    while (*text) {
        size_t length = strcspn(text, ",");
        if (length)
            ARENA_PUSH(arena, names, *count, capacity, arena_strndup(arena, text, length));
        text += length + (text[length] == ',');
    }
    return names;
}

bool peft_parse_lora(PeftSpec *spec, const char *text, Arena *arena, Diag *diag)
{
    int count, pattern_capacity = 0;
    const char *const *items = peft_parse_names(text, &count, arena);
    const char **targets = ARENA_ARRAY(arena, const char *, count + 1);
    PeftPattern *patterns = NULL;
    for (int i = 0; i < count; i++) {
        size_t length = strcspn(items[i], "=");
        targets[i] = arena_strndup(arena, items[i], length);
        if (items[i][length] != '=')
            continue;
        char *end;
        PeftPattern pattern = {.key = targets[i], .is_role = true};
        pattern.rank = strtoll(items[i] + length + 1, &end, 10);
        if (*end == ':')
            pattern.alpha = strtod(end + 1, &end);
        else
            pattern.alpha = 2.0 * (double)pattern.rank;
        if (*end || pattern.rank < 1) {
            diag_error(diag, peft_nowhere, "--lora: '%s' is not ROLE, ROLE=RANK or ROLE=RANK:ALPHA", items[i]);
            return false;
        }
        ARENA_PUSH(arena, patterns, spec->pattern_count, pattern_capacity, pattern);
    }
    if (!count) {
        diag_error(diag, peft_nowhere, "--lora needs roles or module names, e.g. --lora q,v");
        return false;
    }
    spec->targets = targets;
    spec->target_count = count;
    spec->patterns = patterns;
    return true;
}

bool peft_parse_layers(PeftSpec *spec, const char *text, Arena *arena, Diag *diag)
{
    int count, capacity = 0;
    const char *const *items = peft_parse_names(text, &count, arena);
    int64_t *layers = NULL;
    for (int i = 0; i < count; i++) {
        char *end;
        long long first = strtoll(items[i], &end, 10), last = first + 1;
        if (*end == ':')
            last = strtoll(end + 1, &end, 10);
        if (*end || first < 0 || last <= first || last > 100000) {
            diag_error(diag, peft_nowhere, "--layers: '%s' is not a layer or a range FIRST:END", items[i]);
            return false;
        }
        for (long long l = first; l < last; l++)
            ARENA_PUSH(arena, layers, spec->layer_count, capacity, (int64_t)l);
    }
    spec->layers = layers;
    return true;
}

/* --- settings by key ---------------------------------------------------------------------------------------------------- */

static void *field_of(PeftSpec *spec, const PeftKey *key)
{
    return (char *)spec + key->field;
}

/* Names may be joined by '+', since ',' separates settings. */
static void set_names(PeftSpec *spec, const PeftKey *key, const char *text, Arena *arena)
{
    char *list = arena_strdup(arena, text);
    for (char *c = list; *c; c++)
        *c = *c == '+' ? ',' : *c;
    int count;
    const char *const *names = peft_parse_names(list, &count, arena);
    *(const char *const **)field_of(spec, key) = names;
    *peft_names_count(field_of(spec, key)) = count;
}

static bool set_bias(PeftSpec *spec, const char *text)
{
    static const char *const names[] = {"none", "all", "lora_only"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, names[i])) {
            spec->bias = (PeftBias)i;
            return true;
        }
    return false;
}

static bool set_number(PeftSpec *spec, const PeftKey *key, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (!*text || *end || !(value >= key->low && value <= key->high) ||
        (key->kind == PEFT_KEY_INT && value != (double)(int64_t)value))
        return false;
    if (key->kind == PEFT_KEY_INT)
        *(int64_t *)field_of(spec, key) = (int64_t)value;
    else
        *(double *)field_of(spec, key) = value;
    return true;
}

static bool set_value(PeftSpec *spec, const PeftKey *key, const char *text, Arena *arena)
{
    switch (key->kind) {
    case PEFT_KEY_INT:
    case PEFT_KEY_REAL: return set_number(spec, key, text);
    case PEFT_KEY_FLAG: *(bool *)field_of(spec, key) = strcmp(text, "0") != 0 && strcmp(text, "false") != 0; return true;
    case PEFT_KEY_TEXT: *(const char **)field_of(spec, key) = arena_strdup(arena, text); return true;
    case PEFT_KEY_NAMES: set_names(spec, key, text, arena); return true;
    case PEFT_KEY_BIAS: return set_bias(spec, text);
    }
    return false;
}

static const char *expected_value(const PeftKey *key, Arena *arena)
{
    if (key->kind == PEFT_KEY_BIAS)
        return "none, all or lora_only";
    return arena_format(arena, "a %s from %.9g to %.9g", key->kind == PEFT_KEY_INT ? "whole number" : "number", key->low, key->high);
}

bool peft_set_key(PeftSpec *spec, const PeftMethod *method, const char *name, const char *value, const char *origin, Arena *arena,
                  Diag *diag)
{
    Text known = {.arena = arena};
    for (int i = 0; i < method->key_count; i++) {
        const PeftKey *key = &method->keys[i];
        text_format(&known, "%s%s", i ? ", " : "", key->name);
        if (strcmp(key->name, name) != 0)
            continue;
        if (set_value(spec, key, value, arena))
            return true;
        diag_error(diag, peft_nowhere, "%s: '%s' is not %s, got '%s'", origin, name, expected_value(key, arena), value);
        return false;
    }
    diag_error(diag, peft_nowhere, "%s: method '%s' has no setting '%s'; it has %s", origin, method->name, name,
               known.data ? known.data : "none");
    return false;
}

void peft_defaults(PeftSpec *spec, const PeftMethod *method, Arena *arena)
{
    for (int i = 0; i < method->key_count; i++)
        if (method->keys[i].fallback)
            set_value(spec, &method->keys[i], method->keys[i].fallback, arena);
}

static bool set_keys(PeftSpec *spec, const PeftMethod *method, const char *text, const char *origin, Arena *arena, Diag *diag)
{
    int count;
    const char *const *items = peft_parse_names(text, &count, arena);
    for (int i = 0; i < count; i++) {
        size_t length = strcspn(items[i], "=");
        const char *value = items[i][length] ? items[i] + length + 1 : "1";
        if (!peft_set_key(spec, method, arena_strndup(arena, items[i], length), value, origin, arena, diag))
            return false;
    }
    return true;
}

void peft_unknown_method(const char *name, Arena *arena, Diag *diag)
{
    const char **names = ARENA_ARRAY(arena, const char *, peft_method_count + peft_variant_count);
    int count = 0;
    for (int i = 0; i < peft_method_count; i++)
        names[count++] = peft_methods[i]->name;
    for (int i = 0; i < peft_variant_count; i++)
        names[count++] = peft_variants[i].name;
    const char *near = nearest_word(name, names, count);
    diag_error(diag, peft_nowhere, "unknown method '%s'%s%s%s; --list-methods shows what there is", name, near ? ", did you mean '" : "",
               near ? near : "", near ? "'?" : "");
}

/* NULL: there is none.  *settings: what a variant's name stands for. */
static const PeftMethod *named(const char *name, const char **settings)
{
    *settings = "";
    for (int i = 0; i < peft_variant_count; i++)
        if (!strcmp(peft_variants[i].name, name)) {
            *settings = peft_variants[i].settings;
            return peft_find_method(peft_variants[i].method);
        }
    return peft_find_method(name);
}

const PeftMethod *peft_method_of(const char *text, Arena *arena)
{
    const char *settings;
    return named(arena_strndup(arena, text, strcspn(text, ":")), &settings);
}

bool peft_parse_method(PeftSpec *spec, const char *text, Arena *arena, Diag *diag)
{
    size_t length = strcspn(text, ":");
    const char *settings, *name = arena_strndup(arena, text, length);
    const PeftMethod *method = named(name, &settings);
    if (!method) {
        peft_unknown_method(name, arena, diag);
        return false;
    }
    if (spec->tensors && strcmp(spec->method, method->name) != 0) {
        diag_error(diag, peft_nowhere, "--method %s: the adapter is one of method '%s'", method->name, spec->method);
        return false;
    }
    spec->method = method->name;
    const char *origin = arena_format(arena, "--method %s", method->name);
    if (!spec->origin)
        spec->origin = origin;
    if (!spec->tensors)
        peft_defaults(spec, method, arena);
    return set_keys(spec, method, settings, origin, arena, diag) &&
           set_keys(spec, method, text[length] ? text + length + 1 : "", origin, arena, diag);
}
