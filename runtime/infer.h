/* infer.h - what the files of the inference program share. */
#pragma once
#include "runtime/args.h"
#include "runtime/image.h"
#include "runtime/run.h"
#include "runtime/sample.h"

enum InferOption {
    MAX_TOKENS, TEMPERATURE, TOP_K, TOP_P, MIN_P, SEED, THREADS, TIER, IDS, LOGITS, PERPLEXITY, EVALUATE, TIME, LENGTH, BATCH, TOKENIZE,
    CHAT, JSON, INFO, HELP, STOP, OPTIONS
};

typedef struct Infer {
    LrtArgs args;
    LrtRun run;
    LrtImage image;
    LrtTokenizer *tokenizer;
    LrtSampling sampling;
    int64_t max_tokens, past; /* tokens in the cache */
    const int32_t *types;     /* of the tokens that the model is given; NULL: all 0 */
    LrtError *error;
} Infer;

/* Tokens behind those in the cache, at most as many as are in flight; learned tokens are put among them, the infix behind `prompt` of
 * these (0: nowhere).  A model of sequences has its logits now, in row 0. */
bool lrt_infer_forward(Infer *f, const int32_t *tokens, int64_t count, int64_t prompt);
/* A prompt, from an empty cache, in as many pieces as it takes. */
bool lrt_infer_prompt(Infer *f, const int32_t *tokens, int64_t length);
/* Logits of rows first .. first + count - 1 of the last forward; count <= max_rows. */
void lrt_infer_head(Infer *f, int64_t first, int64_t count);
const float *lrt_infer_logits(const Infer *f, int64_t row);

bool lrt_need_tokenizer(Infer *f);
char *lrt_read_all(FILE *file, size_t *length, LrtError *error); /* malloc'ed, not terminated */

/* --- infer_time.c --- */
bool lrt_infer_time(Infer *f);

/* --- answer.c: models that do not predict the next token --- */

/* The class or value of a text, or of two, or the words that its mask tokens hide. */
bool lrt_answer(Infer *f);
/* --evaluate FILE */
bool lrt_evaluate(Infer *f);
