/* test_ldl.c - the language: its reference compiles, its errors point, its examples have the
 * weights of the published models. */
#define _POSIX_C_SOURCE 200809L /* open_memstream */
#include <math.h>

#include "ir/text.h"
#include "tests/unit/ldl_fake.h"
#include "tests/unit/run_suite.h"

static int64_t elements(const Graph *graph)
{
    int64_t total = 0;
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->op == OP_PARAM)
            total += type_elements(graph->nodes[i]->type, NULL);
    return total;
}

/* Sizes of published models, and how many parameters they have. */
static const struct {
    const char *model, *config;
    long long parameters;
} sizes[] = {
    {"gpt2", "{}", 124439808},
    {"gpt2", "{\"n_layer\": 6}", 81912576},
    {"gpt2", "{\"n_layer\": 24, \"n_head\": 16, \"n_embd\": 1024}", 354823168},
    {"gpt2", "{\"n_layer\": 36, \"n_head\": 20, \"n_embd\": 1280, \"n_inner\": null}",
     774030080},
    {"gpt2", "{\"n_layer\": 48, \"n_head\": 25, \"n_embd\": 1600}", 1557611200},
    {"gpt3", "{}", 174604259328},
    {"llama", "{\"num_key_value_heads\": 4}", 1100048384}, /* TinyLlama */
    {"llama",
     "{\"vocab_size\": 49152, \"hidden_size\": 576, \"num_hidden_layers\": 30, "
     "\"num_attention_heads\": 9,"
     " \"num_key_value_heads\": 3, \"intermediate_size\": 1536, \"tie_word_embeddings\": true}",
     134515008},
    {"llama",
     "{\"model_type\": \"qwen2\", \"vocab_size\": 151936, \"hidden_size\": 896, "
     "\"num_hidden_layers\": 24,"
     " \"num_attention_heads\": 14, \"num_key_value_heads\": 2, \"intermediate_size\": 4864,"
     " \"tie_word_embeddings\": true}",
     494032768},
    {"llama",
     "{\"model_type\": \"qwen3\", \"vocab_size\": 151936, \"hidden_size\": 1024, "
     "\"num_hidden_layers\": 28,"
     " \"num_attention_heads\": 16, \"num_key_value_heads\": 8, \"head_dim\": 128,"
     " \"intermediate_size\": 3072, \"tie_word_embeddings\": true}",
     596049920},
};

START_TEST(examples_have_as_many_parameters_as_published)
{
    Fake fake = fake_of(sizes[_i].config, NULL);
    const Graph *graph = compile_good(example(sizes[_i].model), &fake);
    ck_assert_int_eq(elements(graph), sizes[_i].parameters);
    ck_assert_ptr_nonnull(graph_find_output(graph, "logits"));
    ck_assert_ptr_nonnull(graph_find_output(graph, "loss"));
    fake_free(&fake);
}
END_TEST

START_TEST(examples_print_and_parse_again)
{
    static const char *const names[] = {"gpt2", "gpt3", "llama"};
    Diag diag = diag_new(stderr);
    const Source *source = example(names[_i]);
    const char *once = ldl_print(source, arena, &diag);
    ck_assert_ptr_nonnull(once);
    const char *twice = ldl_print(source_of(once), arena, &diag);
    ck_assert_str_eq(once, twice);
    const Graph *before = compile_good(source, NULL),
                *after = compile_good(source_of(once), NULL);
    ck_assert_str_eq(graph_print(before, arena), graph_print(after, arena));
}
END_TEST

/* --- the reference --- */

START_TEST(every_example_of_the_reference_compiles)
{
    const Source *reference = source_read(arena, LORACC_SOURCE "/frontend/LDL.md");
    ck_assert_ptr_nonnull(reference);
    const char *frame = NULL, *hole = NULL, *at = reference->text;
    int blocks = 0;
    while ((at = strstr(at, "```ldl\n"))) {
        at += strlen("```ldl\n");
        const char *end = strstr(at, "```");
        ck_assert_ptr_nonnull(end);
        const char *block = arena_strndup(arena, at, (size_t)(end - at));
        if (!frame && (frame = block))
            ck_assert_ptr_nonnull(hole = strstr(frame, "# ... the example ..."));
        const char *text =
            strncmp(block, "model", 5)
                ? arena_format(arena, "%.*s\n%s%s", (int)(hole - frame), frame, block, hole)
                : block;
        compile_good(source_of(text), NULL);
        at = end;
        blocks++;
    }
    ck_assert_int_ge(blocks, 5);
}
END_TEST

