/* test_peft.c - adapter_config.json both ways: what a training program writes is what PEFT needs to find the same modules, and
 * PEFT's settings select here what they select there (tests/interchange asks PEFT itself). */
#define _POSIX_C_SOURCE 200809L /* open_memstream */
#include "passes/peft/config.h"
#include "tests/unit/pass_run.h"
#include "tests/unit/run_suite.h"

#define GPT2 "{\"vocab_size\": 11, \"n_positions\": 16, \"n_embd\": 12, \"n_head\": 3, \"n_layer\": 3}"
#define LLAMA(more)                                                                            \
    "{\"vocab_size\": 11, \"hidden_size\": 12, \"intermediate_size\": 20, "                    \
    "\"num_hidden_layers\": 3, \"num_attention_heads\": 3" more "}"

static Graph *model_of(const char *name, const char *config)
{
    Fake fake = fake_of(config, NULL);
    Graph *graph = compile_good(example(name), &fake);
    fake_free(&fake);
    return graph;
}

/* Without the spaces and line ends of its layout. */
static const char *packed(const char *text)
{
    Text out = {.arena = arena};
    for (const char *c = text; *c; c++)
        if (*c != ' ' && *c != '\n')
            text_addn(&out, c, 1);
    return out.data;
}

static void expect_part(const char *text, const char *part)
{
    ck_assert_msg(strstr(packed(text), part) != NULL, "no %s in %s", part, text);
}

/* --- written ------------------------------------------------------------------------------ */

static const struct {
    const char *example, *config, *lora;
    bool rslora;
    PeftBias bias;
    const char *layers, *train;
    const char *parts[5]; /* of the config that PEFT reads */
} written[] = {
    {"llama", LLAMA(""), "q,v", true, PEFT_BIAS_NONE, NULL, NULL,
     {"\"target_modules\":[\"q_proj\",\"v_proj\"]", "\"r\":4,\"rank_pattern\":{}", "\"use_rslora\":true",
      "\"lora_alpha\":8", "\"fan_in_fan_out\":false"}},
    {"llama", LLAMA(""), "q=2:6,v=3", false, PEFT_BIAS_NONE, NULL, NULL,
     {"\"r\":2,\"rank_pattern\":{\"v_proj\":3}", "\"lora_alpha\":6", "\"alpha_pattern\":{}"}},
    {"llama", LLAMA(""), "q_proj=2:6,mlp.up_proj=3:9", false, PEFT_BIAS_NONE, "1", NULL,
     {"\"target_modules\":[\"q_proj\",\"up_proj\"]", "\"layers_to_transform\":[1]",
      "\"r\":2,\"rank_pattern\":{\"up_proj\":3}", "\"alpha_pattern\":{\"up_proj\":9}"}},
    {"llama", LLAMA(", \"tie_word_embeddings\": true"), "embed", false, PEFT_BIAS_NONE, NULL, NULL,
     {"\"target_modules\":[\"embed_tokens\"]"}},
    {"llama", LLAMA(""), "q", false, PEFT_BIAS_NONE, NULL, "norm,head",
     {"\"modules_to_save\":[\"input_layernorm\",\"lm_head\",\"norm\",\"post_attention_layernorm\"]"}},
    {"llama", LLAMA(", \"model_type\": \"qwen3\""), "q", false, PEFT_BIAS_NONE, NULL, "v",
     {"\"modules_to_save\":[\"v_proj\"]"}},
    {"gpt2", GPT2, "o=2:4,down=3:5", false, PEFT_BIAS_NONE, NULL, NULL,
     {"\"target_modules\":[\"c_proj\"]", "\"r\":2,\"rank_pattern\":{\"mlp.c_proj\":3}",
      "\"alpha_pattern\":{\"mlp.c_proj\":5}", "\"fan_in_fan_out\":true"}},
    {"gpt2", GPT2, "o", false, PEFT_BIAS_NONE, "0:2", NULL,
     {"\"target_modules\":[\"attn.c_proj\"]", "\"layers_to_transform\":[0,1]"}},
    {"gpt2", GPT2, "c_attn", false, PEFT_BIAS_LORA_ONLY, NULL, "norm,position",
     {"\"modules_to_save\":[\"ln_1\",\"ln_2\",\"ln_f\",\"wpe\"]", "\"bias\":\"lora_only\""}},
    {"gpt2", GPT2, "c_attn", false, PEFT_BIAS_NONE, NULL, "bias",
     {"\"modules_to_save\":null", "\"bias\":\"all\""}},
    {"gpt2", GPT2, "q=2:4,v=3:3,o=2:4", true, PEFT_BIAS_NONE, NULL, NULL,
     {"\"target_modules\":[\"attn.c_proj\",\"c_attn\"]", "\"r\":5,\"rank_pattern\":{\"c_proj\":2}",
      "\"use_rslora\":false"}},
};
enum { WRITTEN = sizeof written / sizeof *written };

