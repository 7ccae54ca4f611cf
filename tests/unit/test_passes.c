/* test_passes.c - the passes against the reference evaluator: what each pass leaves as it was, what recognise finds, where
 * backward stops, and what LoRA attaches. */
#define _POSIX_C_SOURCE 200809L /* open_memstream */
#include "tests/unit/pass_run.h"
#include "tests/unit/run_suite.h"

/* --- whole models --- */

#define GPT2 "\"vocab_size\": 11, \"n_positions\": 16, \"n_embd\": 12, \"n_head\": 3, \"n_layer\": 2"
#define LLAMA                                                                                  \
    "\"vocab_size\": 11, \"hidden_size\": 12, \"intermediate_size\": 20, "                     \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 6, \"num_key_value_heads\": 3, "       \
    "\"head_dim\": 4"

#define DEBERTA(family, rows)                                                                                          \
    "\"architectures\": [\"" family "ForSequenceClassification\"], \"vocab_size\": 11, \"hidden_size\": 12, "          \
    "\"num_attention_heads\": 3, \"num_hidden_layers\": 2, \"intermediate_size\": 20, \"type_vocab_size\": 0, "        \
    "\"position_biased_input\": false, \"relative_attention\": true, \"pos_att_type\": [\"c2p\", \"p2c\"], "           \
    "\"max_position_embeddings\": " rows

#define STRINGS(...) (const char *const[]){__VA_ARGS__}
#define COUNT(...) (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))
#define TARGETS(...) .targets = STRINGS(__VA_ARGS__), .target_count = COUNT(__VA_ARGS__)
#define LORA(...) .method = "lora", .origin = "--lora", TARGETS(__VA_ARGS__)

static const struct {
    const char *example, *config;
    PeftSpec spec;
} models[] = {
    {"gpt2", "{" GPT2 "}", {LORA("q", "v"), .rank = 2, .alpha = 3}},
    {"gpt2", "{" GPT2 ", \"n_inner\": 20, \"scale_attn_by_inverse_layer_idx\": true}",
     {LORA("c_attn", "c_fc"), .rank = 3, .alpha = 2, .dropout = 0.2}},
    {"gpt2", "{" GPT2 ", \"tie_word_embeddings\": false, \"activation_function\": \"relu\"}",
     {LORA("embed", "down", "o"), .rank = 2, .alpha = 2, .bias = PEFT_BIAS_ALL,
      .train = STRINGS("norm"), .train_count = 1}},
    {"gpt2", "{" GPT2 "}", {LORA("embed", "k"), .rank = 2, .alpha = 2, .freeze_a = true}},
    {"llama", "{" LLAMA "}", {LORA("all-linear"), .rank = 2, .alpha = 3, .rslora = true}},
    {"llama", "{" LLAMA ", \"model_type\": \"mistral\", \"sliding_window\": 3}",
     {LORA("q", "k", "v"), .rank = 2, .alpha = 3, .dropout = 0.3}},
    {"llama", "{" LLAMA ", \"model_type\": \"qwen3\", \"tie_word_embeddings\": true}",
     {LORA("gate", "v_proj"), .rank = 2, .alpha = 3}},
    {"llama", "{" LLAMA ", \"model_type\": \"qwen2\", \"attention_bias\": true}",
     {LORA("q"), .rank = 2, .alpha = 3, .bias = PEFT_BIAS_LORA_ONLY}},
    {"phi", "{" LLAMA ", \"partial_rotary_factor\": 1}", {.method = "bitfit", .origin = "--method bitfit"}},
    {"gpt-neox", "{" LLAMA ", \"rotary_pct\": 1}", {LORA("all-linear"), .rank = 2, .alpha = 3}},
    {"gpt-neox", "{" LLAMA ", \"use_parallel_residual\": false, \"rotary_emb_base\": 100, \"rotary_pct\": 1}",
     {LORA("qkv"), .rank = 2, .alpha = 3, .bias = PEFT_BIAS_ALL}},
    {"deberta", "{" DEBERTA("Deberta", "8") "}",
     {LORA("pos_k", "pos_q"), .rank = 2, .alpha = 3, .train = STRINGS("head"), .train_count = 1}},
    {"deberta", "{" DEBERTA("Deberta", "3") "}", {.method = "full", .origin = "--method full"}},
    {"deberta-v2",
     "{" DEBERTA("DebertaV2", "32") ", \"position_buckets\": 8, \"share_att_key\": true, \"norm_rel_ebd\": \"layer_norm\"}",
     {.method = "full", .origin = "--method full"}},
};
enum { MODELS = sizeof models / sizeof *models };

