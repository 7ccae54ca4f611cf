/* tokenizer_index.h - a tokenizer that is ready to encode: its data and the indexes over it. */
#pragma once
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "runtime/text.h"
#include "runtime/tokenizer_model.h"

/* An added token as it is looked for in a text. */
typedef struct LrtAdded {
    int32_t id;
    uint8_t *text;
    size_t length;
} LrtAdded;

/* Added tokens of one pass over a text. */
typedef struct LrtAddedList {
    LrtAdded *tokens;
    int32_t count;
    bool starts[256]; /* bytes that begin one of them */
} LrtAddedList;

struct LrtTokenizer {
    LrtTokenizerModel model;
    int32_t byte_token[256];   /* of one byte; SPM, Unigram: <0x00> ...; -1: the vocabulary lacks it */
    int32_t *pair_slots;       /* (left, right) -> merge */
    size_t pair_count;
    int32_t *word_slots;       /* bytes -> id, for whole words */
    size_t word_count;
    int32_t *pieces;           /* Unigram: the vocabulary in bytewise order */
    int32_t piece_count;
    double unknown_score;
    LrtAddedList added[2];     /* looked for in the text as it is, and in its normal form (TOKEN_NORMAL) */
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
/* Unigram's index; false: out of memory. */
bool lrt_index_pieces(LrtTokenizer *t);
/* Builds the indexes over t->model; closes t and returns NULL with an error that names `source` when that fails. */
LrtTokenizer *lrt_tokenizer_finish(LrtTokenizer *t, const char *source, LrtError *error);

/* Replaces a text by its normal form; `spare` is room for the work.  false: out of memory. */
bool lrt_normalize(const LrtTokenizerModel *model, LrtText *text, LrtText *spare);
/* Appends a text with every `from` replaced by `to`. */
bool lrt_replace(const LrtText *in, const char *from, const char *to, LrtText *out);
/* The step STEP_CHARSMAP. */
bool lrt_charsmap(const LrtTokenizerModel *model, const LrtStep *step, const LrtText *in, LrtText *out);
/* The character at text[i], and its size; a byte that is not UTF-8 is -1. */
int32_t lrt_character_at(const uint8_t *text, size_t length, size_t i, size_t *size);
bool lrt_is_white(int32_t character);

/* A word while it is cut into tokens: room for the algorithms. */
typedef struct LrtWord {
    struct LrtSymbol *symbols;
    struct LrtCandidate *heap;
    size_t capacity, heap_count;
    LrtText text;
    struct LrtNode *nodes;
    size_t node_capacity;
} LrtWord;

/* Appends the tokens of a word; false: out of memory. */
bool lrt_encode_bpe(const LrtTokenizer *t, LrtWord *word, const uint8_t *text, size_t length, LrtIds *ids);
bool lrt_encode_wordpiece(const LrtTokenizer *t, LrtWord *word, const uint8_t *text, size_t length, LrtIds *ids);
bool lrt_encode_unigram(const LrtTokenizer *t, LrtWord *word, const uint8_t *text, size_t length, LrtIds *ids);
void lrt_word_free(LrtWord *word);
/* Appends the tokens of a text without what the post-processor adds. */
bool lrt_encode_text(const LrtTokenizer *t, const char *text, size_t length, bool specials, LrtIds *ids, LrtError *error);
