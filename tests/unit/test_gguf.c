/* test_gguf.c - GGUF files: the goldens, written as llama.cpp's converter writes them, and files that lie about themselves. */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include "runtime/gguf.h"
#include "tests/unit/block_types.h"
#include "tests/unit/checkpoint_files.h"
#include "tests/unit/run_suite.h"

/* --- writing --- */

static struct {
    uint8_t *at, header[1 << 16], data[1 << 20];
    uint64_t tensors, values, size; /* of data */
} gguf;

static void add_integer(uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *gguf.at++ = (uint8_t)(value >> 8 * i);
}

static void add_string(const char *text)
{
    add_integer(strlen(text), 8);
    memcpy(gguf.at, text, strlen(text));
    gguf.at += strlen(text);
}

static void add_key(const char *key, GgufType type)
{
    gguf.values++;
    add_string(key);
    add_integer(type, 4);
}

static void add_u32(const char *key, uint32_t value)
{
    add_key(key, GGUF_U32);
    add_integer(value, 4);
}

static void add_f32(const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    add_key(key, GGUF_F32);
    add_integer(bits, 4);
}

static void add_text(const char *key, const char *text)
{
    add_key(key, GGUF_STRING);
    add_string(text);
}

static void begin_gguf(const char *architecture)
{
    memset(&gguf, 0, sizeof gguf);
    gguf.at = gguf.header + 24;
    add_text("general.architecture", architecture);
}

static void add_tensor(const char *name, int type, int rank, const int64_t *shape,
                       const void *data, size_t bytes)
{
    gguf.tensors++;
    add_string(name);
    add_integer((uint64_t)rank, 4);
    for (int i = rank - 1; i >= 0; i--)
        add_integer((uint64_t)shape[i], 8);
    add_integer((uint64_t)type, 4);
    add_integer(gguf.size, 8);
    memcpy(gguf.data + gguf.size, data, bytes);
    gguf.size += (bytes + 31) / 32 * 32;
}

static const char *end_gguf(const char *name)
{
    const size_t header = ((size_t)(gguf.at - gguf.header) + 31) / 32 * 32;
    uint8_t *file = calloc(1, header + gguf.size);
    gguf.at = gguf.header;
    add_integer(0x46554747, 4);
    add_integer(3, 4);
    add_integer(gguf.tensors, 8);
    add_integer(gguf.values, 8);
    memcpy(file, gguf.header, header);
    memcpy(file + header, gguf.data, gguf.size);
    const char *path = temp_write(name, file, header + gguf.size);
    free(file);
    return path;
}

static const struct {
    const char *hf, *gguf; /* a # stands for the layer */
} tensor_names[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {"model.layers.#.input_layernorm.weight", "blk.#.attn_norm.weight"},
    {"model.layers.#.self_attn.q_proj.weight", "blk.#.attn_q.weight"},
    {"model.layers.#.self_attn.k_proj.weight", "blk.#.attn_k.weight"},
    {"model.layers.#.self_attn.v_proj.weight", "blk.#.attn_v.weight"},
    {"model.layers.#.self_attn.o_proj.weight", "blk.#.attn_output.weight"},
    {"model.layers.#.post_attention_layernorm.weight", "blk.#.ffn_norm.weight"},
    {"model.layers.#.mlp.gate_proj.weight", "blk.#.ffn_gate.weight"},
    {"model.layers.#.mlp.up_proj.weight", "blk.#.ffn_up.weight"},
    {"model.layers.#.mlp.down_proj.weight", "blk.#.ffn_down.weight"},
    {"transformer.wte.weight", "token_embd.weight"},
    {"transformer.wpe.weight", "position_embd.weight"},
    {"transformer.ln_f.weight", "output_norm.weight"},
    {"transformer.ln_f.bias", "output_norm.bias"},
    {"transformer.h.#.ln_1.weight", "blk.#.attn_norm.weight"},
    {"transformer.h.#.ln_1.bias", "blk.#.attn_norm.bias"},
    {"transformer.h.#.attn.c_attn.weight", "blk.#.attn_qkv.weight"},
    {"transformer.h.#.attn.c_attn.bias", "blk.#.attn_qkv.bias"},
    {"transformer.h.#.attn.c_proj.weight", "blk.#.attn_output.weight"},
    {"transformer.h.#.attn.c_proj.bias", "blk.#.attn_output.bias"},
    {"transformer.h.#.ln_2.weight", "blk.#.ffn_norm.weight"},
    {"transformer.h.#.ln_2.bias", "blk.#.ffn_norm.bias"},
    {"transformer.h.#.mlp.c_fc.weight", "blk.#.ffn_up.weight"},
    {"transformer.h.#.mlp.c_fc.bias", "blk.#.ffn_up.bias"},
    {"transformer.h.#.mlp.c_proj.weight", "blk.#.ffn_down.weight"},
    {"transformer.h.#.mlp.c_proj.bias", "blk.#.ffn_down.bias"},
};