/* --- what the graph says --- */

static const Param *param_named(const Graph *graph, const char *name)
{
    const Param *param = graph_find_param(graph, name);
    ck_assert_msg(param != NULL, "there is no param '%s'", name);
    return param;
}

START_TEST(weights_know_their_place_in_the_file)
{
    Fake fake = fake_of("{\"n_layer\": 2, \"n_embd\": 8, \"n_head\": 2}", NULL);
    const Graph *graph = compile_good(example("gpt2"), &fake);
    const Param *k = param_named(graph, "h.1.attn.c_attn.weight[:, 8:16]");
    ck_assert_str_eq(k->tensor, "transformer.h.1.attn.c_attn.weight");
    ck_assert_str_eq(k->module, "transformer.h.1.attn.c_attn");
    ck_assert_str_eq(k->role, "k");
    ck_assert_str_eq(k->site, "k");
    ck_assert_int_eq(k->layer, 1);
    ck_assert_int_eq(k->file_rank, 2);
    ck_assert_int_eq(k->slices[0].extent, 8);
    ck_assert_int_eq(k->slices[1].start, 8);
    ck_assert_int_eq(k->slices[1].stop, 16);
    ck_assert_int_eq(k->slices[1].extent, 24);
    ck_assert(!k->transposed);
    ck_assert_str_eq(param_named(graph, "h.1.attn.c_attn.bias[16:24]")->site, "bv");
    ck_assert_ptr_null(param_named(graph, "wte.weight")->site);
    ck_assert_int_eq(param_named(graph, "wte.weight")->layer, LAYER_NONE);
    ck_assert_int_eq(graph->layer_count, 2);
    ck_assert_int_eq(graph->context, 1024);
    fake_free(&fake);
}
END_TEST

START_TEST(absolute_names_and_transposed_weights)
{
    Fake fake = fake_of("{\"num_hidden_layers\": 1}", NULL);
    const Graph *graph = compile_good(example("llama"), &fake);
    ck_assert_str_eq(param_named(graph, "/lm_head.weight")->tensor, "lm_head.weight");
    const Param *down = param_named(graph, "layers.0.mlp.down_proj.weight");
    ck_assert_str_eq(down->tensor, "model.layers.0.mlp.down_proj.weight");
    ck_assert(down->transposed);
    ck_assert_int_eq(down->slices[0].extent, 2048); /* the file has [d, inner] */
    ck_assert_int_eq(down->slices[1].extent, 5632);
    fake_free(&fake);
}
END_TEST

static const Node *node_with(const Graph *graph, Op op)
{
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->op == op)
            return graph->nodes[i];
    return NULL;
}

/* Frequencies of published configurations, as transformers computes them. */
static const struct {
    const char *config;
    int index;
    double frequency;
} frequencies[] = {
#define LLAMA31                                                                                \
    "{\"num_hidden_layers\": 1, \"head_dim\": 128, \"rope_theta\": 500000, \"rope_scaling\": " \
    "{\"rope_type\": \"llama3\","                                                              \
    " \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "                  \
    "\"original_max_position_embeddings\": 8192}}"
#define LLAMA32                                                                                \
    "{\"num_hidden_layers\": 1, \"head_dim\": 64, \"rope_parameters\": {\"rope_theta\": "      \
    "500000, \"rope_type\": \"llama3\","                                                       \
    " \"factor\": 32.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "                 \
    "\"original_max_position_embeddings\": 8192}}"
#define SMOLLM2                                                                                \
    "{\"num_hidden_layers\": 1, \"head_dim\": 64, \"rope_theta\": 100000, \"rope_scaling\": "  \
    "null}"
    {SMOLLM2, 0, 1},
    {SMOLLM2, 1, 6.978305849e-01},
    {SMOLLM2, 31, 1.433012570e-05},
    {LLAMA31, 1, 8.146172339e-01},
    {LLAMA31, 28, 3.211445995e-03},
    {LLAMA31, 29, 2.166570764e-03},
    {LLAMA31, 32, 5.248461610e-04},
    {LLAMA31, 34, 1.785078128e-04},
    {LLAMA31, 35, 9.556212354e-05},
    {LLAMA31, 63, 3.068925989e-07},
    {LLAMA32, 14, 3.211445995e-03},
    {LLAMA32, 15, 1.290547928e-03},
    {LLAMA32, 17, 9.708287803e-05},
    {LLAMA32, 31, 9.418306725e-08},
};

