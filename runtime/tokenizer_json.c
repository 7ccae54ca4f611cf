/* tokenizer_json.c - byte-level BPE from tokenizer.json, the format of the `tokenizers` library. */
#define _GNU_SOURCE
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checkpoint.h"
#include "runtime/file.h"
#include "runtime/tokenizer_model.h"

typedef struct Reader {
    LrtTokenizerModel *m;
    const char *path;
    const json_t *root;
    LrtNames names;
    bool byte_level;
    LrtError *error;
} Reader;

static bool refuse(Reader *r, const char *what, const char *name)
{
    return lrt_fail(r->error, LRT_INVALID, "%s: %s '%s' is not supported; byte-level BPE tokenizers are", r->path, what,
                    name ? name : "of an unknown kind");
}

static const char *type_of(const json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    return type ? type : "";
}

/* Calls `read` for a part, or for each of a Sequence's. */
static bool each_part(Reader *r, const json_t *part, const char *list, bool (*read)(Reader *, const json_t *))
{
    if (!part || json_is_null(part))
        return true;
    if (strcmp(type_of(part), "Sequence") != 0)
        return read(r, part);
    const json_t *parts = json_object_get(part, list);
    for (size_t i = 0; i < json_array_size(parts); i++)
        if (!each_part(r, json_array_get(parts, i), list, read))
            return false;
    return true;
}

static bool read_normalizer(Reader *r, const json_t *part)
{
    if (strcmp(type_of(part), "NFC") != 0)
        return refuse(r, "normalizer", type_of(part));
    r->m->nfc = 1;
    return true;
}

static bool read_split(Reader *r, const json_t *part)
{
    const json_t *pattern = json_object_get(part, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *behavior = json_string_value(json_object_get(part, "behavior"));
    bool removed = behavior && !strcmp(behavior, "Removed");
    if (!regex || !behavior || (strcmp(behavior, "Isolated") != 0 && !removed) || json_is_true(json_object_get(part, "invert")))
        return refuse(r, "pre-tokenizer Split with behavior", behavior);
    return lrt_model_add_split(r->m, regex, removed, r->path, r->error);
}

static bool read_pre_tokenizer(Reader *r, const json_t *part)
{
    const char *type = type_of(part);
    if (!strcmp(type, "Split"))
        return read_split(r, part);
    if (!strcmp(type, "Digits"))
        return lrt_model_add_split(r->m, json_is_true(json_object_get(part, "individual_digits")) ? "\\p{N}" : "\\p{N}+", false,
                                   r->path, r->error);
    if (strcmp(type, "ByteLevel") != 0)
        return refuse(r, "pre-tokenizer", type);
    r->byte_level = true;
    if (json_is_true(json_object_get(part, "add_prefix_space")))
        r->m->prefix_space = 1;
    return json_is_false(json_object_get(part, "use_regex")) || lrt_model_add_split(r->m, lrt_gpt2_pattern, false, r->path, r->error);
}

static bool add_extra(Reader *r, int32_t *list, int32_t *count, const json_t *value)
{
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (*count == TOKENIZER_EXTRA || id < 0 || id >= r->m->count)
        return lrt_fail(r->error, LRT_INVALID, "%s: its post-processor adds a token that there is not", r->path);
    list[(*count)++] = (int32_t)id;
    return true;
}

/* TemplateProcessing: [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, ...] with ids in special_tokens. */
static bool read_template(Reader *r, const json_t *part)
{
    const json_t *single = json_object_get(part, "single"), *specials = json_object_get(part, "special_tokens");
    bool after = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i), *special = json_object_get(item, "SpecialToken");
        if (json_object_get(item, "Sequence")) {
            after = true;
            continue;
        }
        const char *name = json_string_value(json_object_get(special, "id"));
        const json_t *ids = name ? json_object_get(json_object_get(specials, name), "ids") : NULL;
        for (size_t k = 0; k == 0 || k < json_array_size(ids); k++)
            if (!add_extra(r, after ? r->m->after : r->m->before, after ? &r->m->after_count : &r->m->before_count,
                           json_array_get(ids, k)))
                return false;
    }
    return true;
}

