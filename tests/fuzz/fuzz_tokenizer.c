/* fuzz_tokenizer.c - any bytes as a tokenizer: as tokenizer.json, as vocab.txt, and as the
 * packed form that programs carry.  What is not refused with a message encodes a text to ids
 * that there are, and packs to bytes that unpack to the same tokenizer. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] = "The cat's  12 ab\tcaf\xc3\xa9 e\xcc\x81 <s>\n\xff</s> "
                           "\xf0\x9f\x98\x80 ab \xe4\xb8\xad[MASK] \xc4\xb0\xe2\x80\x8b.";

/* Byte-level BPE, WordPiece, Unigram. */
static const char *const good[] = {
    "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"added_tokens\": [{\"id\": 4, "
    "\"content\": "
    "\"<s>\", \"special\": true, \"lstrip\": true}], \"post_processor\": {\"type\": "
    "\"RobertaProcessing\", \"cls\": [\"<s>\", 4], \"sep\": [\"<s>\", 4]}, \"model\": "
    "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"\\u0120\": 3}, "
    "\"merges\": [\"a b\"]}}",
    "{\"normalizer\": {\"type\": \"BertNormalizer\"}, \"pre_tokenizer\": {\"type\": "
    "\"BertPreTokenizer\"}, \"added_tokens\": [{\"id\": 1, \"content\": \"[CLS]\", "
    "\"special\": true}], \"post_processor\": {\"type\": \"BertProcessing\", \"cls\": "
    "[\"[CLS]\", 1], \"sep\": [\"[CLS]\", 1]}, \"model\": {\"type\": \"WordPiece\", "
    "\"unk_token\": \"[UNK]\", \"vocab\": {\"[UNK]\": 0, \"[CLS]\": 1, \"the\": 2, \"a\": 3, "
    "\"##b\": 4, \"caf\": 5, \"##e\": 6}}}",
    "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Precompiled\", "
    "\"precompiled_charsmap\": \"EAAAAAAEAAAAAAAAAAAAAAAAAABhAGIA\"}, {\"type\": \"Strip\"}, "
    "{\"type\": "
    "\"Replace\", \"pattern\": {\"Regex\": \" {2,}\"}, \"content\": \" \"}]}, "
    "\"pre_tokenizer\": "
    "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"first\"}, "
    "\"decoder\": "
    "{\"type\": \"Metaspace\", \"replacement\": \"_\"}, \"model\": {\"type\": \"Unigram\", "
    "\"unk_id\": 0, \"byte_fallback\": true, \"vocab\": [[\"<unk>\", 0], [\"_\", -1], [\"a\", "
    "-2], "
    "[\"b\", -2.5], [\"ab\", -3], [\"<0xFF>\", -9]]}}",
};

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

static LrtIds encode(const LrtTokenizer *t, bool specials)
{
    LrtIds ids = {0};
    LrtError error = {LRT_OK, ""};
    check(lrt_tokenizer_encode(t, text, sizeof text - 1, specials, &ids, &error));
    return ids;
}

static void check_ids(const LrtTokenizer *t, const LrtIds *ids)
{
    const size_t longest = lrt_tokenizer_longest(t);
    char *out = malloc((ids->count + 1) * longest + 1);
    check(out);
    for (size_t i = 0; i < ids->count; i++) {
        check(ids->data[i] >= 0 && ids->data[i] < lrt_tokenizer_size(t));
        check(lrt_tokenizer_decode(t, ids->data[i], false, out) <= longest);
    }
    check(lrt_tokenizer_decode_text(t, ids->data, ids->count, false, out) <=
          ids->count * longest);
    free(out);
}

static void check_same(const LrtIds *a, const LrtIds *b)
{
    check(a->count == b->count);
    check(!a->count || !memcmp(a->data, b->data, sizeof *a->data * a->count));
}

/* Two texts that make the text, cut to every small length. */
static void check_pair(const LrtTokenizer *t)
{
    LrtEncoded out = {0};
    const size_t half = (sizeof text - 1) / 2;
    const LrtPair pair = {text, text + half, half, sizeof text - 1 - half};
    for (size_t most = 0; most < 24; most += 3) {
        LrtError error = {LRT_OK, ""};
        const size_t specials = lrt_tokenizer_specials(t, true);
        const bool ok = lrt_tokenizer_encode_pair(t, &pair, most, &out, &error);
        check(ok == (most == 0 || most > specials));
        check(!ok || (out.ids.count == out.types.count && (!most || out.ids.count <= most)));
        check(!ok || !out.removed || out.ids.count == most);
        if (ok)
            check_ids(t, &out.ids);
        for (size_t i = 0; ok && i < out.types.count; i++)
            check(out.types.data[i] >= 0 && out.types.data[i] < lrt_tokenizer_types(t));
    }
    lrt_encoded_free(&out);
}

