/* tokenizer_encode.c - text to tokens: added tokens, the normal form, splitting by patterns; words go to the tokenizer's
 * algorithm. */
#include <string.h>
#include <utf8proc.h>

#include "runtime/tokenizer_index.h"

typedef struct Encoder {
    const LrtTokenizer *t;
    LrtIds *ids;
    bool specials, first; /* first: what is encoded begins the text */
    LrtWord word;
    LrtText normal, spare, spaced;
    pcre2_match_data *match[TOKENIZER_STAGES];
} Encoder;

/* --- splitting ----------------------------------------------------------------------------------------------------------------- */

static bool encode_word(Encoder *e, const uint8_t *text, size_t length)
{
    static bool (*const ways[TOKENIZER_KINDS])(const LrtTokenizer *, LrtWord *, const uint8_t *, size_t, LrtIds *) = {
        [TOKENIZER_BPE] = lrt_encode_bpe,
        [TOKENIZER_SPM] = lrt_encode_bpe,
        [TOKENIZER_WORDPIECE] = lrt_encode_wordpiece,
        [TOKENIZER_UNIGRAM] = lrt_encode_unigram,
    };
    return ways[e->t->model.rules.kind](e->t, &e->word, text, length, e->ids);
}

/* Stage by stage: what a stage splits off goes to the next one; what the last one leaves are words. */
static bool split_piece(Encoder *e, int32_t stage, const uint8_t *text, size_t length)
{
    const LrtTokenizerRules *rules = &e->t->model.rules;
    if (length == 0)
        return true;
    if (stage == rules->split_count)
        return encode_word(e, text, length);
    size_t done = 0, from = 0;
    while (from <= length) {
        int found = pcre2_match(e->t->patterns[stage], text, length, from, 0, e->match[stage], NULL);
        if (found < 0)
            break;
        PCRE2_SIZE *range = pcre2_get_ovector_pointer(e->match[stage]);
        size_t start = range[0], end = range[1];
        if (end == start) {
            from = end + 1;
            continue;
        }
        if (!split_piece(e, stage + 1, text + done, start - done) ||
            (!rules->splits[stage].drop_matches && !split_piece(e, stage + 1, text + start, end - start)))
            return false;
        done = from = end;
    }
    return split_piece(e, stage + 1, text + done, length - done);
}

/* Blanks of Metaspace: "a b" is "▁a▁b". */
static bool write_blanks(Encoder *e, const uint8_t *text, size_t length)
{
    const LrtTokenizerRules *rules = &e->t->model.rules;
    const size_t size = strlen(rules->blank);
    const LrtText in = {(uint8_t *)(uintptr_t)text, length, length};
    const bool blank = text[0] == ' ' || (length >= size && !memcmp(text, rules->blank, size));
    e->spaced.length = 0;
    return (blank || rules->prepend == PREPEND_NEVER || (rules->prepend == PREPEND_FIRST && !e->first) ||
            lrt_text_append(&e->spaced, rules->blank, size)) &&
           lrt_replace(&in, " ", rules->blank, &e->spaced) && split_piece(e, 0, e->spaced.data, e->spaced.length);
}

static bool encode_piece(Encoder *e, const uint8_t *text, size_t length)
{
    if (length == 0)
        return true;
    if (e->t->model.rules.blank[0])
        return write_blanks(e, text, length);
    if (!e->t->model.rules.prefix_space || text[0] == ' ')
        return split_piece(e, 0, text, length);
    e->spaced.length = 0;
    return lrt_text_append(&e->spaced, " ", 1) && lrt_text_append(&e->spaced, text, length) &&
           split_piece(e, 0, e->spaced.data, e->spaced.length);
}

/* --- added tokens --------------------------------------------------------------------------------------------------------------- */

static bool is_word(int32_t c)
{
    utf8proc_category_t k = c < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO) || k == UTF8PROC_CATEGORY_PC;
}

static size_t character_before(const uint8_t *text, size_t i)
{
    size_t start = i - 1;
    while (start > 0 && i - start < 4 && (text[start] & 0xc0) == 0x80)
        start--;
    return start;
}

