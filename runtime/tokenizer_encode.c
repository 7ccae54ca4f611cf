/* tokenizer_encode.c - text to tokens: added tokens, normal form, splitting by patterns, merges. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/tokenizer_index.h"

/* --- encoding: merges -------------------------------------------------------------------------------------------------------- */

/* A word while it is merged: tokens in a doubly linked list, candidates in a heap by rank, then place. */
typedef struct Symbol {
    int32_t id, before, after;
} Symbol;

typedef struct Candidate {
    int32_t rank, place, left, right;
} Candidate;

typedef struct Word {
    Symbol *symbols;
    Candidate *heap;
    size_t capacity, heap_count;
} Word;

static bool comes_first(const Candidate *a, const Candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->place < b->place;
}

static void heap_push(Word *w, Candidate c)
{
    size_t i = w->heap_count++;
    while (i > 0 && comes_first(&c, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = c;
}

static Candidate heap_pop(Word *w)
{
    Candidate top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_count)
            break;
        if (child + 1 < w->heap_count && comes_first(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!comes_first(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static void consider(const LrtTokenizer *t, Word *w, int32_t left)
{
    int32_t right = left < 0 ? -1 : w->symbols[left].after;
    if (right < 0)
        return;
    int32_t rank = lrt_find_merge(t, w->symbols[left].id, w->symbols[right].id);
    if (rank >= 0)
        heap_push(w, (Candidate){rank, left, w->symbols[left].id, w->symbols[right].id});
}

static bool reserve_word(Word *w, size_t length)
{
    if (length <= w->capacity)
        return true;
    size_t capacity = length * 2;
    Symbol *symbols = realloc(w->symbols, sizeof *symbols * capacity);
    if (symbols)
        w->symbols = symbols;
    Candidate *heap = realloc(w->heap, sizeof *heap * capacity * 3);
    if (heap)
        w->heap = heap;
    if (!symbols || !heap)
        return false;
    w->capacity = capacity;
    return true;
}

static bool encode_word(const LrtTokenizer *t, Word *w, const uint8_t *text, size_t length, LrtIds *ids)
{
    int32_t whole = t->model.ignore_merges ? lrt_find_word(t, text, length) : -1;
    if (whole >= 0)
        return lrt_ids_push(ids, whole);
    if (!reserve_word(w, length + 1))
        return false;
    int32_t count = 0;
    for (size_t i = 0; i < length; i++)
        if (t->byte_token[text[i]] >= 0) {
            w->symbols[count] = (Symbol){t->byte_token[text[i]], count - 1, count + 1};
            count++;
        }
    if (count == 0)
        return true;
    w->symbols[count - 1].after = -1;
    w->heap_count = 0;
    for (int32_t i = 0; i + 1 < count; i++)
        consider(t, w, i);
    while (w->heap_count) {
        Candidate c = heap_pop(w);
        Symbol *left = &w->symbols[c.place];
        if (left->id != c.left || left->after < 0 || w->symbols[left->after].id != c.right)
            continue; /* one of the two has been merged already */
        Symbol *right = &w->symbols[left->after];
        left->id = t->model.merges[c.rank].result;
        right->id = -1;
        left->after = right->after;
        if (left->after >= 0)
            w->symbols[left->after].before = c.place;
        consider(t, w, left->before);
        consider(t, w, c.place);
    }
    for (int32_t i = 0; i >= 0; i = w->symbols[i].after)
        if (!lrt_ids_push(ids, w->symbols[i].id))
            return false;
    return true;
}

/* --- encoding: splitting -------------------------------------------------------------------------------------------------------- */

typedef struct Encoder {
    const LrtTokenizer *t;
    LrtIds *ids;
    Word word;
    pcre2_match_data *match[TOKENIZER_STAGES];
} Encoder;

/* Stage by stage: what a stage splits off goes to the next one; after the last the merges follow. */
static bool split_piece(Encoder *e, int32_t stage, const uint8_t *text, size_t length)
{
    if (length == 0)
        return true;
    if (stage == e->t->model.split_count)
        return encode_word(e->t, &e->word, text, length, e->ids);
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
            (!e->t->model.splits[stage].drop_matches && !split_piece(e, stage + 1, text + start, end - start)))
            return false;
        done = from = end;
    }
    return split_piece(e, stage + 1, text + done, length - done);
}

static bool encode_piece(Encoder *e, const uint8_t *text, size_t length)
{
    bool space = e->t->model.prefix_space && length && text[0] != ' ';
    if (length == 0)
        return true;
    utf8proc_uint8_t *composed = NULL;
    if (e->t->model.nfc) {
        utf8proc_ssize_t size = utf8proc_map(text, (utf8proc_ssize_t)length, &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (size >= 0)
            text = composed, length = (size_t)size;
    }
    bool ok;
    if (space) {
        uint8_t *copy = malloc(length + 1);
        ok = copy != NULL;
        if (ok) {
            copy[0] = ' ';
            memcpy(copy + 1, text, length);
            ok = split_piece(e, 0, copy, length + 1);
        }
        free(copy);
    } else {
        ok = split_piece(e, 0, text, length);
    }
    free(composed);
    return ok;
}

/* The character at text[i], and its size; invalid bytes count as themselves. */
static utf8proc_int32_t character_at(const uint8_t *text, size_t length, size_t i, size_t *size)
{
    utf8proc_int32_t code;
    utf8proc_ssize_t read = utf8proc_iterate(text + i, (utf8proc_ssize_t)(length - i), &code);
    *size = read > 0 ? (size_t)read : 1;
    return read > 0 ? code : -1;
}

static bool is_white(utf8proc_int32_t c)
{
    return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static bool is_word(utf8proc_int32_t c)
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
    if (start > 0 && is_word(character_at(text, length, character_before(text, start), &size)))
        return false;
    return end >= length || !is_word(character_at(text, length, end, &size));
}

/* The longest added token at text[i]; -1: none. */
static int32_t added_at(const LrtTokenizer *t, const uint8_t *text, size_t length, size_t i, bool specials)
{
    int32_t best = -1;
    size_t longest = 0;
    if (!t->starts[text[i]])
        return -1;
    for (int32_t k = 0; k < t->added_count; k++) {
        int32_t id = t->added[k];
        size_t size;
        const uint8_t *bytes = lrt_token_bytes(t, id, &size);
        if (size <= longest || size > length - i || memcmp(bytes, text + i, size) != 0)
            continue;
        if (((t->model.flags[id] & TOKEN_SPECIAL) && !specials) ||
            ((t->model.flags[id] & TOKEN_WORD) && !stands_alone(text, length, i, i + size)))
            continue;
        best = id;
        longest = size;
    }
    return best;
}

static bool encode_text(Encoder *e, const uint8_t *text, size_t length, bool specials)
{
    size_t done = 0;
    for (size_t i = 0; i < length; i++) {
        int32_t id = added_at(e->t, text, length, i, specials);
        if (id < 0)
            continue;
        size_t size, start = i, step;
        lrt_token_bytes(e->t, id, &size);
        size_t end = i + size;
        if (e->t->model.flags[id] & TOKEN_LSTRIP)
            while (start > done && is_white(character_at(text, length, character_before(text, start), &step)))
                start = character_before(text, start);
        if (e->t->model.flags[id] & TOKEN_RSTRIP)
            while (end < length && is_white(character_at(text, length, end, &step)))
                end += step;
        if (!encode_piece(e, text + done, start - done) || !lrt_ids_push(e->ids, id))
            return false;
        done = end;
        i = end - 1;
    }
    return encode_piece(e, text + done, length - done);
}

bool lrt_tokenizer_encode(const LrtTokenizer *t, const char *text, size_t length, bool specials, LrtIds *ids, LrtError *error)
{
    Encoder e = {.t = t, .ids = ids};
    bool ok = true;
    for (int32_t i = 0; i < t->model.split_count; i++)
        ok = (e.match[i] = pcre2_match_data_create_from_pattern(t->patterns[i], NULL)) != NULL && ok;
    for (int32_t i = 0; ok && specials && i < t->model.before_count; i++)
        ok = lrt_ids_push(ids, t->model.before[i]);
    ok = ok && encode_text(&e, (const uint8_t *)text, length, specials);
    for (int32_t i = 0; ok && specials && i < t->model.after_count; i++)
        ok = lrt_ids_push(ids, t->model.after[i]);
    for (int32_t i = 0; i < t->model.split_count; i++)
        pcre2_match_data_free(e.match[i]);
    free(e.word.symbols);
    free(e.word.heap);
    return ok || lrt_fail(error, LRT_FAILED, "out of memory");
}
