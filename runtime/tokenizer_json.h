/* tokenizer_json.h - what the readers of tokenizer.json share. */
#pragma once
#include <jansson.h>

#include "runtime/tokenizer_model.h"

typedef struct LrtTokenizerReader {
    LrtTokenizerModel *m;
    const char *path;
    const json_t *root;
    LrtNames names;
    bool byte_level, split; /* a ByteLevel pre-tokenizer, any pre-tokenizer was seen */
    LrtError *error;
} LrtTokenizerReader;

const char *lrt_json_type(const json_t *part); /* its "type"; "": none */
/* Refuses a part that is not known: WHAT 'NAME' is not supported.  Always false. */
bool lrt_json_refuse(LrtTokenizerReader *reader, const char *what, const char *name);

/* Parts of the file, into the model's rules.  The post-processor names tokens: read it after the model. */
bool lrt_json_normalizer(LrtTokenizerReader *reader);
bool lrt_json_pre_tokenizer(LrtTokenizerReader *reader);
bool lrt_json_post_processor(LrtTokenizerReader *reader);
bool lrt_json_decoder(LrtTokenizerReader *reader);
