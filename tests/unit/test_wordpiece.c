/* test_wordpiece.c - WordPiece on a small vocabulary: the normal form, words, decoding, and the
 * two files it is read from.  The expected ids are those of the `tokenizers` library. */
#define _GNU_SOURCE
#include "tests/unit/run_suite.h"
#include "tests/unit/tokenizer_run.h"

/* --- the vocabulary, in both files --- */

#define WORDS                                                                                  \
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nplay\n##ing\n##s\n,\n.\nun\n##play\n\u4e2d\n"    \
    "cafe\nca\n##f\u00e9\nPlay\n'\n!\ndo\nnot\ni\u0307\n"
enum { MASK = 4, COUNT = 23, ADDED = COUNT };

#define BERT(more) "{\"type\": \"BertNormalizer\"" more "}"
#define SPLIT      "{\"type\": \"BertPreTokenizer\"}"
#define FIXED(name, id)                                                                        \
    "{\"id\": " #id ", \"content\": \"" name "\", \"normalized\": false, \"special\": true}, "
#define PIECE(name, id, type)                                                                  \
    "{\"SpecialToken\": {\"id\": \"" name "\", \"type_id\": " #type "}}"
#define TEXT(name, type) "{\"Sequence\": {\"id\": \"" name "\", \"type_id\": " #type "}}"
#define FIRST            PIECE("[CLS]", 2, 0) ", " TEXT("A", 0) ", " PIECE("[SEP]", 3, 0)
#define TEMPLATE                                                                               \
    "{\"type\": \"TemplateProcessing\", \"single\": [" FIRST "], \"pair\": [" FIRST            \
    ", " TEXT("B", 1) ", " PIECE("[SEP]", 3, 1) "], \"special_tokens\": {\"[CLS]\": {\"ids\":" \
                                                " [2]}, \"[SEP]\": {\"ids\": [3]}}}"
#define MODEL ", \"type\": \"WordPiece\", \"unk_token\": \"[UNK]\""

/* A tokenizer.json: an added token (may be ""), parts around the model, and inside it. */
static const char *json_file(const char *added, const char *normalizer, const char *split,
                             const char *post, const char *model)
{
    static char text[8192];
    int at = snprintf(
        text, sizeof text,
        "{\"padding\": {\"strategy\": {\"Fixed\": 128}}, \"truncation\": "
        "{\"max_length\": 2}, \"added_tokens\": [" FIXED("[PAD]", 0) FIXED("[UNK]",
                                                                           1) FIXED("[CLS]", 2)
            FIXED("[SEP]",
                  3) "%s%s{\"id\": 4, "
                     "\"content\": \"[MASK]\", \"normalized\": false, \"special\": true}], "
                     "\"normalizer\": %s, \"pre_tokenizer\": %s, \"post_processor\": %s, "
                     "\"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": "
                     "true}, \"model\": {\"vocab\": {",
        added, *added ? ", " : "", normalizer, split, post);
    const char *word = WORDS;
    for (int id = 0; id < COUNT; id++) {
        const int length = (int)strcspn(word, "\n");
        at += snprintf(text + at, sizeof text - (size_t)at, "%s\"%.*s\": %d", id ? ", " : "",
                       length, word, id);
        word += length + 1;
    }
    snprintf(text + at, sizeof text - (size_t)at, "}%s}}", model);
    return temp_text("tokenizer.json", text);
}

static const char *vocab_file(const char *config)
{
    if (*config)
        temp_text("tokenizer_config.json", config);
    return temp_text("vocab.txt", WORDS);
}

static void expect_list(const LrtIds *ids, const char *wanted, const char *text)
{
    char list[512] = "";
    for (size_t i = 0, at = 0; i < ids->count; i++)
        at += (size_t)sprintf(list + at, "%s%d", i ? " " : "", ids->data[i]);
    ck_assert_msg(!strcmp(list, wanted), "'%s' is '%s', wanted '%s'", text, list, wanted);
}

/* --- text to ids --- */

static const char lowered[] = BERT(", \"lowercase\": true");
static const char cased[] = BERT(", \"lowercase\": false");
static const char accents[] = BERT(", \"strip_accents\": false");
static const char cased_plain[] = BERT(", \"lowercase\": false, \"strip_accents\": true");
static const char chinese[] = BERT(", \"handle_chinese_chars\": false");
static const char unclean[] = BERT(", \"clean_text\": false");

