/* tokenizer_decode.c - tokens to text. */
#include <string.h>

#include "runtime/tokenizer_index.h"

/* What the library's clean-up replaces, token by token; none is longer afterwards. */
static const char *const cleanups[][2] = {
    {" .", "."},     {" ?", "?"},     {" !", "!"},          {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
    {" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"},  {" 've", "'ve"}, {" 're", "'re"},
};

static size_t replace_all(char *text, size_t length, const char *from, const char *to)
{
    const size_t from_length = strlen(from), to_length = strlen(to);
    size_t out = 0;
    for (size_t i = 0; i < length;) {
        if (length - i < from_length || memcmp(text + i, from, from_length) != 0) {
            text[out++] = text[i++];
            continue;
        }
        memcpy(text + out, to, to_length);
        out += to_length;
        i += from_length;
    }
    return out;
}

/* "##ing" goes on the word before, others are words of their own. */
static size_t decode_wordpiece(const LrtTokenizerRules *rules, const uint8_t *bytes, size_t length, bool first, char *out)
{
    const size_t prefix = strlen(rules->prefix);
    size_t at = 0;
    if (!first && prefix && length >= prefix && !memcmp(bytes, rules->prefix, prefix))
        bytes += prefix, length -= prefix;
    else if (!first)
        out[at++] = ' ';
    memcpy(out + at, bytes, length);
    at += length;
    for (size_t i = 0; rules->cleanup && i < sizeof cleanups / sizeof *cleanups; i++)
        at = replace_all(out, at, cleanups[i][0], cleanups[i][1]);
    return at;
}

/* "<0x0A>" -> 10; -1: another token. */
static int byte_of(const uint8_t *bytes, size_t length)
{
    int value = 0;
    if (length != 6 || memcmp(bytes, "<0x", 3) != 0 || bytes[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        const char *digits = "0123456789ABCDEF0123456789abcdef", *digit = bytes[i] ? strchr(digits, bytes[i]) : NULL;
        if (!digit)
            return -1;
        value = 16 * value + (int)((digit - digits) & 15);
    }
    return value;
}

/* Blanks become spaces, or (`drop`) nothing. */
static size_t decode_blanks(const LrtTokenizerRules *rules, const uint8_t *bytes, size_t length, bool drop, char *out)
{
    const size_t size = strlen(rules->shown);
    size_t at = 0;
    for (size_t i = 0; i < length;) {
        if (size && length - i >= size && !memcmp(bytes + i, rules->shown, size)) {
            i += size;
            if (!drop)
                out[at++] = ' ';
            continue;
        }
        out[at++] = (char)bytes[i++];
    }
    return at;
}

static size_t decode_token(const LrtTokenizer *t, int32_t id, bool first, char *out)
{
    const LrtTokenizerRules *rules = &t->model.rules;
    size_t length;
    const uint8_t *bytes = lrt_token_bytes(t, id, &length);
    if (length == 0) /* a hole in the ids */
        return 0;
    const int byte = rules->decoder == DECODER_FUSE ? byte_of(bytes, length) : -1;
    if (byte >= 0) {
        *out = (char)byte;
        return 1;
    }
    if (rules->decoder == DECODER_WORDPIECE)
        return decode_wordpiece(rules, bytes, length, first, out);
    if (rules->decoder != DECODER_BYTES)
        return decode_blanks(rules, bytes, length, first && rules->decoder == DECODER_METASPACE && rules->prepend != PREPEND_NEVER, out);
    memcpy(out, bytes, length);
    return length;
}

static bool is_shown(const LrtTokenizer *t, int32_t id, bool skip_special)
{
    return id >= 0 && id < t->model.count && !(skip_special && (t->model.flags[id] & TOKEN_SPECIAL));
}

size_t lrt_tokenizer_decode(const LrtTokenizer *t, int32_t id, bool skip_special, char *out)
{
    return is_shown(t, id, skip_special) ? decode_token(t, id, false, out) : 0;
}

size_t lrt_tokenizer_decode_text(const LrtTokenizer *t, const int32_t *ids, size_t count, bool skip_special, char *out)
{
    size_t length = 0;
    bool first = true;
    for (size_t i = 0; i < count; i++)
        if (is_shown(t, ids[i], skip_special)) {
            length += decode_token(t, ids[i], first, out + length);
            first = false;
        }
    size_t spaces = 0;
    while (spaces < length && spaces < (size_t)t->model.rules.strip && out[spaces] == ' ')
        spaces++;
    memmove(out, out + spaces, length - spaces);
    return length - spaces;
}

size_t lrt_tokenizer_longest(const LrtTokenizer *t)
{
    return t->longest + (t->model.rules.decoder == DECODER_WORDPIECE); /* the space before a word */
}
