/* test_ir.c - arenas, messages, graphs and their text form.  What the ops compute is in
 * test_eval.c. */
#define _POSIX_C_SOURCE 200809L
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "ir/build.h"
#include "ir/diag.h"
#include "ir/shape.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/unit/ir_samples.h"
#include "tests/unit/run_suite.h"

static Arena *arena;

static void open_arena(void)
{
    arena = arena_new();
}

static void close_arena(void)
{
    arena_free(arena);
}

/* Reads IR text; *messages receives what was reported. */
static Graph *read_text(const char *text, const char **messages)
{
    char *buffer = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&buffer, &size);
    Diag diag = diag_new(out);
    Graph *graph =
        graph_read(arena, source_from_memory(arena, "t.ir", text, (int)strlen(text)), &diag);
    fclose(out);
    *messages = arena_strdup(arena, buffer);
    free(buffer);
    ck_assert_msg(!graph == (diag.errors > 0), "a graph and errors, or neither:\n%s",
                  *messages);
    return graph;
}

static Graph *read_good(const char *text)
{
    const char *messages;
    Graph *graph = read_text(text, &messages);
    ck_assert_msg(graph != NULL, "%s%s", messages, text);
    const char *wrong = graph_verify(graph, arena);
    ck_assert_msg(!wrong, "%s", wrong);
    return graph;
}

static void expect_round_trip(const char *text)
{
    ck_assert_str_eq(graph_print(read_good(text), arena), text);
}

/* --- memory, places, messages --- */

START_TEST(arena_memory_is_zero_aligned_and_reusable)
{
    for (int round = 0; round < 3; round++) {
        for (size_t size = 0; size < 200000; size = size * 3 + 1) {
            char *memory = arena_alloc(arena, size);
            ck_assert_uint_eq((uintptr_t)memory % 16, 0);
            for (size_t i = 0; i < size; i++)
                ck_assert_int_eq(memory[i], 0);
            memset(memory, 0xff, size);
        }
        arena_reset(arena);
    }
}
END_TEST

START_TEST(text_and_arrays_grow)
{
    Text text = {.arena = arena};
    int *numbers = NULL, count = 0, capacity = 0;
    for (int i = 0; i < 1000; i++) {
        text_format(&text, "%d,", i);
        ARENA_PUSH(arena, numbers, count, capacity, i);
    }
    text_format(&text, "%0500d", 7); /* longer than the buffer on the stack */
    ck_assert_int_eq(text.length, (int)strlen(text.data));
    ck_assert_int_eq(text.length, 10 * 2 + 90 * 3 + 900 * 4 + 500);
    ck_assert_int_eq(numbers[999], 999);
}
END_TEST

START_TEST(messages_show_the_place)
{
    char *buffer = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&buffer, &size);
    Diag diag = diag_new(out);
    const Source *source = source_from_memory(arena, "a.ldl", "one\n\ttwo three\nfour", 19);
    diag_error(&diag, (Loc){source, 2, 6, 2, 11}, "unknown name '%s'", "three");
    diag_note(&diag, (Loc){0}, "that is all");
    fclose(out);
    ck_assert_str_eq(buffer, "a.ldl:2:6: error: unknown name 'three'\n"
                             "    2 | \ttwo three\n"
                             "      | \t    ^~~~~\n"
                             "loracc: note: that is all\n");
    ck_assert_int_eq(diag.errors, 1);
    free(buffer);
}
END_TEST

START_TEST(errors_stop_after_twenty)
{
    char *buffer = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&buffer, &size);
    Diag diag = diag_new(out);
    for (int i = 0; i < 50; i++)
        diag_error(&diag, (Loc){0}, "number %d", i);
    fclose(out);
    ck_assert_int_eq(diag.errors, DIAG_MAX_ERRORS);
    ck_assert(diag_full(&diag));
    ck_assert_ptr_nonnull(strstr(buffer, "number 19\n"));
    ck_assert_ptr_null(strstr(buffer, "number 20\n"));
    free(buffer);
}
END_TEST

