/* tokenizer.c - encoding and decoding, and the form that programs carry. */
#define XXH_INLINE_ALL
#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/tokenizer.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "runtime/tokenizer_model.h"

struct LrtTokenizer {
    LrtTokenizerModel model;
    int32_t byte_token[256];   /* -1: the vocabulary lacks it */
    int32_t *pair_slots;       /* (left, right) -> merge */
    size_t pair_count;
    int32_t *word_slots;       /* bytes -> id, for whole words */
    size_t word_count;
    int32_t *added;            /* ids of added tokens, longest first */
    int32_t added_count;
    bool starts[256];          /* bytes that begin an added token */
    pcre2_code *patterns[TOKENIZER_STAGES];
    size_t longest;
    uint64_t hash;
};

/* --- ids ------------------------------------------------------------------------------------------------------------------ */

bool lrt_ids_push(LrtIds *ids, int32_t id)
{
    if (ids->count == ids->capacity) {
        size_t capacity = ids->capacity ? 2 * ids->capacity : 256;
        int32_t *more = realloc(ids->data, capacity * sizeof *more);
        if (!more)
            return false;
        ids->data = more;
        ids->capacity = capacity;
    }
    ids->data[ids->count++] = id;
    return true;
}

void lrt_ids_free(LrtIds *ids)
{
    free(ids->data);
    *ids = (LrtIds){0};
}

/* --- indexes ------------------------------------------------------------------------------------------------------------- */

static const uint8_t *token_bytes(const LrtTokenizer *t, int32_t id, size_t *length)
{
    *length = t->model.offsets[id + 1] - t->model.offsets[id];
    return t->model.bytes + t->model.offsets[id];
}

static uint64_t hash_pair(int32_t left, int32_t right)
{
    uint64_t x = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    return x ^ (x >> 31);
}

/* Rank of the merge of two tokens; -1: none. */
static int32_t find_merge(const LrtTokenizer *t, int32_t left, int32_t right)
{
    size_t at = hash_pair(left, right) & (t->pair_count - 1);
    for (; t->pair_slots[at] >= 0; at = (at + 1) & (t->pair_count - 1)) {
        const LrtMerge *merge = &t->model.merges[t->pair_slots[at]];
        if (merge->left == left && merge->right == right)
            return t->pair_slots[at];
    }
    return -1;
}

static int32_t find_word(const LrtTokenizer *t, const uint8_t *text, size_t length)
{
    size_t at = XXH3_64bits(text, length) & (t->word_count - 1), size;
    for (; t->word_slots[at] >= 0; at = (at + 1) & (t->word_count - 1)) {
        const uint8_t *bytes = token_bytes(t, t->word_slots[at], &size);
        if (size == length && !memcmp(bytes, text, length))
            return t->word_slots[at];
    }
    return -1;
}

static int32_t *new_slots(size_t entries, size_t *count)
{
    *count = 16;
    while (*count < 2 * entries)
        *count *= 2;
    int32_t *slots = malloc(sizeof *slots * *count);
    if (slots)
        memset(slots, 0xff, sizeof *slots * *count);
    return slots;
}

static bool index_words(LrtTokenizer *t)
{
    const LrtTokenizerModel *m = &t->model;
    t->word_slots = new_slots((size_t)m->count, &t->word_count);
    t->added = calloc((size_t)m->count + 1, sizeof *t->added);
    memset(t->byte_token, 0xff, sizeof t->byte_token);
    if (!t->word_slots || !t->added)
        return false;
    for (int32_t id = 0; id < m->count; id++) {
        size_t length;
        const uint8_t *bytes = token_bytes(t, id, &length);
        t->longest = length > t->longest ? length : t->longest;
        if (length == 0)
            continue;
        if (m->flags[id] & TOKEN_ADDED) {
            t->added[t->added_count++] = id;
            t->starts[bytes[0]] = true;
            continue;
        }
        size_t at = XXH3_64bits(bytes, length) & (t->word_count - 1);
        while (t->word_slots[at] >= 0)
            at = (at + 1) & (t->word_count - 1);
        t->word_slots[at] = id;
        if (length == 1 && t->byte_token[bytes[0]] < 0)
            t->byte_token[bytes[0]] = id;
    }
    return true;
}

