/* test_data.c - files to documents and targets, and documents to batches. */
#define _GNU_SOURCE
#include <sys/stat.h>

#include "runtime/data.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/tokenizer_run.h"

/* --- a tokenizer of letters: "abc" is 0 1 2, </s> is 9 --- */

#define LETTERS                                                                                \
    "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"added_tokens\": [{\"id\": 8, "           \
    "\"content\": \"<s>\", \"special\": true}, {\"id\": 9, \"content\": \"</s>\", "            \
    "\"special\": true}], \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, "     \
    "\"c\": 2, \"d\": 3, \"e\": 4, \"\\u0120\": 5, \"\\u010a\": 6, \"\\u0100\": 7, "           \
    "\"\\u00c3\": 10, \"\\u00a9\": 11}, \"merges\": []}%s}"
#define BEGIN                                                                                  \
    ", \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": "                    \
    "[{\"SpecialToken\": "                                                                     \
    "{\"id\": \"<s>\"}}, {\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"<s>\": "     \
    "{\"ids\": [8]}}}"

typedef enum Kind { WITH_END, WITHOUT_END, WITH_BEGIN } Kind;

static LrtTokenizer *letters(Kind kind)
{
    char text[1024];
    snprintf(text, sizeof text, LETTERS, kind == WITH_BEGIN ? BEGIN : "");
    if (kind != WITHOUT_END)
        temp_text("config.json", "{\"eos_token_id\": 9}");
    return open_good(temp_text("tokenizer.json", text));
}

static LrtDataset *open_data(const char *path, const LrtTokenizer *t, LrtDataOptions options)
{
    LrtError error = {LRT_OK, ""};
    LrtDataset *data = lrt_dataset_open(path, t, &options, &error);
    ck_assert_msg(data && error.status == LRT_OK, "%s", error.text);
    return data;
}

/* "0 1>2" is a document of tokens 0 and 1, where the last predicts 2; several: with " | ". */
static void show(const LrtDataset *data, char *text)
{
    *text = '\0';
    for (int64_t i = 0; i < lrt_dataset_size(data); i++) {
        const LrtDocument d = lrt_dataset_document(data, i);
        int targets = 0;
        ck_assert_uint_eq(d.id, (uint64_t)i);
        text += sprintf(text, "%s", i ? " | " : "");
        for (int32_t k = 0; k < d.length; k++) {
            text += sprintf(text, "%s%d", k ? " " : "", d.tokens[k]);
            if (d.targets[k] != LRT_NO_TARGET)
                text += sprintf(text, ">%d", d.targets[k]);
            targets += d.targets[k] != LRT_NO_TARGET;
        }
        ck_assert_int_eq(targets, d.target_count);
    }
}

/* --- files to documents --- */

#define SPLIT LRT_LONG_SPLIT
#define CUT   LRT_LONG_TRUNCATE

/* counts: rows, documents, tokens, targets, split, truncated, skipped */
static const struct Good {
    const char *name, *text, *documents;
    LrtDataOptions options;
    Kind kind;
    int64_t counts[7];
    bool no_end;
} good[] = {
    /* .txt: one row; no end is added */
    {"a.txt", "abc", "0>1 1>2 2", {8, SPLIT, true}, WITH_END, {1, 1, 3, 2, 0, 0, 0}, false},
    {"a.txt",
     "ab\n\nc",
     "0>1 1>6 6>6 6>2 2",
     {8, SPLIT, true},
     WITH_END,
     {1, 1, 5, 4, 0, 0, 0},
     false},
    {"a.txt",
     "\xef\xbb\xbf"
     "ab",
     "0>1 1",
     {8, SPLIT, false},
     WITH_END,
     {1, 1, 2, 1, 0, 0, 0},
     false},
    {"a.txt",
     "a\xff"
     "b",
     "0>1 1",
     {8, SPLIT, false},
     WITH_END,
     {1, 1, 2, 1, 0, 0, 0},
     false},
    {"a.txt",
     "abcde",
     "0>1 1 | 2>3 3",
     {2, SPLIT, false},
     WITH_END,
     {1, 2, 4, 2, 1, 0, 0},
     false},
    {"a.txt", "abcde", "0>1 1>2 2", {3, CUT, false}, WITH_END, {1, 1, 3, 2, 0, 1, 0}, false},
    {"a.txt", "ab", "8>0 0>1 1", {8, SPLIT, false}, WITH_BEGIN, {1, 1, 3, 2, 0, 0, 0}, false},
    {"a.txt", "a</s>b", "0>9 9>1 1", {8, SPLIT, false}, WITH_END, {1, 1, 3, 2, 0, 0, 0}, false},

    /* text, line by line */
    {"a.jsonl",
     "{\"text\": \"ab\"}\n{\"text\": \"c\"}",
     "0>1 1>9 9 | 2>9 9",
     {8, SPLIT, true},
     WITH_END,
     {2, 2, 5, 3, 0, 0, 0},
     false},
    {"a.jsonl",
     "{\"text\": \"ab\"}\n",
     "0>1 1",
     {8, SPLIT, false},
     WITH_END,
     {1, 1, 2, 1, 0, 0, 0},
     false},
    {"a.jsonl",
     "{\"text\": \"ab\"}\n",
     "0>1 1",
     {8, SPLIT, true},
     WITHOUT_END,
     {1, 1, 2, 1, 0, 0, 0},
     true},
    {"a.jsonl",
     "{\"text\": \"ab\"}\n",
     "8>0 0>1 1>9 9",
     {8, SPLIT, true},
     WITH_BEGIN,
     {1, 1, 4, 3, 0, 0, 0},
     false},
    {"a.jsonl",
     "\xef\xbb\xbf\n  \r\n{\"text\": \"ab\", \"other\": [1, {}]}\r\n\t\n",
     "0>1 1",
     {8, SPLIT, false},
     WITH_END,
     {1, 1, 2, 1, 0, 0, 0},
     false},
    {"a.jsonl",
     "{\"text\": \"a\\u0000b\\u00e9\"}",
     "0>7 7>1 1>10 10>11 11",
     {8, SPLIT, false},
     WITH_END,
     {1, 1, 5, 4, 0, 0, 0},
     false},

    /* rows without a target: empty, one token, a last piece of one token */
    {"a.jsonl",
     "{\"text\": \"\"}\n{\"text\": \"a\"}\n{\"text\": \"ab\"}",
     "0>1 1",
     {8, SPLIT, false},
     WITH_END,
     {3, 1, 2, 1, 0, 0, 2},
     false},
    {"a.jsonl",
     "{\"text\": \"\"}\n{\"text\": \"a\"}",
     "0>9 9",
     {8, SPLIT, true},
     WITH_END,
     {2, 1, 2, 1, 0, 0, 1},
     false},
    {"a.jsonl",
     "{\"text\": \"abcde\"}",
     "0>1 1 | 2>3 3 | 4>9 9",
     {2, SPLIT, true},
     WITH_END,
     {1, 3, 6, 3, 1, 0, 0},
     false},
    {"a.jsonl",
     "{\"text\": \"abcd\"}\n{\"text\": \"ab\"}",
     "0>1 1>2 2 | 0>1 1>9 9",
     {3, CUT, true},
     WITH_END,
     {2, 2, 6, 4, 0, 1, 0},
     false},

    /* prompt and completion: what is before the completion is not predicted; never split */
    {"a.jsonl",
     "{\"prompt\": \"ab\", \"completion\": \"cd\"}",
     "0 1>2 2>3 3>9 9",
     {8, SPLIT, true},
     WITH_END,
     {1, 1, 5, 3, 0, 0, 0},
     false},
    {"a.jsonl",
     "{\"prompt\": \"ab\", \"completion\": \"cd\"}",
     "8 0 1>2 2>3 3",
     {8, SPLIT, false},
     WITH_BEGIN,
     {1, 1, 5, 2, 0, 0, 0},
     false},
    {"a.jsonl",
     "{\"prompt\": \"\", \"completion\": \"cd\"}",
     "2>3 3",
     {8, SPLIT, false},
     WITH_END,
     {1, 1, 2, 1, 0, 0, 0},
     false},
    {"a.jsonl",
     "{\"prompt\": \"\", \"completion\": \"cd\"}",
     "8>2 2>3 3",
     {8, SPLIT, false},
     WITH_BEGIN,
     {1, 1, 3, 2, 0, 0, 0},
     false},
    {"a.jsonl",
     "{\"prompt\": \"ab\", \"completion\": \"\"}",
     "0 1>9 9",
     {8, SPLIT, true},
     WITH_END,
     {1, 1, 3, 1, 0, 0, 0},
     false},
    {"a.jsonl",
     "{\"prompt\": \"ab\", \"completion\": \"cd\", \"text\": \"e\"}",
     "0 1>2 2>3 3",
     {8, SPLIT, false},
     WITH_END,
     {1, 1, 4, 2, 0, 0, 0},
     false},
    {"a.jsonl",
     "{\"prompt\": \"ab\", \"completion\": \"cde\"}",
     "0 1>2 2",
     {3, SPLIT, false},
     WITH_END,
     {1, 1, 3, 1, 0, 1, 0},
     false},
    {"a.jsonl",
     "{\"prompt\": \"abcd\", \"completion\": \"e\"}\n{\"prompt\": \"a\", \"completion\": "
     "\"\"}\n"
     "{\"text\": \"ab\"}",
     "0>1 1",
     {4, SPLIT, false},
     WITH_END,
     {3, 1, 2, 1, 0, 1, 2},
     false},
    /* .csv and .tsv: the same under columns; other columns do not matter */
    {"a.csv",
     "label,text\r\n1,\"a\nb\"\r\n0,c\r\n",
     "0>6 6>1 1>9 9 | 2>9 9",
     {8, SPLIT, true},
     WITH_END,
     {2, 2, 6, 4, 0, 0, 0},
     false},
    {"a.csv",
     "\xef\xbb\xbf\"text\"\n\nab\n\n",
     "0>1 1",
     {8, SPLIT, false},
     WITH_END,
     {1, 1, 2, 1, 0, 0, 0},
     false},
    {"a.csv",
     "prompt,completion\nab,cd",
     "0 1>2 2>3 3>9 9",
     {8, SPLIT, true},
     WITH_END,
     {1, 1, 5, 3, 0, 0, 0},
     false},
    {"a.tsv",
     "completion\tprompt\tx\ncd\tab\t\"\n",
     "0 1>2 2>3 3",
     {8, SPLIT, false},
     WITH_END,
     {1, 1, 4, 2, 0, 0, 0},
     false},
    {"a.tsv",
     "text\nab\nabcd",
     "0>1 1 | 0>1 1 | 2>3 3",
     {2, SPLIT, false},
     WITH_END,
     {2, 3, 6, 3, 1, 0, 0},
     false},
    /* special tokens are tokens in a prompt and letters in a completion */
    {"a.jsonl",
     "{\"prompt\": \"<s>a\", \"completion\": \"b</s>\"}",
     "8 0>1 1",
     {8, SPLIT, false},
     WITH_END,
     {1, 1, 3, 1, 0, 0, 0},
     false},
};
enum { GOOD = sizeof good / sizeof *good };

START_TEST(rows_become_documents)
{
    const struct Good *g = &good[_i];
    char found[512];
    LrtTokenizer *t = letters(g->kind);
    LrtDataset *data = open_data(temp_text(g->name, g->text), t, g->options);
    show(data, found);
    ck_assert_str_eq(found, g->documents);
    const LrtDataCounts *c = lrt_dataset_counts(data);
    const int64_t counts[] = {c->rows,  c->documents, c->tokens, c->targets,
                              c->split, c->truncated, c->skipped};
    for (int i = 0; i < 7; i++)
        ck_assert_msg(counts[i] == g->counts[i], "count %d is %lld, wanted %lld", i,
                      (long long)counts[i], (long long)g->counts[i]);
    ck_assert_int_eq(c->no_end_token, g->no_end);
    ck_assert_int_eq(lrt_dataset_size(data), c->documents);
    lrt_dataset_close(data);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(the_hash_is_of_tokens_targets_and_documents)
{
    static const char *const texts[] = {
        "{\"text\": \"abcd\"}",
        "{\"text\": \"abce\"}",
        "{\"prompt\": \"ab\", \"completion\": \"cd\"}",
        "{\"text\": \"ab\"}\n{\"text\": \"cd\"}",
        "{\"prompt\": \"abc\", \"completion\": \"d\"}",
        "{\"text\":\"abcd\",\"more\":1}",
    };
    enum { TEXTS = sizeof texts / sizeof *texts };
    uint64_t hash[TEXTS];
    LrtTokenizer *t = letters(WITH_END);
    for (int i = 0; i < TEXTS; i++) {
        LrtDataset *data =
            open_data(temp_text("a.jsonl", texts[i]), t, (LrtDataOptions){8, SPLIT, false});
        hash[i] = lrt_dataset_hash(data);
        lrt_dataset_close(data);
    }
    for (int i = 0; i < TEXTS; i++)
        for (int k = 0; k < i; k++)
            ck_assert_int_eq(hash[i] == hash[k], k == 0 && i == TEXTS - 1);
    lrt_tokenizer_close(t);
}
END_TEST

/* --- what is refused --- */

static const struct Bad {
    const char *name, *text, *message;
} bad[] = {
    {"a.jsonl", "", "nothing to learn"},
    {"a.txt", "", "nothing to learn"},
    {"a.txt", "\xef\xbb\xbf", "nothing to learn"},
    {"a.txt", "a", "1 rows, none with a target"},
    {"a.jsonl", "\n\n", "0 rows"},
    {"a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\"}", "2 rows, none with a target"},
    {"a.jsonl", "{\"text\": \"ab\"}\n\n{\"text\": \"ab\"", "a.jsonl:3:"},
    {"a.jsonl", "{\"text\": \"ab\"} {}", "a.jsonl:1:"},
    {"a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"a\xff\"}", "a.jsonl:2:"},
    {"a.jsonl", "{\"text\": \"a\", \"text\": \"b\"}", "duplicate"},
    {"a.jsonl", "{\"text\":\n\"ab\"}", "a.jsonl:1:"},
    {"a.jsonl", "{\"text\": \"\\ud800\"}", "a.jsonl:1:"},
    {"a.jsonl", "{\"text\": \"ab\"}\n\"ab\"", "a.jsonl:2: not a JSON object"},
    {"a.jsonl", "[]", "a.jsonl:1: not a JSON object"},
    {"a.jsonl", "null", "a.jsonl:1: not a JSON object"},
    {"a.jsonl", "{\"text\": \"ab\"}\n{}", "a.jsonl:2: expected a string \"text\""},
    {"a.jsonl", "{\"text\": 7}", "a.jsonl:1: expected a string \"text\""},
    {"a.jsonl", "{\"prompt\": \"ab\"}", "a.jsonl:1: expected"},
    {"a.jsonl", "{\"completion\": \"ab\"}", "a.jsonl:1: expected"},
    {"a.jsonl", "{\"prompt\": \"ab\", \"completion\": null}", "a.jsonl:1: expected"},
    {"a.jsonl", "{\"messages\": []}", "a.jsonl:1: \"messages\" are not supported"},
    {"jsonl", "{\"text\": \"ab\"}", "data files are .jsonl, .csv, .tsv or .txt"},
    {"a.parquet", "PAR1", "data files are .jsonl, .csv, .tsv or .txt"},
    {"a.csv", "", "nothing to learn"},
    {"a.csv", "text\n", "0 rows"},
    {"a.csv", "\xef\xbb\xbf\n\n", "0 rows"},
    {"a.csv", "txt,label\nab,1\n",
     "a.csv:1: expected a column \"text\", or \"prompt\" and \"completion\"; it has \"txt\", "
     "\"label\""},
    {"a.csv", "prompt\nab\n", "a.csv:1: expected a column"},
    {"a.csv", "text,text\nab,c\n", "a.csv:1: two columns are called 'text'"},
    {"a.csv", "text,x\nab,c\n\nab\n", "a.csv:4: a row of 1 fields, but the first line names 2"},
    {"a.csv", "text\na,b\n", "a.csv:2: a row of 2 fields, but the first line names 1"},
    {"a.csv", "text\n\"ab\"\n\"ab\nab\n", "a.csv:3: a quoted field begins here"},
    {"a.csv", "text\n\"a\nb\"c\n", "a.csv:3: text behind the closing quote"},
    {"a.csv", "text\nab\na\xff\n", "a.csv:3: not UTF-8"},
    {"a.csv", "text\xff\nab\n", "a.csv:1: not UTF-8"},
    {"a.csv", "text,b\nab\xc3,\xa9\n", "a.csv:2: not UTF-8"},
    {"a.csv", "text\ta\nab\tc\n", "it has \"text a\""},
    {"a.tsv", "text,a\nab,c\n", "it has \"text,a\""},
    {"a.tsv", "text\ta\nab\n",
     "a.tsv:2: a row of 1 fields, but the first line names 2 columns"},
};
enum { BAD = sizeof bad / sizeof *bad };

static void expect_refused(const char *path, const char *message)
{
    LrtTokenizer *t = letters(WITH_END);
    LrtError error = {LRT_OK, ""};
    const LrtDataOptions options = {8, SPLIT, false};
    ck_assert_ptr_null(lrt_dataset_open(path, t, &options, &error));
    ck_assert_int_eq(error.status, LRT_INVALID);
    ck_assert_msg(!strncmp(error.text, path, strlen(path)), "no file name: %s", error.text);
    ck_assert_msg(strstr(error.text, message), "'%s' lacks '%s'", error.text, message);
    ck_assert_ptr_null(strchr(error.text, '\n'));
    lrt_tokenizer_close(t);
}

START_TEST(a_bad_file_is_refused_with_its_line)
{
    char path[96];
    strcpy(path, temp_text(bad[_i].name, bad[_i].text));
    expect_refused(path, bad[_i].message);
}
END_TEST

START_TEST(what_is_no_file_is_refused_by_name)
{
    char path[96];
    expect_refused("/nowhere/a.jsonl", "No such file");
    snprintf(path, sizeof path, "%s/folder.txt", temp_folder);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    expect_refused(path, "not a regular file");
    rmdir(path);
}
END_TEST

/* --- batches --- */

enum { DOCUMENTS = 57, ALL = 1 << 20 };

/* Documents of 2 to 12 tokens. */
static LrtDataset *many(const LrtTokenizer *t)
{
    char text[DOCUMENTS * 32], *at = text;
    for (int i = 0; i < DOCUMENTS; i++)
        at += sprintf(at, "{\"text\": \"%.*s\"}\n", 2 + i * 7 % 11, "abcdeabcdeab");
    return open_data(temp_text("a.jsonl", text), t, (LrtDataOptions){16, SPLIT, false});
}

START_TEST(an_epoch_takes_every_document_once)
{
    LrtTokenizer *t = letters(WITH_END);
    LrtDataset *data = many(t);
    int64_t order[3][DOCUMENTS];
    int seen[DOCUMENTS] = {0};
    ck_assert_int_eq(lrt_dataset_size(data), DOCUMENTS);
    lrt_dataset_shuffle(data, 7, 0, order[0]);
    lrt_dataset_shuffle(data, 7, 1, order[1]);
    lrt_dataset_shuffle(data, 8, 0, order[2]);
    ck_assert_mem_ne(order[0], order[1], sizeof order[0]);
    ck_assert_mem_ne(order[0], order[2], sizeof order[0]);
    ck_assert_mem_ne(order[1], order[2], sizeof order[0]);
    for (int i = 0; i < 3 * DOCUMENTS; i++)
        seen[order[i / DOCUMENTS][i % DOCUMENTS]]++;
    for (int i = 0; i < DOCUMENTS; i++)
        ck_assert_int_eq(seen[i], 3);
    lrt_dataset_shuffle(data, 7, 0, order[1]); /* whatever was there before */
    ck_assert_mem_eq(order[0], order[1], sizeof order[0]);
    lrt_dataset_close(data);
    lrt_tokenizer_close(t);
}
END_TEST

/* Capacity and documents of a batch; 1 token: every document is longer than the batch. */
static const int64_t limits[][2] = {{1, 8},   {16, ALL}, {64, 4},    {64, ALL},
                                    {ALL, 1}, {ALL, 5},  {ALL, ALL}, {17, 3}};
enum { LIMITS = sizeof limits / sizeof *limits };

START_TEST(batches_are_full_and_none_is_lost)
{
    const int64_t capacity = limits[_i][0], most = limits[_i][1];
    LrtTokenizer *t = letters(WITH_END);
    LrtDataset *data = many(t);
    int64_t order[DOCUMENTS], place = 0, taken;
    lrt_dataset_shuffle(data, 3, 0, order);
    for (; place < DOCUMENTS; place += taken) {
        int64_t tokens = 0;
        taken = lrt_dataset_take(data, order, place, DOCUMENTS, capacity, most, 0);
        ck_assert(taken >= 1 && taken <= most && place + taken <= DOCUMENTS);
        for (int64_t i = 0; i < taken; i++)
            tokens += lrt_dataset_document(data, order[place + i]).length;
        ck_assert(tokens <= capacity || taken == 1);
        if (taken < most && place + taken < DOCUMENTS) /* the next one has no room */
            ck_assert_int_gt(tokens + lrt_dataset_document(data, order[place + taken]).length,
                             capacity);
    }
    ck_assert_int_eq(place, DOCUMENTS);
    ck_assert_int_eq(lrt_dataset_take(data, order, place, DOCUMENTS, capacity, most, 0), 0);
    lrt_dataset_close(data);
    lrt_tokenizer_close(t);
}
END_TEST

static int by_number(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The flat form of a batch, as training makes it: documents by number, each a segment. */
static size_t flatten(const LrtDataset *data, int64_t *taken, int64_t count, int32_t *flat)
{
    size_t at = 0;
    qsort(taken, (size_t)count, sizeof *taken, by_number);
    for (int64_t i = 0; i < count; i++) {
        const LrtDocument d = lrt_dataset_document(data, taken[i]);
        memcpy(flat + at, d.tokens, sizeof *flat * (size_t)d.length);
        at += (size_t)d.length;
    }
    return at;
}

START_TEST(the_flat_order_does_not_depend_on_packing)
{
    LrtTokenizer *t = letters(WITH_END);
    LrtDataset *data = many(t);
    int64_t order[DOCUMENTS], reversed[DOCUMENTS];
    int32_t flat[2][DOCUMENTS * 16];
    lrt_dataset_shuffle(data, 5, 0, order);
    const int64_t count = lrt_dataset_take(data, order, 0, DOCUMENTS, 100, ALL, 0);
    ck_assert_int_gt(count, 4);
    for (int64_t i = 0; i < count; i++)
        reversed[count - 1 - i] = order[i];
    const size_t size = flatten(data, order, count, flat[0]);
    ck_assert_uint_eq(flatten(data, reversed, count, flat[1]), size);
    ck_assert_mem_eq(flat[0], flat[1], sizeof **flat * size);
    ck_assert_mem_eq(order, reversed, sizeof *order * (size_t)count);
    int64_t wanted = 0; /* no padding: as many tokens as the documents have */
    for (int64_t i = 0; i < count; i++)
        wanted += lrt_dataset_document(data, order[i]).length;
    ck_assert_int_eq((int64_t)size, wanted);
    /* Taken in file order, all documents are the text itself. */
    for (int64_t i = 0; i < DOCUMENTS; i++)
        order[i] = i;
    const LrtDocument first = lrt_dataset_document(data, 0);
    const size_t all = flatten(data, order, DOCUMENTS, flat[0]);
    ck_assert_int_eq((int64_t)all, lrt_dataset_counts(data)->tokens);
    ck_assert_mem_eq(flat[0], first.tokens, sizeof **flat * all);
    lrt_dataset_close(data);
    lrt_tokenizer_close(t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("data");
    TCase *tc = tcase_create("files");
    tcase_add_checked_fixture(tc, temp_open, temp_close);
    tcase_add_loop_test(tc, rows_become_documents, 0, GOOD);
    tcase_add_test(tc, the_hash_is_of_tokens_targets_and_documents);
    tcase_add_loop_test(tc, a_bad_file_is_refused_with_its_line, 0, BAD);
    tcase_add_test(tc, what_is_no_file_is_refused_by_name);
    tcase_add_test(tc, an_epoch_takes_every_document_once);
    tcase_add_loop_test(tc, batches_are_full_and_none_is_lost, 0, LIMITS);
    tcase_add_test(tc, the_flat_order_does_not_depend_on_packing);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
