/* test_tokenizer_pair.c - texts and pairs of texts as sequences with types, cut to a length.
 *
 * pairs.jsonl holds what the `tokenizers` library makes of `text` and `pair` (where it is) when
 * truncation to `length` tokens with the strategy longest_first is on (no `length`: off). */
#define _GNU_SOURCE
#include <jansson.h>

#include "tests/unit/run_suite.h"
#include "tests/unit/tokenizer_run.h"

#define GOLDENS LORACC_SOURCE "/tests/data/goldens/tokenizers/"

static const struct Golden {
    const char *name;
    int types;
    size_t single, pair; /* special tokens */
} goldens[] = {{"bert-uncased", 2, 2, 3}, {"roberta-like", 1, 2, 4}};

static LrtTokenizer *open_golden(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, GOLDENS "%s/tokenizer.json", name);
    return open_good(path);
}

static void expect(const LrtIds *found, const json_t *wanted, const char *what)
{
    ck_assert_msg(found->count == json_array_size(wanted), "%s: %zu tokens, wanted %zu", what,
                  found->count, json_array_size(wanted));
    for (size_t i = 0; i < found->count; i++)
        ck_assert_msg(found->data[i] == json_integer_value(json_array_get(wanted, i)),
                      "%s: token %zu has %d", what, i, found->data[i]);
}

static LrtPair pair_of(const json_t *first, const json_t *second)
{
    return (LrtPair){json_string_value(first), json_string_value(second),
                     json_string_length(first), json_string_length(second)};
}

START_TEST(pairs_are_joined_and_cut_as_in_the_library)
{
    const struct Golden *g = &goldens[_i];
    char path[512], what[64];
    snprintf(path, sizeof path, GOLDENS "%s/pairs.jsonl", g->name);
    LrtTokenizer *t = open_golden(g->name);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    LrtEncoded out = {0}; /* used again and again */
    json_t *row;
    int count = 0;
    while ((row = json_loadf(file, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL)) != NULL) {
        LrtError error = {LRT_OK, ""};
        snprintf(what, sizeof what, "%s, row %d", g->name, ++count);
        const LrtPair pair =
            pair_of(json_object_get(row, "text"), json_object_get(row, "pair"));
        const size_t most = (size_t)json_integer_value(json_object_get(row, "length"));
        ck_assert_msg(lrt_tokenizer_encode_pair(t, &pair, most, &out, &error), "%s",
                      error.text);
        expect(&out.ids, json_object_get(row, "ids"), what);
        expect(&out.types, json_object_get(row, "types"), what);
        const size_t kept = out.ids.count;
        ck_assert(lrt_tokenizer_encode_pair(t, &pair, 0, &out, &error));
        const size_t whole = out.ids.count;
        ck_assert_uint_eq(out.removed, 0);
        ck_assert(lrt_tokenizer_encode_pair(t, &pair, most, &out, &error));
        ck_assert_uint_eq(out.removed, whole - kept);
        json_decref(row);
    }
    ck_assert_int_eq(count, 204);
    ck_assert_int_eq(lrt_tokenizer_types(t), g->types);
    ck_assert_uint_eq(lrt_tokenizer_specials(t, false), g->single);
    ck_assert_uint_eq(lrt_tokenizer_specials(t, true), g->pair);
    fclose(file);
    lrt_encoded_free(&out);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(a_single_text_is_what_encode_makes_of_it)
{
    static const char text[] = "Hello, <s>[SEP] world";
    LrtTokenizer *t = open_golden(goldens[_i].name);
    LrtError error = {LRT_OK, ""};
    LrtEncoded out = {0};
    LrtIds ids = encode(t, text, sizeof text - 1, true);
    const LrtPair pair = {.first = text, .first_length = sizeof text - 1};
    ck_assert(lrt_tokenizer_encode_pair(t, &pair, 0, &out, &error));
    ck_assert_uint_eq(ids.count, out.ids.count);
    ck_assert_mem_eq(ids.data, out.ids.data, sizeof *ids.data * ids.count);
    lrt_ids_free(&ids);
    lrt_encoded_free(&out);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(a_length_without_room_is_refused)
{
    const struct Golden *g = &goldens[_i];
    LrtTokenizer *t = open_golden(g->name);
    LrtEncoded out = {0};
    const LrtPair pair = {"a", "b", 1, 1};
    for (size_t most = 1; most <= g->pair; most++) {
        LrtError error = {LRT_OK, ""};
        ck_assert(!lrt_tokenizer_encode_pair(t, &pair, most, &out, &error));
        ck_assert_int_eq(error.status, LRT_INVALID);
        ck_assert_ptr_nonnull(strstr(error.text, "has no room for a text"));
        ck_assert_ptr_nonnull(strstr(error.text, "--length"));
    }
    lrt_encoded_free(&out);
    lrt_tokenizer_close(t);
}
END_TEST

/* Without a post-processor two texts stand behind each other and have one type. */
START_TEST(a_tokenizer_without_a_post_processor_adds_nothing)
{
    LrtTokenizer *t = open_golden("gpt2");
    LrtError error = {LRT_OK, ""};
    LrtEncoded out = {0};
    const LrtPair pair = {"Hello world", "Hello", 11, 5};
    ck_assert(lrt_tokenizer_encode_pair(t, &pair, 0, &out, &error));
    ck_assert_uint_eq(out.ids.count, 3);
    ck_assert_int_eq(out.ids.data[0], 15496);
    ck_assert_int_eq(out.ids.data[1], 995);
    ck_assert_int_eq(out.ids.data[2], 15496);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(out.types.data[i], 0);
    ck_assert_int_eq(lrt_tokenizer_types(t), 1);
    lrt_encoded_free(&out);
    lrt_tokenizer_close(t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer_pair");
    TCase *tc = tcase_create("pairs");
    tcase_add_loop_test(tc, pairs_are_joined_and_cut_as_in_the_library, 0, 2);
    tcase_add_loop_test(tc, a_single_text_is_what_encode_makes_of_it, 0, 2);
    tcase_add_loop_test(tc, a_length_without_room_is_refused, 0, 2);
    tcase_add_test(tc, a_tokenizer_without_a_post_processor_adds_nothing);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
