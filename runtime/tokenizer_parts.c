/* tokenizer_parts.c - the parts of a tokenizer.json around its model: normalizer, pre-tokenizer, post-processor, decoder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer_json.h"

typedef LrtTokenizerReader Reader;

const char *lrt_json_type(const json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    return type ? type : "";
}

bool lrt_json_refuse(Reader *r, const char *what, const char *name)
{
    return lrt_fail(r->error, LRT_INVALID, "%s: %s '%.60s' is not supported; tokenizers of kind BPE, WordPiece and Unigram are", r->path,
                    what, name && *name ? name : "of an unknown kind");
}

/* Calls `read` for a part, or for each of a Sequence's. */
static bool each_part(Reader *r, const json_t *part, const char *list, bool (*read)(Reader *, const json_t *))
{
    if (!part || json_is_null(part))
        return true;
    if (strcmp(lrt_json_type(part), "Sequence") != 0)
        return read(r, part);
    const json_t *parts = json_object_get(part, list);
    for (size_t i = 0; i < json_array_size(parts); i++)
        if (!each_part(r, json_array_get(parts, i), list, read))
            return false;
    return true;
}

/* --- normalizer ------------------------------------------------------------------------------------------------------------ */

/* A flag that is true unless the file says otherwise. */
static bool is_on(const json_t *part, const char *key)
{
    return !json_is_false(json_object_get(part, key));
}

/* Of a pattern {"String": "a"}. */
static const char *literal(const json_t *part)
{
    return json_string_value(json_object_get(json_object_get(part, "pattern"), "String"));
}

static bool read_replace(Reader *r, const json_t *part)
{
    const char *from = literal(part), *to = json_string_value(json_object_get(part, "content"));
    const char *regex = json_string_value(json_object_get(json_object_get(part, "pattern"), "Regex"));
    if (regex && !strcmp(regex, " {2,}") && to)
        return lrt_model_add_step(r->m, STEP_SQUEEZE, NULL, to, r->path, r->error);
    if (!from || !*from || !to)
        return lrt_json_refuse(r, "normalizer Replace with the pattern", regex);
    return lrt_model_add_step(r->m, STEP_REPLACE, from, to, r->path, r->error);
}

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *digit = c ? strchr(digits, c) : NULL;
    return digit ? (int)(digit - digits) : -1;
}

/* SentencePiece's table of characters, in base 64. */
static bool read_charsmap(Reader *r, const json_t *part)
{
    const char *text = json_string_value(json_object_get(part, "precompiled_charsmap"));
    const size_t length = text ? strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") : 0;
    if (!text || strspn(text + length, "=") != strlen(text + length) || r->m->charsmap)
        return lrt_fail(r->error, LRT_INVALID, "%s: \"precompiled_charsmap\" is not one text in base 64", r->path);
    r->m->charsmap = malloc(length / 4 * 3 + 4);
    if (!r->m->charsmap)
        return lrt_fail(r->error, LRT_FAILED, "out of memory");
    uint32_t bits = 0;
    for (size_t i = 0; i < length; i++) {
        bits = bits << 6 | (uint32_t)base64_value(text[i]);
        if (i % 4)
            r->m->charsmap[r->m->charsmap_size++] = (uint8_t)(bits >> (6 - i % 4 * 2));
    }
    return lrt_model_add_step(r->m, STEP_CHARSMAP, NULL, NULL, r->path, r->error);
}