static Graph *model_of(const char *name, const char *config)
{
    Fake fake = fake_of(config, NULL);
    Graph *graph = compile_good(example(name), &fake);
    fake_free(&fake);
    return graph;
}

/* What outputs of one name evaluate to is the same in both. */
static int expect_same_outputs(const Graph *before, const Graph *after, Leaves leaves,
                               bool training, double tolerance, const char *what)
{
    Arena *memory = arena_new();
    const Evaluation *x = evaluate(before, &leaves, training, memory);
    const Evaluation *y = evaluate(after, &leaves, training, memory);
    int compared = 0;
    for (int o = 0; o < after->output_count; o++) {
        const char *name = after->outputs[o].name;
        const Node *known = graph_find_output(before, name);
        if (!known)
            continue;
        compared++;
        const Value *want = eval_value(x, known, 0);
        const Value *got = eval_value(y, after->outputs[o].node, 0);
        ck_assert_int_eq(got->count, want->count);
        double most = 0;
        for (int64_t i = 0; i < want->count; i++)
            most = fmax(most, fabs(want->data[i]));
        for (int64_t i = 0; i < want->count; i++)
            ck_assert_msg(fabs(got->data[i] - want->data[i]) <= tolerance * most,
                          "after %s '%s'[%lld] is %.15g, not %.15g", what, name, (long long)i,
                          got->data[i], want->data[i]);
    }
    arena_free(memory);
    return compared;
}

static bool pass_runs(const PassInfo *pass, bool training)
{
    return training ? pass->when_training : pass->when_inferring;
}

/* The pipeline over a model, each pass compared with what was there before it. */
static void check_pipeline(int model, bool training, const PeftSpec *spec)
{
    Graph *graph = model_of(models[model].example, models[model].config);
    Run run;
    run_begin(&run, training, spec);
    graph_compact(graph);
    for (int i = 0; i < pass_count; i++) {
        const char *name = pass_table[i].name;
        if (!pass_runs(&pass_table[i], training))
            continue;
        Graph *before = graph_clone(graph, arena);
        run_pass(&run, graph, name);
        if (spec && !strcmp(name, "peft")) /* a new adapter changes nothing */
            expect_same_outputs(before, graph, (Leaves){.fresh = true}, false, 1e-12, name);
        else
            ck_assert_int_ge(
                expect_same_outputs(before, graph, (Leaves){0}, training, 1e-10, name), 1);
        if (!strcmp(name, "autodiff"))
            ck_assert_int_eq(check_gradients(before, graph, 11, models[model].config),
                             trained_count(before));
    }
    ck_assert_int_eq(graph->output_count > 0, 1);
    run_end(&run, NULL);
}

/* The pipeline up to and with the pass `last`, which has nothing to say. */
static void run_until(Graph *graph, const char *last, bool training, const PeftSpec *spec)
{
    Run run;
    run_begin(&run, training, spec);
    for (int i = 0; i == 0 || strcmp(pass_table[i - 1].name, last); i++)
        if (pass_runs(&pass_table[i], training))
            run_pass(&run, graph, pass_table[i].name);
    run_end(&run, NULL);
}

START_TEST(passes_keep_what_is_trained)
{
    check_pipeline(_i, true, &models[_i].spec);
}
END_TEST

START_TEST(passes_keep_what_is_inferred)
{
    PeftSpec spec = models[_i / 2].spec;
    spec.infer = true;
    check_pipeline(_i / 2, false, _i % 2 ? &spec : NULL);
}
END_TEST

/* --- what recognise finds --- */

/* Two heads of 4; %s: the attention. */
#define SPELLED                                                                                \
    "model m {\n    input tokens: i32[T];\n    input labels: i32[T];\n"                        \
    "    const slope[i in 0:2] = 3 ^ -i;\n"                                                    \
    "    weight e: [7, 8] as embed = \"e\";\n    weight Wq: [8, 8] as q = \"q\";\n"            \
    "    weight Wk: [8, 8] as k = \"k\";\n    weight Wv: [8, 8] as v = \"v\";\n"               \
    "    let x = e[tokens];\n    let q = split_heads(x @ Wq, 2);\n"                            \
    "    let k = split_heads(x @ Wk, 2) at keys;\n"                                            \
    "    let v = split_heads(x @ Wv, 2) at values;\n    let p = %s;\n"                         \
    "    output logits = merge_heads(p) @ e';\n    loss next_token(logits, labels);\n}\n"

