/* test_labels.c - labelled data: which texts, cut how, with which class or value; and where the
 * names of classes come from. */
#define _GNU_SOURCE
#include <math.h>

#include "runtime/data.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/tokenizer_run.h"

/* --- a BERT of letters: [CLS] 0, [SEP] 1, [UNK] 2, a 3, b 4, ... --- */

static LrtTokenizer *letters(void)
{
    return open_good(temp_text("vocab.txt", "[CLS]\n[SEP]\n[UNK]\na\nb\nc\nd\ne\n"));
}

/* One type of tokens and no special ones: a 0, b 1, c 2. */
static LrtTokenizer *plain_letters(void)
{
    return open_good(temp_text("tokenizer.json",
                               "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": "
                               "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2}, "
                               "\"merges\": []}}"));
}

static LrtLabels *labels_of(const char *config, bool values)
{
    LrtError error = {LRT_OK, ""};
    json_t *root = config ? json_loads(config, 0, NULL) : NULL;
    ck_assert(!config || root);
    LrtLabels *labels = lrt_labels_new(root, "config.json", values, &error);
    ck_assert_msg(labels && error.status == LRT_OK, "%s", error.text);
    json_decref(root); /* names are copies */
    return labels;
}

static LrtDataset *open_data(const char *name, const char *text, const LrtTokenizer *t,
                             int32_t length, LrtLabels *labels)
{
    LrtError error = {LRT_OK, ""};
    LrtDataset *data =
        lrt_dataset_open_labelled(temp_text(name, text), t, length, labels, &error);
    ck_assert_msg(data && error.status == LRT_OK, "%s", error.text);
    return data;
}

/* "0 3 1=2 | ...": tokens, of the second type with a mark ('), and the label. */
static void show(const LrtDataset *data, bool values, char *out)
{
    *out = '\0';
    for (int64_t i = 0; i < lrt_dataset_size(data); i++) {
        const LrtDocument d = lrt_dataset_document(data, i);
        ck_assert_uint_eq(d.id, (uint64_t)i);
        ck_assert_ptr_null(d.targets);
        ck_assert_int_eq(d.target_count, 1);
        out += sprintf(out, "%s", i ? " | " : "");
        for (int32_t k = 0; k < d.length; k++)
            out += sprintf(out, "%s%d%s", k ? " " : "", d.tokens[k],
                           d.types && d.types[k] ? "'" : "");
        if (values)
            out += sprintf(out, "=%g", (double)d.value);
        else
            out += sprintf(out, "=%d", d.label);
        ck_assert_int_eq(values ? d.label : 0, values ? -1 : 0);
    }
}

/* --- rows to documents --- */