START_TEST(the_nearest_word_is_near)
{
    const char *const words[] = {"matmul", "softmax", "gelu", "gelu_tanh", NULL};
    ck_assert_str_eq(nearest_word("matmull", words, 5), "matmul");
    ck_assert_str_eq(nearest_word("sotfmax", words, 5), "softmax");
    ck_assert_str_eq(nearest_word("glu", words, 5), "gelu");
    ck_assert_ptr_null(nearest_word("attention", words, 5));
    ck_assert_ptr_null(nearest_word("", words, 5));
}
END_TEST

START_TEST(lines_of_a_source_are_found)
{
    const Source *source = source_from_memory(arena, "x", "ab\r\n\ncd", 7);
    int length;
    ck_assert_int_eq(source->line_count, 3);
    ck_assert_str_eq(arena_strndup(arena, source_line(source, 1, &length), 2), "ab");
    ck_assert_int_eq(length, 2);
    source_line(source, 2, &length);
    ck_assert_int_eq(length, 0);
    ck_assert_str_eq(source_line(source, 3, &length), "cd");
    source_line(source, 4, &length);
    ck_assert_int_eq(length, 0);
}
END_TEST

/* --- types --- */

static Type f32(int rank, int64_t a, int64_t b, int64_t c)
{
    return type_of(DT_F32, rank, (int64_t[]){a, b, c});
}

START_TEST(shapes_broadcast_as_in_numpy)
{
    Type result;
    ck_assert(type_broadcast(f32(2, DIM_T, 8, 0), f32(1, 8, 0, 0), &result));
    ck_assert_str_eq(type_str(arena, result), "f32[T, 8]");
    ck_assert(type_broadcast(f32(2, DIM_T, 1, 0), f32(3, 4, 1, DIM_S), &result));
    ck_assert_str_eq(type_str(arena, result), "f32[4, T, S]");
    ck_assert(type_broadcast(type_scalar(DT_F32), type_scalar(DT_F32), &result));
    ck_assert_str_eq(type_str(arena, result), "f32");
    ck_assert(!type_broadcast(f32(1, 8, 0, 0), f32(1, 9, 0, 0), &result));
    ck_assert(!type_broadcast(f32(1, DIM_T, 0, 0), f32(1, DIM_S, 0, 0), &result));
}
END_TEST

START_TEST(impossible_types_are_known)
{
    ck_assert(type_is_valid(f32(2, DIM_R, 8, 0)));
    ck_assert(!type_is_valid(f32(1, 0, 0, 0)));
    ck_assert(!type_is_valid(f32(1, -5, 0, 0)));
    ck_assert(!type_is_valid(f32(3, DIM_MAX, DIM_MAX, DIM_MAX)));
    ck_assert_int_eq(type_elements(f32(3, DIM_MAX, DIM_MAX, DIM_MAX), NULL), INT64_MAX);
}
END_TEST

/* --- the text form --- */

static const char *sample_text(int index)
{
    return arena_format(arena, "; loracc ir 1\ngraph @sample {layers=0, context=0} {\n%s}\n",
                        samples[index].text);
}

START_TEST(every_sample_round_trips)
{
    expect_round_trip(sample_text(_i));
}
END_TEST

START_TEST(every_op_has_a_sample)
{
    const char *text = op_info[_i].text;
    for (int i = 0; i < SAMPLE_COUNT; i++)
        if (strstr(samples[i].text, arena_format(arena, "= %s ", text)))
            return;
    ck_abort_msg("'%s' has no sample in ir_samples.h", text);
}
END_TEST

