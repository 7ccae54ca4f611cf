/* tokenizer.c - opening a tokenizer, and its indexes. */
#define XXH_INLINE_ALL
#include "runtime/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/tokenizer_index.h"


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

const uint8_t *lrt_token_bytes(const LrtTokenizer *t, int32_t id, size_t *length)
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

int32_t lrt_find_merge(const LrtTokenizer *t, int32_t left, int32_t right)
{
    size_t at = hash_pair(left, right) & (t->pair_count - 1);
    for (; t->pair_slots[at] >= 0; at = (at + 1) & (t->pair_count - 1)) {
        const LrtMerge *merge = &t->model.merges[t->pair_slots[at]];
        if (merge->left == left && merge->right == right)
            return t->pair_slots[at];
    }
    return -1;
}

/* Where the token with these bytes is, or would be. */
static size_t word_slot(const LrtTokenizer *t, const uint8_t *text, size_t length)
{
    size_t at = XXH3_64bits(text, length) & (t->word_count - 1), size;
    for (; t->word_slots[at] >= 0; at = (at + 1) & (t->word_count - 1)) {
        const uint8_t *bytes = lrt_token_bytes(t, t->word_slots[at], &size);
        if (size == length && !memcmp(bytes, text, length))
            break;
    }
    return at;
}

int32_t lrt_find_word(const LrtTokenizer *t, const uint8_t *text, size_t length)
{
    return t->word_slots[word_slot(t, text, length)];
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

/* Words of a text: not added tokens, which are found before; but other vocabularies than byte-level ones have some of them too. */
static bool is_word_token(const LrtTokenizerModel *m, int32_t id)
{
    return !(m->flags[id] & TOKEN_ADDED) || m->rules.kind != TOKENIZER_BPE;
}

static void index_bytes(LrtTokenizer *t)
{
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        const uint8_t value = (uint8_t)byte;
        if (t->model.rules.kind == TOKENIZER_SPM || t->model.rules.kind == TOKENIZER_UNIGRAM)
            t->byte_token[byte] = lrt_find_word(t, (uint8_t *)name, (size_t)sprintf(name, "<0x%02X>", (unsigned)byte));
        else
            t->byte_token[byte] = lrt_find_word(t, &value, 1);
    }
}

static bool index_words(LrtTokenizer *t)
{
    const LrtTokenizerModel *m = &t->model;
    t->word_slots = new_slots((size_t)m->count, &t->word_count);
    if (!t->word_slots)
        return false;
    for (int32_t id = 0; id < m->count; id++) {
        size_t length;
        const uint8_t *bytes = lrt_token_bytes(t, id, &length);
        t->longest = length > t->longest ? length : t->longest;
        if (length == 0 || !is_word_token(m, id))
            continue;
        t->word_slots[word_slot(t, bytes, length)] = id;
    }
    index_bytes(t);
    return true;
}

static bool index_added_token(LrtTokenizer *t, int32_t id, LrtText *normal, LrtText *spare)
{
    const bool later = t->model.flags[id] & TOKEN_NORMAL;
    LrtAddedList *list = &t->added[later];
    size_t length;
    const uint8_t *bytes = lrt_token_bytes(t, id, &length);
    normal->length = 0;
    if (!lrt_text_append(normal, bytes, length) || (later && !lrt_normalize(&t->model, normal, spare)))
        return false;
    if (normal->length == 0)
        return true;
    LrtAdded *added = &list->tokens[list->count];
    *added = (LrtAdded){id, malloc(normal->length), normal->length};
    if (!added->text)
        return false;
    memcpy(added->text, normal->data, normal->length);
    list->starts[added->text[0]] = true;
    list->count++;
    return true;
}

static bool index_added(LrtTokenizer *t)
{
    const LrtTokenizerModel *m = &t->model;
    LrtText normal = {0}, spare = {0};
    size_t count[2] = {1, 1};
    for (int32_t id = 0; id < m->count; id++)
        count[(m->flags[id] & TOKEN_NORMAL) != 0] += (m->flags[id] & TOKEN_ADDED) != 0;
    bool ok = true;
    for (int pass = 0; pass < 2; pass++)
        ok = (t->added[pass].tokens = calloc(count[pass], sizeof *t->added->tokens)) != NULL && ok;
    for (int32_t id = 0; ok && id < m->count; id++)
        ok = !(m->flags[id] & TOKEN_ADDED) || index_added_token(t, id, &normal, &spare);
    lrt_text_free(&normal);
    lrt_text_free(&spare);
    return ok;
}