START_TEST(rotary_frequencies_are_those_of_the_reference)
{
    Fake fake = fake_of(frequencies[_i].config, NULL);
    const Graph *graph = compile_good(example("llama"), &fake);
    const Node *table = node_with(graph, OP_TABLE);
    ck_assert_ptr_nonnull(table);
    ck_assert_double_eq_tol(table->data[frequencies[_i].index] / frequencies[_i].frequency, 1,
                            1e-8);
    fake_free(&fake);
}
END_TEST

/* `contains` of the config's "terms", a list or a string; false: the compilation stops. */
static const struct {
    const char *config, *expression;
    bool holds;
} members[] = {
    {"{\"terms\": [\"c2p\", \"p2c\"]}", "contains([] from \"terms\", \"p2c\")", true},
    {"{\"terms\": [\"c2p\", \"p2c\"]}", "contains([] from \"terms\", \"p2\")", false},
    {"{\"terms\": \"c2p|p2c\"}", "contains([] from \"terms\", \"p2c\")", true},
    {"{\"terms\": \"c2p|p2c\"}", "contains([] from \"terms\", \"p2p\")", false},
    {"{\"terms\": [3, 5]}", "contains([] from \"terms\", 2 + 3)", true},
    {"{\"terms\": [3, 5]}", "contains([] from \"terms\", \"3\")", false},
    {"{\"terms\": [3, 5]}", "contains([] from \"terms\", true)", false},
    {"{\"terms\": []}", "contains([] from \"terms\", 3)", false},
    {"{}", "contains([true, \"x\"] from \"terms\", true)", true},
};

START_TEST(lists_and_strings_contain_what_they_say)
{
    Fake fake = fake_of(members[_i].config, NULL);
    char *messages = NULL;
    const char *text = arena_format(arena,
                                    "model m { input tokens: i32[T]; weight W: [3, 4] = \"w\";"
                                    "if !%s { error \"no\"; } output logits = W[tokens]; }",
                                    members[_i].expression);
    const Graph *graph = compile(source_of(text), &fake, &messages);
    ck_assert_msg((graph != NULL) == members[_i].holds, "%s: %s\n%s", members[_i].config,
                  members[_i].expression, messages);
    free(messages);
    fake_free(&fake);
}
END_TEST

/* --- tensors of a checkpoint --- */

#define HEAD "model m { dim d = 4; prefix \"p.\"; input tokens: i32[T]; weight W: [3, d] = "

static const struct {
    const char *weight, *tensors, *expected; /* NULL: it compiles */
} checkpoints[] = {
    {"\"w\";", "{\"p.w\": {\"shape\": [3, 4]}}", NULL},
    {"\"w\";", "{\"w\": {\"shape\": [3, 4]}}", NULL},
    {"\"/w\";", "{\"w\": {\"shape\": [3, 4]}}", NULL},
    {"\"w\"';", "{\"p.w\": {\"shape\": [4, 3]}}", NULL},
    {"\"w\"[:, 2:6];", "{\"p.w\": {\"shape\": [3, 9]}}", NULL},
    {"\"w\"[2:6, :]';", "{\"p.w\": {\"shape\": [9, 3]}}", NULL},
    {"\"w\"'[:, 2:6];", "{\"p.w\": {\"shape\": [9, 3]}}", NULL},
    {"\"w\"[5, :, :];", "{\"p.w\": {\"shape\": [6, 3, 4]}}", NULL},
    {"\"/w\";", "{\"p.w\": {\"shape\": [3, 4]}}", "the checkpoint has no tensor 'w'"},
    {"\"w\";", "{\"transformer.w\": {\"shape\": [3, 4]}}", "did you mean 'transformer.w'"},
    {"\"w\";", "{\"p.w\": {\"shape\": [4, 3]}}",
     "tensor 'p.w' should have the shape [3, 4], but the checkpoint has [4, 3]"},
    {"\"w\";", "{\"p.w\": {\"shape\": [4, 3]}}", "its transpose fits"},
    {"\"w\"[:, 2:6];", "{\"p.w\": {\"shape\": [3, 5]}}",
     "should have the shape [3, 6 or more]"},
    {"\"w\"[:, 2:7];", "{\"p.w\": {\"shape\": [3, 9]}}",
     "this slice has 5 elements, the weight's shape says 4 there"},
    {"\"w\"; weight V: [2, d] = \"w\"[0:2, :];", "{\"p.w\": {\"shape\": [3, 4]}}",
     "share elements of tensor 'p.w'"},
    {"\"w\"; weight V: [4, 3] = \"w\"';", "{\"p.w\": {\"shape\": [3, 4]}}", NULL},
    {"\"w\"; optional weight b: [d] = \"b\"; let y = if has(b) then b else 1;",
     "{\"p.w\": {\"shape\": [3, 4]}}", NULL},
    {"\"w\"; optional weight b: [d] = \"b\"; let y = W + b;", "{\"p.w\": {\"shape\": [3, 4]}}",
     "weight 'b' is optional and absent here"},
};

