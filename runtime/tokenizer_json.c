/* tokenizer_json.c - BPE, WordPiece and Unigram from tokenizer.json, the format of the `tokenizers` library: the model and its vocabulary;
 * tokenizer_parts.c reads what is around the model. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checkpoint.h"
#include "runtime/file.h"
#include "runtime/tokenizer_json.h"

typedef LrtTokenizerReader Reader;

/* --- vocabulary -------------------------------------------------------------------------------------------------------- */

/* Older libraries wrote no type of the model. */
static const char *model_type(const json_t *model)
{
    const char *type = lrt_json_type(model);
    if (*type)
        return type;
    return json_object_get(model, "merges") ? "BPE" : json_object_get(model, "max_input_chars_per_word") ? "WordPiece" : "";
}

/* Byte-level, or of characters as SentencePiece makes it. */
static bool check_bpe(Reader *r, const json_t *model)
{
    LrtTokenizerRules *rules = &r->m->rules;
    rules->kind = r->byte_level ? TOKENIZER_BPE : TOKENIZER_SPM;
    rules->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    rules->byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
    rules->fuse_unknown = json_is_true(json_object_get(model, "fuse_unk"));
    if (r->byte_level && (rules->byte_fallback || rules->fuse_unknown))
        return lrt_json_refuse(r, "byte-level BPE with", rules->byte_fallback ? "byte_fallback" : "fuse_unk");
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const char *text = json_string_value(json_object_get(model, empty[i]));
        if (text && *text)
            return lrt_json_refuse(r, "BPE with", empty[i]);
    }
    return json_is_array(json_object_get(model, "merges")) ||
           lrt_fail(r->error, LRT_INVALID, "%s: the model has no list \"merges\"", r->path);
}

static bool check_wordpiece(Reader *r, const json_t *model)
{
    LrtTokenizerRules *rules = &r->m->rules;
    const json_t *prefix = json_object_get(model, "continuing_subword_prefix"), *most = json_object_get(model, "max_input_chars_per_word");
    if (r->byte_level || !r->split)
        return lrt_json_refuse(r, "WordPiece with the pre-tokenizer", r->split ? "ByteLevel" : "none");
    const char *text = prefix && !json_is_null(prefix) ? json_string_value(prefix) : "##";
    if (!text || strlen(text) >= PREFIX_BYTES)
        return lrt_fail(r->error, LRT_INVALID, "%s: \"continuing_subword_prefix\" is not a text of less than %d bytes", r->path,
                        PREFIX_BYTES);
    if (most && (!json_is_integer(most) || json_integer_value(most) < 1 || json_integer_value(most) > INT32_MAX))
        return lrt_fail(r->error, LRT_INVALID, "%s: \"max_input_chars_per_word\" is not a number of 1 and more", r->path);
    memcpy(rules->prefix, text, strlen(text) + 1);
    rules->word_max = most ? (int32_t)json_integer_value(most) : 100;
    rules->kind = TOKENIZER_WORDPIECE;
    return true;
}

static bool check_unigram(Reader *r, const json_t *model)
{
    LrtTokenizerRules *rules = &r->m->rules;
    const json_t *unknown = json_object_get(model, "unk_id");
    const size_t count = json_array_size(json_object_get(model, "vocab"));
    rules->kind = TOKENIZER_UNIGRAM;
    rules->byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
    rules->fuse_unknown = 1;
    if (r->byte_level)
        return lrt_json_refuse(r, "Unigram with the pre-tokenizer", "ByteLevel");
    if (!json_is_integer(unknown) || json_integer_value(unknown) < 0 || (size_t)json_integer_value(unknown) >= count)
        return lrt_fail(r->error, LRT_INVALID, "%s: the model's \"unk_id\" is not in its vocabulary", r->path);
    rules->unknown = (int32_t)json_integer_value(unknown);
    return true;
}

static bool check_model(Reader *r, const json_t *model)
{
    static const struct {
        const char *type;
        bool (*check)(Reader *, const json_t *);
        bool list; /* the vocabulary is [["a", -1.5], ...], else {"a": 0, ...} */
    } types[] = {{"BPE", check_bpe, false}, {"WordPiece", check_wordpiece, false}, {"Unigram", check_unigram, true}};
    const json_t *vocabulary = json_object_get(model, "vocab");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(model_type(model), types[i].type))
            return types[i].check(r, model) && ((types[i].list ? json_is_array(vocabulary) : json_is_object(vocabulary)) ||
                                                lrt_fail(r->error, LRT_INVALID, "%s: the model has no \"vocab\"", r->path));
    return lrt_json_refuse(r, "model", model_type(model));
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

