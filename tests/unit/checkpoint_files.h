/* checkpoint_files.h - what the tests of files on disk share. */
#pragma once
#include "runtime/checkpoint.h"
#include "tests/unit/temp_files.h"

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof *(array)))
#define GOLDENS         LORACC_SOURCE "/tests/data/goldens/"
#define BYTES(...)      (const uint8_t *)&(__VA_ARGS__)

static inline LrtCheckpoint *open_good(const char *path)
{
    LrtError error = {0};
    LrtCheckpoint *checkpoint = lrt_checkpoint_open(path, &error);
    ck_assert_msg(checkpoint != NULL, "%s", error.text);
    ck_assert_int_eq(error.status, LRT_OK);
    return checkpoint;
}

/* Refused, with one line that names the file and says `what`. */
static inline void expect_refused(const char *path, const char *file, const char *what)
{
    LrtError error = {0};
    LrtCheckpoint *checkpoint = lrt_checkpoint_open(path, &error);
    ck_assert_msg(!checkpoint, "%s is opened (%s)", path, what);
    ck_assert_int_eq(error.status, LRT_INVALID);
    ck_assert_msg(strstr(error.text, file) != NULL, "'%s' does not name %s", error.text, file);
    ck_assert_msg(strstr(error.text, what) != NULL, "'%s' does not say '%s'", error.text, what);
    ck_assert_msg(!strchr(error.text, '\n'), "more than a line: '%s'", error.text);
}

static inline uint32_t next_random(uint32_t *state)
{
    return *state = *state * 1664525u + 1013904223u;
}

static inline size_t from_hex(const char *hex, uint8_t *bytes)
{
    size_t size = strlen(hex) / 2;
    for (size_t i = 0; i < size; i++) {
        unsigned byte;
        ck_assert_int_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
        bytes[i] = (uint8_t)byte;
    }
    return size;
}

static inline float *numbers_of(const LrtTensor *tensor)
{
    LrtError error = {0};
    const int64_t rows = tensor->rank > 1 ? tensor->shape[0] : 1;
    float *numbers = malloc(sizeof *numbers * (size_t)(lrt_tensor_elements(tensor) + 1));
    ck_assert_msg(lrt_tensor_read_rows(tensor, 0, rows, numbers, &error), "%s", error.text);
    return numbers;
}

static inline void expect_same_tensors(const LrtCheckpoint *got, const LrtCheckpoint *want)
{
    ck_assert_int_eq(lrt_checkpoint_count(got), lrt_checkpoint_count(want));
    for (int i = 0; i < lrt_checkpoint_count(want); i++) {
        const LrtTensor *x = lrt_checkpoint_tensor(want, i);
        const LrtTensor *y = lrt_checkpoint_find(got, x->name);
        ck_assert_msg(y != NULL, "no tensor '%s'", x->name);
        ck_assert_int_eq(x->rank, y->rank);
        for (int d = 0; d < x->rank; d++)
            ck_assert_int_eq(x->shape[d], y->shape[d]);
        const size_t bytes = sizeof(float) * (size_t)lrt_tensor_elements(x);
        float *a = numbers_of(x), *b = numbers_of(y);
        ck_assert_msg(!memcmp(a, b, bytes), "'%s' is different", x->name);
        const int64_t rows = x->rank > 1 ? x->shape[0] : 1;
        const size_t row = bytes / (size_t)rows;
        LrtError error = {0}; /* the last row alone */
        ck_assert(lrt_tensor_read_rows(y, rows - 1, 1, b, &error));
        ck_assert_msg(!memcmp((char *)a + bytes - row, b, row), "last row of '%s'", x->name);
        free(a);
        free(b);
    }
}

/* `opens` is asked with every beginning of a good file, and with each of its bits turned: it reads nothing beyond, as a sanitizer sees. */
static inline void expect_no_byte_trusted(const uint8_t *good, size_t size, bool (*opens)(const uint8_t *data, size_t size))
{
    uint8_t *bad = malloc(size);
    ck_assert(opens(good, size));
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut + 1);
        memcpy(part, good, cut);
        ck_assert_msg(!opens(part, cut), "%zu bytes are enough", cut);
        free(part);
    }
    for (size_t at = 0; at < size; at++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(bad, good, size);
            bad[at] ^= (uint8_t)(1 << bit);
            opens(bad, size);
        }
    free(bad);
}

static inline bool opened_as_said(bool opened, const LrtError *error)
{
    ck_assert(opened == (error->status == LRT_OK));
    ck_assert_msg(opened || strstr(error->text, "memory"), "'%s' names no file", error->text);
    return opened;
}