START_TEST(checkpoints_are_held_against_the_weights)
{
    const char *expected = checkpoints[_i].expected;
    Fake fake = fake_of("{}", checkpoints[_i].tensors);
    char *messages = NULL;
    const char *text =
        arena_format(arena, HEAD "%s output logits = W[tokens]; }", checkpoints[_i].weight);
    const Graph *graph = compile(source_of(text), &fake, &messages);
    if (expected)
        ck_assert_msg(!graph && strstr(messages, expected), "expected '%s' of\n%s\ngot\n%s",
                      expected, text, messages);
    else
        ck_assert_msg(graph && graph->param_count == 1, "%s\n%s", text, messages);
    free(messages);
    fake_free(&fake);
}
END_TEST

START_TEST(a_file_without_the_prefix_is_read_under_its_own_names)
{
    Fake fake = fake_of("{}", "{\"w\": {\"shape\": [3, 4]}}");
    const Graph *graph =
        compile_good(source_of(HEAD "\"w\"; output logits = W[tokens]; }"), &fake);
    ck_assert_str_eq(graph->params[0]->tensor, "p.w");
    ck_assert_str_eq(graph->params[0]->file_name, "w");
    fake_free(&fake);
}
END_TEST

/* --- errors --- */

#define FRAME                                                                                  \
    "model m { dim d = 768; dim inner = 3072; input tokens: i32[T]; input labels: i32[T];\n"   \
    "weight E: [inner, d] = \"e\"; weight W: [inner, d] = \"w\"; weight b: [inner] = \"b\"; "  \
    "let x = E[tokens];\n"

