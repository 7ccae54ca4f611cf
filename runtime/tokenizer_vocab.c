/* tokenizer_vocab.c - WordPiece from a BERT checkpoint without a tokenizer.json: vocab.txt, a
 * token a line, and tokenizer_config.json beside it (do_lower_case, strip_accents,
 * tokenize_chinese_chars, names of special tokens), with the defaults that transformers'
 * BertTokenizer has. */
#define _GNU_SOURCE
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checkpoint.h"
#include "runtime/file.h"
#include "runtime/text.h"
#include "runtime/tokenizer_model.h"

enum { WORD_MAX = 100 }; /* characters; longer words are unknown */

/* --- lines --- */

static size_t count_lines(const LrtMap *map)
{
    size_t count = 0;
    for (size_t i = 0; i < map->size; i++)
        count += map->data[i] == '\n' || i + 1 == map->size;
    return count;
}

/* Line i is token i; of two equal ones the last counts, as in transformers. */
static bool read_lines(LrtTokenizerModel *m, const LrtMap *map, const char *path,
                       LrtNames *names, LrtError *error)
{
    const size_t count = count_lines(map);
    if (count >= INT32_MAX / 4)
        return lrt_fail(error, LRT_INVALID, "%s: %zu lines are not a vocabulary", path, count);
    names->text = calloc(count + 1, sizeof *names->text);
    names->length = calloc(count + 1, sizeof *names->length);
    if (!names->text || !names->length || !lrt_model_reserve(m, (int32_t)count, error))
        return lrt_fail(error, LRT_FAILED, "out of memory");
    const char *at = (const char *)map->data;
    for (size_t i = 0, left = map->size; i < count; i++) {
        const char *end = memchr(at, '\n', left);
        const size_t line = end ? (size_t)(end - at) : left;
        const size_t length = line && at[line - 1] == '\r' ? line - 1 : line;
        if (!lrt_is_utf8(at, length))
            return lrt_fail(error, LRT_INVALID, "%s:%zu: not UTF-8", path, i + 1);
        names->text[i] = at;
        names->length[i] = length;
        if (!lrt_model_set_token(m, (int32_t)i, at, length, true, error))
            return false;
        at += line + (end != NULL);
        left -= line + (end != NULL);
    }
    return lrt_names_build(names, (int32_t)count, error);
}

/* --- tokenizer_config.json --- */

static json_t *read_config(const char *path, LrtError *error)
{
    const char *slash = strrchr(path, '/');
    char *name = NULL;
    const int folder = slash ? (int)(slash - path) + 1 : 0;
    if (asprintf(&name, "%.*stokenizer_config.json", folder, path) < 0) {
        lrt_report(error, LRT_FAILED, "out of memory");
        return NULL;
    }
    json_t *config = lrt_file_exists(name) ? lrt_json_read(name, error) : json_object();
    if (config && !json_is_object(config)) {
        lrt_report(error, LRT_INVALID, "%s: not a JSON object", name);
        json_decref(config);
        config = NULL;
    }
    free(name);
    return config;
}

/* Tokenizers that have a vocab.txt and are BERT's; others (BertJapanese, ProphetNet) are not.
 */
static bool check_class(const json_t *config, const char *path, LrtError *error)
{
    static const char *const classes[] = {"Bert",       "DistilBert",  "Electra",
                                          "MobileBert", "SqueezeBert", "ConvBert",
                                          "RetriBert",  "LayoutLM"};
    const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
    for (size_t i = 0; name && i < sizeof classes / sizeof *classes; i++) {
        const size_t length = strlen(classes[i]);
        if (!strncmp(name, classes[i], length) &&
            (!strcmp(name + length, "Tokenizer") || !strcmp(name + length, "TokenizerFast")))
            return true;
    }
    return !name ||
           lrt_fail(error, LRT_INVALID,
                    "%s: its tokenizer is a '%.60s', which is not read from a vocab.txt; "
                    "save it as tokenizer.json",
                    path, name);
}

/* "[CLS]" or {"content": "[CLS]"}; -1: not in the vocabulary. */
static int32_t special(LrtTokenizerModel *m, const LrtNames *names, const json_t *config,
                       const char *key, const char *usual)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value))
        value = json_object_get(value, "content");
    const char *text = json_is_string(value) ? json_string_value(value) : usual;
    const int32_t id = *text ? lrt_names_find(names, text, strlen(text)) : -1;
    if (id >= 0)
        m->flags[id] = TOKEN_ADDED | TOKEN_SPECIAL;
    return id;
}

static bool read_specials(LrtTokenizerModel *m, const LrtNames *names, const json_t *config,
                          const char *path, LrtError *error)
{
    LrtTokenizerRules *r = &m->rules;
    r->unknown = special(m, names, config, "unk_token", "[UNK]");
    const int32_t cls = special(m, names, config, "cls_token", "[CLS]");
    const int32_t sep = special(m, names, config, "sep_token", "[SEP]");
    special(m, names, config, "pad_token", "[PAD]");
    special(m, names, config, "mask_token", "[MASK]");
    if (r->unknown < 0 || cls < 0 || sep < 0)
        return lrt_fail(error, LRT_INVALID,
                        "%s: no %s in it; a BERT's vocabulary has [UNK], [CLS] and [SEP], or "
                        "tokenizer_config.json beside it says how they are called",
                        path,
                        r->unknown < 0 ? "unknown token"
                        : cls < 0      ? "token for the class"
                                       : "separator");
    const int32_t single[] = {cls, TEMPLATE_FIRST, sep, TEMPLATE_SECOND, sep};
    r->single.count = r->pair.count = 0;
    for (int i = 0; i < 5; i++) {
        if (i < 3)
            lrt_template_add(&r->single, single[i], 0);
        lrt_template_add(&r->pair, single[i], i >= 3);
    }
    return true;
}

static bool read_rules(LrtTokenizerModel *m, const LrtNames *names, const json_t *config,
                       const char *path, LrtError *error)
{
    const json_t *accents = json_object_get(config, "strip_accents");
    if (!check_class(config, path, error))
        return false;
    if (json_is_false(json_object_get(config, "do_basic_tokenize")))
        return lrt_fail(error, LRT_INVALID,
                        "%s: \"do_basic_tokenize\": false beside it is not supported", path);
    m->rules.kind = TOKENIZER_WORDPIECE;
    m->rules.decoder = DECODER_WORDPIECE;
    strcpy(m->rules.prefix, "##");
    m->rules.word_max = WORD_MAX;
    m->rules.cleanup = 1;
    return lrt_model_add_bert_steps(
               m, true, !json_is_false(json_object_get(config, "tokenize_chinese_chars")),
               json_is_boolean(accents) ? json_is_true(accents) : -1,
               !json_is_false(json_object_get(config, "do_lower_case")), path, error) &&
           lrt_model_add_bert_splits(m, path, error) &&
           read_specials(m, names, config, path, error);
}

bool lrt_read_tokenizer_vocab(LrtTokenizerModel *m, const char *path, LrtError *error)
{
    LrtMap map;
    LrtNames names = {0};
    if (!lrt_map_file(&map, path, error))
        return false;
    json_t *config = read_config(path, error);
    const bool ok = config && read_lines(m, &map, path, &names, error) &&
                    read_rules(m, &names, config, path, error);
    json_decref(config);
    lrt_names_free(&names);
    lrt_unmap(&map);
    return ok;
}
