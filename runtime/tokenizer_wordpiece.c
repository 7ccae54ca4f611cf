/* tokenizer_wordpiece.c - a word as the longest tokens there are, from its start on; those behind the first are spelled with a
 * prefix ("##ing").  A word with a part that no token begins is one unknown token. */
#include <string.h>

#include "runtime/tokenizer_index.h"

static size_t count_characters(const uint8_t *text, size_t length)
{
    size_t count = 0, size;
    for (size_t i = 0; i < length; i += size, count++)
        lrt_character_at(text, length, i, &size);
    return count;
}

/* The longest token that begins text[start..] and its end; -1: none.  `spelled` begins with the prefix and has room. */
static int32_t longest_token(const LrtTokenizer *t, uint8_t *spelled, const uint8_t *text, size_t length, size_t start, size_t *end)
{
    const size_t prefix = start ? strlen(t->model.rules.prefix) : 0;
    size_t most = t->longest > prefix ? t->longest - prefix : 0;
    most = length - start < most ? length - start : most;
    if (start)
        memcpy(spelled + prefix, text + start, most);
    for (; most > 0; most--) {
        if (start + most < length && (text[start + most] & 0xc0) == 0x80)
            continue; /* inside a character */
        int32_t id = lrt_find_word(t, start ? spelled : text, prefix + most);
        *end = start + most;
        if (id >= 0)
            return id;
    }
    return -1;
}

bool lrt_encode_wordpiece(const LrtTokenizer *t, LrtWord *word, const uint8_t *text, size_t length, LrtIds *ids)
{
    const LrtTokenizerRules *rules = &t->model.rules;
    const size_t before = ids->count;
    if (count_characters(text, length) > (size_t)rules->word_max)
        return lrt_ids_push(ids, rules->unknown);
    word->text.length = 0;
    if (!lrt_text_append(&word->text, rules->prefix, strlen(rules->prefix)) || !lrt_text_append(&word->text, text, length))
        return false;
    for (size_t start = 0; start < length;) {
        int32_t id = longest_token(t, word->text.data, text, length, start, &start);
        if (id < 0) {
            ids->count = before;
            id = rules->unknown;
            start = length;
        }
        if (!lrt_ids_push(ids, id))
            return false;
    }
    return true;
}
