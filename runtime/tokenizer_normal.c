/* tokenizer_normal.c - the normal form of a text: the steps of tokenizer_steps.def.
 *
 * Follows the `tokenizers` library, whose tables are older than utf8proc's: characters of the last Unicode versions may be
 * classed otherwise.  Bytes that are not UTF-8 go through as they are, but for `clean`, which drops them: the library is
 * given U+FFFD in their place and drops that. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/tokenizer_index.h"

int32_t lrt_character_at(const uint8_t *text, size_t length, size_t i, size_t *size)
{
    utf8proc_int32_t code = text[i];
    *size = 1;
    if (code < 0x80)
        return code;
    utf8proc_ssize_t read = utf8proc_iterate(text + i, length - i < 4 ? (utf8proc_ssize_t)(length - i) : 4, &code);
    *size = read > 0 ? (size_t)read : 1;
    return read > 0 ? code : -1;
}

bool lrt_is_white(int32_t c)
{
    return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* --- Unicode's normal forms ------------------------------------------------------------------------------------------------- */

static bool is_ascii(const LrtText *in)
{
    for (size_t i = 0; i < in->length; i++)
        if (in->data[i] >= 0x80)
            return false;
    return true;
}

/* All of ASCII is in every normal form, and what is not UTF-8 has none. */
static bool map(const LrtText *in, LrtText *out, int options)
{
    if (is_ascii(in))
        return lrt_text_append(out, in->data, in->length);
    utf8proc_uint8_t *mapped = NULL;
    utf8proc_ssize_t size = utf8proc_map(in->data, (utf8proc_ssize_t)in->length, &mapped,
                                         (utf8proc_option_t)(UTF8PROC_STABLE | options));
    bool ok = size != UTF8PROC_ERROR_NOMEM &&
              lrt_text_append(out, size < 0 ? in->data : mapped, size < 0 ? in->length : (size_t)size);
    free(mapped);
    return ok;
}

static bool compose(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    (void)m, (void)step;
    return map(in, out, UTF8PROC_COMPOSE);
}

static bool decompose(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    (void)m, (void)step;
    return map(in, out, UTF8PROC_DECOMPOSE);
}

static bool compose_compatible(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    (void)m, (void)step;
    return map(in, out, UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
}

static bool decompose_compatible(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    (void)m, (void)step;
    return map(in, out, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
}

/* --- character by character ----------------------------------------------------------------------------------------------------- */

/* Appends what becomes of a character of `size` bytes; `code` -1: a byte that is not UTF-8. */
typedef bool Change(LrtText *out, int32_t code, const uint8_t *bytes, size_t size);

static bool each_character(const LrtText *in, LrtText *out, Change *change)
{
    size_t size;
    for (size_t i = 0; i < in->length; i += size) {
        int32_t code = lrt_character_at(in->data, in->length, i, &size);
        if (!change(out, code, in->data + i, size))
            return false;
    }
    return true;
}

static bool change_clean(LrtText *out, int32_t code, const uint8_t *bytes, size_t size)
{
    if (code == '\t' || code == '\n' || code == '\r')
        return lrt_text_append(out, " ", 1);
    if (code <= 0 || code == 0xfffd)
        return true;
    utf8proc_category_t category = utf8proc_category(code);
    if (category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CO)
        return true;
    return lrt_is_white(code) ? lrt_text_append(out, " ", 1) : lrt_text_append(out, bytes, size);
}

static bool clean(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    (void)m, (void)step;
    return each_character(in, out, change_clean);
}

static bool is_chinese(int32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) ||
           (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool change_chinese(LrtText *out, int32_t code, const uint8_t *bytes, size_t size)
{
    bool apart = is_chinese(code);
    return (!apart || lrt_text_append(out, " ", 1)) && lrt_text_append(out, bytes, size) && (!apart || lrt_text_append(out, " ", 1));
}

static bool space_chinese(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    (void)m, (void)step;
    return each_character(in, out, change_chinese);
}

static bool change_accents(LrtText *out, int32_t code, const uint8_t *bytes, size_t size)
{
    if (code >= 0 && utf8proc_category(code) == UTF8PROC_CATEGORY_MN)
        return true;
    return lrt_text_append(out, bytes, size);
}

static bool drop_accents(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    (void)m, (void)step;
    return each_character(in, out, change_accents);
}

static bool change_lower(LrtText *out, int32_t code, const uint8_t *bytes, size_t size)
{
    uint8_t small[4];
    if (code < 0)
        return lrt_text_append(out, bytes, size);
    if (code == 0x130) /* the one letter whose small form is two characters */
        return lrt_text_append(out, "i\xcc\x87", 3);
    return lrt_text_append(out, small, (size_t)utf8proc_encode_char(utf8proc_tolower(code), small));
}

static bool lower(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    (void)m, (void)step;
    return each_character(in, out, change_lower);
}

/* --- texts for texts -------------------------------------------------------------------------------------------------------- */

static bool prepend(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    (void)m;
    return (in->length == 0 || lrt_text_append(out, step->to, strlen(step->to))) && lrt_text_append(out, in->data, in->length);
}

bool lrt_replace(const LrtText *in, const char *from, const char *to, LrtText *out)
{
    const size_t size = strlen(from), to_size = strlen(to);
    size_t done = 0;
    for (size_t i = 0; size && i + size <= in->length;) {
        const uint8_t *found = memchr(in->data + i, from[0], in->length - size + 1 - i);
        if (!found)
            break;
        i = (size_t)(found - in->data);
        if (memcmp(found, from, size) != 0) {
            i++;
            continue;
        }
        if (!lrt_text_append(out, in->data + done, i - done) || !lrt_text_append(out, to, to_size))
            return false;
        done = i += size;
    }
    return lrt_text_append(out, in->length ? in->data + done : NULL, in->length - done);
}

static bool replace(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    (void)m;
    return lrt_replace(in, step->from, step->to, out);
}

static bool squeeze(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    (void)m;
    for (size_t i = 0; i < in->length;) {
        size_t end = i;
        while (end < in->length && in->data[end] == ' ')
            end++;
        const bool many = end - i > 1;
        end += end == i;
        if (!lrt_text_append(out, many ? (const uint8_t *)step->to : in->data + i, many ? strlen(step->to) : end - i))
            return false;
        i = end;
    }
    return true;
}

static bool strip(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out)
{
    size_t start = 0, end = 0, size;
    (void)m;
    while (step->from[0] && start < in->length && lrt_is_white(lrt_character_at(in->data, in->length, start, &size)))
        start += size;
    for (size_t i = start; i < in->length; i += size)
        if (!lrt_is_white(lrt_character_at(in->data, in->length, i, &size)) || !step->to[0])
            end = i + size;
    return end <= start || lrt_text_append(out, in->data + start, end - start);
}

/* --- all steps ---------------------------------------------------------------------------------------------------------------------- */

static bool (*const steps[STEP_COUNT])(const LrtTokenizerModel *m, const LrtStep *step, const LrtText *in, LrtText *out) = {
#define STEP(id, function) [STEP_##id] = function,
#include "runtime/tokenizer_steps.def"
};

bool lrt_normalize(const LrtTokenizerModel *m, LrtText *text, LrtText *spare)
{
    for (int32_t i = 0; i < m->rules.step_count; i++) {
        const LrtStep *step = &m->rules.steps[i];
        spare->length = 0;
        if (!steps[step->kind](m, step, text, spare))
            return false;
        LrtText done = *spare;
        *spare = *text;
        *text = done;
    }
    return true;
}
