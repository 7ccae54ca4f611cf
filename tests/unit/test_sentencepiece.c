/* test_sentencepiece.c - SentencePiece's two kinds of tokenizer, on small vocabularies: byte
 * pair encoding of characters (from tokenizer.json and GGUF), and Unigram.  The expected ids
 * and texts are those of the `tokenizers` library.  In comments U+2581 is written _. */
#define _GNU_SOURCE
#include "tests/unit/run_suite.h"
#include "tests/unit/tokenizer_run.h"

/* --- tokenizers --- */

#define SPECIAL(name, id)                                                                      \
    "{\"id\": " #id ", \"content\": \"" name "\", \"normalized\": false, \"special\": true}"
#define FUSE                                                                                   \
    "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": "            \
    "{\"String\": \"\u2581\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, "            \
    "{\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, "           \
    "\"stop\": 0}]}"
#define META_OF(more)       "{\"type\": \"Metaspace\", \"replacement\": \"\u2581\"" more "}"
#define META(scheme, split) META_OF(", \"prepend_scheme\": \"" scheme "\", \"split\": " split)
#define LLAMA                                                                                  \
    "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": "         \
    "\"\u2581\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": "     \
    "\"\u2581\"}]}"
#define PARTS(normalizer, split, decoder)                                                      \
    "\"normalizer\": " normalizer ", \"pre_tokenizer\": " split ", \"decoder\": " decoder

/* 0 <unk> 1 <s> 2 </s> 3 <0x0A> 4 _ 5 a 6 b 7 ab 8 _a 9 _ab 10 . 11 __ */
#define BPE(parts, model)                                                                      \
    "{\"added_tokens\": [" SPECIAL("<unk>", 0) ", " SPECIAL("<s>", 1) ", " SPECIAL(            \
        "</s>", 2) "], " parts ", \"model\": {\"type\": \"BPE\", \"vocab\": {\"<unk>\": 0, "   \
                   "\"<s>\": 1, \"</s>\": 2, \"<0x0A>\": 3, \"\u2581\": 4, \"a\": 5, "         \
                   "\"b\": 6, \"ab\": 7, \"\u2581a\": 8, \"\u2581ab\": 9, \".\": 10, "         \
                   "\"\u2581\u2581\": 11}, \"merges\": [[\"a\", \"b\"], [\"\u2581\", "         \
                   "\"ab\"], [\"\u2581\", \"a\"], [\"\u2581\", \"\u2581\"]]" model "}}"
#define UNK     ", \"unk_token\": \"<unk>\""
#define BYTES   ", \"byte_fallback\": true"
#define FUSED   ", \"fuse_unk\": true"
#define LEGACY  PARTS(LLAMA, "null", FUSE)
#define SPM(of) BPE(PARTS("null", of, FUSE), UNK BYTES FUSED)

/* 0 <unk> 1 _ 2 a 3 b 4 ab 5 _a 6 _ab 7 c 8 cc 9 ccc 10 <0x64> */
#define UNIGRAM(normalizer, model)                                                             \
    "{\"added_tokens\": [" SPECIAL("<unk>", 0) "], " PARTS(                                    \
        normalizer, META("always", "true"),                                                    \
        META("always", "true")) ", "                                                           \
                                "\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, "           \
                                "\"vocab\": [[\"<unk>\", 0], "                                 \
                                "[\"\u2581\", -2], [\"a\", -3], [\"b\", -3.5], [\"ab\", "      \
                                "-5.0], [\"\u2581a\", -4], "                                   \
                                "[\"\u2581ab\", -9], [\"c\", -4], [\"cc\", -8], [\"ccc\", "    \
                                "-12.5], [\"<0x64>\", -20]]" model "}}"
#define STRIP(sides) "{\"type\": \"Strip\"" sides "}"
#define SQUEEZE                                                                                \
    "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \" {2,}\"}, \"content\": \" \"}"

/* --- text to ids and back --- */

static const struct Case {
    const char *file, *text, *ids, *decoded; /* decoded: special tokens left out */
} cases[] = {
    /* Llama 2: a blank before each piece, bytes for what has no token, one unknown for many */
    {BPE(LEGACY, UNK BYTES FUSED), "ab", "9", "ab"},
    {BPE(LEGACY, UNK BYTES FUSED), "a b ab", "8 4 6 9", "a b ab"},
    {BPE(LEGACY, UNK BYTES FUSED), "  ab", "11 9", "  ab"},
    {BPE(LEGACY, UNK BYTES FUSED), "", "", ""},
    {BPE(LEGACY, UNK BYTES FUSED), "a<s>b", "8 1 4 6", "a b"},
    {BPE(LEGACY, UNK BYTES FUSED), " <s> a", "11 1 4 8", "   a"},
    {BPE(LEGACY, UNK BYTES FUSED), "\u00e9a", "4 0 5", "a"},
    {BPE(LEGACY, UNK BYTES FUSED), "\u00e9\u00e9a", "4 0 5", "a"},
    {BPE(LEGACY, UNK BYTES FUSED), "\u00e9\na", "4 3 0 5", "\na"}, /* bytes go first */
    {BPE(LEGACY, UNK BYTES FUSED), "\u00e9\u00e9\n\u00e9", "4 3 0", "\n"},
    {BPE(LEGACY, UNK BYTES FUSED), "a\n\nb", "8 3 3 6", "a\n\nb"},
    {BPE(LEGACY, UNK BYTES), "\u00e9\u00e9a", "4 0 0 5", "a"},
    {BPE(LEGACY, UNK BYTES), "\u00e9\u00e9\n\u00e9", "4 0 3 0 0", "\n"},
    {BPE(LEGACY, BYTES FUSED), "\u00e9\u00e9\na", "4 3 5", "\na"},
    {BPE(LEGACY, UNK FUSED), "\u00e9\na", "4 0 5", "a"},
    {BPE(LEGACY, UNK FUSED), "a\n\nb", "8 0 6", "ab"},
    /* Metaspace: a blank before every piece, before the text, or nowhere */
    {SPM(META("always", "false")), "a<s>b", "8 1 4 6", "a b"},
    {SPM(META("always", "true")), "a  ab", "8 4 9", "a  ab"},
    {SPM(META("always", "false")), " ab", "9", "ab"},
    {SPM(META_OF("")), "a<s>b", "8 1 4 6", "a b"}, /* older libraries: no scheme */
    {SPM(META_OF(", \"add_prefix_space\": false")), "ab", "7", "ab"},
    {SPM(META("first", "false")), "a<s>b", "8 1 6", "ab"},
    {SPM(META("first", "true")), "<s>ab", "1 7", "ab"},
    {SPM(META("never", "true")), "a ab", "5 9", "a ab"},
    {SPM(META("never", "false")), "ab", "7", "ab"},
    /* Unigram: the best sum; a tie goes to what came first */
    {UNIGRAM("null", ""), "ab", "1 4", "ab"},
    {UNIGRAM("null", ""), "a b", "5 1 3", "a b"},
    {UNIGRAM("null", ""), "cc", "1 8", "cc"},
    {UNIGRAM("null", ""), "ccc", "1 7 8", "ccc"},
    {UNIGRAM("null", ""), "cccc", "1 8 8", "cccc"},
    {UNIGRAM("null", ""), "xya", "1 0 2", "a"},
    {UNIGRAM("null", ""), "x y", "1 0 1 0", " "},
    {UNIGRAM("null", ""), "  a  b ", "1 5 1 1 3 1", " a  b "},
    {UNIGRAM("null", ", \"byte_fallback\": true"), "xa", "1 0 2", "a"},
    {UNIGRAM("null", ", \"byte_fallback\": true"), "dd", "1 10 10", "<0x64><0x64>"},
    {UNIGRAM("null", ", \"byte_fallback\": true"), "dx", "1 0", ""},
    {UNIGRAM("{\"type\": \"Sequence\", \"normalizers\": [" STRIP("") ", " SQUEEZE "]}", ""),
     "\u3000 a   b \n", "5 1 3", "a b"},
    {UNIGRAM(STRIP(", \"strip_left\": false"), ""), "  a  ", "1 5", " a"},
    {UNIGRAM(STRIP(", \"strip_right\": false"), ""), "  a  ", "5 1 1", "a  "},
    {UNIGRAM(STRIP(""), ""), " \n", "", ""},
};
enum { CASES = sizeof cases / sizeof *cases };

static void expect_ids(const LrtIds *ids, const char *wanted, const char *what)
{
    char list[256] = "";
    for (size_t i = 0, at = 0; i < ids->count; i++)
        at += (size_t)sprintf(list + at, "%s%d", i ? " " : "", ids->data[i]);
    ck_assert_msg(!strcmp(list, wanted), "'%s' is '%s', wanted '%s'", what, list, wanted);
}

static void check_case(const LrtTokenizer *t, const char *text, const char *wanted,
                       const char *decoded)
{
    LrtIds ids = encode(t, text, strlen(text), true);
    expect_ids(&ids, wanted, text);
    Bytes back = decode(t, ids.data, ids.count, true);
    ck_assert_str_eq(back.data, decoded);
    free(back.data);
    lrt_ids_free(&ids);
}

static LrtTokenizer *packed(const LrtTokenizer *t)
{
    LrtError error = {LRT_OK, ""};
    size_t size;
    void *data = lrt_tokenizer_pack(t, &size, &error);
    LrtTokenizer *u = lrt_tokenizer_unpack(data, size, &error);
    ck_assert_msg(u != NULL, "%s", error.text);
    ck_assert_uint_eq(lrt_tokenizer_hash(t), lrt_tokenizer_hash(u));
    free(data);
    return u;
}

START_TEST(a_text_becomes_the_tokens_of_the_library)
{
    const struct Case *c = &cases[_i];
    LrtTokenizer *t = open_good(temp_text("tokenizer.json", c->file)), *u = packed(t);
    check_case(t, c->text, c->ids, c->decoded);
    check_case(u, c->text, c->ids, c->decoded);
    lrt_tokenizer_close(t);
    lrt_tokenizer_close(u);
}
END_TEST

/* --- decoding --- */

static const struct Decoded {
    const char *file, *text;
    int32_t ids[2];
} decodeds[] = {
    {BPE(LEGACY, UNK BYTES), "ab a", {9, 8}},
    {BPE(LEGACY, UNK BYTES), " ab", {4, 9}},
    {BPE(LEGACY, UNK BYTES), " a", {11, 5}},
    {BPE(LEGACY, UNK BYTES), "\na", {3, 5}},
    {BPE(LEGACY, UNK BYTES), "<s> ab", {1, 9}},
    {BPE(PARTS("null", META("always", "true"), META("always", "true")), UNK), "ab a", {9, 8}},
    {BPE(PARTS("null", META("always", "true"), META("always", "true")), UNK), " ab", {4, 9}},
    {BPE(PARTS("null", META("always", "true"), META("always", "true")), UNK), "a", {11, 5}},
    {BPE(PARTS("null", META("always", "true"), META("always", "true")), UNK), "<s> ab", {1, 9}},
    {BPE(PARTS("null", META("never", "true"), META("never", "true")), UNK), "  ab", {4, 9}},
};
enum { DECODEDS = sizeof decodeds / sizeof *decodeds };

START_TEST(ids_become_the_text_of_the_library)
{
    const struct Decoded *d = &decodeds[_i];
    LrtTokenizer *t = open_good(temp_text("tokenizer.json", d->file));
    Bytes text = decode(t, d->ids, 2, false);
    ck_assert_str_eq(text.data, d->text);
    free(text.data);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(a_token_that_goes_on_a_text_has_its_space)
{
    LrtTokenizer *t = open_good(temp_text("tokenizer.json", BPE(LEGACY, UNK BYTES)));
    char out[64];
    ck_assert_uint_eq(lrt_tokenizer_decode(t, 9, true, out), 3);
    ck_assert_mem_eq(out, " ab", 3);
    ck_assert_uint_eq(lrt_tokenizer_decode(t, 3, true, out), 1);
    ck_assert_int_eq(out[0], '\n');
    lrt_tokenizer_close(t);
}
END_TEST

/* --- the table of characters: A becomes a, b goes --- */

static void put_u32(unsigned char *data, size_t at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        data[at + (size_t)i] = (unsigned char)(value >> 8 * i);
}

enum { UNITS = 256, TABLE = 4 + 4 * UNITS + 3 };

/* unit[0 ^ 1 ^ 'A'] is a leaf, its value in unit['A']; unit[1 ^ 'b'] too, its value at ^ 2. */
static void make_table(unsigned char data[TABLE])
{
    const struct {
        size_t unit;
        uint32_t value;
    } units[] = {{0, 1 << 10},
                 {1 ^ 'A', 'A' | 1 << 8 | 1 << 10},
                 {'A', 0 | 1u << 31},
                 {1 ^ 'b', 'b' | 1 << 8 | 2 << 10},
                 {1 ^ 'b' ^ 2, 2 | 1u << 31}};
    memset(data, 0, TABLE);
    put_u32(data, 0, 4 * UNITS);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        put_u32(data, 4 + 4 * units[i].unit, units[i].value);
    data[4 + 4 * UNITS] = 'a'; /* texts: "a" at 0, "" at 2 */
}

static const char *table_file(const unsigned char *data, size_t size)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char base64[2 * TABLE], text[4 * TABLE], *out = base64;
    for (size_t i = 0; i < size; i += 3) {
        const uint32_t bits = (uint32_t)data[i] << 16 |
                              (uint32_t)(i + 1 < size ? data[i + 1] : 0) << 8 |
                              (i + 2 < size ? data[i + 2] : 0u);
        for (int k = 0; k < 4; k++)
            *out++ = i + (size_t)k > size ? '=' : digits[bits >> (18 - 6 * k) & 63];
    }
    *out = '\0';
    snprintf(text, sizeof text,
             UNIGRAM("{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"%s\"}", ""),
             base64);
    return temp_text("tokenizer.json", text);
}

START_TEST(characters_become_what_the_table_says)
{
    static const char *const texts[][3] = {{"AB", "5 0", "a"},  {"Abc", "5 7", "ac"},
                                           {"b", "", ""},       {"A\u0301", "5", "a"},
                                           {"aA", "5 2", "aa"}, {"Ab\u0301c", "5 7", "ac"}};
    unsigned char table[TABLE];
    make_table(table);
    LrtTokenizer *t = open_good(table_file(table, TABLE)), *u = packed(t);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        check_case(t, texts[i][0], texts[i][1], texts[i][2]);
        check_case(u, texts[i][0], texts[i][1], texts[i][2]);
    }
    lrt_tokenizer_close(t);
    lrt_tokenizer_close(u);
}
END_TEST