static Graph *spelled(const char *attention)
{
    return compile_good(source_of(arena_format(arena, SPELLED, attention)), NULL);
}

static const struct {
    const char *text;
    double scale;
    bool causal;
    int64_t window;
} spellings[] = {
    {"softmax(q @ k', where = col <= row) @ v", 1, true, 0},
    {"softmax(q @ k' / sqrt(4), where = col <= row) @ v", 0.5, true, 0},
    {"softmax(q @ k' / 4, where = row >= col) @ v", 0.25, true, 0},
    {"softmax(q @ k' / 2, where = col <= row & col >= row - 2) @ v", 0.5, true, 3},
    {"softmax(q @ k' / 2, where = row - col <= 2 & col <= row) @ v", 0.5, true, 3},
    {"softmax(q @ k' / 2, where = row - col <= 0 & col <= row) @ v", 0.5, true, 1},
    {"softmax(0.5 * (q @ k'), where = col <= row) @ v", 0.5, true, 0},
    {"softmax(q @ k' * 0.5 / 4, where = col <= row) @ v", 0.125, true, 0},
    {"softmax((q / 2) @ k', where = col <= row) @ v", 0.5, true, 0},
    {"softmax((q * 0.5) @ (k * 0.5)' / 2, where = col <= row) @ v", 0.125, true, 0},
    {"softmax(-0.5 * (q @ k'), where = col <= row) @ v", -0.5, true, 0},
    {"softmax(q @ permute(k, [0, 2, 1]), where = col <= row) @ v", 1, true, 0},
    {"softmax(q @ k' / 2, where = col <= row & col > row - 3) @ v", 0.5, true, 3},
    {"softmax(q @ k' / 2, where = row - 3 < col & row >= col) @ v", 0.5, true, 3},
    {"softmax(q @ k' / 2, where = row - col < 3 & col <= row) @ v", 0.5, true, 3},
    {"softmax(q @ k', where = (col <= row & row - col < 4) & col > row - 2) @ v", 1, true, 2},
    {"softmax(q @ k', where = col > row - 1) @ v", 1, false, 1},
    {"softmax(q @ k') @ v", 1, false, 0},
};
enum { SPELLINGS = sizeof spellings / sizeof *spellings };

START_TEST(attention_is_found_in_any_spelling)
{
    Graph *graph = spelled(spellings[_i].text), *before = graph_clone(graph, arena);
    run_until(graph, "recognise", false, NULL);
    expect_same_outputs(before, graph, (Leaves){0}, false, 1e-12, spellings[_i].text);
    const Node *found = NULL;
    for (int i = 0; i < graph->node_count; i++) {
        ck_assert_int_ne(graph->nodes[i]->op, OP_SOFTMAX);
        if (graph->nodes[i]->op == OP_ATTENTION)
            found = graph->nodes[i];
    }
    ck_assert_msg(found != NULL, "%s", spellings[_i].text);
    ck_assert_double_eq(found->attrs.scale, spellings[_i].scale);
    ck_assert_int_eq(found->attrs.causal, spellings[_i].causal);
    ck_assert_int_eq(found->attrs.window, spellings[_i].window);
    ck_assert_int_eq(found->attrs.heads, 2);
    ck_assert_int_eq(found->attrs.kv_heads, 2);
    ck_assert_int_eq(found->attrs.head_dim, 4);
}
END_TEST