static bool index_pairs(LrtTokenizer *t)
{
    t->pair_slots = new_slots((size_t)t->model.merge_count, &t->pair_count);
    for (int32_t i = 0; t->pair_slots && i < t->model.merge_count; i++) {
        const LrtMerge *merge = &t->model.merges[i];
        if (lrt_find_merge(t, merge->left, merge->right) >= 0)
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

enum { SPELLED_BYTES = 8 * PATTERN_BYTES };

/* Writes \s and \S out; false: no room.  (\S in a class has no such spelling and stays.) */
static bool spell_white_space(const char *pattern, char *out)
{
    size_t at = 0;
    bool class = false;
    for (const char *p = pattern; *p; p++) {
        if (at + sizeof white + 8 > SPELLED_BYTES)
            return false;
        if (*p == '\\' && (p[1] == 's' || (p[1] == 'S' && !class))) {
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
    }
    out[at] = '\0';
    return true;
}

static bool compile_patterns(LrtTokenizer *t, const char *source, LrtError *error)
{
    char pattern[SPELLED_BYTES];
    for (int32_t i = 0; i < t->model.rules.split_count; i++) {
        int code;
        PCRE2_SIZE offset;
        if (spell_white_space(t->model.rules.splits[i].pattern, pattern))
            t->patterns[i] = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                           PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &code, &offset, NULL);
        if (!t->patterns[i])
            return lrt_fail(error, LRT_INVALID, "%s: the pattern '%.60s' does not compile", source, t->model.rules.splits[i].pattern);
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
    if (m->rules.end >= 0)
        m->flags[m->rules.end] |= TOKEN_END;
}

LrtTokenizer *lrt_tokenizer_finish(LrtTokenizer *t, const char *source, LrtError *error)
{
    mark_ends(&t->model);
    bool ok = (index_words(t) && index_added(t) && index_pairs(t) && lrt_index_pieces(t)) || lrt_fail(error, LRT_FAILED, "out of memory");
    if (ok && compile_patterns(t, source, error))
        return t;
    lrt_tokenizer_close(t);
    return NULL;
}

static bool ends_with(const char *path, const char *end)
{
    size_t length = strlen(path), size = strlen(end);
    return length >= size && !strcmp(path + length - size, end);
}

LrtTokenizer *lrt_tokenizer_open(const char *path, LrtError *error)
{
    LrtTokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        lrt_report(error, LRT_FAILED, "out of memory");
        return NULL;
    }
    bool (*read)(LrtTokenizerModel *, const char *, LrtError *) = ends_with(path, ".gguf")  ? lrt_read_tokenizer_gguf
                                                                  : ends_with(path, ".txt") ? lrt_read_tokenizer_vocab
                                                                                            : lrt_read_tokenizer_json;
    lrt_rules_init(&t->model.rules);
    if (read(&t->model, path, error))
        return lrt_tokenizer_finish(t, path, error);
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
    free(t->pieces);
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t i = 0; i < t->added[pass].count; i++)
            free(t->added[pass].tokens[i].text);
        free(t->added[pass].tokens);
    }
    free(t);
}

/* --- the rest -------------------------------------------------------------------------------------------------------------------- */

int32_t lrt_tokenizer_size(const LrtTokenizer *t)
{
    return t->model.count;
}

int32_t lrt_tokenizer_types(const LrtTokenizer *t)
{
    int32_t most = 0;
    const LrtTemplate *templates[] = {&t->model.rules.single, &t->model.rules.pair};
    for (int k = 0; k < 2; k++)
        for (int32_t i = 0; i < templates[k]->count; i++)
            most = templates[k]->type[i] > most ? templates[k]->type[i] : most;
    return most + 1;
}

int32_t lrt_tokenizer_begin(const LrtTokenizer *t)
{
    return t->model.rules.begin;
}

int32_t lrt_tokenizer_end(const LrtTokenizer *t)
{
    return t->model.rules.end;
}

bool lrt_tokenizer_is_special(const LrtTokenizer *t, int32_t id)
{
    return id >= 0 && id < t->model.count && (t->model.flags[id] & TOKEN_SPECIAL);
}

bool lrt_tokenizer_is_end(const LrtTokenizer *t, int32_t id)
{
    return id >= 0 && id < t->model.count && (t->model.flags[id] & TOKEN_END);
}

int32_t lrt_tokenizer_find(const LrtTokenizer *t, const char *token)
{
    size_t length, wanted = strlen(token);
    for (int32_t id = 0; id < t->model.count; id++) {
        const uint8_t *bytes = lrt_token_bytes(t, id, &length);
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