/* `config`: what tokenizer_config.json says for the same; NULL: it cannot. */
static const struct Words {
    const char *normalizer, *config, *text, *ids;
} words[] = {
    {lowered, "", "The playing, unplay.", "2 5 6 7 9 11 12 10 3"},
    {lowered, "{}", "plays", "2 6 8 3"},
    {lowered, "{\"do_lower_case\": true}", "playx", "2 1 3"},
    {lowered, "", "Unplaying!", "2 11 12 7 19 3"},
    {lowered, "", "", "2 3"},
    {lowered, "", "  \t\n", "2 3"},
    {lowered, "", "the\u4e2dplay", "2 5 13 6 3"},
    {lowered, "", "CAF\u00c9", "2 14 3"},
    {lowered, "", "caf\u00e9", "2 14 3"},
    {lowered, "", "cafe\u0301", "2 14 3"},
    {lowered, "", "a", "2 1 3"},
    {lowered, "", "playinging", "2 6 7 7 3"},
    {lowered, "", "the\u00a0play\u3000the\u2028the", "2 5 6 5 5 3"},
    {lowered, "", "the\u200bplay \ufffd", "2 5 12 3"},
    {lowered, "", "the\xffplay \xe4\xb8", "2 5 12 3"}, /* as U+FFFD */
    {lowered, "", "[MASK] the[SEP]", "2 4 5 3 3"},
    {lowered, "", "[mask]", "2 1 1 1 3"},
    {lowered, "", "the'play", "2 5 18 6 3"},
    {lowered, "", "##ing", "2 1 1 1 3"},
    {lowered, "", "ing", "2 1 3"},
    {accents, "{\"strip_accents\": false}", "CAF\u00c9", "2 15 16 3"},
    {accents, "{\"strip_accents\": false}", "cafe\u0301", "2 1 3"},
    {accents, "{\"strip_accents\": false}", "\u0130", "2 22 3"},
    {cased, "{\"do_lower_case\": false}", "Play play", "2 17 6 3"},
    {cased, "{\"do_lower_case\": false}", "caf\u00e9", "2 15 16 3"},
    {cased, "{\"do_lower_case\": false}", "Cafe", "2 1 3"},
    {cased_plain, "{\"do_lower_case\": false, \"strip_accents\": true}", "caf\u00e9", "2 14 3"},
    {chinese, "{\"tokenize_chinese_chars\": false}", "the\u4e2dplay", "2 1 3"},
    {unclean, NULL, "the\u200bplay the\tplay", "2 1 5 6 3"},
};
enum { WORDS_COUNT = sizeof words / sizeof *words };

static void check_words(const char *path, const struct Words *w)
{
    LrtTokenizer *t = open_good(path);
    LrtIds ids = encode(t, w->text, strlen(w->text), true);
    expect_list(&ids, w->ids, w->text);
    ck_assert_int_eq(lrt_tokenizer_size(t), COUNT);
    ck_assert_int_eq(lrt_tokenizer_types(t), 2);
    lrt_ids_free(&ids);
    lrt_tokenizer_close(t);
}

START_TEST(a_text_becomes_the_tokens_of_the_library)
{
    const struct Words *w = &words[_i];
    check_words(json_file("", w->normalizer, SPLIT, TEMPLATE, MODEL), w);
    if (w->config)
        check_words(vocab_file(w->config), w);
}
END_TEST

START_TEST(a_word_has_so_many_characters)
{
    static const char *const limits[] = {"", ", \"max_input_chars_per_word\": 10",
                                         ", \"max_input_chars_per_word\": 9"};
    char model[128];
    snprintf(model, sizeof model, "%s%s", MODEL, limits[_i]);
    LrtTokenizer *t = open_good(json_file("", lowered, SPLIT, TEMPLATE, model));
    LrtIds ids = encode(t, "playinging", 10, false);
    expect_list(&ids, _i == 2 ? "1" : "6 7 7", "playinging");
    lrt_ids_free(&ids);
    lrt_tokenizer_close(t);
}
END_TEST