START_TEST(a_damaged_table_changes_texts_at_most)
{
    static const size_t sizes[] = {0, 1, 3, 4, 5, 8, 4 + 4 * 'A', 4 + 4 * UNITS, TABLE - 2};
    unsigned char table[TABLE];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        make_table(table);
        LrtTokenizer *t = open_good(table_file(table, sizes[i]));
        LrtIds ids = encode(t, "AbcA", 4, true);
        lrt_ids_free(&ids);
        lrt_tokenizer_close(t);
    }
    for (size_t at = 0; at < TABLE; at += at < 4 ? 1 : 37) {
        make_table(table);
        table[at] ^= 0xff;
        LrtTokenizer *t = open_good(table_file(table, TABLE));
        LrtIds ids = encode(t, "AbcA", 4, true);
        lrt_ids_free(&ids);
        lrt_tokenizer_close(t);
    }
}
END_TEST

/* --- GGUF --- */

static unsigned char gguf[4096];
static size_t gguf_size;

static void add(const void *data, size_t size)
{
    memcpy(gguf + gguf_size, data, size);
    gguf_size += size;
}

static void add_number(uint64_t value, size_t size)
{
    add(&value, size); /* tests run on little-endian machines */
}

static void add_string(const char *text)
{
    add_number(strlen(text), 8);
    add(text, strlen(text));
}