static bool read_normalizer(Reader *r, const json_t *part)
{
    static const struct {
        const char *type;
        LrtStepKind step;
    } steps[] = {{"NFC", STEP_NFC}, {"NFD", STEP_NFD}, {"NFKC", STEP_NFKC}, {"NFKD", STEP_NFKD}, {"Lowercase", STEP_LOWER}};
    const char *type = lrt_json_type(part);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (!strcmp(type, steps[i].type))
            return lrt_model_add_step(r->m, steps[i].step, NULL, NULL, r->path, r->error);
    if (!strcmp(type, "Replace"))
        return read_replace(r, part);
    if (!strcmp(type, "Precompiled"))
        return read_charsmap(r, part);
    if (!strcmp(type, "Strip"))
        return lrt_model_add_step(r->m, STEP_STRIP, is_on(part, "strip_left") ? " " : "", is_on(part, "strip_right") ? " " : "", r->path,
                                  r->error);
    if (!strcmp(type, "Prepend"))
        return lrt_model_add_step(r->m, STEP_PREPEND, NULL, json_string_value(json_object_get(part, "prepend")), r->path, r->error);
    if (strcmp(type, "BertNormalizer") != 0)
        return lrt_json_refuse(r, "normalizer", type);
    const json_t *accents = json_object_get(part, "strip_accents");
    return lrt_model_add_bert_steps(r->m, is_on(part, "clean_text"), is_on(part, "handle_chinese_chars"),
                                    json_is_boolean(accents) ? json_is_true(accents) : -1, is_on(part, "lowercase"), r->path, r->error);
}

bool lrt_json_normalizer(Reader *r)
{
    return each_part(r, json_object_get(r->root, "normalizer"), "normalizers", read_normalizer);
}

/* --- pre-tokenizer ----------------------------------------------------------------------------------------------------------- */

static bool read_split(Reader *r, const json_t *part)
{
    const json_t *pattern = json_object_get(part, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *behavior = json_string_value(json_object_get(part, "behavior"));
    bool removed = behavior && !strcmp(behavior, "Removed");
    if (!regex || !behavior || (strcmp(behavior, "Isolated") != 0 && !removed) || json_is_true(json_object_get(part, "invert")))
        return lrt_json_refuse(r, "pre-tokenizer Split with behavior", behavior);
    return lrt_model_add_split(r->m, regex, removed, r->path, r->error);
}

/* Spaces become a character of their own, and pieces begin with it. */
static bool read_metaspace(Reader *r, const json_t *part)
{
    LrtTokenizerRules *rules = &r->m->rules;
    const char *blank = json_string_value(json_object_get(part, "replacement"));
    const char *scheme = json_string_value(json_object_get(part, "prepend_scheme"));
    char pattern[4 * STEP_BYTES];
    if (rules->blank[0] || !blank || !*blank || strlen(blank) > 4)
        return lrt_json_refuse(r, "pre-tokenizer Metaspace with", rules->blank[0] ? "another one" : blank);
    strcpy(rules->blank, blank);
    if (!scheme) /* as older libraries wrote it */
        scheme = json_is_false(json_object_get(part, "add_prefix_space")) ? "never" : "always";
    rules->prepend = !strcmp(scheme, "never") ? PREPEND_NEVER : !strcmp(scheme, "first") ? PREPEND_FIRST : PREPEND_ALWAYS;
    if (json_is_false(json_object_get(part, "split")))
        return true;
    snprintf(pattern, sizeof pattern, "\\Q%s\\E(?:(?!\\Q%s\\E).)*", blank, blank);
    return lrt_model_add_split(r->m, pattern, false, r->path, r->error);
}

static bool read_pre_tokenizer(Reader *r, const json_t *part)
{
    const char *type = lrt_json_type(part);
    r->split = true;
    if (!strcmp(type, "Metaspace"))
        return read_metaspace(r, part);
    if (!strcmp(type, "Split"))
        return read_split(r, part);
    if (!strcmp(type, "BertPreTokenizer"))
        return lrt_model_add_bert_splits(r->m, r->path, r->error);
    if (!strcmp(type, "WhitespaceSplit"))
        return lrt_model_add_split(r->m, "\\s+", true, r->path, r->error);
    if (!strcmp(type, "Digits"))
        return lrt_model_add_split(r->m, json_is_true(json_object_get(part, "individual_digits")) ? "\\p{N}" : "\\p{N}+", false,
                                   r->path, r->error);
    if (strcmp(type, "ByteLevel") != 0)
        return lrt_json_refuse(r, "pre-tokenizer", type);
    r->byte_level = true;
    if (json_is_true(json_object_get(part, "add_prefix_space")))
        r->m->rules.prefix_space = 1;
    return json_is_false(json_object_get(part, "use_regex")) || lrt_model_add_split(r->m, lrt_gpt2_pattern, false, r->path, r->error);
}

bool lrt_json_pre_tokenizer(Reader *r)
{
    return each_part(r, json_object_get(r->root, "pre_tokenizer"), "pretokenizers", read_pre_tokenizer);
}

/* --- post-processor ------------------------------------------------------------------------------------------------------------ */

static bool add_token(Reader *r, LrtTemplate *t, const json_t *value, json_int_t type)
{
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id >= r->m->count)
        return lrt_fail(r->error, LRT_INVALID, "%s: its post-processor adds a token that there is not", r->path);
    return lrt_template_add(t, (int32_t)id, (int32_t)type) ||
           lrt_fail(r->error, LRT_INVALID, "%s: its post-processor adds more than %d tokens", r->path, TEMPLATE_ITEMS - 2);
}