START_TEST(all_of_a_graph_round_trips)
{
    expect_round_trip("; loracc ir 1\n"
                      "graph @train.step-2 {layers=12, context=1024} {\n"
                      "  %0 = param \"h.0.w\\\"\\\\\\x0a[:, 0:4]\" {tensor=\"w\", "
                      "file_name=\"x.w\", module=\"h.0\", role=\"q\", "
                      "site=\"q\", base=\"b\", layer=-1, transposed=1, fresh=1, trained=1, "
                      "adapter=1, fast=1, init=uniform, "
                      "init_scale=0.10000000000000001, file=[4:8/12, 0:6/6]} : f32[6, 4] @3\n"
                      "  %1 = param \"z\" {init=zero} : f32[4]\n"
                      "  %2 = const {value=-inf} : f32\n"
                      "  %3 = const {value=nan} : f32\n"
                      "  %4 = const {value=-0} : f32 @0 bwd\n"
                      "  %5 = const : i32\n"
                      "  %6 = table {name=\"f\"} (1, 0.10000000000000001, "
                      "-4.9406564584124654e-324) : f32[3]\n"
                      "  %7 = sum_to %6 : f32\n"
                      "  output \"grad.a\\\"b\" %0\n"
                      "  output \"loss\" %7\n"
                      "}\n");
}
END_TEST

START_TEST(values_may_have_names_and_comments)
{
    const Graph *graph = read_good("; RUN: --something\n\n"
                                   "graph @g { ; no header\n"
                                   "%x=input{name=\"x\"}:f32[T,4]  ; a comment\r\n"
                                   "\n"
                                   "\t%y.1 = add %x , %x : f32[ T, 4 ]\n"
                                   "output \"y\" %y.1\n"
                                   "}\n; the end\n");
    ck_assert_str_eq(graph_print(graph, arena), "; loracc ir 1\n"
                                                "graph @g {layers=0, context=0} {\n"
                                                "  %0 = input {name=\"x\"} : f32[T, 4]\n"
                                                "  %1 = add %0, %0 : f32[T, 4]\n"
                                                "  output \"y\" %1\n"
                                                "}\n");
}
END_TEST

/* A line after "%0 = input : f32[T, 4]", and what is said about it. */
static const struct {
    const char *line, *message;
} mistakes[] = {
    {"%1 = matmull %0, %0 : f32",
     "t.ir:3:6: error: unknown op 'matmull'; did you mean 'matmul'?"},
    {"%1 = frobnicate %0 : f32", "t.ir:3:6: error: unknown op 'frobnicate'\n"},
    {"%1 = sum %0 {axes=1} : f32[T, 1]",
     "t.ir:3:14: error: unknown attribute 'axes'; did you mean 'axis'?"},
    {"%1 = sum %0 {axis=x} : f32[T, 1]", "t.ir:3:19: error: expected an integer, got 'x'"},
    {"%1 = sum %0 {axis=2} : f32[T, 1]",
     "t.ir:3:6: error: 'sum': there is no axis 2 in f32[T, 4]"},
    {"%1 = sum %0 {axis=99999999999999999999} : f32",
     "t.ir:3:19: error: the integer is too large"},
    {"%1 = neg %0 : f32[T, 5]",
     "t.ir:3:15: error: the type should be f32[T, 4], got f32[T, 5]"},
    {"%1 = neg %0 : f31[T, 4]", "t.ir:3:15: error: unknown type 'f31'"},
    {"%1 = neg %0 : f32[T, 0]", "t.ir:3:15: error: there is no such type"},
    {"%1 = neg %0 : f32[1,1,1,1,1,1,1]", "more than 6 axes"},
    {"%1 = neg %2 : f32", "t.ir:3:10: error: '%2' is not defined above"},
    {"%1 = neg %0", "t.ir:3:12: error: expected ':', got the end of the line"},
    {"%1 = neg %0, %0 : f32", "t.ir:3:6: error: 'neg': expected 1 operand, got 2"},
    {"%0 = neg %0 : f32[T, 4]", "t.ir:3:1: error: '%0' is defined twice"},
    {"%1 = input %0 : f32", "'input' has no operands"},
    {"%1 = input : f32", "'input': an input needs a name"},
    {"%1 = param \"p", "t.ir:3:12: error: the string does not end"},
    {"%1 = param \"p\\q\" : f32", "unknown escape in a string"},
    {"%1 = param \"p\" {trained=2} : f32[4]", "expected 0 or 1, got '2'"},
    {"%1 = param \"p\" {tained=1} : f32[4]", "unknown field 'tained'; did you mean 'trained'?"},
    {"%1 = param \"p\" {file=[0:5/4]} : f32[5]", "[0:5] is not inside an axis of 4"},
    {"%1 = param \"p\" : f32[T]", "a parameter has fixed extents"},
    {"%1 = table {name=\"t\"} (1, 2) : f32[3]", "the table has 2 numbers, its type 3"},
    {"%1 = const {value=x} : f32", "expected a number, got 'x'"},
    {"%1 = dropout %0 {rate=1, name=\"d\"} : f32[T, 4]",
     "a rate of dropout is at least 0 and less than 1"},
    {"%1 = neg %0 : f32[T, 4] @-1", "t.ir:3:26: error: expected a small count, got -1"},
    {"%1 = neg %0 : f32[T, 4] forward", "expected the end of the line, got 'forward'"},
    {"output \"x\" %7", "'%7' is not defined above"},
    {"%1 = attention %0, %0 {heads=2, kv_heads=2, head_dim=2} : (f32[T, 4], f32[T, 2])", "expected q, k and v"},
    {"%1 = attention %0, %0, %0, %0 {heads=2, kv_heads=2, head_dim=2} : (f32[T, 4], f32[T, 2])", "expected 3 operands, or two more"},
    {"%1 = attention %0, %0, %0, %0, %0 {heads=2, kv_heads=2, head_dim=2} : (f32[T, 4], f32[T, 2])",
     "f32[T, 4] does not fit the scores bool[2, T, T]"},
    {"%1 = attention %0, %0, %0 {heads=2, kv_heads=2, head_dim=2} : f32[T, 4]",
     "'attention' has 2 results, got 1"},
    {"\x01", "expected '%', got the byte 0x01"},
};

