/* gguf_names.c - see gguf_names.h.
 *
 * Files of architecture `llama` store the rows of q and k so that the two halves of each rotary pair lie side by side; those of
 * `gpt2` store the transpose of what Hugging Face's Conv1D has. */
#define _GNU_SOURCE
#include "runtime/gguf_names.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Name {
    const char *gguf, *hf;
} Name;

static const Name llama_names[] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}, {NULL, NULL}};
static const Name llama_blocks[] = {
    {"attn_norm", "input_layernorm"},  {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},     {"ffn_up", "mlp.up_proj"},           {"ffn_down", "mlp.down_proj"},
    {NULL, NULL}};
static const Name gpt2_names[] = {{"token_embd", "transformer.wte"},
                                  {"position_embd", "transformer.wpe"},
                                  {"output_norm", "transformer.ln_f"},
                                  {NULL, NULL}};
static const Name gpt2_blocks[] = {{"attn_norm", "ln_1"},   {"attn_qkv", "attn.c_attn"}, {"attn_output", "attn.c_proj"},
                                   {"ffn_norm", "ln_2"},    {"ffn_up", "mlp.c_fc"},      {"ffn_down", "mlp.c_proj"},
                                   {NULL, NULL}};

static const struct Architecture {
    const char *name, *model_type, *class;
    const Name *names, *blocks;
    const char *block_prefix;
    bool rotary_pairs, flipped;
} architectures[] = {
    {"llama", "llama", "LlamaForCausalLM", llama_names, llama_blocks, "model.layers", true, false},
    {"qwen2", "qwen2", "Qwen2ForCausalLM", llama_names, llama_blocks, "model.layers", false, false},
    {"gpt2", "gpt2", "GPT2LMHeadModel", gpt2_names, gpt2_blocks, "transformer.h", false, true},
};

static const struct Architecture *find_architecture(const GgufFile *file, LrtError *error)
{
    GgufString name = gguf_string(file, "general.architecture");
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (gguf_string_is(name, architectures[i].name))
            return &architectures[i];
    lrt_report(error, LRT_INVALID, "%s: architecture '%.*s' is not supported; llama, qwen2 and gpt2 are", file->path,
             name.data ? (int)name.length : 4, name.data ? name.data : "none");
    return NULL;
}

static const LrtTensor *find_tensor(const GgufFile *file, const char *name)
{
    for (uint64_t i = 0; i < file->tensor_count; i++)
        if (!strcmp(file->tensors[i].name, name))
            return &file->tensors[i];
    return NULL;
}

/* --- config ------------------------------------------------------------------------------------------------------------- */

static double number(const GgufFile *file, const struct Architecture *a, const char *key, double fallback)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", a->name, key);
    return gguf_number(file, full, fallback);
}

/* The shortest decimal that gives the same f32: 1e-05, not 9.999999747378752e-06. */
static json_t *real(double value)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if ((float)strtod(text, NULL) == (float)value)
            break;
    }
    return json_real(strtod(text, NULL));
}

/* A number of the file may be anything: null for what is no integer's size. */
static void set_integer(json_t *config, const char *key, double value)
{
    json_object_set_new(config, key, fabs(value) < 1e15 ? json_integer((json_int_t)value) : json_null());
}

static void set_tokens(const GgufFile *file, json_t *config)
{
    static const char *const keys[][2] = {{"tokenizer.ggml.bos_token_id", "bos_token_id"},
                                          {"tokenizer.ggml.eos_token_id", "eos_token_id"},
                                          {"tokenizer.ggml.padding_token_id", "pad_token_id"}};
    for (int i = 0; i < 3; i++) {
        double id = gguf_number(file, keys[i][0], -1);
        set_integer(config, keys[i][1], id < 0 ? HUGE_VAL : id);
    }
}

static bool set_rope(const GgufFile *file, const struct Architecture *a, json_t *config, LrtError *error)
{
    double theta = number(file, a, "rope.freq_base", 10000), factor = number(file, a, "rope.scaling.factor", 0);
    char key[128];
    snprintf(key, sizeof key, "%s.rope.scaling.type", a->name);
    GgufString type = gguf_string(file, key);
    if (find_tensor(file, "rope_freqs.weight"))
        return lrt_fail(error, LRT_INVALID, "%s: its rotary frequencies come as a tensor (rope_freqs), which is not supported; "
                        "use the Hugging Face checkpoint", file->path);
    if (type.data && !gguf_string_is(type, "none") && !gguf_string_is(type, "linear"))
        return lrt_fail(error, LRT_INVALID, "%s: rope scaling '%.*s' is not supported; linear is", file->path,
                        (int)type.length, type.data);
    bool linear = factor > 0 && factor != 1;
    json_t *rope = json_object();
    json_object_set_new(rope, "rope_theta", real(theta));
    json_object_set_new(rope, "rope_type", json_string(linear ? "linear" : "default"));
    if (linear)
        json_object_set_new(rope, "factor", real(factor));
    json_object_set_new(config, "rope_parameters", rope);
    json_object_set_new(config, "rope_theta", real(theta));
    return true;
}