static PeftSpec spec_of(const char *lora, const char *layers, const char *train, Diag *diag)
{
    PeftSpec spec = {.method = "lora", .origin = "--lora", .rank = 4, .alpha = 8};
    ck_assert(peft_parse_lora(&spec, lora, arena, diag));
    ck_assert(!layers || peft_parse_layers(&spec, layers, arena, diag));
    int count = 0;
    spec.train = train ? peft_parse_names(train, &count, arena) : NULL;
    spec.train_count = count;
    return spec;
}

START_TEST(the_config_says_what_peft_has_to_select)
{
    Graph *graph = model_of(written[_i].example, written[_i].config);
    Run run;
    run_begin(&run, true, NULL);
    PeftSpec spec = spec_of(written[_i].lora, written[_i].layers, written[_i].train, &run.diag);
    spec.rslora = written[_i].rslora;
    spec.bias = written[_i].bias;
    run.context.peft = &spec;
    run_pass(&run, graph, "peft");
    run_end(&run, NULL);
    const char *text = run.result.peft_settings ? run.result.peft_settings : run.result.settings;
    for (int i = 0; i < 5 && written[_i].parts[i]; i++)
        expect_part(text, written[_i].parts[i]);
}
END_TEST

/* Slices with ranks and scales of their own are blocks of one pair; their own config gives the same spec back. */
START_TEST(slices_are_blocks_of_one_pair)
{
    Graph *graph = model_of("gpt2", GPT2);
    Run run;
    run_begin(&run, true, NULL);
    PeftSpec spec = spec_of("q=2:4,v=3:3", "1", "norm", &run.diag);
    run.context.peft = &spec;
    run_pass(&run, graph, "peft");
    run_end(&run, NULL);
    static const PeftBlock want[] = {
        {"q.lora_A", "c_attn.lora_A", 5, 12, 0, 0, 1},
        {"q.lora_B", "c_attn.lora_B", 36, 5, 0, 0, 1},
        {"v.lora_A", "c_attn.lora_A", 5, 12, 2, 0, 1},
        {"v.lora_B", "c_attn.lora_B", 36, 5, 24, 2, 0.5},
    };
    ck_assert_int_eq(run.result.block_count, 4);
    for (int i = 0; i < 4; i++) {
        const PeftBlock *got = &run.result.blocks[i];
        const char *path = "transformer.h.1.attn.";
        ck_assert_str_eq(got->tensor, arena_format(arena, "%sc_attn.%s.weight", path, want[i].tensor));
        ck_assert_str_eq(got->whole, arena_format(arena, "base_model.model.%s%s.weight", path, want[i].whole));
        ck_assert_int_eq(got->rows, want[i].rows);
        ck_assert_int_eq(got->columns, want[i].columns);
        ck_assert_int_eq(got->row, want[i].row);
        ck_assert_int_eq(got->column, want[i].column);
        ck_assert_double_eq(got->factor, want[i].factor);
    }
    expect_part(run.result.peft_settings, "\"r\":5,\"rank_pattern\":{}");
    expect_part(run.result.peft_settings, "\"lora_alpha\":10,"); /* the scale of q is 2 */
    PeftSpec again = {0};
    Diag diag = diag_new(stderr);
    ck_assert(peft_parse_config(&again, run.result.settings, "again", arena, &diag));
    ck_assert(again.split && again.target_count == 2 && again.pattern_count == 4);
    ck_assert(again.layer_count == 1 && again.layers[0] == 1 && again.train_count == 3);
    ck_assert(again.patterns[0].is_role && again.rank == 4 && again.alpha == 8);
}
END_TEST

/* --- read ---------------------------------------------------------------------------------- */