static bool index_pairs(LrtTokenizer *t)
{
    t->pair_slots = new_slots((size_t)t->model.merge_count, &t->pair_count);
    for (int32_t i = 0; t->pair_slots && i < t->model.merge_count; i++) {
        const LrtMerge *merge = &t->model.merges[i];
        if (find_merge(t, merge->left, merge->right) >= 0)
            continue;
        size_t at = hash_pair(merge->left, merge->right) & (t->pair_count - 1);
        while (t->pair_slots[at] >= 0)
            at = (at + 1) & (t->pair_count - 1);
        t->pair_slots[at] = i;
    }
    return t->pair_slots != NULL;
}

/* Unicode's White_Space: what \s means in the tokenizers library; PCRE2's own \s has one character more. */
static const char white[] = "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

static void add_text(char *out, size_t *at, const char *text)
{
    size_t length = strlen(text);
    memcpy(out + *at, text, length);
    *at += length;
}

/* Writes \s and \S out. */
static void spell_white_space(const char *pattern, char *out)
{
    size_t at = 0;
    bool class = false;
    for (const char *p = pattern; *p; p++) {
        if (*p == '\\' && (p[1] == 's' || p[1] == 'S') && at + 300 < 8 * PATTERN_BYTES) {
            bool other = p[1] == 'S';
            if (!class)
                add_text(out, &at, other ? "[^" : "[");
            add_text(out, &at, white);
            if (!class)
                add_text(out, &at, "]");
            p++;
            continue;
        }
        if (*p == '\\' && p[1])
            out[at++] = *p++;
        else if (*p == '[')
            class = true;
        else if (*p == ']')
            class = false;
        out[at++] = *p;
        if (at + 300 >= 8 * PATTERN_BYTES)
            break;
    }
    out[at] = '\0';
}

static bool compile_patterns(LrtTokenizer *t, LrtError *error)
{
    char pattern[8 * PATTERN_BYTES + 512];
    for (int32_t i = 0; i < t->model.split_count; i++) {
        int code;
        PCRE2_SIZE offset;
        spell_white_space(t->model.splits[i].pattern, pattern);
        t->patterns[i] = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF,
                                       &code, &offset, NULL);
        if (!t->patterns[i])
            return lrt_fail(error, LRT_INVALID, "the tokenizer's pattern '%.60s' does not compile", t->model.splits[i].pattern);
        pcre2_jit_compile(t->patterns[i], PCRE2_JIT_COMPLETE); /* where it is not available, it is interpreted */
    }
    return true;
}

/* Tokens that end a text or a turn, by their usual names. */
static void mark_ends(LrtTokenizerModel *m)
{
    static const char *const names[] = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>"};
    for (int32_t id = 0; id < m->count; id++) {
        size_t length = m->offsets[id + 1] - m->offsets[id];
        for (size_t i = 0; (m->flags[id] & TOKEN_SPECIAL) && i < sizeof names / sizeof *names; i++)
            if (strlen(names[i]) == length && !memcmp(m->bytes + m->offsets[id], names[i], length))
                m->flags[id] |= TOKEN_END;
    }
    if (m->end >= 0)
        m->flags[m->end] |= TOKEN_END;
}

static LrtTokenizer *finish(LrtTokenizer *t, LrtError *error)
{
    mark_ends(&t->model);
    bool ok = (index_words(t) && index_pairs(t)) || lrt_fail(error, LRT_FAILED, "out of memory");
    if (ok && compile_patterns(t, error))
        return t;
    lrt_tokenizer_close(t);
    return NULL;
}

LrtTokenizer *lrt_tokenizer_open(const char *path, LrtError *error)
{
    LrtTokenizer *t = calloc(1, sizeof *t);
    size_t length = strlen(path);
    if (!t) {
        lrt_report(error, LRT_FAILED, "out of memory");
        return NULL;
    }
    bool gguf = length > 5 && !strcmp(path + length - 5, ".gguf");
    if (gguf ? lrt_read_tokenizer_gguf(&t->model, path, error) : lrt_read_tokenizer_json(&t->model, path, error))
        return finish(t, error);
    lrt_tokenizer_close(t);
    return NULL;
}

