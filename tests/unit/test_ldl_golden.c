/* test_ldl_golden.c - the example models, evaluated by the reference evaluator, compute the
 * logits and losses that transformers computed. */
#define _POSIX_C_SOURCE 200809L /* open_memstream */
#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "ir/eval.h"
#include "tests/unit/ldl_fake.h"
#include "tests/unit/run_suite.h"

/* --- safetensors, as far as the goldens need it --- */

static Fake tensors_read(const char *path)
{
    Fake fake = {0};
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s is missing", path);
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    const long size = ftell(file);
    ck_assert_int_gt(size, 8);
    rewind(file);
    unsigned char *bytes = malloc((size_t)size);
    ck_assert_uint_eq(fread(bytes, 1, (size_t)size, file), (size_t)size);
    fclose(file);
    uint64_t header = 0;
    memcpy(&header, bytes, sizeof header);
    fake.tensors = json_loadb((const char *)bytes + 8, (size_t)header, 0, NULL);
    ck_assert_ptr_nonnull(fake.tensors);
    fake.data = bytes;
    return fake;
}

/* Bytes of a tensor, behind the eight of the length and the header. */
static const unsigned char *tensor_bytes(const Fake *file, const char *name)
{
    const json_t *entry = json_object_get(file->tensors, name);
    ck_assert_msg(entry != NULL, "there is no tensor '%s'", name);
    uint64_t header = 0;
    memcpy(&header, file->data, sizeof header);
    return file->data + 8 + header +
           json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 0));
}

static double float_at(const Fake *file, const char *name, int64_t index)
{
    float value;
    memcpy(&value, tensor_bytes(file, name) + index * 4, sizeof value);
    return (double)value;
}

static int64_t integer_at(const Fake *file, const char *name, int64_t index)
{
    int64_t value;
    memcpy(&value, tensor_bytes(file, name) + index * 8, sizeof value);
    return value;
}

static int64_t extent_of(const Fake *file, const char *name, size_t axis)
{
    return json_integer_value(
        json_array_get(json_object_get(json_object_get(file->tensors, name), "shape"), axis));
}

/* --- evaluation --- */

/* One row of the case `plain`. */
typedef struct Row {
    const Fake *model, *inputs;
    int64_t first, tokens; /* element of input_ids at which the row starts */
} Row;

/* The part of a file's tensor that a param is. */
static void fill_param(const Fake *model, const Param *param, Value *value)
{
    int64_t at[MAX_RANK] = {0}, size[MAX_RANK];
    const int rank = param->file_rank;
    const unsigned char *bytes = tensor_bytes(model, param->file_name);
    for (int i = 0; i < rank; i++)
        size[i] = param->slices[i].stop - param->slices[i].start;
    for (int64_t n = 0; n < value->count; n++) {
        int64_t from = 0, to = 0;
        for (int i = 0; i < rank; i++) {
            const int j = !param->transposed || i < rank - 2 ? i
                          : i == rank - 1                    ? rank - 2
                                                             : rank - 1;
            from = from * param->slices[i].extent + param->slices[i].start + at[i];
            to = to * size[j] + at[j];
        }
        float element;
        memcpy(&element, bytes + from * 4, sizeof element);
        value->data[to] = (double)element;
        for (int i = rank - 1; i >= 0 && ++at[i] == size[i]; i--)
            at[i] = 0;
    }
}

static void fill_leaf(void *user, const Node *node, Value *value)
{
    const Row *row = user;
    if (node->op == OP_PARAM) {
        fill_param(row->model, node->param, value);
        return;
    }
    const bool targets = !strcmp(node->attrs.name, "targets");
    for (int64_t t = 0; t < value->count; t++) /* the last token has no target */
        value->data[t] =
            targets && t == row->tokens - 1
                ? -100
                : (double)integer_at(row->inputs, targets ? "plain.labels" : "plain.input_ids",
                                     row->first + t + targets);
}

static double worst(const Value *value, const Fake *expected, const char *name, int64_t first,
                    int64_t count)
{
    double difference = 0;
    for (int64_t i = 0; i < count; i++) {
        const double d = fabs(value->data[i] - float_at(expected, name, first + i));
        if (!(d <= difference))
            difference = d;
    }
    return difference;
}

static const struct {
    const char *example, *golden, *config, *weights;
} goldens[] = {
    {"gpt2", "gpt2", "config.json", "model.safetensors"},
    {"gpt2", "gpt2", "config.json", "variants/model.hub.safetensors"},
    {"gpt2", "gpt2-odd", "config.json", "model.safetensors"},
    {"gpt3", "gpt3", "config.json", "model.safetensors"},
    {"llama", "llama", "config.json", "model.safetensors"},
    {"llama", "llama", "variants/config.v4.json", "model.safetensors"},
    {"llama", "llama-odd", "config.json", "model.safetensors"},
    {"llama", "llama-odd", "variants/config.v4.json", "model.safetensors"},
    {"llama", "llama-head64", "config.json", "model.safetensors"},
};

static const char *golden_path(int index, const char *file)
{
    return arena_format(arena, LORACC_SOURCE "/tests/data/goldens/%s/%s", goldens[index].golden, file);
}

START_TEST(examples_compute_the_reference_logits)
{
    Fake model = tensors_read(golden_path(_i, goldens[_i].weights));
    Fake inputs = tensors_read(golden_path(_i, "inputs.safetensors"));
    Fake expected = tensors_read(golden_path(_i, "expected.safetensors"));
    model.config = json_load_file(golden_path(_i, goldens[_i].config), 0, NULL);
    ck_assert_ptr_nonnull(model.config);
    const Graph *graph = compile_good(example(goldens[_i].example), &model);
    const Node *logits = graph_find_output(graph, "logits"),
               *loss = graph_find_output(graph, "loss");

    const int64_t rows = extent_of(&inputs, "plain.input_ids", 0),
                  tokens = extent_of(&inputs, "plain.input_ids", 1);
    const int64_t vocab = extent_of(&expected, "plain.logits", 2);
    for (int64_t b = 0; b < rows; b++) {
        Row row = {.model = &model, .inputs = &inputs, .first = b * tokens, .tokens = tokens};
        const EvalInput input = {.tokens = tokens, .leaf = fill_leaf, .user = &row};
        const Evaluation *evaluation = eval_graph(graph, &input, arena);
        const Value *got = eval_value(evaluation, logits, 0);
        ck_assert_int_eq(got->count, tokens * vocab);
        ck_assert_double_le(
            worst(got, &expected, "plain.logits", b * tokens * vocab, tokens * vocab), 1e-5);
        ck_assert_double_le(worst(eval_value(evaluation, loss, 0), &expected,
                                  "plain.token_loss", b * (tokens - 1), tokens - 1),
                            1e-5);
    }
    fake_free(&model);
    fake_free(&inputs);
    fake_free(&expected);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ldl_golden");
    TCase *tc = tcase_create("golden");
    tcase_add_checked_fixture(tc, open_arena, close_arena);
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, examples_compute_the_reference_logits, 0,
                        sizeof goldens / sizeof *goldens);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