START_TEST(mistakes_are_reported_where_they_are)
{
    const char *messages;
    const char *text = arena_format(
        arena, "graph @g {\n%%0 = input {name=\"x\"} : f32[T, 4]\n%s\n}\n", mistakes[_i].line);
    ck_assert_ptr_null(read_text(text, &messages));
    ck_assert_msg(strstr(messages, mistakes[_i].message) != NULL, "expected: %s\ngot: %s",
                  mistakes[_i].message, messages);
}
END_TEST

START_TEST(one_mistake_gives_one_error)
{
    const char *messages;
    ck_assert_ptr_null(
        read_text("graph @g {\n%0 = inpt : f32\n%1 = neg %0 : f32\n%2 = neg %1 : f32\n"
                  "output \"o\" %2\n}\n",
                  &messages));
    ck_assert_ptr_nonnull(strstr(messages, "did you mean 'input'?"));
    ck_assert_ptr_null(strstr(strstr(messages, "error") + 1, "error"));
}
END_TEST

START_TEST(broken_frames_are_errors)
{
    static const char *const texts[] = {"",
                                        "graph",
                                        "graph @",
                                        "graph @g",
                                        "graph @g {",
                                        "graph @g {layers=1}",
                                        "grph @g {\n}\n",
                                        "graph @g {layers=1, context=2} {\n",
                                        "graph @g {\n}\nmore",
                                        "; loracc ir 2\ngraph @g {\n}\n"};
    const char *messages;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        ck_assert_msg(!read_text(texts[i], &messages), "%s", texts[i]);
}
END_TEST

/* Every prefix of a text is read or refused, and no bytes are read behind it. */
START_TEST(cut_texts_do_no_harm)
{
    const char *text = sample_text(_i);
    size_t length = strlen(text);
    FILE *out = fopen("/dev/null", "w");
    for (size_t i = 0; i < length; i++) {
        Diag diag = diag_new(out);
        Graph *graph =
            graph_read(arena, source_from_memory(arena, "t.ir", text, (int)i), &diag);
        ck_assert(!graph == (diag.errors > 0));
    }
    fclose(out);
}
END_TEST