static const struct Good {
    const char *name, *text, *documents;
    int32_t length;
    const char *config;
    bool values;
} good[] = {
    /* one text, in three formats */
    {"a.jsonl", "{\"text\": \"a b\", \"label\": 1}\n{\"text\": \"c\", \"label\": 0}\n",
     "0 3 4 1=1 | 0 5 1=0", 8, NULL, false},
    {"a.jsonl", "{\"label\": 0, \"sentence\": \"a\", \"idx\": 7}\n", "0 3 1=0", 8, NULL, false},
    {"a.csv", "text,label\n\"a, b\",1\nc,0\n", "0 3 2 4 1=1 | 0 5 1=0", 8, NULL, false},
    {"a.tsv", "sentence\tlabel\na b\t1\r\nc\t0", "0 3 4 1=1 | 0 5 1=0", 8, NULL, false},
    {"a.csv", "label,sentence\r\n0,\r\n", "0 1=0", 8, NULL, false}, /* no text is one */
    /* pairs, by each of their names */
    {"a.jsonl", "{\"text\": \"a\", \"text_pair\": \"b\", \"label\": 0}", "0 3 1 4' 1'=0", 8,
     NULL, false},
    {"a.csv", "sentence1,sentence2,label\na,b c,0", "0 3 1 4' 5' 1'=0", 8, NULL, false},
    {"a.csv", "label,hypothesis,premise\n0,a,b", "0 4 1 3' 1'=0", 8, NULL, false},
    {"a.tsv", "index\tquestion\tsentence\tlabel\n0\ta\tb\t0", "0 3 1 4' 1'=0", 8, NULL, false},
    {"a.tsv", "question1\tquestion2\tlabel\na\tb\t0", "0 3 1 4' 1'=0", 8, NULL, false},
    {"a.csv", "text,text_pair,label\na,,0", "0 3 1 1'=0", 8, NULL, false},
    {"a.jsonl",
     "{\"text\": \"a\", \"text_pair\": null, \"label\": 0}\n{\"text\": \"a\", \"label\": 0}",
     "0 3 1=0 | 0 3 1=0", 8, NULL, false},
    /* cut: the longer first */
    {"a.csv", "text,label\na b c d e,0", "0 3 4 5 1=0", 5, NULL, false},
    {"a.csv", "text,text_pair,label\na b c d e,d e,0", "0 3 4 1 6' 7' 1'=0", 7, NULL, false},
    /* names, in bytewise order, whatever comes first */
    {"a.csv", "text,label\na,neutral\nb,neg\nc,pos\nd,neutral", //
     "0 3 1=1 | 0 4 1=0 | 0 5 1=2 | 0 6 1=1", 8, NULL, false},
    {"a.csv", "text,label\na,\xc3\xa9\nb,z\nc,Z\nd,zz", "0 3 1=3 | 0 4 1=1 | 0 5 1=0 | 0 6 1=2",
     8, NULL, false},
    {"a.csv", "text,label\na,01\nb,1.0\nc, 1", "0 3 1=1 | 0 4 1=2 | 0 5 1=0", 8, NULL, false},
    /* numbers, as they are */
    {"a.csv", "text,label\na,3\nb,10", "0 3 1=3 | 0 4 1=10", 8, NULL, false},
    {"a.jsonl", "{\"text\": \"a\", \"label\": \"2\"}\n{\"text\": \"a\", \"label\": 1}",
     "0 3 1=2 | 0 3 1=1", 8, NULL, false},
    /* the config's names, or numbers in their range */
    {"a.csv", "text,label\na,yes\nb,no\nc,1\nd,0", "0 3 1=0 | 0 4 1=1 | 0 5 1=1 | 0 6 1=0", 8,
     "{\"id2label\": {\"0\": \"yes\", \"1\": \"no\"}}", false},
    {"a.csv", "text,label\na,yes\nb,no", "0 3 1=1 | 0 4 1=0", 8,
     "{\"label2id\": {\"yes\": 1, \"no\": 0}}", false},
    {"a.csv", "text,label\na,1\nb,0", "0 3 1=0 | 0 4 1=1", 8, /* names before numbers */
     "{\"id2label\": {\"0\": \"1\", \"1\": \"0\"}}", false},
    /* placeholders are no names */
    {"a.csv", "text,label\na,pos\nb,neg", "0 3 1=1 | 0 4 1=0", 8,
     "{\"id2label\": {\"0\": \"LABEL_0\", \"1\": \"LABEL_1\"}, \"label2id\": {\"LABEL_0\": 0, "
     "\"LABEL_1\": 1}}",
     false},
    {"a.csv", "text,label\na,pos\nb,neg", "0 3 1=1 | 0 4 1=0", 8,
     "{\"id2label\": {}, \"label2id\": null}", false},
    /* values */
    {"a.tsv", "text\tlabel\na\t3.8\nb\t-2\nc\t5e-1\nd\t.25\ne\t+1.",
     "0 3 1=3.8 | 0 4 1=-2 | 0 5 1=0.5 | 0 6 1=0.25 | 0 7 1=1", 8, NULL, true},
    {"a.jsonl",
     "{\"text\": \"a\", \"label\": 3.8}\n{\"text\": \"a\", \"label\": 4}\n"
     "{\"text\": \"a\", \"label\": \"0.5\"}",
     "0 3 1=3.8 | 0 3 1=4 | 0 3 1=0.5", 8, "{\"id2label\": {\"0\": \"score\"}}", true},
};
enum { GOOD = sizeof good / sizeof *good };