/* Statements, and what is said about them. */
static const struct {
    const char *text, *expected;
} mistakes[] = {
    {"let y = x @ W;",
     "test.ldl:3:9: error: '@' needs equal inner dimensions: d = 768 and inner = 3072"},
    {"let y = x @ W;", "'W' is declared here as [inner = 3072, d = 768]"},
    {"let y = x + b;", "[T, d = 768]"},
    {"let y = x + b;", "[inner = 3072]"},
    {"dim n from \"n_layer\";",
     "without a checkpoint, which has 'n_layer', a default is needed"},
    {"dim n = 0;", "dim 'n' must be a whole number of at least 1, got 0"},
    {"dim n = d / 7;", "dim 'n' must be a whole number of at least 1, got 109.71"},
    {"real r = \"x\";", "real 'r' must be a number, got \"x\""},
    {"let y = d / heds;", "'heds' is not declared"},
    {"let y = softmaks(x);", "did you mean 'softmax'?"},
    {"let y = layernorm(x, epsilon = 3);", "it is called as 'layernorm(a, eps)'"},
    {"let y = layernorm(x, 1, 2);", "'layernorm' has too many arguments"},
    {"let y = gelu();", "'gelu' needs more arguments"},
    {"let y = dropout(x, 1.5);", "'rate' must be at least 0 and below 1"},
    {"let y = x[:, 3:1000];", "slice 3:1000 is empty or leaves the axis of 768"},
    {"let y = tokens + 0.5;", "0.5 beside an integer tensor"},
    {"let y = x ^ 2;", "write a power of a tensor as a product"},
    {"let y = 1 / 0;", "the result of '/' is not a finite number"},
    {"let y = T + 1;", "cannot compute with T or S"},
    {"let y = if x then 1 else 2;", "a condition must be known when the model is compiled"},
    {"let y = x at kees;", "did you mean 'keys'?"},
    {"let y = x + x at keys;", "put what is meant in parentheses"},
    {"let y = d[0];", "a number has no elements"},
    {"let y = \"{x}\";", "a string cannot hold a tensor"},
    {"let y = \"{ x}\";", "expected a name in braces"},
    {"let y = [1, 2][2];", "subscript 2 is outside of 2 elements"},
    {"let y = contains([1, 2]);", "'contains' takes a list and a value, or two strings"},
    {"let y = contains([1], 2, 3);", "'contains' takes a list and a value, or two strings"},
    {"let y = contains(3, 3);", "or two strings, got 3 and 3"},
    {"let y = length(\"x\");", "'length' takes a list, got \"x\""},
    {"let y = length();", "'length' takes a list"},
    {"let y = if has(3) then 1 else 2;", "'has' takes a weight, got 3"},
    {"let y = contains(\"3\", 3);", "or two strings, got \"3\" and 3"},
    {"let y = [[1, 2], [3]] + x;", "only lists of numbers, all of one length"},
    {"return x;", "'return' may only stand in a block"},
    {"block f(x) { let y = x; } let z = f(x);", "block 'f' ends without 'return'"},
    {"block f(x) { return x; } let z = f();", "declared here as 'f(x)'"},
    {"block f(x) { return f(x); }", "there is no block or function 'f'"},
    {"block f() { x = 1; return 1; }",
     "'x' belongs to the model and cannot be assigned in a block"},
    {"d = 3;", "'d' cannot be assigned: it is not a variable"},
    {"let d = 3;", "'d' is declared twice"},
    {"repeat i in 0:2 { block f() { return 1; } }",
     "'block' may only stand directly in the model"},
    {"repeat i in 0:2 { output y = x; }", "'output' may not stand in a repeat"},
    {"repeat i in 0:2 as \"a\" { repeat j in 0:2 as \"b\" { x = x; } }",
     "cannot stand in another one"},
    {"repeat i in 0:20000 { x = x; }", "a repeat makes at most 10000 turns"},
    {"repeat i in 0:9 { let y = x @ W; }", "'@' needs equal inner dimensions"},
    {"error \"no {d}\";", "test.ldl:3:1: error: no 768"},
    {"wieght V: [d] = \"v\";", "did you mean 'weight'?"},
    {"let y = 3\nlet z = 4;", "test.ldl:3:10: error: expected an operator or ';', got 'let'"},
    {"let y = 3 +;", "expected an expression, got ';'"},
    {"loss mse(x, labels);", "loss 'mse' needs a tensor and an input of type f32[Q]"},
    {"input wanted: f32[T]; loss mse(x, wanted);", "loss 'mse' needs a tensor and an input of type f32[Q]"},
    {"let y = mean(x, 0);", "there is no mean over T"},
    {"let y = sum(x, 0);", "'sum' cannot go over the tokens of a batch"},
    {"weight V: [d] as head = \"v\" or normal;", "'normal' needs its deviation"},
    {"loss next_tokn(x, labels);", "did you mean 'next_token'?"},
    {"weight V: [d, d] = \"w2\"[:, 0:5];", "this slice has 5 elements"},
    {"weight V: [T] = \"w2\";", "the shape of a weight cannot depend on the sequence"},
    {"let y = \"abc;", "expected '\"' at the end of this string"},
    {"let y = 1 ? 2;", "'?' means nothing here"},
};

START_TEST(mistakes_are_named)
{
    char *messages = NULL;
    const char *text = arena_format(arena, FRAME "%s output logits = x; }", mistakes[_i].text);
    const Graph *graph = compile(source_of(text), NULL, &messages);
    ck_assert_msg(!graph && strstr(messages, mistakes[_i].expected),
                  "expected '%s' of\n%s\ngot\n%s", mistakes[_i].expected, mistakes[_i].text,
                  messages);
    free(messages);
}
END_TEST

static int count_errors(const char *messages)
{
    int count = 0;
    while ((messages = strstr(messages, ": error: "))) {
        messages++;
        count++;
    }
    return count;
}