/* Masks and biases that are functions of head, row and col. */
static const char *const given_scores[] = {
    "softmax(q @ k', where = col < row) @ v",
    "softmax(q @ k', where = row <= col) @ v",
    "softmax(q @ k', where = col <= row | col <= 2) @ v",
    "softmax(q @ k', where = !(row < col)) @ v",
    "softmax(q @ k', where = col <= row & col > row - 0) @ v",
    "softmax(q @ k', where = col <= row & col > row - 0 & col > row - 2) @ v",
    "softmax(q @ k', where = col <= row & col > row - (-1)) @ v",
    "softmax(q @ k', where = col <= row & row - col < 0) @ v",
    "softmax(q @ k', where = col <= row & to_f32(row) - col < 2.5) @ v",
    "softmax(q @ k', where = col <= row & to_f32(col) > to_f32(row) - 2.5) @ v",
    "softmax(q @ k', where = 2 <= 1) @ v",
    "softmax(q @ k', where = 1 <= 2) @ v",
    "softmax(q @ k', where = 2 < 1) @ v",
    "softmax(q @ k', where = col <= 2) @ v",
    "softmax(q @ k' + 1, where = col <= row) @ v",
    "softmax(q @ k' + col, where = col <= row) @ v",
    "softmax(q @ k' / 2 - 0.3 * to_f32(row - col), where = col <= row) @ v",
    "softmax(0.3 * (q @ k' - abs(to_f32(row - col)))) @ v",
    "softmax(0.5 * tanh((q @ k' + sqrt(to_f32(col))) / 0.5), where = row != col | row == 0) @ v",
    "softmax(q @ k' / 2 - reshape(slope, [2, 1, 1]) * (row - col), where = col <= row) @ v",
    "softmax((reshape(slope, [2, 1, 1]) * col + q @ k' / 2 + reshape(slope, [2, 1, 1])) * 3, where = col < reshape(slope, [2, 1, 1])) @ v",
};
enum { GIVEN_SCORES = sizeof given_scores / sizeof *given_scores };

START_TEST(recognise_finds_masks_and_biases_of_positions)
{
    Graph *graph = spelled(given_scores[_i]), *before = graph_clone(graph, arena);
    run_until(graph, "recognise", false, NULL);
    expect_same_outputs(before, graph, (Leaves){0}, false, 1e-12, given_scores[_i]);
    int found = 0;
    for (int i = 0; i < graph->node_count; i++)
        found += graph->nodes[i]->op == OP_ATTENTION;
    ck_assert_int_eq(found, 1);
}
END_TEST

/* Either said to be unknown, or it means the same afterwards. */
static const char *const odd_spellings[] = {
    "softmax(q @ k' * (q @ k'), where = col <= row) @ v",
    "softmax(q @ k' * row, where = col <= row) @ v",
    "softmax(q @ k' + q @ k' / 2, where = col <= row) @ v",
    "softmax(q @ k' + log(2 + abs(q @ k')), where = col <= row) @ v",
    "softmax(q @ k', where = q @ k' > 0.1) @ v",
    "softmax(q @ k', where = col <= row & q @ k' > -1) @ v",
    "dropout(softmax(q @ k', where = col <= row), 0.5) @ v",
    "(2 * softmax(q @ k', where = col <= row)) @ v",
    "softmax(tanh(q @ k'), where = col <= row) @ v",
};
enum { ODD_SPELLINGS = sizeof odd_spellings / sizeof *odd_spellings };

START_TEST(what_is_not_attention_is_not_taken_for_it)
{
    char *messages = NULL;
    const char *text = arena_format(arena, SPELLED, odd_spellings[_i]);
    Graph *graph = compile(source_of(text), NULL, &messages);
    ck_assert_msg(graph != NULL, "%s", messages);
    free(messages);
    Graph *before = graph_clone(graph, arena);
    Run run;
    run_begin(&run, false, NULL);
    run_pass(&run, graph, "peft");
    run_pass(&run, graph, "simplify");
    bool known = pass_run_one(graph, &run.context, "recognise");
    run_end(&run, known ? NULL : "this attention has a form that is not compiled yet");
    if (known)
        expect_same_outputs(before, graph, (Leaves){0}, false, 1e-12, odd_spellings[_i]);
}
END_TEST

/* Rows of the table that a program for five tokens needs: nine distances, or all the buckets there are. */
static int64_t rows_in_reach(const char *config, bool training)
{
    Graph *graph = model_of("deberta", config);
    run_until(graph, "reach", training, NULL);
    int64_t rows = 0;
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->op == OP_RELATIVE_ATTENTION)
            rows = graph->nodes[i]->inputs[3]->type.dim[0];
    return rows;
}

START_TEST(tables_of_relative_positions_have_the_rows_in_reach)
{
    ck_assert_int_eq(rows_in_reach("{" DEBERTA("Deberta", "8") "}", true), 9);
    ck_assert_int_eq(rows_in_reach("{" DEBERTA("Deberta", "8") "}", false), 9);
    ck_assert_int_eq(rows_in_reach("{" DEBERTA("Deberta", "5") "}", false), 9);
    ck_assert_int_eq(rows_in_reach("{" DEBERTA("Deberta", "4") "}", false), 8);
}
END_TEST