START_TEST(rows_become_labelled_documents)
{
    const struct Good *g = &good[_i];
    char found[512];
    LrtTokenizer *t = letters();
    LrtLabels *labels = labels_of(g->config, g->values);
    LrtDataset *data = open_data(g->name, g->text, t, g->length, labels);
    const LrtDataCounts *c = lrt_dataset_counts(data);
    show(data, g->values, found);
    ck_assert_str_eq(found, g->documents);
    ck_assert_int_eq(lrt_labels_are_values(labels), g->values);
    ck_assert_int_eq(c->rows, c->documents);
    ck_assert_int_eq(c->targets, c->documents);
    ck_assert_int_eq(c->documents, lrt_dataset_size(data));
    ck_assert_int_eq(c->truncated, g->length < 8);
    ck_assert_int_eq(c->skipped + c->split, 0);
    for (int64_t i = 0; i < lrt_dataset_size(data); i++)
        ck_assert_ptr_nonnull(lrt_dataset_document(data, i).types);
    lrt_dataset_close(data);
    lrt_labels_free(labels);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(a_tokenizer_of_one_type_gives_no_types)
{
    char found[128];
    LrtTokenizer *t = plain_letters();
    LrtLabels *labels = labels_of(NULL, false);
    LrtDataset *data = open_data("a.csv", "text,text_pair,label\nab,c,1\n", t, 8, labels);
    show(data, false, found);
    ck_assert_str_eq(found, "0 1 2=1");
    ck_assert_ptr_null(lrt_dataset_document(data, 0).types);
    lrt_dataset_close(data);
    lrt_labels_free(labels);
    lrt_tokenizer_close(t);
}
END_TEST

/* --- training and validation --- */

#define TWO "{\"id2label\": {\"0\": \"neg\", \"1\": \"pos\"}}"

static const struct Unknown {
    const char *config, *training, *validation, *message;
    bool values;
} unknowns[] = {
    {NULL, "a,pos\nb,neg", "a,neg\na,pos\nb,Pos",
     "a.csv:4: label 'Pos' is none of the 2 there are: neg, pos", false},
    {NULL, "a,pos\nb,neg", "a,2", "a.csv:2: label '2' is none of the 2 there are: neg, pos",
     false},
    {NULL, "a,pos\nb,neg", "a,-1", "a.csv:2: label '-1' is none of", false},
    {NULL, "a,0\nb,2", "a,1\na,3", "a.csv:3: label '3' is none of the 3 there are: 0 to 2",
     false},
    {NULL, "a,0\nb,2", "a,x", "a.csv:2: label 'x' is none of the 3 there are: 0 to 2", false},
    {NULL, "a,0", "a,99999999999999999999",
     "a.csv:2: label '99999999999999999999' is none of the 1", false},
    {TWO, "a,pos", "a,neg\nb,1\nb,2", "a.csv:4: label '2' is none of the 2 there are: neg, pos",
     false},
    /* the training data itself */
    {TWO, "a,pos\nb,positive", NULL,
     "a.csv:3: label 'positive' is none of the 2 there are: neg, pos", false},
    {NULL, "a,0\nb,x", NULL, "a.csv:3: label 'x' is a name, but those before it are numbers",
     false},
    {NULL, "a,x\nb,0", NULL, "a.csv:3: label '0' is a number, but those before it are names",
     false},
    {NULL, "a,-1", NULL, "a.csv:2: label -1 is no class", false},
    {NULL, "a,0\nb,-1", NULL, "a.csv:3: label -1 is no class", false},
    {NULL, "a,10000", NULL, "a.csv:2: more than 10000 labels", false},
    {NULL, "a,99999999999999999999", NULL, "a.csv:2: more than 10000 labels", false},
    {NULL, "a,", NULL, "a.csv:2: the label is empty", false},
    /* values */
    {NULL, "a,x", NULL, "a.csv:2: label 'x' is not a number", true},
    {NULL, "a,1.5\nb,1.5.", NULL, "a.csv:3: label '1.5.' is not a number", true},
    {NULL, "a,nan", NULL, "a.csv:2: label 'nan' is not a number", true},
    {NULL, "a,inf", NULL, "label 'inf' is not a number", true},
    {NULL, "a,0x10", NULL, "label '0x10' is not a number", true},
    {NULL, "a,1e999", NULL, "label '1e999' is not a number", true},
    {NULL, "a,1e39", NULL, "label '1e39' is not a number", true},
    {NULL, "a,e", NULL, "label 'e' is not a number", true},
    {NULL, "a, 1", NULL, "label ' 1' is not a number", true},
    {NULL, "a,", NULL, "a.csv:2: the label is empty", true},
};
enum { UNKNOWNS = sizeof unknowns / sizeof *unknowns };

static void expect_refused(const char *path, int32_t length, const LrtTokenizer *t,
                           LrtLabels *labels, const char *message)
{
    LrtError error = {LRT_OK, ""};
    ck_assert_ptr_null(lrt_dataset_open_labelled(path, t, length, labels, &error));
    ck_assert_int_eq(error.status, LRT_INVALID);
    ck_assert_msg(strstr(error.text, message), "'%s' lacks '%s'", error.text, message);
    ck_assert_msg(!strncmp(error.text, temp_folder, strlen(temp_folder)), "%s", error.text);
    ck_assert_ptr_null(strchr(error.text, '\n'));
}

START_TEST(a_label_that_there_is_not_is_refused_with_its_row)
{
    const struct Unknown *u = &unknowns[_i];
    char text[256];
    LrtTokenizer *t = letters();
    LrtLabels *labels = labels_of(u->config, u->values);
    snprintf(text, sizeof text, "text,label\n%s\n", u->training);
    if (u->validation) {
        lrt_dataset_close(open_data("a.csv", text, t, 8, labels));
        snprintf(text, sizeof text, "text,label\n%s\n", u->validation);
    }
    expect_refused(temp_text("a.csv", text), 8, t, labels, u->message);
    lrt_labels_free(labels);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(validation_takes_the_labels_of_training)
{
    char found[128];
    LrtTokenizer *t = letters();
    LrtLabels *labels = labels_of(NULL, false);
    ck_assert_int_eq(lrt_labels_count(labels), 0);
    LrtDataset *training = open_data("a.csv", "text,label\na,pos\nb,neg\nc,x", t, 8, labels);
    LrtDataset *validation = open_data("b.csv", "text,label\na,x\nb,1", t, 8, labels);
    show(validation, false, found);
    ck_assert_str_eq(found, "0 3 1=2 | 0 4 1=1");
    show(training, false, found);
    ck_assert_str_eq(found, "0 3 1=1 | 0 4 1=0 | 0 5 1=2");
    ck_assert_int_eq(lrt_labels_count(labels), 3);
    ck_assert_str_eq(lrt_labels_name(labels, 0), "neg");
    ck_assert_str_eq(lrt_labels_name(labels, 2), "x");
    ck_assert_ptr_null(lrt_labels_name(labels, 3));
    ck_assert_ptr_null(lrt_labels_name(labels, -1));
    json_t *map = lrt_labels_json(labels), *config = json_pack("{s:o}", "id2label", map);
    LrtError error = {LRT_OK, ""};
    LrtLabels *again = lrt_labels_new(config, "config.json", false, &error);
    ck_assert_ptr_nonnull(again);
    ck_assert_int_eq(lrt_labels_count(again), 3);
    for (int i = 0; i < 3; i++)
        ck_assert_str_eq(lrt_labels_name(again, i), lrt_labels_name(labels, i));
    json_decref(config);
    lrt_labels_free(again);
    lrt_dataset_close(training);
    lrt_dataset_close(validation);
    lrt_labels_free(labels);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(many_names_are_put_in_order)
{
    enum { NAMES = 300 };
    char text[NAMES * 16], *at = text + sprintf(text, "text,label\n");
    for (int i = 0; i < NAMES; i++)
        at += sprintf(at, "a,n%03d\n", (i * 7) % NAMES);
    LrtTokenizer *t = letters();
    LrtLabels *labels = labels_of(NULL, false);
    LrtDataset *data = open_data("a.csv", text, t, 8, labels);
    ck_assert_int_eq(lrt_labels_count(labels), NAMES);
    for (int i = 0; i < NAMES; i++)
        ck_assert_int_eq(lrt_dataset_document(data, i).label, (i * 7) % NAMES);
    lrt_dataset_close(data);
    lrt_labels_free(labels);
    lrt_tokenizer_close(t);
}
END_TEST

/* --- labels and heads --- */

static const struct Fit {
    const char *config, *training;
    int64_t outputs;
    const char *message; /* NULL: they fit */
    int32_t count;       /* then */
    bool values;
} fits[] = {
    {NULL, "a,x\na,y", 2, NULL, 2, false},
    {NULL, "a,x\na,y\na,z", 2, "a.csv has 3 labels (x, y, z), the model's head 2; compile with",
     0, false},
    {NULL, "a,x\na,y", 3, "a.csv has 2 labels (x, y), the model's head 3; compile with", 0,
     false},
    {TWO, "a,neg", 2, NULL, 2, false},
    {TWO, "a,neg", 3, "a.csv has 2 labels (neg, pos), the model's head 3", 0, false},
    {NULL, "a,0\na,1", 2, NULL, 2, false},
    {NULL, "a,0\na,1", 3, NULL, 3, false}, /* a class that this file lacks */
    {NULL, "a,0\na,2", 2, "a.csv has 3 labels (0 to 2), the model's head 2", 0, false},
    {NULL, "a,0", 1, NULL, 1, false},
    {NULL, "a,0.5", 1, NULL, 1, true},
    {NULL, "a,0.5", 2, "a.csv: real numbers need a head of 1 output, the model's has 2", 0,
     true},
};
enum { FITS = sizeof fits / sizeof *fits };

START_TEST(labels_fit_a_head_or_not)
{
    const struct Fit *f = &fits[_i];
    char text[256];
    LrtError error = {LRT_OK, ""};
    LrtTokenizer *t = letters();
    LrtLabels *labels = labels_of(f->config, f->values);
    snprintf(text, sizeof text, "text,label\n%s\n", f->training);
    lrt_dataset_close(open_data("a.csv", text, t, 8, labels));
    ck_assert_int_eq(lrt_labels_fit(labels, "a.csv", f->outputs, &error), !f->message);
    ck_assert_int_eq(error.status, f->message ? LRT_INVALID : LRT_OK);
    ck_assert_msg(!f->message || strstr(error.text, f->message), "%s", error.text);
    if (!f->message)
        ck_assert_int_eq(lrt_labels_count(labels), f->count);
    lrt_labels_free(labels);
    lrt_tokenizer_close(t);
}
END_TEST

static const char *const bad_maps[] = {
    "{\"id2label\": {\"1\": \"a\", \"2\": \"b\"}}",
    "{\"id2label\": {\"0\": \"a\", \"x\": \"b\"}}",
    "{\"id2label\": {\"0\": \"a\", \"1\": \"a\"}}",
    "{\"id2label\": {\"0\": 7}}",
    "{\"id2label\": [\"a\", \"b\"]}",
    "{\"id2label\": \"a\"}",
    "{\"id2label\": {\"00\": \"a\"}}",
    "{\"label2id\": {\"a\": 0, \"b\": 0}}",
    "{\"label2id\": {\"a\": 1}}",
    "{\"label2id\": {\"a\": \"0\"}}",
    "{\"label2id\": {\"a\": -1}}",
    "{\"label2id\": {\"a\": 0.0}}",
};
enum { BAD_MAPS = sizeof bad_maps / sizeof *bad_maps };

START_TEST(a_bad_map_is_refused)
{
    LrtError error = {LRT_OK, ""};
    json_t *config = json_loads(bad_maps[_i], 0, NULL);
    ck_assert_ptr_nonnull(config);
    ck_assert_ptr_null(lrt_labels_new(config, "x/config.json", false, &error));
    ck_assert_int_eq(error.status, LRT_INVALID);
    ck_assert_msg(!strncmp(error.text, "x/config.json: \"", 16), "%s", error.text);
    json_decref(config);
}
END_TEST

/* --- what is refused --- */

static const struct Bad {
    const char *name, *text, *message;
    int32_t length;
} bad[] = {
    {"a.txt", "a", "labelled data files are .jsonl, .csv or .tsv", 8},
    {"a.csv", "", "nothing to learn in it: no rows", 8},
    {"a.csv", "text,label\n", "nothing to learn in it: no rows", 8},
    {"a.csv", "txt,label\na,0\n", "a.csv:1: expected a column \"text\" or \"sentence\"", 8},
    {"a.csv", "sentence1,label\na,0\n", "it has \"sentence1\", \"label\"", 8},
    {"a.csv", "text,lable\na,0\n",
     "a.csv:1: expected a column \"label\"; it has \"text\", \"lable\"", 8},
    {"a.csv", "text,label\na,0,1\n", "a.csv:2: a row of 3 fields", 8},
    {"a.csv", "text,label\na,\"x\ny", "a.csv:2: a quoted field begins here", 8},
    {"a.jsonl", "{\"text\": \"a\", \"label\": 0}\n{\"text\": \"a\"}", "a.jsonl:2: no \"label\"",
     8},
    {"a.jsonl", "{\"text\": \"a\", \"label\": null}", "a.jsonl:1: no \"label\"", 8},
    {"a.jsonl", "{\"text\": \"a\", \"label\": [0]}", "a.jsonl:1: \"label\" is neither", 8},
    {"a.jsonl", "{\"text\": \"a\", \"label\": true}", "a.jsonl:1: \"label\" is neither", 8},
    {"a.jsonl", "{\"text\": \"a\", \"label\": 1.5}", "a.jsonl:1: label 1.5 is no class", 8},
    {"a.jsonl", "{\"text\": \"a\", \"label\": \"x\\u0000\"}", "a.jsonl:1: the label is no text",
     8},
    {"a.jsonl", "{\"text\": 7, \"label\": 0}", "a.jsonl:1: expected a string \"text\"", 8},
    {"a.jsonl", "{\"text\": \"a\", \"label\": 0}\n\n[]", "a.jsonl:3: not a JSON object", 8},
    {"a.jsonl", "{\"label\"", "a.jsonl:1:", 8},
    {"a.csv", "text,label\na,0\n", "a.csv:2: a length of 2 has no room for a text", 2},
    {"a.csv", "text,text_pair,label\na,b,0\n",
     "a.csv:2: a length of 3 has no room for two texts", 3},
};
enum { BAD = sizeof bad / sizeof *bad };

START_TEST(a_bad_file_is_refused_with_its_line)
{
    LrtTokenizer *t = letters();
    LrtLabels *labels = labels_of(NULL, false);
    expect_refused(temp_text(bad[_i].name, bad[_i].text), bad[_i].length, t, labels,
                   bad[_i].message);
    lrt_labels_free(labels);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(a_text_without_tokens_is_refused)
{
    LrtTokenizer *t = plain_letters();
    LrtLabels *labels = labels_of(NULL, false);
    expect_refused(temp_text("a.csv", "text,label\na,0\n\"\",0\n"), 8, t, labels,
                   "a.csv:3: the text has no tokens");
    lrt_labels_free(labels);
    lrt_tokenizer_close(t);
}
END_TEST

START_TEST(the_hash_is_of_tokens_types_and_labels)
{
    static const char *const texts[] = {
        "text,label\na b,0\nc,1", "text,label\na b,1\nc,0", "text,label\na c,0\nc,1",
        "text,label\na,0\nb c,1", "label,text\n0,a b\n1,c",
    };
    enum { TEXTS = sizeof texts / sizeof *texts };
    uint64_t hash[TEXTS];
    LrtTokenizer *t = letters();
    for (int i = 0; i < TEXTS; i++) {
        LrtLabels *labels = labels_of(NULL, false);
        LrtDataset *data = open_data("a.csv", texts[i], t, 8, labels);
        hash[i] = lrt_dataset_hash(data);
        lrt_dataset_close(data);
        lrt_labels_free(labels);
    }
    for (int i = 0; i < TEXTS; i++)
        for (int k = 0; k < i; k++)
            ck_assert_int_eq(hash[i] == hash[k], k == 0 && i == TEXTS - 1);
    lrt_tokenizer_close(t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("labels");
    TCase *tc = tcase_create("labels");
    tcase_add_checked_fixture(tc, temp_open, temp_close);
    tcase_add_loop_test(tc, rows_become_labelled_documents, 0, GOOD);
    tcase_add_test(tc, a_tokenizer_of_one_type_gives_no_types);
    tcase_add_loop_test(tc, a_label_that_there_is_not_is_refused_with_its_row, 0, UNKNOWNS);
    tcase_add_test(tc, validation_takes_the_labels_of_training);
    tcase_add_test(tc, many_names_are_put_in_order);
    tcase_add_loop_test(tc, labels_fit_a_head_or_not, 0, FITS);
    tcase_add_loop_test(tc, a_bad_map_is_refused, 0, BAD_MAPS);
    tcase_add_loop_test(tc, a_bad_file_is_refused_with_its_line, 0, BAD);
    tcase_add_test(tc, a_text_without_tokens_is_refused);
    tcase_add_test(tc, the_hash_is_of_tokens_types_and_labels);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
