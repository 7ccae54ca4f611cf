/* test_tokenizer.c - the vectors of the `tokenizers` library, the packed form, begin and end
 * tokens, bytes that are not UTF-8, and what a tokenizer.json must not be. */
#define _GNU_SOURCE
#include <jansson.h>

#include "tests/unit/run_suite.h"
#include "tests/unit/tokenizer_run.h"

#define GOLDENS LORACC_SOURCE "/tests/data/goldens/tokenizers"

/* --- goldens --- */

/* llama3-bpe is too large for the repository: it is read from $LORACC_GOLDENS if it is there.
 */
static const struct Golden {
    const char *name;
    bool external;
    enum { LOSSY, TEXTS, BYTES } keeps; /* what comes back from ids */
    const char *special;                /* a special token */
    bool ends;                          /* that ends a text */
    const char *around;                 /* "a", it and "b" without it */
} goldens[] = {
    {"gpt2", false, BYTES, "<|endoftext|>", true, "ab"},
    {"smollm2", false, TEXTS, "<|im_end|>", true, "ab"},
    {"roberta-like", false, BYTES, "</s>", true, "ab"},
    {"bert-uncased", false, LOSSY, "[SEP]", false, "a b"},
    {"llama-spm", false, BYTES, "</s>", true, "a b"},
    {"spm-bpe", false, BYTES, "</s>", true, "a b"},
    {"unigram", false, LOSSY, "</s>", true, "a b"},
    {"llama3-bpe", true, BYTES, "<|end_of_text|>", true, "ab"},
};
enum { TOKENIZERS = sizeof goldens / sizeof *goldens };

/* A file of a golden; NULL, with a line that says so, when it is not on this machine. */
static const char *golden_file(const struct Golden *golden, const char *name)
{
    static char path[4096];
    const char *external = getenv("LORACC_GOLDENS");
    if (!golden->external)
        snprintf(path, sizeof path, "%s/%s/%s", GOLDENS, golden->name, name);
    else
        snprintf(path, sizeof path, "%s/tokenizers/%s/%s", external ? external : "",
                 golden->name, name);
    if (!golden->external || access(path, R_OK) == 0)
        return path;
    printf("test_tokenizer: skipped %s: no %s (set LORACC_GOLDENS)\n", golden->name, path);
    return NULL;
}

static void expect_bytes(Bytes found, const char *wanted, size_t length, const char *what)
{
    ck_assert_msg(found.length == length && !memcmp(found.data, wanted, length),
                  "%s: decoded '%.*s', wanted '%.*s'", what, (int)found.length, found.data,
                  (int)length, wanted);
}

static void expect_ids(const LrtIds *ids, const json_t *wanted, const char *what)
{
    ck_assert_msg(ids->count == json_array_size(wanted), "%s: %zu ids, wanted %zu", what,
                  ids->count, json_array_size(wanted));
    for (size_t i = 0; i < ids->count; i++)
        ck_assert_msg(ids->data[i] == json_integer_value(json_array_get(wanted, i)),
                      "%s: id %zu is %d", what, i, ids->data[i]);
}