static bool read_post_processor(Reader *r, const json_t *part)
{
    const char *type = type_of(part);
    if (!strcmp(type, "ByteLevel"))
        return true;
    if (!strcmp(type, "TemplateProcessing"))
        return read_template(r, part);
    if (strcmp(type, "RobertaProcessing") != 0 && strcmp(type, "BertProcessing") != 0)
        return refuse(r, "post-processor", type);
    const json_t *cls = json_array_get(json_object_get(part, "cls"), 1), *sep = json_array_get(json_object_get(part, "sep"), 1);
    return add_extra(r, r->m->before, &r->m->before_count, cls) &&
           add_extra(r, r->m->after, &r->m->after_count, sep);
}

/* --- vocabulary -------------------------------------------------------------------------------------------------------- */

static bool check_model(Reader *r, const json_t *model)
{
    bool untyped = !json_object_get(model, "type") && json_object_get(model, "merges"); /* as older libraries wrote it */
    if (strcmp(type_of(model), "BPE") != 0 && !untyped)
        return refuse(r, "model", type_of(model));
    static const char *const off[] = {"byte_fallback", "fuse_unk"};
    for (int i = 0; i < 2; i++)
        if (json_is_true(json_object_get(model, off[i])))
            return refuse(r, "BPE with", off[i]);
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const char *text = json_string_value(json_object_get(model, empty[i]));
        if (text && *text)
            return refuse(r, "BPE with", empty[i]);
    }
    r->m->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    return true;
}

enum { HOLES_MAX = 1 << 20 };

/* Ids may have holes, but not more than a table of tokens can afford. */
static bool note_id(Reader *r, const char *name, const json_t *value, size_t tokens, json_int_t *most)
{
    json_int_t id = json_integer_value(value);
    if (!name || !json_is_integer(value))
        return lrt_fail(r->error, LRT_INVALID, "%s: token '%.60s' has no %s", r->path, name ? name : "", name ? "id" : "\"content\"");
    if (id < 0 || (size_t)id > tokens + HOLES_MAX)
        return lrt_fail(r->error, LRT_INVALID, "%s: token '%.60s' has the id %lld; ids are 0 and on", r->path, name, (long long)id);
    *most = id > *most ? id : *most;
    return true;
}

static bool name_tokens(Reader *r, const json_t *vocabulary, const json_t *added)
{
    json_int_t most = -1;
    const size_t tokens = json_object_size(vocabulary) + json_array_size(added);
    const char *name;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)vocabulary, name, id)
        if (!note_id(r, name, id, tokens, &most))
            return false;
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        if (!note_id(r, json_string_value(json_object_get(token, "content")), json_object_get(token, "id"), tokens, &most))
            return false;
    }
    int32_t count = (int32_t)most + 1;
    r->names.text = calloc((size_t)count + 1, sizeof *r->names.text);
    r->names.length = calloc((size_t)count + 1, sizeof *r->names.length);
    if (!r->names.text || !r->names.length || !lrt_model_reserve(r->m, count, r->error))
        return lrt_fail(r->error, LRT_FAILED, "out of memory");
    json_object_foreach((json_t *)(uintptr_t)vocabulary, name, id) {
        const char **text = &r->names.text[json_integer_value(id)];
        if (*text)
            return lrt_fail(r->error, LRT_INVALID, "%s: tokens '%.60s' and '%.60s' have the same id", r->path, *text, name);
        *text = name;
        r->names.length[json_integer_value(id)] = strlen(name);
    }
    return true;
}

static void add_flags(Reader *r, const json_t *added)
{
    static const struct {
        const char *key;
        int flag;
    } keys[] = {{"special", TOKEN_SPECIAL}, {"lstrip", TOKEN_LSTRIP}, {"rstrip", TOKEN_RSTRIP}, {"single_word", TOKEN_WORD}};
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        json_int_t id = json_integer_value(json_object_get(token, "id"));
        const char *content = json_string_value(json_object_get(token, "content"));
        int flags = TOKEN_ADDED;
        for (int k = 0; k < 4; k++)
            if (json_is_true(json_object_get(token, keys[k].key)))
                flags |= keys[k].flag;
        r->m->flags[id] = (uint8_t)flags;
        r->names.text[id] = content;
        r->names.length[id] = strlen(content);
    }
    for (int32_t i = 0; i < r->m->count; i++)
        if (!r->names.text[i])
            r->names.text[i] = ""; /* a hole */
}

static bool read_merge(Reader *r, const json_t *merge)
{
    const char *left = json_string_value(json_array_get(merge, 0)), *right = json_string_value(json_array_get(merge, 1));
    if (left && right)
        return lrt_model_add_merge(r->m, &r->names, left, strlen(left), right, strlen(right));
    const char *both = json_string_value(merge), *space = both && *both ? strchr(both + 1, ' ') : NULL;
    return space && lrt_model_add_merge(r->m, &r->names, both, (size_t)(space - both), space + 1, strlen(space + 1));
}