static void gguf_name(const char *hf, char name[64])
{
    char pattern[128] = "", layer = '0';
    for (size_t i = 0; hf[i]; i++) {
        pattern[i] = hf[i] >= '0' && hf[i] <= '9' && hf[i - 1] == '.' ? '#' : hf[i];
        layer = pattern[i] == '#' ? hf[i] : layer;
    }
    for (int i = 0; i < COUNT_OF(tensor_names); i++)
        if (!strcmp(tensor_names[i].hf, pattern)) {
            strcpy(name, tensor_names[i].gguf);
            if (strchr(name, '#'))
                *strchr(name, '#') = layer;
            return;
        }
    ck_abort_msg("no name for '%s'", hf);
}

/* As the converter writes a tensor: q and k of llama as [heads, half, 2] from [heads, 2, half],
 * the matrices of gpt2's layers transposed. */
static void convert(const LrtTensor *tensor, int heads, int kv_heads, bool permute)
{
    char name[64];
    gguf_name(tensor->name, name);
    const bool conv1d = strstr(tensor->name, ".c_") && tensor->rank == 2;
    const bool k = strstr(name, "attn_k.") != NULL, rotary = k || strstr(name, "attn_q.");
    const int64_t rows = tensor->shape[0], width = lrt_tensor_elements(tensor) / rows;
    const int64_t half = rows / (k ? kv_heads : heads) / 2;
    float *x = numbers_of(tensor), *y = malloc(sizeof *y * (size_t)(rows * width));
    for (int64_t r = 0; r < rows; r++) {
        const int64_t head = r / (2 * half), side = r / half % 2, i = r % half;
        const int64_t row = rotary && permute ? (head * half + i) * 2 + side : r;
        for (int64_t c = 0; c < width; c++)
            y[conv1d ? c * rows + r : row * width + c] = x[r * width + c];
    }
    const int64_t shape[2] = {conv1d ? width : rows, conv1d ? rows : width};
    add_tensor(name, 0, tensor->rank, shape, y, sizeof *y * (size_t)(rows * width));
    free(x);
    free(y);
}

static double config_number(const json_t *config, const char *key)
{
    return json_number_value(json_object_get(config, key));
}