void lrt_tokenizer_close(LrtTokenizer *t)
{
    if (!t)
        return;
    for (int i = 0; i < TOKENIZER_STAGES; i++)
        pcre2_code_free(t->patterns[i]);
    lrt_tokenizer_model_free(&t->model);
    free(t->pair_slots);
    free(t->word_slots);
    free(t->added);
    free(t);
}

/* --- packed form ----------------------------------------------------------------------------------------------------------- */

typedef struct Packed {
    char magic[8];
    uint64_t byte_count;
    int32_t count, merge_count;
    LrtSplit splits[TOKENIZER_STAGES];
    int32_t split_count, nfc, prefix_space, ignore_merges;
    int32_t before[TOKENIZER_EXTRA], after[TOKENIZER_EXTRA];
    int32_t before_count, after_count, begin, end;
} Packed;

static const char magic[8] = "LRTTOK\x01\n";

static size_t packed_size(const Packed *p)
{
    return sizeof *p + sizeof(uint32_t) * ((size_t)p->count + 1) + (size_t)p->byte_count + (size_t)p->count +
           sizeof(LrtMerge) * (size_t)p->merge_count;
}

static uint8_t *put(uint8_t *at, const void *data, size_t size)
{
    if (size)
        memcpy(at, data, size);
    return at + size;
}

void *lrt_tokenizer_pack(const LrtTokenizer *t, size_t *size, LrtError *error)
{
    const LrtTokenizerModel *m = &t->model;
    Packed p;
    memset(&p, 0, sizeof p);
    memcpy(p.magic, magic, sizeof magic);
    p.byte_count = m->byte_count;
    p.count = m->count, p.merge_count = m->merge_count;
    memcpy(p.splits, m->splits, sizeof p.splits);
    p.split_count = m->split_count, p.nfc = m->nfc, p.prefix_space = m->prefix_space, p.ignore_merges = m->ignore_merges;
    memcpy(p.before, m->before, sizeof p.before);
    memcpy(p.after, m->after, sizeof p.after);
    p.before_count = m->before_count, p.after_count = m->after_count, p.begin = m->begin, p.end = m->end;
    *size = packed_size(&p);
    uint8_t *data = malloc(*size), *at = data;
    if (!data) {
        lrt_report(error, LRT_FAILED, "out of memory");
        return NULL;
    }
    at = put(at, &p, sizeof p);
    at = put(at, m->offsets, sizeof *m->offsets * ((size_t)m->count + 1));
    at = put(at, m->merges, sizeof *m->merges * (size_t)m->merge_count);
    at = put(at, m->flags, (size_t)m->count);
    put(at, m->bytes, m->byte_count);
    return data;
}

static bool good_ids(const int32_t *ids, int32_t count, int32_t tokens)
{
    if (count < 0 || count > TOKENIZER_EXTRA)
        return false;
    for (int32_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= tokens)
            return false;
    return true;
}

static bool check_packed(const Packed *p, size_t size)
{
    if (memcmp(p->magic, magic, sizeof magic) != 0 || p->count < 0 || p->merge_count < 0 || p->byte_count > size ||
        packed_size(p) != size || p->split_count < 0 || p->split_count > TOKENIZER_STAGES || p->begin < -1 || p->begin >= p->count ||
        p->end < -1 || p->end >= p->count)
        return false;
    for (int i = 0; i < TOKENIZER_STAGES; i++)
        if (!memchr(p->splits[i].pattern, '\0', PATTERN_BYTES))
            return false;
    return good_ids(p->before, p->before_count, p->count) && good_ids(p->after, p->after_count, p->count);
}

static bool check_tables(const LrtTokenizerModel *m)
{
    for (int32_t i = 0; i < m->count; i++)
        if (m->offsets[i] > m->offsets[i + 1] || m->offsets[i + 1] > m->byte_count)
            return false;
    for (int32_t i = 0; i < m->merge_count; i++) {
        const LrtMerge *merge = &m->merges[i];
        if (merge->left < 0 || merge->left >= m->count || merge->right < 0 || merge->right >= m->count || merge->result < 0 ||
            merge->result >= m->count)
            return false;
    }
    return true;
}

