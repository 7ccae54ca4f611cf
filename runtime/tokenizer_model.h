/* tokenizer_model.h - a tokenizer as plain data: what readers make and what programs carry.
 *
 * Tokens are kept as the bytes they stand for; merges name tokens by id. */
#pragma once
#include "runtime/tokenizer.h"

enum LrtTokenFlags {
    TOKEN_ADDED = 1,
    TOKEN_SPECIAL = 2,
    TOKEN_LSTRIP = 4,
    TOKEN_RSTRIP = 8,
    TOKEN_WORD = 16,
    TOKEN_END = 32,
    TOKEN_NORMAL = 64, /* an added token that is looked for after the text has its normal form */
};
enum {
    TOKENIZER_STAGES = 8, TOKENIZER_STEPS = 8, TEMPLATE_ITEMS = 16, PATTERN_BYTES = 1024, PREFIX_BYTES = 32, STEP_BYTES = 32,
    TYPE_MAX = 15
};

typedef enum LrtTokenizerKind {
    TOKENIZER_BPE,       /* byte-level byte pair encoding: GPT-2, RoBERTa, Llama 3, Qwen */
    TOKENIZER_WORDPIECE, /* BERT */
    TOKENIZER_SPM,       /* SentencePiece's byte pair encoding: characters, or bytes as <0x0A>: Llama 1 and 2, Mistral */
    TOKENIZER_UNIGRAM,   /* SentencePiece's most likely pieces: XLM-R, DeBERTa-v3, ALBERT, T5 */
    TOKENIZER_KINDS
} LrtTokenizerKind;

typedef enum LrtStepKind {
#define STEP(id, function) STEP_##id,
#include "runtime/tokenizer_steps.def"
    STEP_COUNT
} LrtStepKind;

/* Something that is done to a text before it is split. */
typedef struct LrtStep {
    int32_t kind;                          /* LrtStepKind */
    char from[STEP_BYTES], to[STEP_BYTES]; /* texts of those that have some */
} LrtStep;

/* Metaspace: blanks are written as a character of their own, and one stands before a text. */
typedef enum LrtPrepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS, PREPEND_COUNT } LrtPrepend;

typedef enum LrtDecoder {
    DECODER_BYTES,     /* tokens are their bytes */
    DECODER_WORDPIECE, /* words are set apart by spaces */
    DECODER_FUSE,      /* blanks and bytes are spelled out; `strip` spaces go from the start of the text */
    DECODER_METASPACE, /* blanks are spelled out, those of the first token go */
    DECODER_COUNT
} LrtDecoder;

typedef struct LrtMerge {
    int32_t left, right, result;
} LrtMerge;

/* A step of pre-tokenization: matches of the pattern become pieces of their own; what lies between too, or is dropped. */
typedef struct LrtSplit {
    char pattern[PATTERN_BYTES];
    int32_t drop_matches;
} LrtSplit;

/* What the post-processor makes of one text or of two: their tokens, and tokens it adds. */
enum { TEMPLATE_FIRST = -1, TEMPLATE_SECOND = -2 };
typedef struct LrtTemplate {
    int32_t count;
    int32_t id[TEMPLATE_ITEMS];   /* a token, TEMPLATE_FIRST or TEMPLATE_SECOND */
    int32_t type[TEMPLATE_ITEMS]; /* token type: 0 .. TYPE_MAX */
} LrtTemplate;

/* All of a tokenizer but its tables; plain data without padding, so that equal rules are equal bytes. */
typedef struct LrtTokenizerRules {
    int32_t kind;                 /* LrtTokenizerKind */
    LrtStep steps[TOKENIZER_STEPS]; /* in this order */
    int32_t step_count;
    LrtSplit splits[TOKENIZER_STAGES];
    int32_t split_count;
    int32_t prefix_space, ignore_merges;
    char blank[STEP_BYTES];       /* Metaspace: what a space becomes; "": there is none */
    int32_t prepend;              /* LrtPrepend */
    char prefix[PREFIX_BYTES];    /* WordPiece: spelled before a token that goes on a word, "##" */
    int32_t unknown;              /* what has no tokens becomes; -1: nothing */
    int32_t word_max;             /* WordPiece: a word of more characters is unknown */
    int32_t byte_fallback, fuse_unknown; /* SPM, Unigram: bytes instead of an unknown token; one instead of many */
    int32_t decoder;              /* LrtDecoder */
    int32_t cleanup;              /* WordPiece: decoding takes the space away before punctuation */
    char shown[STEP_BYTES];       /* DECODER_FUSE and _METASPACE: what is a space */
    int32_t strip;                /* DECODER_FUSE */
    LrtTemplate single, pair;
    int32_t begin, end;           /* -1: none */
} LrtTokenizerRules;

typedef struct LrtTokenizerModel {
    int32_t count;             /* tokens */
    uint32_t *offsets;         /* [count + 1] into bytes */
    uint8_t *bytes;
    uint8_t *flags;            /* [count] */
    size_t byte_count, byte_capacity;
    LrtMerge *merges;          /* by rank */
    int32_t merge_count;
    double *scores;            /* Unigram: [count], logarithms of probabilities; not finite: no piece of the vocabulary */
    uint8_t *charsmap;         /* STEP_CHARSMAP: SentencePiece's table; see tokenizer_charsmap.c */
    size_t charsmap_size;
    LrtTokenizerRules rules;
} LrtTokenizerModel;

extern const char lrt_gpt2_pattern[], lrt_llama3_pattern[], lrt_qwen2_pattern[];

/* Fills the model; false with an error.  The caller frees it either way. */
bool lrt_read_tokenizer_json(LrtTokenizerModel *model, const char *path, LrtError *error);
bool lrt_read_tokenizer_gguf(LrtTokenizerModel *model, const char *path, LrtError *error);
bool lrt_read_tokenizer_vocab(LrtTokenizerModel *model, const char *path, LrtError *error);
/* Rules that add nothing to a text and have no begin and end. */
void lrt_rules_init(LrtTokenizerRules *rules);
void lrt_tokenizer_model_free(LrtTokenizerModel *model);

/* For readers.  Tokens come in the order of ids. */
bool lrt_model_reserve(LrtTokenizerModel *model, int32_t count, LrtError *error);
/* A token written in GPT-2's printable characters, or (plain) as it is. */
bool lrt_model_set_token(LrtTokenizerModel *model, int32_t id, const char *text, size_t length, bool plain, LrtError *error);
bool lrt_model_add_split(LrtTokenizerModel *model, const char *pattern, bool drop, const char *path, LrtError *error);
/* `from` and `to`: NULL where the step has none. */
bool lrt_model_add_step(LrtTokenizerModel *model, LrtStepKind kind, const char *from, const char *to, const char *path, LrtError *error);
/* BERT's normal form; `accents`: 1 stripped, 0 kept, -1 as `lower`. */
bool lrt_model_add_bert_steps(LrtTokenizerModel *model, bool clean, bool chinese, int accents, bool lower, const char *path,
                              LrtError *error);
bool lrt_model_add_bert_splits(LrtTokenizerModel *model, const char *path, LrtError *error);
/* Appends a token, TEMPLATE_FIRST or TEMPLATE_SECOND; false: no room. */
bool lrt_template_add(LrtTemplate *t, int32_t id, int32_t type);

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
