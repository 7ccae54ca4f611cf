/* tokenizer_model.h - a tokenizer as plain data: what readers make and what programs carry.
 *
 * Tokens are kept as the bytes they stand for; merges name tokens by id. */
#pragma once
#include "runtime/tokenizer.h"

enum LrtTokenFlags { TOKEN_ADDED = 1, TOKEN_SPECIAL = 2, TOKEN_LSTRIP = 4, TOKEN_RSTRIP = 8, TOKEN_WORD = 16, TOKEN_END = 32 };
enum { TOKENIZER_STAGES = 8, TOKENIZER_EXTRA = 8, PATTERN_BYTES = 1024 };

typedef struct LrtMerge {
    int32_t left, right, result;
} LrtMerge;

/* A step of pre-tokenization: matches of the pattern become pieces of their own; what lies between too, or is dropped. */
typedef struct LrtSplit {
    char pattern[PATTERN_BYTES];
    int32_t drop_matches;
} LrtSplit;

typedef struct LrtTokenizerModel {
    int32_t count;             /* tokens */
    uint32_t *offsets;         /* [count + 1] into bytes */
    uint8_t *bytes;
    uint8_t *flags;            /* [count] */
    size_t byte_count, byte_capacity;
    LrtMerge *merges;          /* by rank */
    int32_t merge_count;
    LrtSplit splits[TOKENIZER_STAGES];
    int32_t split_count;
    int32_t nfc, prefix_space, ignore_merges;
    int32_t before[TOKENIZER_EXTRA], after[TOKENIZER_EXTRA]; /* added around a text */
    int32_t before_count, after_count;
    int32_t begin, end;        /* -1: none */
} LrtTokenizerModel;

extern const char lrt_gpt2_pattern[], lrt_llama3_pattern[], lrt_qwen2_pattern[];

/* Fills the model; false with an error.  The caller frees it either way. */
bool lrt_read_tokenizer_json(LrtTokenizerModel *model, const char *path, LrtError *error);
bool lrt_read_tokenizer_gguf(LrtTokenizerModel *model, const char *path, LrtError *error);
void lrt_tokenizer_model_free(LrtTokenizerModel *model);

/* For readers.  Tokens come in the order of ids. */
bool lrt_model_reserve(LrtTokenizerModel *model, int32_t count, LrtError *error);
/* A token written in GPT-2's printable characters, or (plain) as it is. */
bool lrt_model_set_token(LrtTokenizerModel *model, int32_t id, const char *text, size_t length, bool plain, LrtError *error);
bool lrt_model_add_split(LrtTokenizerModel *model, const char *pattern, bool drop, const char *path, LrtError *error);

/* Text of tokens to ids while reading merges: a hash over the tokens' file spelling. */
typedef struct LrtNames {
    const char **text;
    size_t *length;
    int32_t *slots;
    size_t slot_count;
} LrtNames;
bool lrt_names_build(LrtNames *names, int32_t count, LrtError *error); /* after text and length are filled */
int32_t lrt_names_find(const LrtNames *names, const char *text, size_t length);
void lrt_names_free(LrtNames *names);
/* "a b" -> a merge, when both parts and their concatenation are tokens. */
bool lrt_model_add_merge(LrtTokenizerModel *model, const LrtNames *names, const char *left, size_t left_length, const char *right,
                         size_t right_length);
