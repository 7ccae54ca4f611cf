/* tokenizer_run.h - opening tokenizers, texts to ids and back, for tests. */
#pragma once
#include "runtime/tokenizer.h"
#include "tests/unit/temp_files.h"

static inline LrtTokenizer *open_good(const char *path)
{
    LrtError error = {LRT_OK, ""};
    LrtTokenizer *t = lrt_tokenizer_open(path, &error);
    ck_assert_msg(t && error.status == LRT_OK, "%s", error.text);
    return t;
}

static inline LrtIds encode(const LrtTokenizer *t, const char *text, size_t length,
                            bool specials)
{
    LrtIds ids = {0};
    LrtError error = {LRT_OK, ""};
    ck_assert_msg(lrt_tokenizer_encode(t, text, length, specials, &ids, &error), "%s",
                  error.text);
    return ids;
}

typedef struct Bytes {
    char *data;
    size_t length;
} Bytes;

static inline Bytes decode(const LrtTokenizer *t, const int32_t *ids, size_t count, bool skip)
{
    Bytes bytes = {malloc(count * lrt_tokenizer_longest(t) + 1), 0};
    ck_assert_ptr_nonnull(bytes.data);
    bytes.length = lrt_tokenizer_decode_text(t, ids, count, skip, bytes.data);
    bytes.data[bytes.length] = '\0';
    return bytes;
}

/* Bytes of the longest valid beginning of a character; `whole`: it is all of one. */
static inline size_t utf8_part(const unsigned char *p, size_t left, bool *whole)
{
    unsigned low = 0x80, high = 0xbf;
    const size_t size = *p < 0x80   ? 1
                        : *p < 0xc2 ? 0
                        : *p < 0xe0 ? 2
                        : *p < 0xf0 ? 3
                        : *p < 0xf5 ? 4
                                    : 0;
    low = *p == 0xe0 ? 0xa0 : *p == 0xf0 ? 0x90 : low;
    high = *p == 0xed ? 0x9f : *p == 0xf4 ? 0x8f : high;
    size_t n = 1;
    while (n < size && n < left && p[n] >= low && p[n] <= high) {
        low = 0x80, high = 0xbf;
        n++;
    }
    *whole = n == size;
    return n;
}

/* What is not UTF-8 becomes U+FFFD as in Python's and Rust's decoders. */
static inline Bytes replaced(Bytes in)
{
    Bytes out = {malloc(3 * in.length + 1), 0};
    ck_assert_ptr_nonnull(out.data);
    for (size_t i = 0; i < in.length;) {
        bool whole;
        const size_t n = utf8_part((unsigned char *)in.data + i, in.length - i, &whole);
        memcpy(out.data + out.length, whole ? in.data + i : "\xef\xbf\xbd", whole ? n : 3);
        out.length += whole ? n : 3;
        i += n;
    }
    return out;
}