static void check_packed(const LrtTokenizer *t)
{
    size_t size, again;
    LrtError error = {LRT_OK, ""};
    void *packed = lrt_tokenizer_pack(t, &size, &error);
    LrtTokenizer *u = lrt_tokenizer_unpack(packed, size, &error);
    check(packed && u);
    void *repacked = lrt_tokenizer_pack(u, &again, &error);
    check(repacked && size == again && !memcmp(packed, repacked, size));
    for (int specials = 0; specials < 2; specials++) {
        LrtIds a = encode(t, specials), b = encode(u, specials);
        check_ids(t, &a);
        check_same(&a, &b);
        lrt_ids_free(&a);
        lrt_ids_free(&b);
    }
    lrt_tokenizer_close(u);
    free(packed);
    free(repacked);
}

static void use(LrtTokenizer *t, const LrtError *error)
{
    check(!t == (error->status != LRT_OK) && !t == (error->text[0] != '\0'));
    if (!t)
        return;
    check(lrt_tokenizer_begin(t) < lrt_tokenizer_size(t));
    check(lrt_tokenizer_end(t) < lrt_tokenizer_size(t));
    check_packed(t);
    check_pair(t);
    lrt_tokenizer_close(t);
}

static void use_file(const uint8_t *data, size_t size)
{
    char path[64];
    LrtError error = {LRT_OK, ""};
    const int file = memfd_create("tokenizer.json", 0);
    check(file >= 0 && write(file, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    use(lrt_tokenizer_open(path, &error), &error);
    close(file);
}

/* A file in a folder of this process; good for the next three calls. */
static const char *path_of(const char *name)
{
    static char folder[] = "/tmp/loracc_fuzz_tokenizer_XXXXXX", paths[4][80];
    static unsigned next;
    static bool made;
    if (!made)
        check(mkdtemp(folder));
    made = true;
    char *path = paths[next++ & 3];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* A line of tokenizer_config.json, then vocab.txt. */
static void use_vocab(const uint8_t *data, size_t size)
{
    const uint8_t *line = memchr(data, '\n', size);
    const size_t first = line ? (size_t)(line - data) : 0, rest = line ? first + 1 : 0;
    LrtError error = {LRT_OK, ""};
    write_file(path_of("tokenizer_config.json"), data, first);
    write_file(path_of("vocab.txt"), data + rest, size - rest);
    if (first == 0)
        unlink(path_of("tokenizer_config.json"));
    use(lrt_tokenizer_open(path_of("vocab.txt"), &error), &error);
}

static void use_gguf(const uint8_t *data, size_t size)
{
    LrtError error = {LRT_OK, ""};
    write_file(path_of("model.gguf"), data, size);
    use(lrt_tokenizer_open(path_of("model.gguf"), &error), &error);
}

/* A packed form is too large to be found by chance: the input is a list of changes to a good
 * one, each the place (two bytes) and what is added to the byte there. */
static void use_packed(int kind, const uint8_t *data, size_t size)
{
    static uint8_t *packed[3];
    static size_t length[3];
    LrtError error = {LRT_OK, ""};
    if (!packed[kind]) {
        const int file = memfd_create("tokenizer.json", 0);
        const ssize_t bytes = (ssize_t)strlen(good[kind]);
        char path[64];
        check(file >= 0 && write(file, good[kind], (size_t)bytes) == bytes);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
        LrtTokenizer *t = lrt_tokenizer_open(path, &error);
        check(t && (packed[kind] = lrt_tokenizer_pack(t, &length[kind], &error)) != NULL);
        lrt_tokenizer_close(t);
        close(file);
    }
    uint8_t *changed = malloc(length[kind]);
    check(changed);
    memcpy(changed, packed[kind], length[kind]);
    for (size_t i = 0; i + 3 <= size; i += 3)
        changed[(size_t)(data[i] << 8 | data[i + 1]) % length[kind]] += data[i + 2];
    use(lrt_tokenizer_unpack(changed, length[kind], &error), &error);
    free(changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    LrtError error = {LRT_OK, ""};
    if (size == 0)
        return 0;
    if (data[0] == 'P' || data[0] == 'W' || data[0] == 'U') {
        use_packed(data[0] == 'P' ? 0 : data[0] == 'W' ? 1 : 2, data + 1, size - 1);
        return 0;
    }
    if (data[0] == 'G' && size > 4 && data[1] == 'G') {
        use_gguf(data, size); /* begins with GGUF, as the file does */
        return 0;
    }
    if (data[0] == 'V') {
        use_vocab(data + 1, size - 1);
        return 0;
    }
    use(lrt_tokenizer_unpack(data, size, &error), &error);
    use_file(data, size);
    return 0;
}