enum { U32 = 4, F32 = 6, STRING = 8, ARRAY = 9, PIECES = 12 };

/* The same vocabulary; `prefix`: add_space_prefix, -1: not said. */
static const char *gguf_file(const char *model, int prefix, int scores)
{
    static const char *const pieces[PIECES] = {"<unk>",   "<s>",      "</s>", "<0x0A>",
                                               "\u2581",  "a",        "b",    "ab",
                                               "\u2581a", "\u2581ab", ".",    "\u2581\u2581"};
    static const float score[PIECES] = {0, 0, 0, 0, -9, -9, -9, -1, -3, -2, -9, -4};
    static const uint32_t type[PIECES] = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1, 1};
    gguf_size = 0;
    add("GGUF", 4);
    add_number(3, 4);
    add_number(0, 8);
    add_number(4 + (prefix >= 0) + (scores > 0), 8);
    add_string("general.architecture");
    add_number(STRING, 4);
    add_string("llama");
    add_string("tokenizer.ggml.model");
    add_number(STRING, 4);
    add_string(model);
    add_string("tokenizer.ggml.tokens");
    add_number(ARRAY, 4);
    add_number(STRING, 4);
    add_number(PIECES, 8);
    for (int i = 0; i < PIECES; i++)
        add_string(pieces[i]);
    add_string("tokenizer.ggml.token_type");
    add_number(ARRAY, 4);
    add_number(U32, 4);
    add_number(PIECES, 8);
    add(type, sizeof type);
    if (scores > 0) {
        add_string("tokenizer.ggml.scores");
        add_number(ARRAY, 4);
        add_number(F32, 4);
        add_number((uint64_t)scores, 8);
        add(score, sizeof *score * (size_t)scores);
    }
    if (prefix >= 0) {
        add_string("tokenizer.ggml.add_space_prefix");
        add_number(7, 4);
        add_number((uint64_t)prefix, 1);
    }
    add_number(0, 32 - gguf_size % 32 > 8 ? 8 : 32 - gguf_size % 32);
    return temp_write("model.gguf", gguf, gguf_size);
}