START_TEST(several_errors_in_one_run)
{
    static const struct {
        const char *text;
        int errors;
    } cases[] = {
        {FRAME "let = 3; let y 4; let z = ; output logits = x; }", 3},             /* syntax */
        {FRAME "let y = aa; let z = bb(x); x = x at cc; output logits = x; }", 3}, /* names */
        {FRAME "let y = x @ W; let z = x[0:0]; output logits = 1; }", 3},          /* types */
        {FRAME "repeat l in 0:100 { x = x @ W; } output logits = x; }",
         1}, /* once, not for every layer */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *messages = NULL;
        ck_assert_ptr_null(compile(source_of(cases[i].text), NULL, &messages));
        ck_assert_msg(count_errors(messages) == cases[i].errors, "%s\n%s", cases[i].text,
                      messages);
        free(messages);
    }
}
END_TEST

/* A text of `count` times `middle` between `before` and `after`; # in it is replaced by the
 * number. */
static const struct {
    const char *before, *middle, *after, *expected;
    int count;
} monsters[] = {
    {"model m { let x = ", "(", "", "brackets are nested more than 200 levels deep", 100000},
    {"model m { let x = ", "-", "1; }", "this expression is nested more than 500 levels deep",
     2000},
    {"model m { let x = ", "-", "1; }", "this is nested too deeply", 100000},
    {"model m { let x = 1", " + 1", "; }",
     "this expression is nested more than 500 levels deep", 2000},
    {"model m { ", "if true { ", "", "brackets are nested more than 200 levels deep", 100000},
    {"model m { block f0(x) { return x + 1; } ", "block f#(x) { return f$(f$(x)); } ",
     "let y = f39(1); }", "steps to unroll", 40},
    {"model m { input t: f32[T]; block f0(x) { return x + 1; } ",
     "block f#(x) { return f$(x) + f$(x); } ", "let y = f39(t); }", "the graph has more than",
     40},
    {"model m { block f0(x) { return x; } ", "block f#(x) { return f$(x); } ",
     "let y = f4999(1); }", "nested more than 3000 levels deep", 5000},
    {"model m { string a0 = \"xxxxxxxx\"; ", "string a# = \"{a$}{a$}\"; ", "}",
     "grows beyond 4096 characters", 60},
    {"model m { ", "const f[i in 0:1000000, j in 0:1000000] = i; ", "}", "elements in all", 1},
};

START_TEST(deep_and_endless_descriptions_are_refused)
{
    Text text = {.arena = arena};
    text_add(&text, monsters[_i].before);
    for (int i = 1; i <= monsters[_i].count; i++)
        for (const char *c = monsters[_i].middle; *c; c++) {
            if (*c == '#' || *c == '$')
                text_format(&text, "%d", *c == '#' ? i : i - 1);
            else
                text_addn(&text, c, 1);
        }
    text_add(&text, monsters[_i].after);
    char *messages = NULL;
    ck_assert_ptr_null(compile(source_of(text.data), NULL, &messages));
    ck_assert_msg(strstr(messages, monsters[_i].expected) != NULL, "expected '%s'",
                  monsters[_i].expected);
    free(messages);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ldl");
    TCase *tc = tcase_create("ldl");
    tcase_add_checked_fixture(tc, open_arena, close_arena);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, examples_have_as_many_parameters_as_published, 0,
                        sizeof sizes / sizeof *sizes);
    tcase_add_loop_test(tc, examples_print_and_parse_again, 0, 3);
    tcase_add_test(tc, every_example_of_the_reference_compiles);
    tcase_add_test(tc, weights_know_their_place_in_the_file);
    tcase_add_test(tc, absolute_names_and_transposed_weights);
    tcase_add_loop_test(tc, rotary_frequencies_are_those_of_the_reference, 0,
                        sizeof frequencies / sizeof *frequencies);
    tcase_add_loop_test(tc, lists_and_strings_contain_what_they_say, 0,
                        sizeof members / sizeof *members);
    tcase_add_loop_test(tc, checkpoints_are_held_against_the_weights, 0,
                        sizeof checkpoints / sizeof *checkpoints);
    tcase_add_test(tc, a_file_without_the_prefix_is_read_under_its_own_names);
    tcase_add_loop_test(tc, mistakes_are_named, 0, sizeof mistakes / sizeof *mistakes);
    tcase_add_test(tc, several_errors_in_one_run);
    tcase_add_loop_test(tc, deep_and_endless_descriptions_are_refused, 0,
                        sizeof monsters / sizeof *monsters);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