/* Tokens added later: found in the normal form or in the text as it is. */
static const struct More {
    const char *token, *text, *ids;
} mores[] = {
    {"\"content\": \"Th\u00e9\", \"normalized\": true", "th\u00e9 play the", "23 6 23"},
    {"\"content\": \"Th\u00e9\", \"normalized\": true", "Th\u00e9 pl", "23 1"},
    {"\"content\": \"Th\u00e9\", \"normalized\": false", "th\u00e9 the", "5 5"},
    {"\"content\": \"Th\u00e9\", \"normalized\": false", "Th\u00e9 pl", "23 1"},
    {"\"content\": \"PL\", \"normalized\": true, \"single_word\": true", "play pl", "6 23"},
};

START_TEST(an_added_token_is_found_in_its_normal_form)
{
    const struct More *more = &mores[_i];
    char added[128];
    snprintf(added, sizeof added, "{\"id\": %d, %s}", ADDED, more->token);
    LrtTokenizer *t = open_good(json_file(added, lowered, SPLIT, TEMPLATE, MODEL));
    LrtIds ids = encode(t, more->text, strlen(more->text), false);
    expect_list(&ids, more->ids, more->text);
    lrt_ids_free(&ids);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(equal_lines_of_a_vocabulary_are_the_last_one)
{
    LrtTokenizer *t =
        open_good(temp_text("vocab.txt", "[UNK]\r\n[CLS]\r\nthe\r\n[SEP]\r\nthe\r\n\r\nplay"));
    LrtIds ids = encode(t, "the play", 8, true);
    ck_assert_int_eq(lrt_tokenizer_size(t), 7);
    expect_list(&ids, "1 4 6 3", "the play");
    lrt_ids_free(&ids);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(special_tokens_have_the_names_of_the_config)
{
    temp_text("tokenizer_config.json",
              "{\"tokenizer_class\": \"BertTokenizerFast\", \"unk_token\": \"<u>\", "
              "\"cls_token\": {\"content\": \"<c>\"}, \"sep_token\": \"<s>\"}");
    LrtTokenizer *t = open_good(temp_text("vocab.txt", "<u>\n<c>\n<s>\nx\n"));
    LrtIds ids = encode(t, "x y<s>", 6, true);
    expect_list(&ids, "1 3 0 2 2", "x y<s>");
    lrt_ids_free(&ids);
    lrt_tokenizer_close(t);
}
END_TEST

/* --- ids to text --- */

static const struct Decoded {
    int32_t ids[8];
    size_t count;
    bool skip;
    const char *text;
} decodeds[] = {
    {{2, 5, 6, 7, 9, 11, 12, 10}, 8, false, "[CLS] the playing, unplay."},
    {{2, 5, 6, 8, 3}, 5, true, "the plays"},
    {{7, 7}, 2, false, "##inging"}, /* the first token is shown as it is */
    {{3, 7, 8}, 3, true, "##ings"},
    {{5, 18, 6}, 3, false, "the ' play"},
    {{20, 21}, 2, false, "do not"}, /* cleaned up token by token: no "don't" */
    {{5, 19, -1, 99, 10}, 5, false, "the!."},
    {{0}, 0, false, ""},
};
enum { DECODEDS = sizeof decodeds / sizeof *decodeds };

START_TEST(ids_become_the_text_of_the_library)
{
    const struct Decoded *d = &decodeds[_i];
    LrtTokenizer *t =
        open_good(_i % 2 ? json_file("", lowered, SPLIT, TEMPLATE, MODEL) : vocab_file(""));
    Bytes text = decode(t, d->ids, d->count, d->skip);
    ck_assert_str_eq(text.data, d->text);
    free(text.data);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(a_token_that_goes_on_a_text_has_its_space)
{
    LrtTokenizer *t = open_good(vocab_file(""));
    char out[64];
    ck_assert_uint_ge(lrt_tokenizer_longest(t), strlen(" [MASK]"));
    ck_assert_uint_eq(lrt_tokenizer_decode(t, 5, true, out), 4);
    ck_assert_mem_eq(out, " the", 4);
    ck_assert_uint_eq(lrt_tokenizer_decode(t, 7, true, out), 3);
    ck_assert_mem_eq(out, "ing", 3);
    ck_assert_uint_eq(lrt_tokenizer_decode(t, 10, true, out), 1);
    ck_assert_uint_eq(lrt_tokenizer_decode(t, MASK, true, out), 0);
    ck_assert_int_eq(lrt_tokenizer_find(t, "##ing"), 7);
    lrt_tokenizer_close(t);
}
END_TEST

/* --- the packed form --- */

static uint64_t hash_of(const char *path)
{
    LrtError error = {LRT_OK, ""};
    size_t size;
    LrtTokenizer *t = open_good(path);
    void *packed = lrt_tokenizer_pack(t, &size, &error);
    LrtTokenizer *u = lrt_tokenizer_unpack(packed, size, &error);
    ck_assert_ptr_nonnull(u);
    const uint64_t hash = lrt_tokenizer_hash(t);
    ck_assert_uint_eq(hash, lrt_tokenizer_hash(u));
    LrtIds a = encode(t, "[CLS] Unplaying caf\u00e9", 20, true),
           b = encode(u, "[CLS] Unplaying caf\u00e9", 20, true);
    ck_assert_uint_eq(a.count, b.count);
    ck_assert_mem_eq(a.data, b.data, sizeof *a.data * a.count);
    lrt_ids_free(&a);
    lrt_ids_free(&b);
    lrt_tokenizer_close(t);
    lrt_tokenizer_close(u);
    free(packed);
    return hash;
}

START_TEST(the_hash_is_of_what_a_text_becomes)
{
    const uint64_t hash = hash_of(json_file("", lowered, SPLIT, TEMPLATE, MODEL));
    ck_assert_uint_eq(hash, hash_of(vocab_file("")));
    ck_assert_uint_eq(hash, hash_of(vocab_file("{\"do_lower_case\": true, \"x\": 1}")));
    ck_assert_uint_ne(hash, hash_of(vocab_file("{\"do_lower_case\": false}")));
    ck_assert_uint_ne(hash, hash_of(vocab_file("{\"mask_token\": \"none\"}")));
    ck_assert_uint_ne(hash, hash_of(json_file("", lowered, SPLIT, "null", MODEL)));
}
END_TEST

/* --- what is refused --- */

#define POST(part)                                                                             \
    {                                                                                          \
        "", lowered, SPLIT, part, MODEL, "post-processor"                                      \
    }
#define SINGLE(list) POST("{\"type\": \"TemplateProcessing\", \"single\": [" list "]}")

static const struct Bad {
    const char *added, *normalizer, *split, *post, *model, *message;
} bads[] = {
    {"", "{\"type\": \"Nmt\"}", SPLIT, TEMPLATE, MODEL, "normalizer 'Nmt'"},
    {"", "{\"type\": 7}", SPLIT, TEMPLATE, MODEL, "normalizer"},
    {"", lowered, "null", TEMPLATE, MODEL, "the pre-tokenizer 'none'"},
    {"", lowered, "{\"type\": \"ByteLevel\"}", TEMPLATE, MODEL,
     "the pre-tokenizer 'ByteLevel'"},
    {"", lowered, SPLIT, TEMPLATE, ", \"type\": \"WordPiece\"", "\"unk_token\" ''"},
    {"", lowered, SPLIT, TEMPLATE, ", \"type\": \"WordPiece\", \"unk_token\": \"\"",
     "\"unk_token\" ''"},
    {"", lowered, SPLIT, TEMPLATE, ", \"type\": \"WordPiece\", \"unk_token\": \"<unk>\"",
     "\"unk_token\" '<unk>' is not in its vocabulary"},
    {"", lowered, SPLIT, TEMPLATE, MODEL ", \"max_input_chars_per_word\": 0",
     "\"max_input_chars_per_word\""},
    {"", lowered, SPLIT, TEMPLATE, MODEL ", \"max_input_chars_per_word\": 1e3",
     "\"max_input_chars_per_word\""},
    {"", lowered, SPLIT, TEMPLATE, MODEL ", \"continuing_subword_prefix\": 3",
     "\"continuing_subword_prefix\""},
    {"", lowered, SPLIT, TEMPLATE,
     MODEL ", \"continuing_subword_prefix\": \"################################\"",
     "\"continuing_subword_prefix\""},
    {"", lowered, SPLIT, TEMPLATE, ", \"type\": \"WordLevel\"", "model 'WordLevel'"},
    {"{\"id\": -1, \"content\": \"x\"}", lowered, SPLIT, TEMPLATE, MODEL, "'x' has the id -1"},
    POST("{\"type\": \"BertProcessing\", \"cls\": [\"x\", 23], \"sep\": [\"y\", 0]}"),
    POST("{\"type\": \"TemplateProcessing\"}"),
    SINGLE(PIECE("[CLS]", 2, 0)),
    SINGLE(TEXT("A", 0) ", " TEXT("A", 0)),
    SINGLE(TEXT("B", 0)),
    SINGLE(TEXT("C", 0)),
    SINGLE(TEXT("A", -1)),
    SINGLE(TEXT("A", 99)),
    SINGLE("7"),
    POST("{\"type\": \"TemplateProcessing\", \"single\": [" TEXT("A", 0) "], \"pair\": [" TEXT(
        "A", 0) "]}"),
    POST("{\"type\": \"Sequence\", \"processors\": [" TEMPLATE ", " TEMPLATE "]}"),
};
enum { BADS = sizeof bads / sizeof *bads };

static void expect_refused(const char *path, const char *message)
{
    LrtError error = {LRT_OK, ""};
    ck_assert_ptr_null(lrt_tokenizer_open(path, &error));
    ck_assert_int_eq(error.status, LRT_INVALID);
    ck_assert_msg(strstr(error.text, message), "'%s' lacks '%s'", error.text, message);
    ck_assert_msg(!strncmp(error.text, temp_folder, strlen(temp_folder)), "%s", error.text);
    ck_assert_ptr_null(strchr(error.text, '\n'));
}

START_TEST(a_bad_file_is_refused_by_name)
{
    const struct Bad *b = &bads[_i];
    expect_refused(json_file(b->added, b->normalizer, b->split, b->post, b->model), b->message);
}
END_TEST

static const struct BadVocab {
    const char *text, *config, *message;
} bad_vocabs[] = {
    {"", "", "no unknown token in it"},
    {"[UNK]\n[SEP]\n", "", "no token for the class in it"},
    {"[UNK]\n[CLS]\n", "", "no separator in it"},
    {"[UNK]\n[CLS]\n[SEP]\n", "{\"sep_token\": \"</s>\"}", "no separator in it"},
    {"[UNK]\n[CLS]\n\xff\n[SEP]\n", "", "vocab.txt:3: not UTF-8"},
    {"[UNK]\n[CLS]\n[SEP]\n", "{", "tokenizer_config.json:1:"},
    {"[UNK]\n[CLS]\n[SEP]\n", "[]", "tokenizer_config.json: not a JSON object"},
    {"[UNK]\n[CLS]\n[SEP]\n", "{\"tokenizer_class\": \"BertJapaneseTokenizer\"}",
     "'BertJapaneseTokenizer'"},
    {"[UNK]\n[CLS]\n[SEP]\n", "{\"do_basic_tokenize\": false}", "do_basic_tokenize"},
};
enum { BAD_VOCABS = sizeof bad_vocabs / sizeof *bad_vocabs };

START_TEST(a_bad_vocabulary_is_refused_by_name)
{
    const struct BadVocab *b = &bad_vocabs[_i];
    if (*b->config)
        temp_text("tokenizer_config.json", b->config);
    expect_refused(temp_text("vocab.txt", b->text), b->message);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wordpiece");
    TCase *tc = tcase_create("wordpiece");
    tcase_add_checked_fixture(tc, temp_open, temp_close);
    tcase_add_loop_test(tc, a_text_becomes_the_tokens_of_the_library, 0, WORDS_COUNT);
    tcase_add_loop_test(tc, a_word_has_so_many_characters, 0, 3);
    tcase_add_loop_test(tc, an_added_token_is_found_in_its_normal_form, 0, 5);
    tcase_add_test(tc, equal_lines_of_a_vocabulary_are_the_last_one);
    tcase_add_test(tc, special_tokens_have_the_names_of_the_config);
    tcase_add_loop_test(tc, ids_become_the_text_of_the_library, 0, DECODEDS);
    tcase_add_test(tc, a_token_that_goes_on_a_text_has_its_space);
    tcase_add_test(tc, the_hash_is_of_what_a_text_becomes);
    tcase_add_loop_test(tc, a_bad_file_is_refused_by_name, 0, BADS);
    tcase_add_loop_test(tc, a_bad_vocabulary_is_refused_by_name, 0, BAD_VOCABS);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
