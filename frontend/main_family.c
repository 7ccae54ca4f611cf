/* main_family.c - models of kinds that no description can say, refused by name: what they compute is not one stack of layers over one
 * sequence. */
#include <ctype.h>
#include <string.h>

#include "frontend/main.h"

static const char two_stacks[] = "an encoder-decoder: decoders (GPT-2, LLaMA) and encoders (BERT) alone can be described";
static const char experts[] = "a mixture of experts: layers whose tokens choose their weights cannot be described; give a dense model";
static const char states[] = "a state-space or recurrent model: layers that carry a state cannot be described; give a transformer";

/* As config.json has them: "model_type", without "_" and "-", or how a name in "architectures" begins. */
static const struct {
    const char *name, *kind;
} families[] = {
    {"t5", two_stacks},         {"mt5", two_stacks},          {"umt5", two_stacks},          {"longt5", two_stacks},
    {"switchtransformers", two_stacks}, {"bart", two_stacks}, {"mbart", two_stacks},         {"plbart", two_stacks},
    {"led", two_stacks},        {"pegasus", two_stacks},      {"pegasusx", two_stacks},      {"marian", two_stacks},
    {"m2m100", two_stacks},     {"nllbmoe", two_stacks},      {"blenderbot", two_stacks},    {"blenderbotsmall", two_stacks},
    {"whisper", two_stacks},    {"speech2text", two_stacks},  {"prophetnet", two_stacks},    {"xlmprophetnet", two_stacks},
    {"encoderdecoder", two_stacks}, {"t5gemma", two_stacks},  {"mixtral", experts},          {"qwen2moe", experts},
    {"qwen3moe", experts},      {"olmoe", experts},           {"phimoe", experts},           {"granitemoe", experts},
    {"dbrx", experts},          {"deepseekv2", experts},      {"deepseekv3", experts},       {"jetmoe", experts},
    {"gptoss", experts},        {"minimax", experts},         {"mamba", states},             {"mamba2", states},
    {"falconmamba", states},    {"bamba", states},            {"jamba", states},             {"zamba", states},
    {"zamba2", states},         {"rwkv", states},             {"recurrentgemma", states},    {"xlstm", states},
};
static const char *const expert_counts[] = {"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts",
                                            "ffn_config.moe_num_experts"};

/* Whether `given` is the family's name as transformers spells it: "qwen2_moe", "Qwen2MoeForCausalLM", "T5WithLMHeadModel". */
static bool is_called(const char *given, const char *name)
{
    static const char *const ends[] = {"For", "Model", "LMHead", "With", "Encoder", "Decoder"};
    for (; *name; given++) {
        if (*given == '_' || *given == '-')
            continue;
        if (tolower((unsigned char)*given) != *name++)
            return false;
    }
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (!strncmp(given, ends[i], strlen(ends[i])))
            return true;
    return !*given;
}

static const char *kind_of(const char *given)
{
    for (size_t i = 0; given && i < sizeof families / sizeof *families; i++)
        if (is_called(given, families[i].name))
            return families[i].kind;
    return NULL;
}

static const char *text(const Checkpoint *c, const char *key)
{
    ConfigValue value = c->config(c->user, key);
    return value.kind == CONFIG_STRING ? value.string : NULL;
}

bool main_check_family(const Checkpoint *c, Diag *diag)
{
    const char *architecture = text(c, "architectures.0"), *type = text(c, "model_type");
    const char *kind = kind_of(architecture) ? kind_of(architecture) : kind_of(type);
    ConfigValue pair = c->config(c->user, "is_encoder_decoder");
    if (!kind && pair.kind == CONFIG_BOOL && pair.boolean)
        kind = two_stacks;
    for (size_t i = 0; !kind && i < sizeof expert_counts / sizeof *expert_counts; i++) {
        ConfigValue count = c->config(c->user, expert_counts[i]);
        kind = count.kind == CONFIG_INT && count.integer > 1 ? experts : NULL;
    }
    if (kind)
        diag_error(diag, (Loc){0}, "%s: '%s' is %s", c->path, architecture ? architecture : type ? type : "the model", kind);
    return !kind;
}
