/* tokenizer_charsmap.c - SentencePiece's "precompiled" table of characters.
 *
 * Bytes of the table: the size of the trie (u32), the trie, and texts that end with NUL.  The trie is a double array as Darts
 * makes it: a unit (u32) has a label in its low byte, an offset in its bits 10 .. 30 (times 256 if bit 9 is set), and bit 8 when
 * a value belongs to it: a unit of its own that says where the text begins.
 *
 * Follows the `tokenizers` library: a grapheme of less than six bytes is looked up as a whole, else its characters one by
 * one; the shortest beginning that the trie has counts, and its text stands for all that was looked up. */
#include <string.h>
#include <utf8proc.h>

#include "runtime/tokenizer_index.h"

enum { GRAPHEME_BYTES = 6 };

static bool unit_at(const LrtTokenizerModel *m, size_t index, size_t units, uint32_t *unit)
{
    if (index >= units)
        return false;
    memcpy(unit, m->charsmap + 4 + 4 * index, sizeof *unit);
    return true;
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The text for the shortest beginning of a key that the trie has; NULL: none. */
static const uint8_t *look_up(const LrtTokenizerModel *m, const uint8_t *key, size_t length, size_t *text_length)
{
    uint32_t bytes, unit;
    if (m->charsmap_size < 4)
        return NULL;
    memcpy(&bytes, m->charsmap, sizeof bytes);
    if (bytes > m->charsmap_size - 4)
        return NULL;
    const size_t units = bytes / 4, texts = m->charsmap_size - 4 - bytes;
    if (!unit_at(m, 0, units, &unit))
        return NULL;
    size_t place = offset_of(unit);
    for (size_t i = 0; i < length && key[i]; i++) {
        place ^= key[i];
        if (!unit_at(m, place, units, &unit) || (unit & (1u << 31 | 0xff)) != key[i])
            return NULL;
        place ^= offset_of(unit);
        if (!(unit & 1u << 8))
            continue;
        if (!unit_at(m, place, units, &unit) || (unit & ~(1u << 31)) >= texts)
            return NULL;
        const uint8_t *text = m->charsmap + 4 + bytes + (unit & ~(1u << 31));
        const uint8_t *end = memchr(text, '\0', (size_t)(m->charsmap + m->charsmap_size - text));
        *text_length = end ? (size_t)(end - text) : 0;
        return end ? text : NULL;
    }
    return NULL;
}

/* End of the grapheme that begins at `start`. */
static size_t grapheme_end(const LrtText *in, size_t start)
{
    size_t size;
    utf8proc_int32_t state = 0;
    int32_t before = lrt_character_at(in->data, in->length, start, &size);
    for (size_t i = start + size; i < in->length; i += size) {
        const int32_t code = lrt_character_at(in->data, in->length, i, &size);
        if (before < 0 || code < 0 || utf8proc_grapheme_break_stateful(before, code, &state))
            return i;
        before = code;
    }
    return in->length;
}

bool lrt_charsmap(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    size_t size, length;
    (void)step;
    for (size_t i = 0; i < in->length;) {
        const size_t end = grapheme_end(in, i);
        const uint8_t *text = end - i < GRAPHEME_BYTES ? look_up(m, in->data + i, end - i, &length) : NULL;
        if (text) {
            if (!lrt_text_append(out, text, length))
                return false;
            i = end;
            continue;
        }
        for (; i < end; i += size) {
            lrt_character_at(in->data, in->length, i, &size);
            text = look_up(m, in->data + i, size, &length);
            if (!lrt_text_append(out, text ? text : in->data + i, text ? length : size))
                return false;
        }
    }
    return true;
}