/* --- graphs --- */

START_TEST(compaction_drops_the_dead_and_keeps_the_order)
{
    Graph *g = graph_new(arena, "g");
    Node *x = b_input(g, "x", f32(2, DIM_T, 4, 0));
    Node *dead = graph_param(g, graph_new_param(g, "dead"), f32(1, 4, 0, 0));
    Node *w = graph_param(g, graph_new_param(g, "w"), f32(1, 4, 0, 0));
    Node *unused = b_add(g, x, dead);
    Node *y = b_mul(g, x, w), *z = b_neg(g, y);
    graph_output(g, "z", z);
    Node *late = b_scale(g, x, 2); /* made after its user */
    graph_replace(g, y, late, NULL);
    ck_assert_ptr_nonnull(graph_verify(g, arena));
    graph_compact(g);
    ck_assert_str_eq(graph_print(g, arena), "; loracc ir 1\n"
                                            "graph @g {layers=0, context=0} {\n"
                                            "  %0 = input {name=\"x\"} : f32[T, 4]\n"
                                            "  %1 = const {value=2} : f32\n"
                                            "  %2 = mul %0, %1 : f32[T, 4]\n"
                                            "  %3 = neg %2 : f32[T, 4]\n"
                                            "  output \"z\" %3\n"
                                            "}\n");
    ck_assert_int_eq(g->param_count, 0);
    ck_assert_ptr_null(graph_find_param(g, "dead"));
    ck_assert_ptr_null(graph_verify(g, arena));
    ck_assert_ptr_eq(unused->inputs[1], dead);
}
END_TEST

START_TEST(a_removed_param_can_come_back)
{
    Graph *g = graph_new(arena, "g");
    Param *param = graph_new_param(g, "w");
    Node *x = b_input(g, "x", f32(1, DIM_T, 0, 0));
    graph_param(g, param, f32(1, 4, 0, 0));
    graph_output(g, "x", x);
    graph_compact(g);
    ck_assert_int_eq(g->param_count, 0);
    Node *again = graph_param(g, param, f32(1, 4, 0, 0));
    ck_assert_ptr_eq(again, graph_param(g, param, f32(1, 4, 0, 0)));
    ck_assert_ptr_eq(graph_find_param(g, "w"), param);
    ck_assert_ptr_null(graph_verify(g, arena));
}
END_TEST

START_TEST(a_very_deep_graph_compacts)
{
    enum { DEPTH = 300000 };
    Graph *g = graph_new(arena, "g");
    Node *x = b_input(g, "x", f32(1, DIM_T, 0, 0));
    for (int i = 0; i < DEPTH; i++)
        x = b_neg(g, x);
    graph_output(g, "x", x);
    for (int i = 0; i < DEPTH / 2; i++) { /* against the order */
        Node *n = g->nodes[i];
        g->nodes[i] = g->nodes[DEPTH - i];
        g->nodes[DEPTH - i] = n;
    }
    graph_compact(g);
    ck_assert_int_eq(g->node_count, DEPTH + 1);
    ck_assert_ptr_null(graph_verify(g, arena));
}
END_TEST

START_TEST(chains_of_replacements_are_followed)
{
    enum { COUNT = 100000 };
    Graph *g = graph_new(arena, "g");
    Node *x = b_input(g, "x", f32(1, DIM_T, 0, 0));
    Node **map = ARENA_ARRAY(arena, Node *, COUNT + 1);
    for (int i = 0; i < COUNT; i++) {
        Node *n = b_neg(g, x);
        graph_output(g, "o", n);
        if (n->id > 1)
            map[n->id] = g->nodes[n->id - 1];
    }
    Node *user = b_neg(g, g->nodes[COUNT]);
    graph_output(g, "user", user);
    map[1] = x;
    graph_replace_all(g, map, COUNT + 1);
    for (int i = 0; i < COUNT; i++)
        ck_assert_ptr_eq(g->outputs[i].node, x);
    ck_assert_ptr_eq(user->inputs[0], g->nodes[COUNT]); /* made later: keeps its input */
    ck_assert_ptr_nonnull(map[COUNT]);
    ck_assert_ptr_eq(map[COUNT], g->nodes[COUNT - 1]); /* the caller's map is as it was */
}
END_TEST

