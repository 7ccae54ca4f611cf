/* test_checkpoint.c - Hugging Face directories: shards, what else lies in them, and directories that lie about themselves. */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include "tests/unit/checkpoint_files.h"
#include "tests/unit/run_suite.h"

/* The golden in two files with an index; returns the checkpoint it was made from. */
static LrtCheckpoint *put_shards(void)
{
    LrtCheckpoint *golden = open_good(GOLDENS "llama");
    LrtTensor parts[2][64];
    int counts[2] = {0};
    char names[2][64];
    json_t *map = json_object(), *index = json_pack("{s:o}", "weight_map", map);
    LrtError error = {0};
    for (int s = 0; s < 2; s++)
        snprintf(names[s], sizeof *names, "model-%05d-of-00002.safetensors", s + 1);
    for (int i = 0; i < lrt_checkpoint_count(golden); i++) {
        const LrtTensor *tensor = lrt_checkpoint_tensor(golden, i);
        json_object_set_new(map, tensor->name, json_string(names[i % 3 % 2]));
        parts[i % 3 % 2][counts[i % 3 % 2]++] = *tensor;
    }
    for (int s = 0; s < 2; s++)
        ck_assert(lrt_safetensors_write(temp_path(names[s]), parts[s], counts[s], NULL, &error));
    ck_assert_int_eq(json_dump_file(index, temp_path("model.safetensors.index.json"), 0), 0);
    json_decref(index);
    temp_text("config.json", "{\"model_type\": \"llama\"}");
    return golden;
}

START_TEST(shards_are_one_checkpoint)
{
    LrtCheckpoint *golden = put_shards(), *shards = open_good(temp_folder);
    expect_same_tensors(shards, golden);
    ck_assert_str_eq(lrt_checkpoint_path(shards), temp_folder);
    ck_assert_ptr_null(lrt_checkpoint_tokenizer_path(shards));
    const json_t *type = json_object_get(lrt_checkpoint_config(shards), "model_type");
    ck_assert_str_eq(json_string_value(type), "llama");
    ck_assert_uint_eq(lrt_checkpoint_hash(shards), lrt_checkpoint_hash(golden));
    lrt_checkpoint_close(shards);
    temp_text("vocab.txt", "[UNK]\n");
    shards = open_good(temp_folder);
    ck_assert_str_eq(lrt_checkpoint_tokenizer_path(shards), temp_path("vocab.txt"));
    lrt_checkpoint_close(shards);
    temp_text("tokenizer.json", "{}");
    shards = open_good(temp_folder);
    ck_assert_str_eq(lrt_checkpoint_tokenizer_path(shards), temp_path("tokenizer.json"));
    lrt_checkpoint_close(shards);
    LrtCheckpoint *lone = open_good(GOLDENS "llama/model.safetensors");
    expect_same_tensors(lone, golden);
    ck_assert(json_equal((json_t *)lrt_checkpoint_config(lone),
                         (json_t *)lrt_checkpoint_config(golden)));
    lrt_checkpoint_close(lone);
    lone = open_good(GOLDENS "llama/inputs.safetensors");
    ck_assert_uint_ne(lrt_checkpoint_hash(lone), lrt_checkpoint_hash(golden));
    lrt_checkpoint_close(lone);
    lrt_checkpoint_close(golden);
    temp_write("lone.safetensors", "\2\0\0\0\0\0\0\0{}", 10);
    ck_assert_int_eq(unlink(temp_path("config.json")), 0);
    lone = open_good(temp_path("lone.safetensors"));
    ck_assert_int_eq(lrt_checkpoint_count(lone), 0);
    ck_assert_ptr_null(lrt_checkpoint_config(lone));
    lrt_checkpoint_close(lone);
}
END_TEST

/* File SPOILT gets TEXT (NULL: is removed); the message names FILE. */
static const struct {
    const char *spoilt, *text, *file, *what;
} bad_directories[] = {
    {"model-00002-of-00002.safetensors", NULL, "model-00002-of-00002", "No such file"},
    {"model-00002-of-00002.safetensors", "short", "model-00002-of-00002", "too short"},
    {"config.json", NULL, "config.json", "No such file"},
    {"config.json", "", "config.json", "not valid JSON"},
    {"config.json", "{\n\"a\": 1,\n}", "config.json:3:", "not valid JSON"},
    {"config.json", "{\"a\": 1, \"a\": 2}", "config.json", "duplicate"},
    {"config.json", "{} {}", "config.json", "not valid JSON"},
    {"config.json", "[]", "config.json", "not a JSON object"},
    {"model.safetensors", "short", "model.safetensors", "too short"},
    {"model.safetensors.index.json", NULL, "/tmp/loracc", "neither"},
    {"model.safetensors.index.json", "{", "index.json:1:", "not valid JSON"},
    {"model.safetensors.index.json", "[]", "index.json", "weight_map"},
    {"model.safetensors.index.json", "{\"weight_map\": 1}", "index.json", "weight_map"},
    {"model.safetensors.index.json", "{\"weight_map\": {}}", "index.json", "weight_map"},
    {"model.safetensors.index.json", "{\"weight_map\": {\"a\": 1}}", "index.json", "'a'"},
    {"model.safetensors.index.json", "{\"weight_map\": {\"a\": \"..\"}}", "index.json", "'a'"},
    {"model.safetensors.index.json", "{\"weight_map\": {\"a\": \"../b\"}}", "index.json",
     "'a'"},
    {"model.safetensors.index.json",
     "{\"weight_map\": {\"a\": \"model-00002-of-00002.safetensors\"}}", "index.json",
     "tensor 'a' is not in"},
};

START_TEST(a_bad_directory_is_refused)
{
    lrt_checkpoint_close(put_shards());
    const char *spoilt = bad_directories[_i].spoilt, *text = bad_directories[_i].text;
    if (text)
        temp_text(spoilt, text);
    else
        ck_assert_int_eq(unlink(temp_path(spoilt)), 0);
    expect_refused(temp_folder, bad_directories[_i].file, bad_directories[_i].what);
}
END_TEST

START_TEST(a_tensor_in_two_shards_is_refused)
{
    lrt_checkpoint_close(put_shards());
    const float x = 0;
    const LrtTensor tensor = {"lm_head.weight", LRT_F32, 0, {0}, .data = BYTES(x)};
    LrtError error = {0};
    for (int i = 0; i < 2; i++)
        ck_assert(lrt_safetensors_write(temp_path(i ? "a" : "b"), &tensor, 1, NULL, &error));
    temp_text("model.safetensors.index.json",
             "{\"weight_map\": {\"lm_head.weight\": \"a\", \"x\": \"b\"}}");
    expect_refused(temp_folder, temp_folder, "'x' is not in 'b'");
    temp_text("model.safetensors.index.json",
             "{\"weight_map\": {\"lm_head.weight\": \"a\", \"lm_head.weight\": \"b\"}}");
    expect_refused(temp_folder, "index.json", "duplicate");
    expect_refused(temp_path("none"), "none", "no such file");
    expect_refused(temp_text("weights.bin", ""), "weights.bin", "not a checkpoint");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *tc = tcase_create("directories");
    tcase_add_checked_fixture(tc, temp_open, temp_close);
    tcase_add_test(tc, shards_are_one_checkpoint);
    tcase_add_loop_test(tc, a_bad_directory_is_refused, 0, COUNT_OF(bad_directories));
    tcase_add_test(tc, a_tensor_in_two_shards_is_refused);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
