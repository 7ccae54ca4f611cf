/* fuzz_data.c - any bytes as training data: refused with a message, or documents whose targets
 * are their next tokens, or whose labels there are, and that batches take one after another.
 *
 * The first byte chooses the kind of file and the options; the rest is the file. */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    check(file && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

enum { WORDS = 7 };
static const char words[] = "[CLS]\n[SEP]\n[UNK]\na\nb\n##b\n##c\n";

/* Every byte is a token; 256 ends a text. */
static LrtTokenizer *bytes_as_tokens(const char *path)
{
    static const char start[] =
        "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"added_tokens\": [{\"id\": 256, "
        "\"content\": \"</s>\", \"special\": true}], \"model\": {\"type\": \"BPE\", "
        "\"merges\": "
        "[], \"vocab\": {";
    char text[1 << 13], *at = text + sprintf(text, "%s", start);
    for (int byte = 0, other = 256; byte < 256; byte++) {
        const bool shown = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
        at += sprintf(at, "%s\"\\u%04x\": %d", byte ? ", " : "", shown ? byte : other, byte);
        other += !shown;
    }
    LrtError error = {LRT_OK, ""};
    write_file(path, text, (size_t)(at + sprintf(at, "}}}") - text));
    LrtTokenizer *t = lrt_tokenizer_open(path, &error);
    check(t && lrt_tokenizer_size(t) == 257);
    unlink(path);
    return t;
}

static void check_document(LrtDocument d, int32_t length)
{
    int32_t targets = 0;
    check(d.length >= 2 && d.length <= length && !d.types && d.label == -1);
    for (int32_t i = 0; i < d.length; i++) {
        check(d.tokens[i] >= 0 && d.tokens[i] <= 256);
        if (d.targets[i] == LRT_NO_TARGET)
            continue;
        check(i + 1 < d.length && d.targets[i] == d.tokens[i + 1]);
        targets++;
    }
    check(targets > 0 && targets == d.target_count);
}

static void check_labelled(LrtDocument d, int32_t length, const LrtLabels *labels)
{
    check(d.length >= 2 && d.length <= length && d.types && !d.targets && d.target_count == 1);
    for (int32_t i = 0; i < d.length; i++)
        check(d.tokens[i] >= 0 && d.tokens[i] < WORDS && (d.types[i] == 0 || d.types[i] == 1));
    if (lrt_labels_are_values(labels))
        check(d.label == -1 && isfinite(d.value));
    else
        check(d.label >= 0 && d.label < lrt_labels_count(labels));
}

static void check_dataset(const LrtDataset *d, int32_t length, const LrtLabels *labels)
{
    const LrtDataCounts *c = lrt_dataset_counts(d);
    const int64_t size = lrt_dataset_size(d);
    int64_t tokens = 0, targets = 0, *order = calloc((size_t)size, sizeof *order);
    check(order && size > 0 && c->documents == size && c->skipped < c->rows);
    check(c->split + c->truncated <= c->rows);
    for (int64_t i = 0; i < size; i++) {
        const LrtDocument document = lrt_dataset_document(d, i);
        if (labels)
            check_labelled(document, length, labels);
        else
            check_document(document, length);
        tokens += document.length;
        targets += document.target_count;
    }
    check(tokens == c->tokens && targets == c->targets);
    lrt_dataset_shuffle(d, 1, 2, order);
    for (int64_t place = 0, taken; place < size; place += taken) {
        taken = lrt_dataset_take(d, order, place, size, 2 * length, 3, 0);
        check(taken >= 1 && taken <= 3);
    }
    free(order);
}

static LrtTokenizer *words_as_tokens(const char *path)
{
    LrtError error = {LRT_OK, ""};
    write_file(path, words, sizeof words - 1);
    LrtTokenizer *t = lrt_tokenizer_open(path, &error);
    check(t && lrt_tokenizer_size(t) == WORDS);
    unlink(path);
    return t;
}

static void use_labelled(const char *path, const LrtTokenizer *t, int32_t length, bool values)
{
    LrtError error = {LRT_OK, ""};
    LrtLabels *labels = lrt_labels_new(NULL, "config.json", values, &error);
    check(labels);
    LrtDataset *d = lrt_dataset_open_labelled(path, t, length, labels, &error);
    check(!d == (error.status != LRT_OK) && (d || strstr(error.text, path) == error.text));
    check(d || !strchr(error.text, '\n'));
    if (d) {
        check_dataset(d, length, labels);
        LrtDataset *again = lrt_dataset_open_labelled(path, t, length, labels, &error);
        check(again && lrt_dataset_hash(again) == lrt_dataset_hash(d)); /* labels are known */
        check(lrt_labels_fit(labels, path, lrt_labels_count(labels), &error));
        lrt_dataset_close(again);
    }
    lrt_dataset_close(d);
    lrt_labels_free(labels);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char folder[] = "/tmp/loracc_fuzz_data_XXXXXX", paths[4][64];
    static const char *const kinds[] = {"jsonl", "txt", "csv", "tsv"};
    static LrtTokenizer *bytes, *letters;
    if (!bytes) {
        check(mkdtemp(folder));
        for (int i = 0; i < 4; i++)
            snprintf(paths[i], sizeof paths[i], "%s/a.%s", folder, kinds[i]);
        bytes = bytes_as_tokens(paths[0]);
        letters = words_as_tokens(paths[1]);
    }
    if (size == 0)
        return 0;
    const char *path = paths[data[0] & 3];
    const bool labelled = data[0] & 16;
    const LrtDataOptions options = {.length = 1 + (data[0] >> 5) * 5,
                                    .too_long =
                                        data[0] & 4 ? LRT_LONG_TRUNCATE : LRT_LONG_SPLIT,
                                    .append_end = data[0] & 8};
    LrtError error = {LRT_OK, ""};
    write_file(path, data + 1, size - 1);
    if (labelled) {
        use_labelled(path, letters, options.length, data[0] & 8);
    } else {
        LrtDataset *d = lrt_dataset_open(path, bytes, &options, &error);
        check(!d == (error.status != LRT_OK) && (d || strstr(error.text, path) == error.text));
        if (d)
            check_dataset(d, options.length, NULL);
        lrt_dataset_close(d);
    }
    unlink(path);
    return 0;
}
