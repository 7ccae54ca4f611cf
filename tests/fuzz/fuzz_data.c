/* fuzz_data.c - any bytes as training data: refused with a message, or documents whose targets
 * are their next tokens and that batches take one after another.
 *
 * The first byte chooses .jsonl or .txt and the options; the rest is the file. */
#define _GNU_SOURCE
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
    check(d.length >= 2 && d.length <= length);
    for (int32_t i = 0; i < d.length; i++) {
        check(d.tokens[i] >= 0 && d.tokens[i] <= 256);
        if (d.targets[i] == LRT_NO_TARGET)
            continue;
        check(i + 1 < d.length && d.targets[i] == d.tokens[i + 1]);
        targets++;
    }
    check(targets > 0 && targets == d.target_count);
}

static void check_dataset(const LrtDataset *d, int32_t length)
{
    const LrtDataCounts *c = lrt_dataset_counts(d);
    const int64_t size = lrt_dataset_size(d);
    int64_t tokens = 0, targets = 0, *order = calloc((size_t)size, sizeof *order);
    check(order && size > 0 && c->documents == size && c->skipped < c->rows);
    check(c->split + c->truncated <= c->rows);
    for (int64_t i = 0; i < size; i++) {
        const LrtDocument document = lrt_dataset_document(d, i);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char folder[] = "/tmp/loracc_fuzz_data_XXXXXX", lines[64], text[64];
    static LrtTokenizer *t;
    if (!t) {
        check(mkdtemp(folder));
        snprintf(lines, sizeof lines, "%s/a.jsonl", folder);
        snprintf(text, sizeof text, "%s/a.txt", folder);
        t = bytes_as_tokens(lines);
    }
    if (size == 0)
        return 0;
    const char *path = data[0] & 1 ? text : lines;
    const LrtDataOptions options = {.length = 1 + (data[0] >> 3),
                                    .too_long =
                                        data[0] & 2 ? LRT_LONG_TRUNCATE : LRT_LONG_SPLIT,
                                    .append_end = data[0] & 4};
    LrtError error = {LRT_OK, ""};
    write_file(path, data + 1, size - 1);
    LrtDataset *d = lrt_dataset_open(path, t, &options, &error);
    unlink(path);
    check(!d == (error.status != LRT_OK) && (d || strstr(error.text, path) == error.text));
    if (d)
        check_dataset(d, options.length);
    lrt_dataset_close(d);
    return 0;
}