static void *copy_part(const uint8_t **at, size_t size)
{
    void *copy = malloc(size + 1);
    if (copy && size)
        memcpy(copy, *at, size);
    *at += size;
    return copy;
}

LrtTokenizer *lrt_tokenizer_unpack(const void *data, size_t size, LrtError *error)
{
    Packed p;
    LrtTokenizer *t = calloc(1, sizeof *t);
    bool ok = t && size >= sizeof p;
    if (ok)
        memcpy(&p, data, sizeof p);
    if (!ok || !check_packed(&p, size)) {
        lrt_report(error, LRT_INVALID, "the tokenizer in this program is damaged");
        free(t);
        return NULL;
    }
    LrtTokenizerModel *m = &t->model;
    const uint8_t *at = (const uint8_t *)data + sizeof p;
    m->count = p.count, m->merge_count = p.merge_count, m->byte_count = (size_t)p.byte_count;
    memcpy(m->splits, p.splits, sizeof p.splits);
    m->split_count = p.split_count, m->nfc = p.nfc, m->prefix_space = p.prefix_space, m->ignore_merges = p.ignore_merges;
    memcpy(m->before, p.before, sizeof p.before);
    memcpy(m->after, p.after, sizeof p.after);
    m->before_count = p.before_count, m->after_count = p.after_count, m->begin = p.begin, m->end = p.end;
    m->offsets = copy_part(&at, sizeof *m->offsets * ((size_t)m->count + 1));
    m->merges = copy_part(&at, sizeof *m->merges * (size_t)m->merge_count);
    m->flags = copy_part(&at, (size_t)m->count);
    m->bytes = copy_part(&at, m->byte_count);
    t->hash = XXH3_64bits(data, size);
    if (m->offsets && m->merges && m->flags && m->bytes && check_tables(m))
        return finish(t, error);
    lrt_report(error, LRT_INVALID, "the tokenizer in this program is damaged");
    lrt_tokenizer_close(t);
    return NULL;
}

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
    int32_t rank = find_merge(t, w->symbols[left].id, w->symbols[right].id);
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
    int32_t whole = t->model.ignore_merges ? find_word(t, text, length) : -1;
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
        const uint8_t *bytes = token_bytes(t, id, &size);
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
        token_bytes(e->t, id, &size);
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

/* --- the rest -------------------------------------------------------------------------------------------------------------------- */

size_t lrt_tokenizer_decode(const LrtTokenizer *t, int32_t id, bool skip_special, char *out)
{
    size_t length;
    if (id < 0 || id >= t->model.count || (skip_special && (t->model.flags[id] & TOKEN_SPECIAL)))
        return 0;
    const uint8_t *bytes = token_bytes(t, id, &length);
    if (length)
        memcpy(out, bytes, length);
    return length;
}

size_t lrt_tokenizer_longest(const LrtTokenizer *t)
{
    return t->longest;
}

int32_t lrt_tokenizer_size(const LrtTokenizer *t)
{
    return t->model.count;
}

int32_t lrt_tokenizer_begin(const LrtTokenizer *t)
{
    return t->model.begin;
}

int32_t lrt_tokenizer_end(const LrtTokenizer *t)
{
    return t->model.end;
}

bool lrt_tokenizer_is_end(const LrtTokenizer *t, int32_t id)
{
    return id >= 0 && id < t->model.count && (t->model.flags[id] & TOKEN_END);
}

int32_t lrt_tokenizer_find(const LrtTokenizer *t, const char *token)
{
    size_t length, wanted = strlen(token);
    for (int32_t id = 0; id < t->model.count; id++) {
        const uint8_t *bytes = token_bytes(t, id, &length);
        if (length == wanted && !memcmp(bytes, token, length))
            return id;
    }
    return -1;
}

uint64_t lrt_tokenizer_hash(const LrtTokenizer *t)
{
    size_t size;
    LrtError ignored = {LRT_OK, ""};
    void *packed = t->hash ? NULL : lrt_tokenizer_pack(t, &size, &ignored);
    uint64_t hash = packed ? XXH3_64bits(packed, size) : t->hash;
    free(packed);
    return hash;
}