/* A head's bias rides along with the fused loss unless it is trained. */
static int fused_losses(const char *name, const char *config, const PeftSpec *spec)
{
    Graph *graph = model_of(name, config);
    run_until(graph, "recognise", true, spec);
    int found = 0;
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->op == OP_LINEAR_CROSS_ENTROPY)
            found += graph->nodes[i]->input_count;
    return found;
}

START_TEST(the_loss_is_fused_with_the_head_and_its_bias)
{
    static const char bert[] = "{\"vocab_size\": 11, \"hidden_size\": 12, \"num_attention_heads\": 3, \"num_hidden_layers\": 1, "
                               "\"architectures\": [\"BertForMaskedLM\"]}";
    const PeftSpec lora = {LORA("q"), .rank = 2, .alpha = 2}, bitfit = {.method = "bitfit", .origin = "--method bitfit"};
    ck_assert_int_eq(fused_losses("llama", "{" LLAMA "}", &lora), 3);
    ck_assert_int_eq(fused_losses("phi", "{" LLAMA ", \"partial_rotary_factor\": 1}", &lora), 4);
    ck_assert_int_eq(fused_losses("bert", bert, &lora), 4);
    ck_assert_int_eq(fused_losses("bert", bert, &bitfit), 0);
}
END_TEST

/* --- where backward stops --- */

START_TEST(nothing_below_what_is_trained_is_differentiated)
{
    const char *config = _i ? "{" LLAMA "}" : "{" GPT2 "}";
    Graph *graph = model_of(_i ? "llama" : "gpt2", config);
    const PeftSpec spec = {
        LORA("q"), .rank = 2, .alpha = 2, .layers = (const int64_t[]){1}, .layer_count = 1};
    Run run;
    bool stopped;
    run_begin(&run, true, &spec);
    ck_assert(passes_run(graph, &run.context, &stopped));
    run_end(&run, NULL);
    int backward = 0;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        backward += node->backward;
        ck_assert_msg(!node->backward || node->layer == LAYER_NONE || node->layer >= 1, "%s",
                      node_str(node, arena));
    }
    ck_assert_int_gt(backward, 0);
    ck_assert_int_eq(graph->output_count, 3); /* the loss and two gradients */
}
END_TEST

/* --- LoRA --- */

#define GPT2_SIZE(d, heads, layers)                                                            \
    "gpt2", "{\"n_embd\": " d ", \"n_head\": " heads ", \"n_layer\": " layers "}"
#define LLAMA_SIZE(d, inner, layers, heads, kv)                                                \
    "llama", "{\"hidden_size\": " d ", \"intermediate_size\": " inner                          \
             ", \"num_hidden_layers\": " layers ", \"num_attention_heads\": " heads            \
             ", \"num_key_value_heads\": " kv "}"

/* Hu et al., 2021 give these counts, or d, r and the number of layers do. */
static const struct {
    const char *example, *config;
    PeftSpec spec;
    int64_t trained, base; /* base 0: not known */
} counts[] = {
    {GPT2_SIZE("1024", "16", "24"), {LORA("q", "v"), .rank = 4}, 393216, 354823168},
    {GPT2_SIZE("1024", "16", "24"), {LORA("c_attn"), .rank = 4}, 393216, 354823168},
    {GPT2_SIZE("1024", "16", "24"), {LORA("q", "v"), .rank = 1}, 98304, 354823168},
    {GPT2_SIZE("1024", "16", "24"), {LORA("q", "v"), .rank = 1024}, 100663296, 354823168},
    {GPT2_SIZE("1024", "16", "24"), {LORA("q", "v"), .rank = 4, .freeze_a = true}, 196608, 0},
    {GPT2_SIZE("1280", "20", "36"), {LORA("q", "v"), .rank = 4}, 737280, 774030080},
    {GPT2_SIZE("1600", "25", "48"), {LORA("q", "v"), .rank = 8}, 2457600, 1557611200},
    {GPT2_SIZE("768", "12", "12"), {LORA("q", "v"), .rank = 4}, 147456, 124439808},
    {GPT2_SIZE("768", "12", "12"), {LORA("q", "k", "v", "o"), .rank = 2}, 147456, 124439808},
    {GPT2_SIZE("768", "12", "12"), {LORA("all-linear"), .rank = 8}, 1179648, 124439808},
    {GPT2_SIZE("768", "12", "12"), {LORA("embed"), .rank = 4}, 4 * (50257 + 768), 0},
    {GPT2_SIZE("768", "12", "12"), {LORA("q"), .rank = 4, .bias = PEFT_BIAS_ALL},
     73728 + 102144, 0},
    {GPT2_SIZE("768", "12", "12"),
     {LORA("q"), .rank = 4, .layers = (const int64_t[]){0, 3, 11}, .layer_count = 3}, 18432, 0},
    {LLAMA_SIZE("4096", "11008", "32", "32", "32"), {LORA("all-linear"), .rank = 8}, 19988480,
     6738415616},
    {LLAMA_SIZE("2048", "5632", "22", "32", "4"), {LORA("q", "v"), .rank = 8}, 1126400,
     1100048384},
};
enum { COUNTS = sizeof counts / sizeof *counts };