/* The vocabulary: its tokens under their ids. */
static bool name_vocabulary(Reader *r, const json_t *vocabulary)
{
    const char *name;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)vocabulary, name, id) {
        const char **text = &r->names.text[json_integer_value(id)];
        if (*text)
            return lrt_fail(r->error, LRT_INVALID, "%s: tokens '%.60s' and '%.60s' have the same id", r->path, *text, name);
        *text = name;
        r->names.length[json_integer_value(id)] = strlen(name);
    }
    return true;
}

/* Unigram's: pieces and their scores, in the order of ids. */
static bool name_pieces(Reader *r, const json_t *vocabulary)
{
    r->m->scores = malloc(sizeof *r->m->scores * ((size_t)r->m->count + 1));
    if (!r->m->scores)
        return lrt_fail(r->error, LRT_FAILED, "out of memory");
    for (int32_t id = 0; id < r->m->count; id++) {
        const json_t *piece = json_array_get(vocabulary, (size_t)id), *score = json_array_get(piece, 1);
        const char *text = json_string_value(json_array_get(piece, 0));
        r->m->scores[id] = -INFINITY; /* only added */
        if ((size_t)id >= json_array_size(vocabulary))
            continue;
        if (!text || !json_is_number(score))
            return lrt_fail(r->error, LRT_INVALID, "%s: piece %d of the vocabulary is not a text with a score", r->path, (int)id);
        r->names.text[id] = text;
        r->names.length[id] = strlen(text);
        r->m->scores[id] = json_number_value(score);
    }
    return true;
}

static bool name_tokens(Reader *r, const json_t *vocabulary, const json_t *added)
{
    json_int_t most = (json_int_t)json_array_size(vocabulary) - 1;
    const size_t tokens = json_object_size(vocabulary) + json_array_size(vocabulary) + json_array_size(added);
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
    return json_is_array(vocabulary) ? name_pieces(r, vocabulary) : name_vocabulary(r, vocabulary);
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
        const json_t *normal = json_object_get(token, "normalized");
        if (normal ? json_is_true(normal) : !(flags & TOKEN_SPECIAL))
            flags |= TOKEN_NORMAL;
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

static bool read_merges(Reader *r, const json_t *merges)
{
    r->m->merges = calloc(json_array_size(merges) + 1, sizeof *r->m->merges);
    if (!r->m->merges)
        return lrt_fail(r->error, LRT_FAILED, "out of memory");
    for (size_t i = 0; i < json_array_size(merges); i++)
        if (!read_merge(r, json_array_get(merges, i)))
            return lrt_fail(r->error, LRT_INVALID, "%s: merge %zu joins no two tokens", r->path, i);
    return true;
}

/* Byte-level tokenizers have none: all bytes are tokens, or dropped. */
static bool read_unknown(Reader *r, const json_t *model)
{
    LrtTokenizerRules *rules = &r->m->rules;
    const char *name = json_string_value(json_object_get(model, "unk_token"));
    if (rules->kind == TOKENIZER_BPE || rules->kind == TOKENIZER_UNIGRAM || (rules->kind == TOKENIZER_SPM && !name))
        return true;
    rules->unknown = name && *name ? lrt_names_find(&r->names, name, strlen(name)) : -1;
    return rules->unknown >= 0 ||
           lrt_fail(r->error, LRT_INVALID, "%s: the model's \"unk_token\" '%.60s' is not in its vocabulary", r->path, name ? name : "");
}

static bool read_model(Reader *r)
{
    const json_t *model = json_object_get(r->root, "model"), *added = json_object_get(r->root, "added_tokens");
    if (!check_model(r, model) || !name_tokens(r, json_object_get(model, "vocab"), added))
        return false;
    add_flags(r, added);
    const bool spelled = r->m->rules.kind == TOKENIZER_BPE;
    for (int32_t i = 0; i < r->m->count; i++)
        if (!lrt_model_set_token(r->m, i, r->names.text[i], r->names.length[i], !spelled || (r->m->flags[i] & TOKEN_ADDED), r->error))
            return false;
    return lrt_names_build(&r->names, r->m->count, r->error) && read_unknown(r, model) &&
           (r->m->rules.kind == TOKENIZER_WORDPIECE || r->m->rules.kind == TOKENIZER_UNIGRAM ||
            read_merges(r, json_object_get(model, "merges")));
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
    LrtTokenizerRules *rules = &r->m->rules;
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
            rules->begin = rules->begin < 0 ? begin : rules->begin;
            rules->end = rules->end < 0 ? end : rules->end;
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
    bool ok = lrt_json_normalizer(&r) && lrt_json_pre_tokenizer(&r) && read_model(&r) && lrt_json_post_processor(&r) &&
              lrt_json_decoder(&r);
    if (ok)
        read_neighbours(&r);
    lrt_names_free(&r.names);
    json_decref(root);
    return ok;
}