static bool stands_alone(const uint8_t *text, size_t length, size_t start, size_t end)
{
    size_t size;
    if (start > 0 && is_word(lrt_character_at(text, length, character_before(text, start), &size)))
        return false;
    return end >= length || !is_word(lrt_character_at(text, length, end, &size));
}

/* The longest added token at text[i]; NULL: none. */
static const LrtAdded *added_at(const Encoder *e, const LrtAddedList *list, const uint8_t *text, size_t length, size_t i)
{
    const LrtAdded *best = NULL;
    if (!list->starts[text[i]])
        return NULL;
    for (int32_t k = 0; k < list->count; k++) {
        const LrtAdded *one = &list->tokens[k];
        const int flags = e->t->model.flags[one->id];
        if ((best && one->length <= best->length) || one->length > length - i || memcmp(one->text, text + i, one->length) != 0)
            continue;
        if (((flags & TOKEN_SPECIAL) && !e->specials) || ((flags & TOKEN_WORD) && !stands_alone(text, length, i, i + one->length)))
            continue;
        best = one;
    }
    return best;
}

/* Added tokens of a pass become themselves; what lies between them goes to `rest`. */
static bool find_added(Encoder *e, int pass, const uint8_t *text, size_t length,
                       bool (*rest)(Encoder *, const uint8_t *text, size_t length))
{
    const LrtAddedList *list = &e->t->added[pass];
    size_t done = 0, step;
    for (size_t i = 0; list->count && i < length; i++) {
        const LrtAdded *found = added_at(e, list, text, length, i);
        if (!found)
            continue;
        const int flags = e->t->model.flags[found->id];
        size_t start = i, end = i + found->length;
        if (flags & TOKEN_LSTRIP)
            while (start > done && lrt_is_white(lrt_character_at(text, length, character_before(text, start), &step)))
                start = character_before(text, start);
        if (flags & TOKEN_RSTRIP)
            while (end < length && lrt_is_white(lrt_character_at(text, length, end, &step)))
                end += step;
        if (!rest(e, text + done, start - done) || !lrt_ids_push(e->ids, found->id))
            return false;
        e->first = false;
        done = end;
        i = end - 1;
    }
    return rest(e, text + done, length - done);
}

static bool encode_normal(Encoder *e, const uint8_t *text, size_t length)
{
    if (length == 0)
        return true;
    if (e->t->model.rules.step_count == 0)
        return find_added(e, 1, text, length, encode_piece);
    e->normal.length = 0;
    return lrt_text_append(&e->normal, text, length) && lrt_normalize(&e->t->model, &e->normal, &e->spare) &&
           (e->normal.length == 0 || find_added(e, 1, e->normal.data, e->normal.length, encode_piece));
}

bool lrt_encode_text(const LrtTokenizer *t, const char *text, size_t length, bool specials, LrtIds *ids, LrtError *error)
{
    Encoder e = {.t = t, .ids = ids, .specials = specials, .first = true};
    bool ok = true;
    for (int32_t i = 0; i < t->model.rules.split_count; i++)
        ok = (e.match[i] = pcre2_match_data_create_from_pattern(t->patterns[i], NULL)) != NULL && ok;
    ok = ok && find_added(&e, 0, (const uint8_t *)text, length, encode_normal);
    for (int32_t i = 0; i < t->model.rules.split_count; i++)
        pcre2_match_data_free(e.match[i]);
    lrt_word_free(&e.word);
    lrt_text_free(&e.normal);
    lrt_text_free(&e.spare);
    lrt_text_free(&e.spaced);
    return ok || lrt_fail(error, LRT_FAILED, "out of memory");
}

bool lrt_tokenizer_encode(const LrtTokenizer *t, const char *text, size_t length, bool specials, LrtIds *ids, LrtError *error)
{
    const LrtTemplate *single = &t->model.rules.single;
    bool ok = true;
    if (!specials)
        return lrt_encode_text(t, text, length, false, ids, error);
    for (int32_t i = 0; ok && i < single->count; i++) {
        if (single->id[i] == TEMPLATE_FIRST)
            ok = lrt_encode_text(t, text, length, true, ids, error);
        else
            ok = lrt_ids_push(ids, single->id[i]) || lrt_fail(error, LRT_FAILED, "out of memory");
    }
    return ok;
}