static bool llama_config(const GgufFile *file, const struct Architecture *a, json_t *config, LrtError *error)
{
    double hidden = number(file, a, "embedding_length", 0), heads = number(file, a, "attention.head_count", 1);
    set_integer(config, "hidden_size", hidden);
    set_integer(config, "intermediate_size", number(file, a, "feed_forward_length", 0));
    set_integer(config, "num_hidden_layers", number(file, a, "block_count", 0));
    set_integer(config, "num_attention_heads", heads);
    set_integer(config, "num_key_value_heads", number(file, a, "attention.head_count_kv", heads));
    double size = number(file, a, "attention.key_length", number(file, a, "rope.dimension_count", hidden / heads));
    set_integer(config, "head_dim", size);
    set_integer(config, "max_position_embeddings", number(file, a, "context_length", 2048));
    json_object_set_new(config, "rms_norm_eps", real(number(file, a, "attention.layer_norm_rms_epsilon", 1e-5)));
    json_object_set_new(config, "hidden_act", json_string("silu"));
    json_object_set_new(config, "tie_word_embeddings", json_boolean(!find_tensor(file, "output.weight")));
    json_object_set_new(config, "attention_bias", json_boolean(find_tensor(file, "blk.0.attn_q.bias")));
    json_object_set_new(config, "mlp_bias", json_boolean(find_tensor(file, "blk.0.ffn_up.bias")));
    return set_rope(file, a, config, error);
}

static bool gpt2_config(const GgufFile *file, const struct Architecture *a, json_t *config, LrtError *error)
{
    (void)error;
    set_integer(config, "n_embd", number(file, a, "embedding_length", 0));
    set_integer(config, "n_inner", number(file, a, "feed_forward_length", 0));
    set_integer(config, "n_layer", number(file, a, "block_count", 0));
    set_integer(config, "n_head", number(file, a, "attention.head_count", 1));
    set_integer(config, "n_positions", number(file, a, "context_length", 1024));
    json_object_set_new(config, "layer_norm_epsilon", real(number(file, a, "attention.layer_norm_epsilon", 1e-5)));
    json_object_set_new(config, "activation_function", json_string("gelu_new"));
    json_object_set_new(config, "tie_word_embeddings", json_true());
    return true;
}

json_t *gguf_config(const GgufFile *file, LrtError *error)
{
    const struct Architecture *a = find_architecture(file, error);
    const LrtTensor *embedding = find_tensor(file, "token_embd.weight");
    if (!a)
        return NULL;
    if (!embedding || embedding->rank != 2) {
        lrt_report(error, LRT_INVALID, "%s: no tensor 'token_embd.weight': not a language model", file->path);
        return NULL;
    }
    json_t *config = json_object();
    json_object_set_new(config, "model_type", json_string(a->model_type));
    json_object_set_new(config, "architectures", json_pack("[s]", a->class));
    set_integer(config, "vocab_size", (double)embedding->shape[0]);
    set_tokens(file, config);
    if (a->flipped ? gpt2_config(file, a, config, error) : llama_config(file, a, config, error))
        return config;
    json_decref(config);
    return NULL;
}

/* --- names ---------------------------------------------------------------------------------------------------------------- */

static const char *lookup(const Name *names, const char *name, size_t length)
{
    for (; names->gguf; names++)
        if (strlen(names->gguf) == length && !strncmp(names->gguf, name, length))
            return names->hf;
    return NULL;
}

/* "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; NULL: a tensor nobody needs. */
static char *hf_name(const struct Architecture *a, const char *name, const char **part)
{
    char *result = NULL;
    const char *suffix = strrchr(name, '.');
    *part = "";
    if (!suffix)
        return NULL;
    if (strncmp(name, "blk.", 4) != 0) {
        const char *hf = lookup(a->names, name, (size_t)(suffix - name));
        return hf && asprintf(&result, "%s%s", hf, suffix) >= 0 ? result : NULL;
    }
    const char *layer = name + 4, *rest = strchr(layer, '.');
    if (!rest || rest >= suffix)
        return NULL;
    const char *hf = lookup(a->blocks, rest + 1, (size_t)(suffix - rest - 1));
    *part = rest + 1;
    if (!hf || asprintf(&result, "%s.%.*s.%s%s", a->block_prefix, (int)(rest - layer), layer, hf, suffix) < 0)
        return NULL;
    return result;
}

static bool read_heads(const GgufFile *file, const struct Architecture *a, const char *key, double fallback, int *heads,
                       LrtError *error)
{
    double value = number(file, a, key, fallback);
    if (!(value >= 1 && value <= 65536))
        return lrt_fail(error, LRT_INVALID, "%s: %s.%s is %g, which is no number of heads", file->path, a->name, key, value);
    *heads = (int)value;
    return true;
}

bool gguf_rename(const GgufFile *file, LrtTensor *out, int *count, LrtError *error)
{
    const struct Architecture *a = find_architecture(file, error);
    int heads, kv_heads;
    *count = 0;
    if (!a || !read_heads(file, a, "attention.head_count", 1, &heads, error) ||
        !read_heads(file, a, "attention.head_count_kv", heads, &kv_heads, error))
        return false;
    for (uint64_t i = 0; i < file->tensor_count; i++) {
        const char *part;
        char *name = hf_name(a, file->tensors[i].name, &part);
        if (!name)
            continue;
        LrtTensor *tensor = &out[(*count)++];
        *tensor = file->tensors[i];
        tensor->name = name;
        bool q = !strncmp(part, "attn_q.", 7), k = !strncmp(part, "attn_k.", 7);
        if (a->rotary_pairs && (q || k))
            tensor->rotary_heads = q ? heads : kv_heads;
        if (tensor->rotary_heads && (tensor->rank == 0 || tensor->shape[0] % (2 * tensor->rotary_heads) != 0))
            return lrt_fail(error, LRT_INVALID, "%s: tensor '%s' does not have %d heads", file->path, file->tensors[i].name,
                            tensor->rotary_heads);
        if (a->flipped && tensor->rank == 2 && *part) {
            int64_t rows = tensor->shape[0];
            tensor->shape[0] = tensor->shape[1];
            tensor->shape[1] = rows;
            tensor->flipped = true;
        }
    }
    return true;
}