START_TEST(a_clone_outlives_its_graph)
{
    for (int i = 0; i < SAMPLE_COUNT; i++) {
        const char *text = sample_text(i);
        Arena *first = arena_new();
        Arena *keep = arena;
        arena = first;
        const Graph *graph = read_good(text);
        arena = keep;
        Graph *copy = graph_clone(graph, arena);
        arena_free(first);
        ck_assert_str_eq(graph_print(copy, arena), text);
        ck_assert_ptr_null(graph_verify(copy, arena));
    }
}
END_TEST

START_TEST(thousands_of_params_are_found)
{
    enum { COUNT = 20000 };
    Graph *g = graph_new(arena, "g");
    for (int i = 0; i < COUNT; i++)
        graph_new_param(g, arena_format(arena, "h.%d.w", i));
    for (int i = 0; i < COUNT; i++)
        ck_assert_int_eq(graph_find_param(g, arena_format(arena, "h.%d.w", i))->index, i);
    ck_assert_ptr_null(graph_find_param(g, "h"));
}
END_TEST

START_TEST(the_verifier_finds_what_is_broken)
{
    const char *text =
        "graph @g {\n%0 = input {name=\"x\"} : f32[T, 4]\n%1 = neg %0 : f32[T, 4]\n"
        "%2 = add %0, %1 : f32[T, 4]\noutput \"o\" %2\n}\n";
    Graph *g = read_good(text);
    g->nodes[1]->type.dim[1] = 5;
    ck_assert_ptr_nonnull(
        strstr(graph_verify(g, arena), "its type should be f32[T, 4]\n    %1 = neg"));
    g = read_good(text);
    g->nodes[1]->inputs[0] = g->nodes[2];
    ck_assert_ptr_nonnull(strstr(graph_verify(g, arena), "an operand comes after it"));
    g = read_good(text);
    Node stray = *g->nodes[0];
    g->nodes[1]->inputs[0] = &stray;
    ck_assert_ptr_nonnull(strstr(graph_verify(g, arena), "an operand is not in the graph"));
    g = read_good(text);
    g->nodes[2]->id = 7;
    ck_assert_ptr_nonnull(strstr(graph_verify(g, arena), "its number is not its place"));
    g = read_good(text);
    g->outputs[0].node = &stray;
    ck_assert_ptr_nonnull(strstr(graph_verify(g, arena), "output 'o' is not in the graph"));
}
END_TEST

START_TEST(attributes_compare_and_hash_alike)
{
    Attrs a = attrs_default(), b = attrs_default();
    ck_assert(attrs_equal(OP_ATTENTION, &a, &b));
    b.value = 3; /* not an attribute of attention */
    ck_assert(attrs_equal(OP_ATTENTION, &a, &b));
    ck_assert_uint_eq(attrs_hash(OP_ATTENTION, &a), attrs_hash(OP_ATTENTION, &b));
    ck_assert(!attrs_equal(OP_CONST, &a, &b));
    b.window = 8;
    ck_assert(!attrs_equal(OP_ATTENTION, &a, &b));
    ck_assert_uint_ne(attrs_hash(OP_ATTENTION, &a), attrs_hash(OP_ATTENTION, &b));
    for (int i = 0; i < OP_COUNT; i++)
        ck_assert_int_eq(op_find(op_info[i].text), i);
    ck_assert_int_eq(op_find("nothing"), OP_COUNT);
}
END_TEST