START_TEST(lora_trains_as_many_numbers_as_the_papers_say)
{
    Graph *graph = model_of(counts[_i].example, counts[_i].config);
    Run run;
    run_begin(&run, true, &counts[_i].spec);
    run_pass(&run, graph, "peft");
    run_end(&run, NULL);
    ck_assert_int_eq(run.result.trained_parameters, counts[_i].trained);
    if (counts[_i].base)
        ck_assert_int_eq(run.result.total_parameters - run.result.trained_parameters,
                         counts[_i].base);
}
END_TEST

static Node *find_param(const Graph *graph, const char *name)
{
    const Param *param = graph_find_param(graph, name);
    ck_assert_msg(param != NULL, "no parameter '%s'", name);
    return param->node;
}

START_TEST(rank_and_alpha_follow_the_role)
{
    Graph *graph = model_of("llama", "{" LLAMA "}");
    const PeftPattern patterns[] = {{.key = "q", .is_role = true, .rank = 3, .alpha = 12},
                                    {.key = "v", .is_role = true, .alpha = 5},
                                    {.key = "q", .is_role = true, .rank = 9, .alpha = 9},
                                    {.key = "layers.1.mlp.*", .rank = 4}};
    const PeftSpec spec = {
        LORA("q", "v", "up"), .rank = 2, .alpha = 8, .patterns = patterns, .pattern_count = 4};
    Run run;
    run_begin(&run, true, &spec);
    run_pass(&run, graph, "peft");
    run_end(&run, NULL);
    static const struct {
        const char *module;
        int64_t rank, in, out;
        double scale;
    } wants[] = {{"layers.0.self_attn.q_proj", 3, 12, 24, 4},
                 {"layers.1.self_attn.v_proj", 2, 12, 12, 2.5},
                 {"layers.0.mlp.up_proj", 2, 12, 20, 4},
                 {"layers.1.mlp.up_proj", 4, 12, 20, 2}};
    for (int i = 0; i < 4; i++) {
        const char *a = arena_format(arena, "base_model.model.model.%s.lora_A.weight",
                                     wants[i].module);
        const char *b = arena_format(arena, "base_model.model.model.%s.lora_B.weight",
                                     wants[i].module);
        const Node *down = find_param(graph, a), *up = find_param(graph, b);
        ck_assert_int_eq(down->type.dim[0], wants[i].in);
        ck_assert_int_eq(down->type.dim[1], wants[i].rank);
        ck_assert_int_eq(up->type.dim[0], wants[i].rank);
        ck_assert_int_eq(up->type.dim[1], wants[i].out);
        ck_assert_int_eq(down->param->init, INIT_UNIFORM);
        ck_assert_double_eq_tol(down->param->init_scale, 1 / sqrt(12), 1e-15);
        ck_assert_int_eq(up->param->init, INIT_ZERO);
        const PeftMerge *merge = NULL;
        for (int k = 0; k < run.result.merge_count; k++)
            if (!strcmp(run.result.merges[k].b, b))
                merge = &run.result.merges[k];
        ck_assert_ptr_nonnull(merge);
        ck_assert_double_eq(merge->scale, wants[i].scale);
    }
    ck_assert_int_eq(run.result.merge_count, 6);
}
END_TEST