static const struct {
    const char *settings; /* of a llama; targets are among them */
    const char *selected; /* modules of low-rank pairs with their rank, and what is trained whole */
} read_settings[] = {
    {"\"target_modules\": [\"q_proj\"], \"layers_to_transform\": 2", "2.q_proj:4"},
    {"\"target_modules\": [\"q_proj\"], \"layers_to_transform\": [0, 1], \"layers_pattern\": \"layers\"", "0.q_proj:4 1.q_proj:4"},
    {"\"target_modules\": [\"q_proj\"], \"layers_to_transform\": [0], \"layers_pattern\": [\"h\", \"lay.rs\"]", "0.q_proj:4"},
    {"\"target_modules\": [\"q_proj\", \"model.layers.2.mlp.up_proj\"], \"layers_to_transform\": [0]", "0.q_proj:4 2.up_proj:4"},
    {"\"target_modules\": [\"q_proj\"], \"exclude_modules\": [\"layers.1.self_attn.q_proj\"]", "0.q_proj:4 2.q_proj:4"},
    {"\"target_modules\": \".*q_proj\", \"exclude_modules\": \".*\\\\.[01]\\\\..*\"", "2.q_proj:4"},
    {"\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"^model.layers.1.self_attn.q_proj\": 2, \"layers.2.*\": 3}",
     "0.q_proj:4 1.q_proj:2 2.q_proj:3"},
    {"\"target_modules\": [\"q_proj\", \"o_proj\"], \"layers_to_transform\": 0, \"modules_to_save\": [\"norm\"]",
     "0.q_proj:4 0.o_proj:4 0.input_layernorm 0.post_attention_layernorm 1.input_layernorm 1.post_attention_layernorm "
     "2.input_layernorm 2.post_attention_layernorm norm"},
    {"\"target_modules\": \".*0.*(q|up)_proj\", \"modules_to_save\": [\"mlp\"]",
     "0.q_proj:4 0.gate_proj 0.up_proj 0.down_proj 1.gate_proj 1.up_proj 1.down_proj 2.gate_proj 2.up_proj 2.down_proj"},
    {"\"target_modules\": \".*0.*q_proj\", \"init_lora_weights\": \"orthogonal\"", "0.q_proj:4"},
};
enum { READ = sizeof read_settings / sizeof *read_settings };

static void add_module(Text *out, const char *tensor, int64_t rank)
{
    const char *path = tensor + strlen("base_model.model.model."), *layers = "layers.";
    if (!strncmp(path, layers, strlen(layers)))
        path += strlen(layers);
    const char *end = strstr(path, rank ? ".lora_A" : ".weight"), *last = path;
    for (const char *c = path; c < end; c++)
        last = *c == '.' ? c + 1 : last;
    text_format(out, "%s%.*s%s%.*s", out->length ? " " : "", (int)strcspn(path, "."), path, last == path ? "" : ".",
                last == path ? 0 : (int)(end - last), last);
    if (rank)
        text_format(out, ":%lld", (long long)rank);
}

START_TEST(settings_of_peft_select_the_same_modules)
{
    Graph *graph = model_of("llama", LLAMA(""));
    Run run;
    run_begin(&run, true, NULL);
    const char *json = arena_format(arena, "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, %s}", read_settings[_i].settings);
    PeftSpec spec = {0};
    ck_assert(peft_parse_config(&spec, json, "adapter_config.json", arena, &run.diag));
    run.context.peft = &spec;
    run_pass(&run, graph, "peft");
    run_end(&run, NULL);
    Text got = {.arena = arena};
    for (int i = 0; i < run.result.merge_count; i++)
        add_module(&got, run.result.merges[i].a ? run.result.merges[i].a : run.result.merges[i].b, run.result.merges[i].rank);
    ck_assert_str_eq(got.data ? got.data : "", read_settings[_i].selected);
}
END_TEST

static const Param *param_of(const Graph *graph, const char *tensor)
{
    for (int i = 0; i < graph->param_count; i++)
        if (!strcmp(graph->params[i]->tensor, tensor))
            return graph->params[i];
    return NULL;
}

/* What is trained for the lookup in a tied table leaves the output head as it is. */
START_TEST(a_tied_head_stays)
{
    for (int whole = 0; whole < 2; whole++) {
        Graph *graph = model_of("llama", LLAMA(", \"tie_word_embeddings\": true"));
        Run run;
        run_begin(&run, true, NULL);
        PeftSpec spec = spec_of(whole ? "q" : "embed", NULL, whole ? "embed" : NULL, &run.diag);
        run.context.peft = &spec;
        run_pass(&run, graph, "peft");
        run_end(&run, NULL);
        const Param *table = param_of(graph, "model.embed_tokens.weight");
        ck_assert(table && !table->adapter && !table->trained);
        ck_assert(run.result.cannot_merge && strstr(run.result.cannot_merge, "output head"));
        const Param *copy = param_of(graph, "base_model.model.model.embed_tokens.weight");
        ck_assert(whole ? copy && copy->trained && !strcmp(copy->base, "model.embed_tokens.weight") : !copy);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("peft");
    TCase *tc = tcase_create("configs");
    tcase_add_checked_fixture(tc, open_arena, close_arena);
    tcase_add_loop_test(tc, the_config_says_what_peft_has_to_select, 0, WRITTEN);
    tcase_add_test(tc, slices_are_blocks_of_one_pair);
    tcase_add_loop_test(tc, settings_of_peft_select_the_same_modules, 0, READ);
    tcase_add_test(tc, a_tied_head_stays);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