/* Any op on any operands: the rules answer, they do not crash. */
START_TEST(shape_rules_survive_any_operands)
{
    static const int64_t dims[] = {1, 2, 7, DIM_T, DIM_S, DIM_R, DIM_Q, DIM_MAX};
    static const int64_t numbers[] = {0, 1, 2, 7, -1, -2, INT64_MAX, INT64_MIN};
    Node nodes[6], *inputs[6];
    unsigned seed = 1 + (unsigned)_i;
    for (int round = 0; round < 3000; round++) {
        Attrs attrs = attrs_default();
#define PICK(array)                                                                            \
    array[(seed = seed * 1103515245u + 12345u, seed / 65536 % (sizeof array / sizeof *array))]
        attrs.axis = PICK(numbers), attrs.start = PICK(numbers), attrs.stop = PICK(numbers);
        attrs.heads = PICK(numbers), attrs.kv_heads = PICK(numbers),
        attrs.head_dim = PICK(numbers);
        attrs.index = PICK(numbers), attrs.window = PICK(numbers),
        attrs.ta = PICK(numbers) == 1;
        attrs.tb = PICK(numbers) == 1, attrs.dims.count = (int)(PICK(numbers) & 3);
        for (int i = 0; i < 6; i++) {
            attrs.dims.at[i] = PICK(dims);
            nodes[i] = (Node){.op = OP_INPUT,
                              .result_count = 1,
                              .type = {.dtype = (DType)(PICK(numbers) & 1)}};
            nodes[i].type.rank = (int)(PICK(numbers) & 3);
            for (int k = 0; k < nodes[i].type.rank; k++)
                nodes[i].type.dim[k] = PICK(dims);
            inputs[i] = &nodes[i];
        }
        Type type, *results;
        int count = op_info[_i].inputs, result_count;
        const char *reason = NULL;
        if (shape_infer(arena, (Op)_i, &attrs, count, inputs, &type, &results, &result_count,
                        &reason))
            ck_assert(type_is_valid(type));
        else
            ck_assert_ptr_nonnull(reason);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ir");
    TCase *tc = tcase_create("ir");
    tcase_add_checked_fixture(tc, open_arena, close_arena);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, arena_memory_is_zero_aligned_and_reusable);
    tcase_add_test(tc, text_and_arrays_grow);
    tcase_add_test(tc, messages_show_the_place);
    tcase_add_test(tc, errors_stop_after_twenty);
    tcase_add_test(tc, the_nearest_word_is_near);
    tcase_add_test(tc, lines_of_a_source_are_found);
    tcase_add_test(tc, shapes_broadcast_as_in_numpy);
    tcase_add_test(tc, impossible_types_are_known);
    tcase_add_loop_test(tc, every_sample_round_trips, 0, SAMPLE_COUNT);
    tcase_add_loop_test(tc, every_op_has_a_sample, 0, OP_COUNT);
    tcase_add_test(tc, all_of_a_graph_round_trips);
    tcase_add_test(tc, values_may_have_names_and_comments);
    tcase_add_loop_test(tc, mistakes_are_reported_where_they_are, 0,
                        sizeof mistakes / sizeof *mistakes);
    tcase_add_test(tc, one_mistake_gives_one_error);
    tcase_add_test(tc, broken_frames_are_errors);
    tcase_add_loop_test(tc, cut_texts_do_no_harm, 0, SAMPLE_COUNT);
    tcase_add_test(tc, compaction_drops_the_dead_and_keeps_the_order);
    tcase_add_test(tc, a_removed_param_can_come_back);
    tcase_add_test(tc, a_very_deep_graph_compacts);
    tcase_add_test(tc, chains_of_replacements_are_followed);
    tcase_add_test(tc, a_clone_outlives_its_graph);
    tcase_add_test(tc, thousands_of_params_are_found);
    tcase_add_test(tc, the_verifier_finds_what_is_broken);
    tcase_add_test(tc, attributes_compare_and_hash_alike);
    tcase_add_loop_test(tc, shape_rules_survive_any_operands, 0, OP_COUNT);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