START_TEST(scores_in_a_gguf_are_merges)
{
    LrtTokenizer *t = open_good(gguf_file("llama", -1, PIECES));
    check_case(t, "a b ab", "1 8 4 6 9", "a b ab");
    check_case(t, "a\n<s>\u00e9\u00e9b", "1 8 3 1 4 0 6", "a\n b");
    ck_assert_int_eq(lrt_tokenizer_begin(t), 1);
    ck_assert_int_eq(lrt_tokenizer_end(t), 2);
    ck_assert(lrt_tokenizer_is_end(t, 2));
    lrt_tokenizer_close(t);
    t = open_good(gguf_file("llama", 0, PIECES));
    check_case(t, "ab a", "1 7 8", "ab a");
    lrt_tokenizer_close(t);
}
END_TEST

/* --- what is refused --- */

static void expect_refused(const char *path, const char *message)
{
    LrtError error = {LRT_OK, ""};
    ck_assert_ptr_null(lrt_tokenizer_open(path, &error));
    ck_assert_int_eq(error.status, LRT_INVALID);
    ck_assert_msg(strstr(error.text, message), "'%s' lacks '%s'", error.text, message);
    ck_assert_msg(!strncmp(error.text, temp_folder, strlen(temp_folder)), "%s", error.text);
    ck_assert_ptr_null(strchr(error.text, '\n'));
}