static bool add_text(Reader *r, LrtTemplate *t, const char *name, json_int_t type)
{
    const int32_t id = name && !strcmp(name, "B") ? TEMPLATE_SECOND : TEMPLATE_FIRST;
    if (!name || (strcmp(name, "A") != 0 && strcmp(name, "B") != 0))
        return lrt_fail(r->error, LRT_INVALID, "%s: its post-processor names the texts '%.20s'; they are A and B", r->path,
                        name ? name : "");
    for (int32_t i = 0; i < t->count; i++)
        if (t->id[i] == id)
            return lrt_fail(r->error, LRT_INVALID, "%s: its post-processor takes the text %s twice", r->path, name);
    return lrt_template_add(t, id, (int32_t)type) ||
           lrt_fail(r->error, LRT_INVALID, "%s: its post-processor adds more than %d tokens", r->path, TEMPLATE_ITEMS - 2);
}

/* [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, ...] with ids in special_tokens. */
static bool read_template(Reader *r, const json_t *list, const json_t *specials, LrtTemplate *t, int32_t texts)
{
    t->count = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i), *special = json_object_get(item, "SpecialToken");
        const json_t *text = json_object_get(item, "Sequence"), *type = json_object_get(text ? text : special, "type_id");
        const json_int_t number = json_integer_value(type); /* 0 when there is none */
        if (number < 0 || number > TYPE_MAX)
            return lrt_fail(r->error, LRT_INVALID, "%s: its post-processor has the token type %lld; 0 to %d are supported", r->path,
                            (long long)number, TYPE_MAX);
        if (text) {
            if (!add_text(r, t, json_string_value(json_object_get(text, "id")), number))
                return false;
            texts--;
            continue;
        }
        const char *name = json_string_value(json_object_get(special, "id"));
        const json_t *ids = name ? json_object_get(json_object_get(specials, name), "ids") : NULL;
        for (size_t k = 0; k == 0 || k < json_array_size(ids); k++)
            if (!add_token(r, t, json_array_get(ids, k), number))
                return false;
    }
    return texts == 0 || lrt_fail(r->error, LRT_INVALID, "%s: its post-processor leaves a text out", r->path);
}

static bool is_single(const LrtTemplate *t)
{
    for (int32_t i = 0; i < t->count; i++)
        if (t->id[i] == TEMPLATE_SECOND)
            return false;
    return true;
}

static bool read_templates(Reader *r, const json_t *part)
{
    LrtTokenizerRules *rules = &r->m->rules;
    const json_t *specials = json_object_get(part, "special_tokens"), *pair = json_object_get(part, "pair");
    if (!read_template(r, json_object_get(part, "single"), specials, &rules->single, 1))
        return false;
    if (!is_single(&rules->single))
        return lrt_fail(r->error, LRT_INVALID, "%s: its post-processor wants a second text for a single one", r->path);
    return !json_array_size(pair) || read_template(r, pair, specials, &rules->pair, 2);
}

