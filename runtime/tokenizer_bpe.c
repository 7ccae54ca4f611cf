/* tokenizer_bpe.c - a word as bytes, or characters, that are merged, the pair of the lowest rank first. */
#include <stdlib.h>

#include "runtime/tokenizer_index.h"

/* A word while it is merged: tokens in a doubly linked list, candidates in a heap by rank, then place. */
typedef struct LrtSymbol {
    int32_t id, before, after;
} Symbol;

typedef struct LrtCandidate {
    int32_t rank, place, left, right;
} Candidate;

static bool comes_first(const Candidate *a, const Candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->place < b->place;
}

static void heap_push(LrtWord *w, Candidate c)
{
    size_t i = w->heap_count++;
    while (i > 0 && comes_first(&c, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = c;
}

static Candidate heap_pop(LrtWord *w)
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

static void consider(const LrtTokenizer *t, LrtWord *w, int32_t left)
{
    int32_t right = left < 0 ? -1 : w->symbols[left].after;
    if (right < 0)
        return;
    int32_t rank = lrt_find_merge(t, w->symbols[left].id, w->symbols[right].id);
    if (rank >= 0)
        heap_push(w, (Candidate){rank, left, w->symbols[left].id, w->symbols[right].id});
}

static bool reserve_word(LrtWord *w, size_t length)
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

static int32_t add_symbol(LrtWord *w, int32_t count, int32_t id)
{
    w->symbols[count] = (Symbol){id, count - 1, count + 1};
    return count + 1;
}

/* Bytes without a token are dropped. */
static int32_t start_with_bytes(const LrtTokenizer *t, LrtWord *w, const uint8_t *text, size_t length)
{
    int32_t count = 0;
    for (size_t i = 0; i < length; i++)
        if (t->byte_token[text[i]] >= 0)
            count = add_symbol(w, count, t->byte_token[text[i]]);
    return count;
}

static bool have_bytes(const LrtTokenizer *t, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (t->byte_token[bytes[i]] < 0)
            return false;
    return t->model.rules.byte_fallback;
}

/* A character without a token becomes its bytes if all of them have tokens, else unknown.  An unknown token waits until the
 * next character that has a token, as in the library: bytes go before it. */
static int32_t start_with_characters(const LrtTokenizer *t, LrtWord *w, const uint8_t *text, size_t length)
{
    const LrtTokenizerRules *rules = &t->model.rules;
    int32_t count = 0;
    bool waiting = false;
    size_t size;
    for (size_t i = 0; i < length; i += size) {
        lrt_character_at(text, length, i, &size);
        const int32_t id = lrt_find_word(t, text + i, size);
        if (id < 0 && have_bytes(t, text + i, size)) {
            for (size_t k = 0; k < size; k++)
                count = add_symbol(w, count, t->byte_token[text[i + k]]);
            continue;
        }
        if (waiting && (id >= 0 || !rules->fuse_unknown))
            count = add_symbol(w, count, rules->unknown);
        waiting = id < 0 && rules->unknown >= 0;
        if (id >= 0)
            count = add_symbol(w, count, id);
    }
    return waiting ? add_symbol(w, count, rules->unknown) : count;
}

static void merge_all(const LrtTokenizer *t, LrtWord *w, int32_t count)
{
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
}

bool lrt_encode_bpe(const LrtTokenizer *t, LrtWord *w, const uint8_t *text, size_t length, LrtIds *ids)
{
    int32_t whole = t->model.rules.ignore_merges ? lrt_find_word(t, text, length) : -1;
    if (whole >= 0)
        return lrt_ids_push(ids, whole);
    if (length >= INT32_MAX / 4 || !reserve_word(w, length + 1))
        return false;
    const int32_t count =
        t->model.rules.kind == TOKENIZER_SPM ? start_with_characters(t, w, text, length) : start_with_bytes(t, w, text, length);
    if (count == 0)
        return true;
    merge_all(t, w, count);
    for (int32_t i = 0; i >= 0; i = w->symbols[i].after)
        if (!lrt_ids_push(ids, w->symbols[i].id))
            return false;
    return true;
}

void lrt_word_free(LrtWord *w)
{
    free(w->symbols);
    free(w->heap);
    lrt_text_free(&w->text);
    free(w->nodes);
}
