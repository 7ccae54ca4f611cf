/* tokenizer.h - text to token ids and back: byte-level BPE from GGUF metadata or tokenizer.json, WordPiece from tokenizer.json
 * or vocab.txt. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

typedef struct LrtTokenizer LrtTokenizer;

typedef struct LrtIds {
    int32_t *data;
    size_t count, capacity;
} LrtIds;

/* Reads PATH: a .gguf (tokenizer.ggml.*), a tokenizer.json, or a BERT's vocab.txt (.txt; tokenizer_config.json beside it says
 * whether text is lowered and how special tokens are called).  Kinds this program does not know are refused by name; what a
 * tokenizer.json says about padding and truncation is ignored.  tokenizer_config.json, generation_config.json and config.json
 * beside a tokenizer.json give the begin and end tokens. */
LrtTokenizer *lrt_tokenizer_open(const char *path, LrtError *error);
/* The same from memory: what `lrt_tokenizer_pack` made (the form that programs carry). */
LrtTokenizer *lrt_tokenizer_unpack(const void *data, size_t size, LrtError *error);
/* Everything encoding and decoding need, as one block of bytes (malloc'ed); equal tokenizers give equal bytes. */
void *lrt_tokenizer_pack(const LrtTokenizer *tokenizer, size_t *size, LrtError *error);
void lrt_tokenizer_close(LrtTokenizer *tokenizer);

/* Appends the ids of `text`.  `specials`: strings of special tokens in the text become their ids (else they are plain
 * text), and what the post-processor adds (begin, end) is added.  Invalid UTF-8 is treated as the tokenizers library does. */
bool lrt_tokenizer_encode(const LrtTokenizer *tokenizer, const char *text, size_t length, bool specials, LrtIds *ids,
                          LrtError *error);
/* One text, or two (`second` not NULL). */
typedef struct LrtPair {
    const char *first, *second;
    size_t first_length, second_length; /* bytes */
} LrtPair;

typedef struct LrtEncoded {
    LrtIds ids, types; /* a token, and its type */
    size_t removed;    /* tokens that were cut off */
} LrtEncoded;

/* Sets `out` to the tokens of one text or two with what the post-processor adds (strings of special tokens in a text become
 * their ids), cut to `most` tokens in all (0: any number) as Hugging Face's longest_first does; special tokens are kept. */
bool lrt_tokenizer_encode_pair(const LrtTokenizer *tokenizer, const LrtPair *pair, size_t most, LrtEncoded *out, LrtError *error);
void lrt_encoded_free(LrtEncoded *encoded);
size_t lrt_tokenizer_specials(const LrtTokenizer *tokenizer, bool pair); /* tokens added to one text, or to two */

/* Appends the text of one token that goes on a text to `out` (room for lrt_tokenizer_longest() bytes); returns the number of
 * bytes.  Bytes may end inside a UTF-8 sequence: a streaming caller writes them as they come. */
size_t lrt_tokenizer_decode(const LrtTokenizer *tokenizer, int32_t id, bool skip_special, char *out);
/* The same for a whole text (room for count * lrt_tokenizer_longest() bytes), whose first token has no space before it. */
size_t lrt_tokenizer_decode_text(const LrtTokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special, char *out);
size_t lrt_tokenizer_longest(const LrtTokenizer *tokenizer); /* bytes of the longest token's text */

int32_t lrt_tokenizer_size(const LrtTokenizer *tokenizer); /* ids are 0 .. size - 1 */
int32_t lrt_tokenizer_types(const LrtTokenizer *tokenizer); /* token types of its pairs: 2 for BERT, else mostly 1 */
int32_t lrt_tokenizer_begin(const LrtTokenizer *tokenizer); /* -1: none */
int32_t lrt_tokenizer_end(const LrtTokenizer *tokenizer);   /* -1: none */
bool lrt_tokenizer_is_end(const LrtTokenizer *tokenizer, int32_t id); /* any end-of-text or end-of-turn token */
bool lrt_tokenizer_is_special(const LrtTokenizer *tokenizer, int32_t id); /* no text, but a mark: begin, padding, mask, ... */
int32_t lrt_tokenizer_find(const LrtTokenizer *tokenizer, const char *token); /* id of a token's exact string, -1: none */
uint64_t lrt_tokenizer_hash(const LrtTokenizer *tokenizer); /* XXH3 of the packed form */

bool lrt_ids_push(LrtIds *ids, int32_t id); /* false: out of memory */
void lrt_ids_free(LrtIds *ids);