START_TEST(one_a_for_a_module_and_one_for_each_role)
{
    for (int by_role = 0; by_role < 2; by_role++) {
        Graph *graph = model_of("gpt2", "{" GPT2 "}");
        const PeftSpec roles = {LORA("q", "v"), .rank = 2, .alpha = 2};
        const PeftSpec module = {LORA("attn.c_attn"), .rank = 2, .alpha = 2};
        Run run;
        run_begin(&run, true, by_role ? &roles : &module);
        run_pass(&run, graph, "peft");
        run_end(&run, NULL);
        int a = 0, b = 0;
        for (int i = 0; i < graph->param_count; i++) {
            a += strstr(graph->params[i]->name, "lora_A") != NULL;
            b += strstr(graph->params[i]->name, "lora_B") != NULL;
        }
        ck_assert_int_eq(a, by_role ? 4 : 2); /* two layers */
        ck_assert_int_eq(b, by_role ? 4 : 6);
        ck_assert_int_eq(run.result.merge_count, by_role ? 4 : 2);
    }
}
END_TEST

static const struct {
    PeftSpec spec;
    const char *message;
} lora_errors[] = {
    {{LORA("x_proj"), .rank = 2}, "'x_proj' matches no weight of model 'gpt2'; its roles are"},
    {{LORA("dwn"), .rank = 2}, "did you mean 'down'?"},
    {{LORA("q", "positon"), .rank = 2}, "did you mean 'position'?"},
    {{LORA("q"), .rank = 13}, "rank 13 of 'transformer.h.0.attn.c_attn' is not between 1 and 12"},
    {{LORA("q"), .rank = 0}, "rank 0 of"},
    {{LORA("embed"), .rank = 12}, "rank 12 of 'transformer.wte' is not between 1 and 11"},
    {{LORA("q"), .rank = 2, .train = STRINGS("nrm"), .train_count = 1}, "'nrm'"},
    {{.method = "lara", .origin = "--method", TARGETS("q"), .rank = 2}, "did you mean 'lora'?"},
    {{.method = "lora", .origin = "--lora", .target_regex = "h[", .rank = 2},
     "bad regular expression 'h['"},
    {{.method = "lora", .origin = "--lora", .target_regex = "h", .rank = 2}, "'h' matches no"},
    {{LORA("q"), .rank = 2, .layers = (const int64_t[]){7}, .layer_count = 1}, "7"},
    {{LORA("embed"), .rank = 2, .layers = (const int64_t[]){0}, .layer_count = 1}, "in the layers"},
    {{LORA("q"), .rank = 2, .train = STRINGS("k"), .train_count = 1}, "choose one"},
};
enum { LORA_ERRORS = sizeof lora_errors / sizeof *lora_errors };

START_TEST(what_lora_cannot_do_is_an_error)
{
    Graph *graph = model_of("gpt2", "{" GPT2 "}");
    Run run;
    run_begin(&run, true, &lora_errors[_i].spec);
    bool ok = pass_run_one(graph, &run.context, "peft");
    ck_assert(!ok);
    run_end(&run, lora_errors[_i].message);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("passes");
    TCase *tc = tcase_create("models");
    tcase_add_checked_fixture(tc, open_arena, close_arena);
    tcase_set_timeout(tc, 240);
    tcase_add_loop_test(tc, passes_keep_what_is_trained, 0, MODELS);
    tcase_add_loop_test(tc, passes_keep_what_is_inferred, 0, 2 * MODELS);
    tcase_add_loop_test(tc, attention_is_found_in_any_spelling, 0, SPELLINGS);
    tcase_add_loop_test(tc, what_is_not_attention_is_not_taken_for_it, 0, ODD_SPELLINGS);
    tcase_add_loop_test(tc, recognise_finds_masks_and_biases_of_positions, 0, GIVEN_SCORES);
    tcase_add_test(tc, tables_of_relative_positions_have_the_rows_in_reach);
    tcase_add_test(tc, the_loss_is_fused_with_the_head_and_its_bias);
    tcase_add_loop_test(tc, nothing_below_what_is_trained_is_differentiated, 0, 2);
    tcase_add_loop_test(tc, lora_trains_as_many_numbers_as_the_papers_say, 0, COUNTS);
    tcase_add_test(tc, rank_and_alpha_follow_the_role);
    tcase_add_test(tc, one_a_for_a_module_and_one_for_each_role);
    tcase_add_loop_test(tc, what_lora_cannot_do_is_an_error, 0, LORA_ERRORS);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