/* BERT: [CLS] A [SEP] B [SEP] with types 0 and 1.  RoBERTa: <s> A </s></s> B </s>, all of type 0. */
static bool read_pair(Reader *r, const json_t *part, bool roberta)
{
    const json_t *cls = json_array_get(json_object_get(part, "cls"), 1), *sep = json_array_get(json_object_get(part, "sep"), 1);
    LrtTemplate *templates[] = {&r->m->rules.single, &r->m->rules.pair};
    const int second = roberta ? 0 : 1;
    for (int i = 0; i < 2; i++) {
        LrtTemplate *t = templates[i];
        t->count = 0;
        if (!add_token(r, t, cls, 0) || !lrt_template_add(t, TEMPLATE_FIRST, 0) || !add_token(r, t, sep, 0))
            return false;
        if (i == 1 && ((roberta && !add_token(r, t, sep, 0)) || !lrt_template_add(t, TEMPLATE_SECOND, second) ||
                       !add_token(r, t, sep, second)))
            return false;
    }
    return true;
}

static bool read_post_processor(Reader *r, const json_t *part)
{
    const char *type = lrt_json_type(part);
    bool roberta = !strcmp(type, "RobertaProcessing");
    if (!strcmp(type, "ByteLevel"))
        return true;
    if (r->m->rules.single.count > 1)
        return lrt_fail(r->error, LRT_INVALID, "%s: two post-processors that add tokens are not supported", r->path);
    if (!strcmp(type, "TemplateProcessing"))
        return read_templates(r, part);
    if (!roberta && strcmp(type, "BertProcessing") != 0)
        return lrt_json_refuse(r, "post-processor", type);
    return read_pair(r, part, roberta);
}

bool lrt_json_post_processor(Reader *r)
{
    return each_part(r, json_object_get(r->root, "post_processor"), "processors", read_post_processor);
}

/* --- decoder ------------------------------------------------------------------------------------------------------------------- */

static bool read_strip(Reader *r, const json_t *part)
{
    const json_t *start = json_object_get(part, "start"), *stop = json_object_get(part, "stop");
    const char *content = json_string_value(json_object_get(part, "content"));
    if (!content || strcmp(content, " ") != 0 || json_integer_value(stop) != 0 || json_integer_value(start) < 0 ||
        json_integer_value(start) > 1000)
        return lrt_json_refuse(r, "decoder", "Strip of other than the first spaces");
    r->m->rules.strip = (int32_t)json_integer_value(start);
    return true;
}

static bool read_shown(Reader *r, const char *blank)
{
    if (r->m->rules.shown[0] || !blank || !*blank || strlen(blank) >= STEP_BYTES)
        return lrt_json_refuse(r, "decoder that shows spaces for", blank);
    strcpy(r->m->rules.shown, blank);
    return true;
}

static bool read_decoder(Reader *r, const json_t *part)
{
    const char *type = lrt_json_type(part), *content = json_string_value(json_object_get(part, "content"));
    if (!strcmp(type, "ByteFallback") || !strcmp(type, "Fuse"))
        return true;
    if (!strcmp(type, "Strip"))
        return read_strip(r, part);
    if (!strcmp(type, "Replace") && content && !strcmp(content, " "))
        return read_shown(r, literal(part));
    if (strcmp(type, "Metaspace") != 0)
        return lrt_json_refuse(r, "decoder", type);
    r->m->rules.decoder = DECODER_METASPACE;
    return read_shown(r, json_string_value(json_object_get(part, "replacement")));
}

/* Byte-level tokens are their bytes; WordPiece's say whether spaces before punctuation go; others are put together again. */
bool lrt_json_decoder(Reader *r)
{
    LrtTokenizerRules *rules = &r->m->rules;
    const json_t *part = json_object_get(r->root, "decoder");
    if (rules->kind == TOKENIZER_BPE)
        return true;
    rules->decoder = rules->kind == TOKENIZER_WORDPIECE ? DECODER_WORDPIECE : DECODER_FUSE;
    if (rules->kind != TOKENIZER_WORDPIECE)
        return each_part(r, part, "decoders", read_decoder);
    if (json_is_object(part) && strcmp(lrt_json_type(part), "WordPiece") != 0)
        return lrt_json_refuse(r, "decoder", lrt_json_type(part));
    rules->cleanup = is_on(part, "cleanup");
    return true;
}