START_TEST(a_gguf_without_scores_is_refused)
{
    expect_refused(gguf_file("llama", -1, 0), "no score for each token");
    expect_refused(gguf_file("llama", -1, PIECES - 1), "no score for each token");
    expect_refused(gguf_file("t5", -1, PIECES), "tokenizers of kind 't5' are not supported");
}
END_TEST

#define NO_PIECES(list)                                                                        \
    "{" PARTS("null", META("always", "true"), "null") ", \"model\": {\"type\": \"Unigram\", "  \
                                                      "\"unk_id\": 0, \"vocab\": " list "}}"

static const struct Bad {
    const char *file, *message;
} bads[] = {
    {BPE(LEGACY, ", \"unk_token\": \"?\""), "\"unk_token\" '?' is not in its vocabulary"},
    {BPE(PARTS("null", "null", "{\"type\": \"CTC\"}"), UNK), "decoder 'CTC'"},
    {BPE(PARTS("null", "null", "{\"type\": \"ByteLevel\"}"), UNK), "decoder 'ByteLevel'"},
    {BPE(PARTS("null", "null", STRIP(", \"content\": \"x\"")), UNK), "Strip of other than"},
    {BPE(PARTS("null", META_OF(", \"replacement\": 1"), "null"), UNK), "duplicate"},
    {BPE(PARTS("null", "{\"type\": \"Metaspace\", \"replacement\": \"\"}", "null"), UNK),
     "Metaspace"},
    {BPE(PARTS(
             "null",
             "{\"type\": \"Sequence\", \"pretokenizers\": [" META_OF("") ", " META_OF("") "]}",
             "null"),
         UNK),
     "another one"},
    {BPE(PARTS("{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a+\"}, \"content\": \"b\"}",
               "null", "null"),
         UNK),
     "Replace with the pattern 'a+'"},
    {BPE(PARTS("{\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}, \"content\": \"b\"}",
               "null", "null"),
         UNK),
     "Replace"},
    {BPE(PARTS(
             "{\"type\": \"Prepend\", \"prepend\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
             "null", "null"),
         UNK),
     "texts of 32 bytes and more"},
    {BPE(PARTS("{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"A*\"}", "null", "null"),
         UNK),
     "\"precompiled_charsmap\" is not one text in base 64"},
    {BPE(PARTS("{\"type\": \"Precompiled\"}", "null", "null"), UNK),
     "\"precompiled_charsmap\""},
    {NO_PIECES("{}"), "\"unk_id\" is not in its vocabulary"},
    {NO_PIECES("[]"), "\"unk_id\" is not in its vocabulary"},
    {NO_PIECES("[[\"a\", 0], [\"b\"]]"), "piece 1 of the vocabulary"},
    {NO_PIECES("[[\"a\", 0], [7, -1.5]]"), "piece 1 of the vocabulary"},
    {NO_PIECES("[[\"a\", \"0\"]]"), "piece 0 of the vocabulary"},
    {NO_PIECES("[\"a\"]"), "piece 0 of the vocabulary"},
};
enum { BADS = sizeof bads / sizeof *bads };

START_TEST(a_bad_file_is_refused_by_name)
{
    expect_refused(temp_text("tokenizer.json", bads[_i].file), bads[_i].message);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sentencepiece");
    TCase *tc = tcase_create("sentencepiece");
    tcase_add_checked_fixture(tc, temp_open, temp_close);
    tcase_add_loop_test(tc, a_text_becomes_the_tokens_of_the_library, 0, CASES);
    tcase_add_loop_test(tc, ids_become_the_text_of_the_library, 0, DECODEDS);
    tcase_add_test(tc, a_token_that_goes_on_a_text_has_its_space);
    tcase_add_test(tc, characters_become_what_the_table_says);
    tcase_add_test(tc, a_damaged_table_changes_texts_at_most);
    tcase_add_test(tc, scores_in_a_gguf_are_merges);
    tcase_add_test(tc, a_gguf_without_scores_is_refused);
    tcase_add_loop_test(tc, a_bad_file_is_refused_by_name, 0, BADS);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