static bool read_model(Reader *r)
{
    const json_t *model = json_object_get(r->root, "model"), *added = json_object_get(r->root, "added_tokens");
    const json_t *merges = json_object_get(model, "merges");
    if (!check_model(r, model))
        return false;
    if (!json_is_object(json_object_get(model, "vocab")) || !json_is_array(merges))
        return lrt_fail(r->error, LRT_INVALID, "%s: the model has no \"vocab\" or no \"merges\"", r->path);
    if (!name_tokens(r, json_object_get(model, "vocab"), added))
        return false;
    add_flags(r, added);
    for (int32_t i = 0; i < r->m->count; i++)
        if (!lrt_model_set_token(r->m, i, r->names.text[i], r->names.length[i], r->m->flags[i] & TOKEN_ADDED, r->error))
            return false;
    r->m->merges = calloc(json_array_size(merges) + 1, sizeof *r->m->merges);
    if (!r->m->merges || !lrt_names_build(&r->names, r->m->count, r->error))
        return lrt_fail(r->error, LRT_FAILED, "out of memory");
    for (size_t i = 0; i < json_array_size(merges); i++)
        if (!read_merge(r, json_array_get(merges, i)))
            return lrt_fail(r->error, LRT_INVALID, "%s: merge %zu joins no two tokens", r->path, i);
    return true;
}

/* --- begin and end ------------------------------------------------------------------------------------------------------ */

/* The token of a name ("eos_token": "</s>" or {"content": "</s>"}) or number ("eos_token_id": 2 or [2, 3]). */
static int32_t token_of(Reader *r, const json_t *value, bool mark_end)
{
    int32_t id = -1;
    if (json_is_object(value))
        value = json_object_get(value, "content");
    if (json_is_string(value))
        id = lrt_names_find(&r->names, json_string_value(value), strlen(json_string_value(value)));
    else if (json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) < r->m->count)
        id = (int32_t)json_integer_value(value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        int32_t one = token_of(r, json_array_get(value, i), mark_end);
        id = id < 0 ? one : id;
    }
    if (mark_end && id >= 0)
        r->m->flags[id] |= TOKEN_END;
    return id;
}

/* What lies beside tokenizer.json says which tokens begin and end a text. */
static void read_neighbours(Reader *r)
{
    static const char *const files[] = {"tokenizer_config.json", "generation_config.json", "config.json"};
    static const char *const keys[][2] = {{"bos_token", "eos_token"}, {"bos_token_id", "eos_token_id"}};
    const char *slash = strrchr(r->path, '/');
    for (int i = 0; i < 3; i++) {
        char *path = NULL;
        LrtError ignored = {LRT_OK, ""};
        int length = slash ? (int)(slash - r->path) + 1 : 0;
        if (asprintf(&path, "%.*s%s", length, r->path, files[i]) < 0)
            return;
        json_t *root = lrt_file_exists(path) ? lrt_json_read(path, &ignored) : NULL;
        for (int k = 0; k < 2; k++) {
            int32_t begin = token_of(r, json_object_get(root, keys[k][0]), false);
            int32_t end = token_of(r, json_object_get(root, keys[k][1]), true);
            r->m->begin = r->m->begin < 0 ? begin : r->m->begin;
            r->m->end = r->m->end < 0 ? end : r->m->end;
        }
        json_decref(root);
        free(path);
    }
}

bool lrt_read_tokenizer_json(LrtTokenizerModel *m, const char *path, LrtError *error)
{
    json_t *root = lrt_json_read(path, error);
    Reader r = {.m = m, .path = path, .root = root, .error = error};
    if (!root)
        return false;
    bool ok = each_part(&r, json_object_get(root, "normalizer"), "normalizers", read_normalizer) &&
              each_part(&r, json_object_get(root, "pre_tokenizer"), "pretokenizers", read_pre_tokenizer) && read_model(&r) &&
              each_part(&r, json_object_get(root, "post_processor"), "processors", read_post_processor);
    if (ok && !r.byte_level)
        ok = refuse(&r, "a pre-tokenizer without", "ByteLevel");
    if (ok)
        read_neighbours(&r);
    lrt_names_free(&r.names);
    json_decref(root);
    return ok;
}
