/* tokenizer_index.h - a tokenizer that is ready to encode: its data and the indexes over it. */
#pragma once
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "runtime/tokenizer_model.h"

struct LrtTokenizer {
    LrtTokenizerModel model;
    int32_t byte_token[256];   /* -1: the vocabulary lacks it */
    int32_t *pair_slots;       /* (left, right) -> merge */
    size_t pair_count;
    int32_t *word_slots;       /* bytes -> id, for whole words */
    size_t word_count;
    int32_t *added;            /* ids of added tokens, longest first */
    int32_t added_count;
    bool starts[256];          /* bytes that begin an added token */
    pcre2_code *patterns[TOKENIZER_STAGES];
    size_t longest;
    uint64_t hash;
};

/* Bytes of a token. */
const uint8_t *lrt_token_bytes(const LrtTokenizer *t, int32_t id, size_t *length);
/* Rank of the merge of two tokens; -1: none. */
int32_t lrt_find_merge(const LrtTokenizer *t, int32_t left, int32_t right);
/* The token with exactly these bytes; -1: none. */
int32_t lrt_find_word(const LrtTokenizer *t, const uint8_t *text, size_t length);
/* Builds the indexes over t->model; closes t and returns NULL with an error that names `source` when that fails. */
LrtTokenizer *lrt_tokenizer_finish(LrtTokenizer *t, const char *source, LrtError *error);