static void expect_decoded(const LrtTokenizer *t, const json_t *ids, bool skip,
                           const json_t *text, const char *what)
{
    int32_t list[1 << 14];
    ck_assert_uint_le(json_array_size(ids), sizeof list / sizeof *list);
    for (size_t i = 0; i < json_array_size(ids); i++)
        list[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    Bytes raw = decode(t, list, json_array_size(ids), skip), shown = replaced(raw);
    expect_bytes(shown, json_string_value(text), json_string_length(text), what);
    free(raw.data);
    free(shown.data);
}

static const json_t *first_of(const json_t *row, const char *key, const char *other)
{
    const json_t *value = json_object_get(row, key);
    return value ? value : json_object_get(row, other);
}

/* One line of vectors.jsonl. */
static void check_vector(const LrtTokenizer *t, const json_t *row, bool keeps, const char *what)
{
    const json_t *text = json_object_get(row, "text"), *ids = json_object_get(row, "ids");
    LrtIds found = encode(t, json_string_value(text), json_string_length(text), true);
    expect_ids(&found, first_of(row, "ids_with_special", "ids"), what);
    lrt_ids_free(&found);
    expect_decoded(t, ids, false, json_object_get(row, "decoded"), what);
    expect_decoded(t, ids, true, first_of(row, "decoded_skipping_special", "decoded"), what);

    /* Without specials: the same ids, unless the text spells a special token. */
    found = encode(t, json_string_value(text), json_string_length(text), false);
    if (!json_object_get(row, "decoded_skipping_special")) {
        expect_ids(&found, ids, what);
    } else if (keeps) {
        Bytes raw = decode(t, found.data, found.count, true);
        expect_bytes(raw, json_string_value(text), json_string_length(text), what);
        free(raw.data);
    }
    lrt_ids_free(&found);
}

static int check_vectors(const LrtTokenizer *t, const struct Golden *golden)
{
    FILE *file = fopen(golden_file(golden, "vectors.jsonl"), "r");
    ck_assert_ptr_nonnull(file);
    int count = 0;
    json_t *row;
    const size_t flags = JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL;
    while ((row = json_loadf(file, flags, NULL)) != NULL) {
        char what[96];
        snprintf(what, sizeof what, "%s, vector %d", golden->name, ++count);
        check_vector(t, row, golden->keeps != LOSSY, what);
        json_decref(row);
    }
    fclose(file);
    return count;
}

START_TEST(every_vector_encodes_and_decodes_as_in_the_library)
{
    const char *path = golden_file(&goldens[_i], "tokenizer.json");
    if (!path)
        return;
    LrtTokenizer *t = open_good(path);
    ck_assert_int_eq(check_vectors(t, &goldens[_i]), 414);
    lrt_tokenizer_close(t);
}
END_TEST

static void *pack(const LrtTokenizer *t, size_t *size)
{
    LrtError error = {LRT_OK, ""};
    void *data = lrt_tokenizer_pack(t, size, &error);
    ck_assert_msg(data != NULL, "%s", error.text);
    return data;
}

static LrtTokenizer *unpack(const void *data, size_t size)
{
    LrtError error = {LRT_OK, ""};
    LrtTokenizer *t = lrt_tokenizer_unpack(data, size, &error);
    ck_assert_msg(t != NULL, "%s", error.text);
    return t;
}

START_TEST(the_packed_form_is_the_same_tokenizer)
{
    const char *path = golden_file(&goldens[_i], "tokenizer.json");
    if (!path)
        return;
    LrtTokenizer *t = open_good(path);
    size_t size, again;
    void *packed = pack(t, &size);
    LrtTokenizer *u = unpack(packed, size);
    void *repacked = pack(u, &again);
    ck_assert_uint_eq(size, again);
    ck_assert_mem_eq(packed, repacked, size);
    ck_assert_uint_eq(lrt_tokenizer_hash(t), lrt_tokenizer_hash(u));
    ck_assert_int_eq(lrt_tokenizer_size(t), lrt_tokenizer_size(u));
    ck_assert_int_eq(lrt_tokenizer_begin(t), lrt_tokenizer_begin(u));
    ck_assert_int_eq(lrt_tokenizer_end(t), lrt_tokenizer_end(u));
    ck_assert_uint_eq(lrt_tokenizer_longest(t), lrt_tokenizer_longest(u));
    for (int32_t id = -1; id <= lrt_tokenizer_size(t); id++)
        ck_assert_int_eq(lrt_tokenizer_is_end(t, id), lrt_tokenizer_is_end(u, id));
    ck_assert_int_eq(check_vectors(u, &goldens[_i]), 414);
    lrt_tokenizer_close(t);
    lrt_tokenizer_close(u);
    free(packed);
    free(repacked);
}
END_TEST

START_TEST(bytes_that_are_not_utf8_come_back)
{
    const char *path = golden_file(&goldens[_i], "tokenizer.json");
    if (!path || goldens[_i].keeps != BYTES)
        return;
    LrtTokenizer *t = open_good(path);
    FILE *file = fopen(GOLDENS "/invalid_utf8.jsonl", "r");
    ck_assert_ptr_nonnull(file);
    json_t *row;
    int count = 0;
    const size_t flags = JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL;
    for (; (row = json_loadf(file, flags, NULL)) != NULL; count++) {
        char bytes[256];
        const char *hex = json_string_value(json_object_get(row, "hex"));
        const json_t *shown = json_object_get(row, "replaced");
        size_t length = 0;
        for (unsigned byte; sscanf(hex + 2 * length, "%2x", &byte) == 1; length++)
            bytes[length] = (char)byte;
        LrtIds ids = encode(t, bytes, length, false);
        Bytes raw = decode(t, ids.data, ids.count, false), python = replaced(raw);
        expect_bytes(raw, bytes, length, hex);
        expect_bytes(python, json_string_value(shown), json_string_length(shown), hex);
        free(raw.data);
        free(python.data);
        lrt_ids_free(&ids);
        json_decref(row);
    }
    ck_assert_int_ge(count, 20);
    fclose(file);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(long_texts_take_linear_time)
{
    static const char *const units[] = {" ", "a", "\xff", "\n", "7", "<|", " the quick fox."};
    enum { LENGTH = 1 << 20 };
    LrtTokenizer *t = open_good(golden_file(&goldens[0], "tokenizer.json"));
    char *text = malloc(LENGTH);
    const size_t unit = strlen(units[_i]);
    for (size_t i = 0; i < LENGTH; i++)
        text[i] = units[_i][i % unit];
    LrtIds ids = encode(t, text, LENGTH, true);
    Bytes raw = decode(t, ids.data, ids.count, false);
    ck_assert_uint_eq(raw.length, LENGTH);
    ck_assert_mem_eq(raw.data, text, LENGTH);
    free(raw.data);
    free(text);
    lrt_ids_free(&ids);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(special_tokens_in_a_text_are_tokens_or_text)
{
    const char *path = golden_file(&goldens[_i], "tokenizer.json"), *name = goldens[_i].special;
    if (!path)
        return;
    LrtTokenizer *t = open_good(path);
    char text[64];
    snprintf(text, sizeof text, "a%sb", name);
    const int32_t id = lrt_tokenizer_find(t, name);
    ck_assert_int_ge(id, 0);
    ck_assert_int_eq(lrt_tokenizer_is_end(t, id), goldens[_i].ends);
    LrtIds on = encode(t, text, strlen(text), true), off = encode(t, text, strlen(text), false);
    int seen[2] = {0};
    for (size_t i = 0; i + 1 < on.count; i++) /* the last may be the post-processor's */
        seen[0] += on.data[i] == id;
    for (size_t i = 0; i < off.count; i++)
        seen[1] += off.data[i] == id;
    ck_assert_int_eq(seen[0], 1);
    ck_assert_int_eq(seen[1], 0);
    Bytes kept = decode(t, off.data, off.count, true),
          left = decode(t, on.data, on.count, true);
    if (goldens[_i].keeps != LOSSY)
        ck_assert_str_eq(kept.data, text);
    ck_assert_str_eq(left.data, goldens[_i].around);
    free(kept.data);
    free(left.data);
    lrt_ids_free(&on);
    lrt_ids_free(&off);
    lrt_tokenizer_close(t);
}
END_TEST

/* --- small tokenizers --- */

#define LEVEL                    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}"
#define ADDED(id, content, more) "{\"id\": " #id ", \"content\": \"" content "\"" more "}"
#define SPECIAL                  ", \"special\": true"
#define BPE                      "\"type\": \"BPE\", "
/* The parts of a file: what is before the model, added tokens, and inside the model. */
#define FILE_OF(parts, added, model)                                                           \
    "{" parts ", \"added_tokens\": [" added "], \"model\": {" model "}}"
#define LEVELLED "\"pre_tokenizer\": " LEVEL
#define VOCAB    "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"\\u0120\": 3}, "
#define MERGES   "\"merges\": [\"a b\"]"
#define ENDS     ADDED(4, "<s>", SPECIAL) ", " ADDED(5, "</s>", SPECIAL)
#define MODEL    BPE VOCAB MERGES
#define TINY     FILE_OF(LEVELLED, ENDS, MODEL)

static LrtTokenizer *open_text(const char *text)
{
    return open_good(temp_text("tokenizer.json", text));
}

/* What matches is dropped; what is left is not split further. */
#define DROP(regex)                                                                            \
    "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "   \
    "\"pattern\": {\"Regex\": \"" regex "\"}, \"behavior\": \"Removed\"}, "                    \
    "{\"type\": \"ByteLevel\", \"use_regex\": false}]}"

/* What a tokenizer.json makes of a text: "0 2 1". */
static const struct Small {
    const char *file, *text, *ids;
    bool plain;
} smalls[] = {
    {TINY, "ab ba", "2 3 1 0", false},
    {TINY, "a<s>b", "0 4 1", false},
    {TINY, "a<s>b", "0 1", true}, /* < s > are not in the vocabulary */
    {TINY, "", "", false},
    {TINY, "xyz", "", false},
    /* merges as pairs, a model without "type" (older files), whole words first */
    {FILE_OF(LEVELLED, ENDS, BPE VOCAB "\"merges\": [[\"a\", \"b\"]]"), "ab", "2", false},
    {FILE_OF(LEVELLED, ENDS, VOCAB MERGES), "aab", "0 2", false},
    {FILE_OF(LEVELLED, ENDS, BPE VOCAB "\"merges\": []"), "ab", "0 1", false},
    {FILE_OF(LEVELLED, ENDS, BPE VOCAB "\"merges\": [], \"ignore_merges\": true"), "ab", "2",
     false},
    /* ids with holes; an added token without a place in the vocabulary */
    {FILE_OF(LEVELLED, ADDED(90, "<x>", ""), BPE "\"vocab\": {\"a\": 7}, \"merges\": []"),
     "a<x>a", "7 90 7", true},
    /* a space in front */
    {FILE_OF("\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true}", ENDS,
             MODEL),
     "ab", "3 2", false},
    /* strips, and words that stand alone */
    {FILE_OF(LEVELLED, ADDED(4, "<m>", ", \"lstrip\": true"), MODEL), "a  <m> b", "0 4 3 1",
     false},
    {FILE_OF(LEVELLED, ADDED(4, "<m>", ", \"rstrip\": true"), MODEL), "a <m>  b", "0 3 4 1",
     false},
    {FILE_OF(LEVELLED, ADDED(4, "aa", ", \"single_word\": true"), MODEL), "aab aa", "0 2 3 4",
     false},
    /* the longest of two added tokens */
    {FILE_OF(LEVELLED, ADDED(4, "<m>", "") ", " ADDED(5, "<m><m>", ""), MODEL), "<m><m><m>",
     "5 4", false},
    /* NFC: "a" and a ring above become one character of two bytes */
    {FILE_OF("\"normalizer\": {\"type\": \"NFC\"}, " LEVELLED, "",
             BPE "\"vocab\": {\"\\u00c3\": 0, \"\\u00a5\": 1, \"a\": 2}, \"merges\": []"),
     "a\xcc\x8a", "0 1", false},
    /* post-processors */
    {FILE_OF(LEVELLED ", \"post_processor\": {\"type\": \"RobertaProcessing\", "
                      "\"cls\": [\"<s>\", 4], \"sep\": [\"</s>\", 5]}",
             ENDS, MODEL),
     "ab", "4 2 5", false},
    {FILE_OF(LEVELLED ", \"post_processor\": {\"type\": \"RobertaProcessing\", "
                      "\"cls\": [\"<s>\", 4], \"sep\": [\"</s>\", 5]}",
             ENDS, MODEL),
     "ab", "2", true},
    {FILE_OF(LEVELLED ", \"post_processor\": {\"type\": \"Sequence\", \"processors\": [" LEVEL
                      ", {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
                      "{\"id\": \"<s>\"}}, {\"Sequence\": {\"id\": \"A\"}}], "
                      "\"special_tokens\": {\"<s>\": {\"ids\": [4]}}}]}",
             ENDS, MODEL),
     "ab", "4 2", false},
    /* patterns: digits alone; what matches is dropped; \S in a class is what it says */
    {FILE_OF("\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": "
             "\"Digits\", \"individual_digits\": true}, " LEVEL "]}",
             "", BPE "\"vocab\": {\"1\": 0, \"11\": 1}, \"merges\": [\"1 1\"]"),
     "11", "0 0", false},
    {FILE_OF(DROP("\\\\s"), "", MODEL), "ab a b", "2 0 1", false},
    {FILE_OF(DROP("[\\\\S]"), "", MODEL), "a b", "3", false},
    /* white space is Unicode's: em space, next line, ideographic space; not U+180E */
    {FILE_OF(DROP("\\\\s"), "", MODEL),
     "a\u2003b\xc2\x85"
     "a\u3000b\va",
     "0 1 0 1 0", false},
    {FILE_OF(DROP("\\\\s"), "", MODEL),
     "a\u180e"
     "b",
     "2", false},
};
enum { SMALLS = sizeof smalls / sizeof *smalls };

START_TEST(a_small_tokenizer_does_what_its_file_says)
{
    const struct Small *small = &smalls[_i];
    LrtTokenizer *t = open_text(small->file);
    LrtIds ids = encode(t, small->text, strlen(small->text), !small->plain);
    char list[256] = "";
    for (size_t i = 0, at = 0; i < ids.count; i++)
        at += (size_t)sprintf(list + at, "%s%d", i ? " " : "", ids.data[i]);
    ck_assert_str_eq(list, small->ids);
    lrt_ids_free(&ids);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(holes_and_foreign_ids_decode_to_nothing)
{
    static const int32_t ids[] = {INT32_MIN, -1, 3, 5, 6, INT32_MAX};
    LrtTokenizer *t = open_text(FILE_OF(LEVELLED, ADDED(4, "<s>", SPECIAL),
                                        BPE "\"vocab\": {\"\\u0120\": 0},"
                                            "\"merges\": []"));
    char out[16];
    ck_assert_int_eq(lrt_tokenizer_size(t), 5);
    ck_assert_uint_eq(lrt_tokenizer_longest(t), 3);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        ck_assert_uint_eq(lrt_tokenizer_decode(t, ids[i], false, out), 0);
        ck_assert(!lrt_tokenizer_is_end(t, ids[i]));
    }
    ck_assert_uint_eq(lrt_tokenizer_decode(t, 0, true, out), 1);
    ck_assert_int_eq(out[0], ' ');
    ck_assert_uint_eq(lrt_tokenizer_decode(t, 4, false, out), 3);
    ck_assert_uint_eq(lrt_tokenizer_decode(t, 4, true, out), 0);
    ck_assert_int_eq(lrt_tokenizer_find(t, "<s>"), 4);
    ck_assert_int_eq(lrt_tokenizer_find(t, "s"), -1);
    lrt_tokenizer_close(t);
}
END_TEST

/* Which files beside tokenizer.json say which tokens begin and end a text. */
static const struct Neighbour {
    const char *name[2], *text[2];
    int begin, end, also_end;
} neighbours[] = {
    {.begin = -1, .end = -1, .also_end = 5}, /* </s> is known by its name */
    {{"tokenizer_config.json"}, {"{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}"}, 4, 5, 5},
    {{"tokenizer_config.json"}, {"{\"eos_token\": {\"content\": \"ab\"}}"}, -1, 2, 5},
    {{"generation_config.json"}, {"{\"bos_token_id\": 4, \"eos_token_id\": [1, 2]}"}, 4, 1, 2},
    {{"config.json"}, {"{\"eos_token_id\": 0}"}, -1, 0, 0},
    {{"tokenizer_config.json", "config.json"},
     {"{\"eos_token\": \"</s>\"}", "{\"bos_token_id\": 1, \"eos_token_id\": 2}"},
     1,
     5,
     2},
    {{"tokenizer_config.json"}, {"{\"bos_token\": null, \"eos_token\": \"none\"}"}, -1, -1, 5},
    {{"config.json"}, {"{\"bos_token_id\": -1, \"eos_token_id\": 99999999999}"}, -1, -1, 5},
};
enum { NEIGHBOURS = sizeof neighbours / sizeof *neighbours };

START_TEST(begin_and_end_come_from_the_files_beside_it)
{
    const struct Neighbour *n = &neighbours[_i];
    for (int i = 0; i < 2 && n->name[i]; i++)
        temp_text(n->name[i], n->text[i]);
    LrtTokenizer *t = open_text(TINY);
    ck_assert_int_eq(lrt_tokenizer_begin(t), n->begin);
    ck_assert_int_eq(lrt_tokenizer_end(t), n->end);
    ck_assert(lrt_tokenizer_is_end(t, n->also_end));
    ck_assert(n->end < 0 || lrt_tokenizer_is_end(t, n->end));
    ck_assert(!lrt_tokenizer_is_end(t, 3));
    size_t size;
    void *packed = pack(t, &size);
    LrtTokenizer *u = unpack(packed, size);
    ck_assert_int_eq(lrt_tokenizer_begin(u), n->begin);
    ck_assert_int_eq(lrt_tokenizer_end(u), n->end);
    ck_assert(lrt_tokenizer_is_end(u, n->also_end));
    lrt_tokenizer_close(u);
    free(packed);
    lrt_tokenizer_close(t);
}
END_TEST

/* --- what is refused --- */

#define MODELS(model)    FILE_OF(LEVELLED, ENDS, model)
#define PRE(part)        FILE_OF("\"pre_tokenizer\": " part, ENDS, MODEL)
#define POST(part)       FILE_OF(LEVELLED ", \"post_processor\": " part, ENDS, MODEL)
#define NORMALIZER(part) FILE_OF("\"normalizer\": " part ", " LEVELLED, ENDS, MODEL)

static const struct Bad {
    const char *file, *message;
} bad[] = {
    {"", "not valid JSON"},
    {"{", "not valid JSON"},
    {"[]", "model"},
    {"{}", "model"},
    {"{\"model\": 7}", "model"},
    {"{\"a\": \"\xff\"}", "not valid JSON"},
    {MODELS("\"type\": \"Unigram\", " VOCAB MERGES),
     "Unigram with the pre-tokenizer 'ByteLevel'"},
    {MODELS("\"type\": \"WordLevel\", " VOCAB MERGES), "model 'WordLevel'"},
    {MODELS("\"type\": \"WordPiece\""), "WordPiece with the pre-tokenizer 'ByteLevel'"},
    {MODELS(BPE VOCAB MERGES ", \"byte_fallback\": true"), "byte_fallback"},
    {MODELS(BPE VOCAB MERGES ", \"fuse_unk\": true"), "fuse_unk"},
    {MODELS(BPE VOCAB MERGES ", \"end_of_word_suffix\": \"</w>\""), "end_of_word_suffix"},
    {MODELS(BPE MERGES), "\"vocab\""},
    {MODELS(BPE "\"vocab\": [], " MERGES), "\"vocab\""},
    {MODELS(BPE "\"vocab\": {\"a\": 0}"), "\"merges\""},
    {MODELS(BPE VOCAB "\"merges\": {}"), "\"merges\""},
    {MODELS(BPE VOCAB "\"merges\": [\"a b\", \"a c\"]"), "merge 1"},
    {MODELS(BPE VOCAB "\"merges\": [\"b a\"]"), "merge 0"},
    {MODELS(BPE VOCAB "\"merges\": [\"ab\"]"), "merge 0"},
    {MODELS(BPE VOCAB "\"merges\": [\"\"]"), "merge 0"},
    {MODELS(BPE VOCAB "\"merges\": [7]"), "merge 0"},
    {MODELS(BPE VOCAB "\"merges\": [[\"a\"]]"), "merge 0"},
    {MODELS(BPE "\"vocab\": {\"a\": -1}, \"merges\": []"), "'a' has the id -1"},
    {MODELS(BPE "\"vocab\": {\"a\": 2000000000}, \"merges\": []"), "2000000000"},
    {MODELS(BPE "\"vocab\": {\"a\": 9223372036854775807}, \"merges\": []"), "922337"},
    {MODELS(BPE "\"vocab\": {\"a\": \"0\"}, \"merges\": []"), "'a' has no id"},
    {MODELS(BPE "\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []"), "'a' and 'b'"},
    {MODELS(BPE "\"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []"), "duplicate"},
    {FILE_OF(LEVELLED, ADDED(-5, "<s>", ""), MODEL), "'<s>' has the id -5"},
    {FILE_OF(LEVELLED, "{\"content\": \"<s>\"}", MODEL), "'<s>' has no id"},
    {FILE_OF(LEVELLED, "{\"id\": 4}", MODEL), "has no \"content\""},
    {FILE_OF(LEVELLED, "7", MODEL), "has no \"content\""},
    {NORMALIZER("{\"type\": \"Nmt\"}"), "normalizer 'Nmt'"},
    {NORMALIZER("{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": "
                "\"StripAccents\"}]}"),
     "normalizer 'StripAccents'"},
    {PRE("{\"type\": \"Metaspace\"}"), "pre-tokenizer Metaspace"},
    {PRE("{\"type\": \"Split\"}"), "Split"},
    {PRE("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": "
         "\"MergedWithNext\"}"),
     "MergedWithNext"},
    {PRE("{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
         "{\"Regex\": \"(a\"}, \"behavior\": \"Isolated\"}, " LEVEL "]}"),
     "'(a' does not compile"},
    {PRE("{\"type\": \"Sequence\", \"pretokenizers\": [" LEVEL "," LEVEL "," LEVEL "," LEVEL
         "," LEVEL "," LEVEL "," LEVEL "," LEVEL "," LEVEL "]}"),
     "too many"},
    {POST("{\"type\": \"Other\"}"), "post-processor 'Other'"},
    {POST("{\"type\": \"RobertaProcessing\"}"), "post-processor"},
    {POST("{\"type\": \"RobertaProcessing\", \"cls\": [\"x\", 77], \"sep\": [\"y\", 0]}"),
     "post-processor"},
    {POST("{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "
          "\"<s>\"}}]}"),
     "post-processor"},
};
enum { BAD = sizeof bad / sizeof *bad };

static void expect_refused(const char *path, const char *message)
{
    LrtError error = {LRT_OK, ""};
    LrtTokenizer *t = lrt_tokenizer_open(path, &error);
    ck_assert_ptr_null(t);
    ck_assert_int_eq(error.status, LRT_INVALID);
    ck_assert_msg(!strncmp(error.text, path, strlen(path)), "no file name: %s", error.text);
    ck_assert_msg(strstr(error.text, message), "'%s' lacks '%s'", error.text, message);
    ck_assert_ptr_null(strchr(error.text, '\n'));
}

START_TEST(a_bad_file_is_refused_by_name)
{
    expect_refused(temp_text("tokenizer.json", bad[_i].file), bad[_i].message);
}
END_TEST

START_TEST(what_is_no_file_is_refused_by_name)
{
    expect_refused("/nowhere/tokenizer.json", "No such file");
    expect_refused(temp_folder, "not a regular file");
    expect_refused(temp_text("model.gguf", "GG"), "");
}
END_TEST

START_TEST(a_damaged_packed_form_is_refused)
{
    LrtTokenizer *t = open_text(TINY);
    size_t size;
    unsigned char *packed = pack(t, &size);
    lrt_tokenizer_close(t);
    for (size_t length = 0; length < size; length++) {
        LrtError error = {LRT_OK, ""};
        ck_assert_ptr_null(lrt_tokenizer_unpack(packed, length, &error));
        ck_assert_int_eq(error.status, LRT_INVALID);
    }
    for (size_t i = 0; i < size; i++) { /* one byte changed: refused, or a tokenizer */
        LrtError error = {LRT_OK, ""};
        packed[i] ^= 0x91;
        LrtTokenizer *u = lrt_tokenizer_unpack(packed, size, &error);
        ck_assert_int_eq(u == NULL, error.status != LRT_OK);
        LrtIds ids = {0};
        if (u)
            ids = encode(u, "ab<s> a", 7, true);
        for (size_t k = 0; k < ids.count; k++)
            ck_assert(ids.data[k] >= 0 && ids.data[k] < lrt_tokenizer_size(u));
        lrt_ids_free(&ids);
        lrt_tokenizer_close(u);
        packed[i] ^= 0x91;
    }
    free(packed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer");
    TCase *tc = tcase_create("goldens");
    tcase_add_loop_test(tc, every_vector_encodes_and_decodes_as_in_the_library, 0, TOKENIZERS);
    tcase_add_loop_test(tc, the_packed_form_is_the_same_tokenizer, 0, TOKENIZERS);
    tcase_add_loop_test(tc, bytes_that_are_not_utf8_come_back, 0, TOKENIZERS);
    tcase_add_loop_test(tc, special_tokens_in_a_text_are_tokens_or_text, 0, TOKENIZERS);
    tcase_add_loop_test(tc, long_texts_take_linear_time, 0, 7);
    suite_add_tcase(suite, tc);
    tc = tcase_create("small");
    tcase_add_checked_fixture(tc, temp_open, temp_close);
    tcase_add_loop_test(tc, a_small_tokenizer_does_what_its_file_says, 0, SMALLS);
    tcase_add_test(tc, holes_and_foreign_ids_decode_to_nothing);
    tcase_add_loop_test(tc, begin_and_end_come_from_the_files_beside_it, 0, NEIGHBOURS);
    tcase_add_loop_test(tc, a_bad_file_is_refused_by_name, 0, BAD);
    tcase_add_test(tc, what_is_no_file_is_refused_by_name);
    tcase_add_test(tc, a_damaged_packed_form_is_refused);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