static void add_llama(const char *architecture, const json_t *config)
{
    static const char *const keys[][2] = {
        {"hidden_size", "embedding_length"},
        {"intermediate_size", "feed_forward_length"},
        {"num_hidden_layers", "block_count"},
        {"num_attention_heads", "attention.head_count"},
        {"num_key_value_heads", "attention.head_count_kv"},
        {"head_dim", "rope.dimension_count"},
        {"max_position_embeddings", "context_length"},
    };
    char key[64];
    begin_gguf(architecture);
    for (int i = 0; i < COUNT_OF(keys); i++) {
        snprintf(key, sizeof key, "%s.%s", architecture, keys[i][1]);
        add_u32(key, (uint32_t)config_number(config, keys[i][0]));
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", architecture);
    add_f32(key, (float)config_number(config, "rms_norm_eps"));
    snprintf(key, sizeof key, "%s.rope.freq_base", architecture);
    add_f32(key,
            (float)config_number(json_object_get(config, "rope_parameters"), "rope_theta"));
}

static void add_gpt2(const json_t *config)
{
    begin_gguf("gpt2");
    add_u32("gpt2.embedding_length", (uint32_t)config_number(config, "n_embd"));
    add_u32("gpt2.feed_forward_length", 4 * (uint32_t)config_number(config, "n_embd"));
    add_u32("gpt2.block_count", (uint32_t)config_number(config, "n_layer"));
    add_u32("gpt2.attention.head_count", (uint32_t)config_number(config, "n_head"));
    add_u32("gpt2.context_length", (uint32_t)config_number(config, "n_positions"));
    add_f32("gpt2.attention.layer_norm_epsilon", 1e-5f);
}

/* --- reading --- */

/* Keys of the golden's config that a GGUF file does not have, or spells out. */
static bool differs(const char *key)
{
    static const char *const keys[] = {"rope_theta", "n_inner"};
    return !strcmp(key, keys[0]) || !strcmp(key, keys[1]);
}

static const struct {
    const char *golden, *architecture;
} converted[] = {
    {"llama", "llama"}, {"llama-odd", "llama"}, {"llama", "qwen2"}, {"gpt2", "gpt2"}};

START_TEST(gguf_files_are_shown_as_what_they_came_from)
{
    char directory[256];
    snprintf(directory, sizeof directory, GOLDENS "%s", converted[_i].golden);
    LrtCheckpoint *golden = open_good(directory);
    const char *architecture = converted[_i].architecture, *key;
    const json_t *config = lrt_checkpoint_config(golden), *value;
    const bool llama = !strcmp(architecture, "llama"), gpt2 = !strcmp(architecture, "gpt2");
    if (gpt2)
        add_gpt2(config);
    else
        add_llama(architecture, config);
    add_u32("tokenizer.ggml.bos_token_id", (uint32_t)config_number(config, "bos_token_id"));
    add_u32("tokenizer.ggml.eos_token_id", (uint32_t)config_number(config, "eos_token_id"));
    const int heads = gpt2 ? 1 : (int)config_number(config, "num_attention_heads");
    const int kv_heads = gpt2 ? 1 : (int)config_number(config, "num_key_value_heads");
    for (int i = lrt_checkpoint_count(golden) - 1; i >= 0; i--)
        convert(lrt_checkpoint_tensor(golden, i), heads, kv_heads, llama);
    if (gpt2) /* the converter stores the head again */
        add_tensor("output.weight", 0, 2, (int64_t[]){1, 1}, "\0\0\0", 4);
    const char *path = end_gguf("model.gguf");
    LrtCheckpoint *file = open_good(path);
    expect_same_tensors(file, golden);
    ck_assert_str_eq(lrt_checkpoint_tokenizer_path(file), path);
    json_object_foreach((json_t *)lrt_checkpoint_config(file), key, value)
    {
        char *shown = json_dumps(value, JSON_ENCODE_ANY);
        if (strcmp(architecture, "qwen2") ||
            !strchr("ma", key[0])) /* model_type, architectures */
            ck_assert_msg(differs(key) ||
                              json_equal((json_t *)value, json_object_get(config, key)),
                          "config has %s %s", key, shown);
        free(shown);
    }
    if (gpt2)
        ck_assert_int_eq((int)config_number(lrt_checkpoint_config(file), "n_inner"), 256);
    else
        ck_assert_double_eq(config_number(lrt_checkpoint_config(file), "rope_theta"),
                            _i == 1 ? 10000 : 100000);
    lrt_checkpoint_close(file);
    lrt_checkpoint_close(golden);
}
END_TEST

START_TEST(quantised_rows_of_heads_are_put_in_order)
{
    enum { HEADS = 2, ROWS = 32, WIDTH = 64 };
    uint8_t blocks[(ROWS * WIDTH / 32 + 1) * 34], *bias = blocks + ROWS * WIDTH / 32 * 34;
    float *weight, *vector;
    uint32_t state = 3;
    for (size_t i = 0; i < sizeof blocks; i++)
        blocks[i] = i % 34 == 1 ? 0x3c : (uint8_t)(next_random(&state) >> 24);
    begin_gguf("llama");
    add_u32("llama.attention.head_count", HEADS);
    add_tensor("token_embd.weight", 8, 2, (int64_t[]){ROWS, WIDTH}, blocks, 34 * 64);
    add_tensor("blk.0.attn_q.weight", 8, 2, (int64_t[]){ROWS, WIDTH}, blocks, 34 * 64);
    add_tensor("blk.0.attn_q.bias", 8, 1, (int64_t[]){ROWS}, bias, 34);
    LrtCheckpoint *file = open_good(end_gguf("q.gguf"));
    weight = numbers_of(lrt_checkpoint_find(file, "model.layers.0.self_attn.q_proj.weight"));
    vector = numbers_of(lrt_checkpoint_find(file, "model.layers.0.self_attn.q_proj.bias"));
    for (int h = 0, row = 0; h < HEADS; h++)
        for (int i = 0; i < 8; i++)
            for (int side = 0; side < 2; side++, row++) { /* rows as they lie */
                const int hf = h * 16 + side * 8 + i;
                expect_same_number(vector[hf], by_definition(&block_types[4], bias, row));
                for (int c = 0; c < WIDTH; c++)
                    expect_same_number(
                        weight[hf * WIDTH + c],
                        by_definition(&block_types[4], blocks + (row * 2 + c / 32) * 34, c % 32));
            }
    free(weight);
    free(vector);
    lrt_checkpoint_close(file);
}
END_TEST

/* --- files that lie --- */

/* One F32 tensor, ne [4, 2]; general.alignment is 32. */
static const char minimal_gguf[] =
    "474755460300000001000000000000000200000000000000140000000000000067656e6572616c2e6172636869"
    "746563747572650800000005000000000000006c6c616d61110000000000000067656e6572616c2e616c69676e"
    "6d656e7404000000200000001100000000000000746f6b656e5f656d62642e7765696768740200000004000000"
    "00000000020000000000000000000000000000000000000000000000000000803f000000400000404000008040"
    "0000a0400000c0400000e040";

/* The minimal file with BYTES of VALUE at AT. */
static const struct {
    int at, bytes;
    uint64_t value;
    const char *what;
} bad_gguf[] = {
    {0, 4, 0x46474755, "not a GGUF file"},
    {4, 4, 1, "version 1"},
    {4, 4, 0x03000000, "version 50331648"},
    {8, 8, UINT64_MAX, "more entries"},
    {8, 8, 9, "more entries"},
    {8, 8, 2, "ends inside its header"},
    {16, 8, 1ull << 63, "more entries"},
    {16, 8, 3, "byte "},
    {24, 8, UINT64_MAX, "ends inside"},
    {24, 8, 161, "ends inside"},
    {52, 4, 13, "unknown type"},
    {52, 4, UINT32_MAX, "unknown type"},
    {52, 4, GGUF_ARRAY, "byte "},
    {56, 8, UINT64_MAX - 63, "ends inside"},
    {64, 4, 0x41414141, "architecture 'AAAAa'"},
    {94, 4, GGUF_STRING, "ends inside"},
    {98, 4, 0, "general.alignment"},
    {98, 4, 24, "general.alignment"},
    {98, 4, 1u << 31, "general.alignment"},
    {98, 4, 65536, "before its tensors"},
    {102, 8, 1ull << 62, "ends inside"},
    {110, 1, 'u', "token_embd.weight"},
    {127, 4, 5, "4 dimensions"},
    {127, 4, UINT32_MAX, "4 dimensions"},
    {127, 4, 1, "token_embd.weight"},
    {131, 8, 0, "shape"},
    {131, 8, 5, "outside the file"},
    {131, 8, 1ull << 63, "shape"},
    {131, 8, 1ull << 62, "shape"},
    {147, 4, 12, "type Q4_K"},
    {147, 4, 4, "an unknown number"},
    {147, 4, UINT32_MAX, "an unknown number"},
    {147, 4, 2, "whole blocks"},
    {147, 4, 27, "outside the file"},
    {151, 8, 1, "not aligned"},
    {151, 8, 32, "outside the file"},
    {151, 8, UINT64_MAX - 31, "outside the file"},
};

START_TEST(a_bad_gguf_file_is_refused)
{
    uint8_t file[192];
    ck_assert_uint_eq(from_hex(minimal_gguf, file), sizeof file);
    lrt_checkpoint_close(open_good(temp_write("good.gguf", file, sizeof file)));
    for (int i = 0; i < bad_gguf[_i].bytes; i++)
        file[bad_gguf[_i].at + i] = (uint8_t)(bad_gguf[_i].value >> 8 * i);
    expect_refused(temp_write("bad.gguf", file, sizeof file), "bad.gguf", bad_gguf[_i].what);
}
END_TEST

/* What a model of llama or qwen2 says of itself that its tensors do not fit. */
static const struct {
    const char *architecture, *key;
    uint32_t value;
    const char *text, *what;
} bad_models[] = {
    {"llama", "llama.attention.head_count", 0, NULL, "head_count"},
    {"llama", "llama.attention.head_count", 3, NULL, "3 heads"},
    {"llama", "llama.attention.head_count", INT32_MAX, NULL, "head_count"},
    {"llama", "llama.attention.head_count", UINT32_MAX, NULL, "head_count"},
    {"llama", "llama.attention.head_count_kv", 0, NULL, "head_count_kv"},
    {"llama", "llama.attention.head_count_kv", 1u << 30, NULL, "head_count_kv"},
    {"llama", "llama.rope.scaling.type", 0, "yarn", "scaling 'yarn'"},
    {"qwen2", "qwen2.rope.scaling.type", 0, "yarn", "scaling 'yarn'"},
    {"llama", "general.architecture", 0, "llama", "key occurs twice"},
    {"bloom", "x", 0, NULL, "architecture 'bloom'"},
    {"llama", "rope_freqs.weight", 1, "tensor", "rope_freqs"},
    {"llama", "blk.0.attn_k.weight", 1, "tensor", "k_proj.weight' occurs twice"},
    {"llama", "blk.1.attn_q.weight", 0, "tensor", "'blk.1.attn_q.weight'"},
};

START_TEST(a_model_that_contradicts_itself_is_refused)
{
    static const float zeros[16];
    static const int64_t shape[2] = {4, 4};
    const char *key = bad_models[_i].key, *text = bad_models[_i].text;
    const bool tensor = text && !strcmp(text, "tensor");
    begin_gguf(bad_models[_i].architecture);
    if (text && !tensor)
        add_text(key, text);
    else if (!tensor)
        add_u32(key, bad_models[_i].value);
    add_tensor("token_embd.weight", 0, 2, shape, zeros, 64);
    add_tensor("blk.0.attn_q.weight", 0, 2, shape, zeros, 64);
    add_tensor("blk.0.attn_k.weight", 0, 2, shape, zeros, 64);
    for (uint32_t i = 0; tensor && i < (bad_models[_i].value ? bad_models[_i].value : 1); i++)
        add_tensor(key, 0, bad_models[_i].value ? 2 : 0, shape, zeros, 64);
    expect_refused(end_gguf("bad.gguf"), "bad.gguf", bad_models[_i].what);
}
END_TEST

static bool opens(const uint8_t *data, size_t size)
{
    LrtError error = {0};
    GgufFile *file = gguf_open_memory(data, size, &error);
    const bool opened = opened_as_said(file != NULL, &error);
    gguf_close(file);
    return opened;
}

START_TEST(no_byte_is_trusted)
{
    uint8_t good[192];
    ck_assert_uint_eq(from_hex(minimal_gguf, good), sizeof good);
    expect_no_byte_trusted(good, sizeof good, opens);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gguf");
    TCase *tc = tcase_create("files");
    tcase_add_checked_fixture(tc, temp_open, temp_close);
    tcase_add_loop_test(tc, gguf_files_are_shown_as_what_they_came_from, 0, COUNT_OF(converted));
    tcase_add_test(tc, quantised_rows_of_heads_are_put_in_order);
    tcase_add_loop_test(tc, a_bad_gguf_file_is_refused, 0, COUNT_OF(bad_gguf));
    tcase_add_loop_test(tc, a_model_that_contradicts_itself_is_refused, 0, COUNT_OF(bad_models));
    tcase_add_test(tc, no_byte_is_trusted);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
