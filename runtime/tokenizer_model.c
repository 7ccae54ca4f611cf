/* tokenizer_model.c - building a tokenizer's data. */
#define XXH_INLINE_ALL
#include "runtime/tokenizer_model.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* The patterns of GPT-2, Llama 3 and Qwen 2, as their tokenizers publish them. */
const char lrt_gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char lrt_llama3_pattern[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                                  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char lrt_qwen2_pattern[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
                                 " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

void lrt_tokenizer_model_free(LrtTokenizerModel *m)
{
    free(m->offsets);
    free(m->bytes);
    free(m->flags);
    free(m->merges);
    free(m->scores);
    free(m->charsmap);
    memset(m, 0, sizeof *m);
}

bool lrt_model_reserve(LrtTokenizerModel *m, int32_t count, LrtError *error)
{
    m->count = count;
    m->offsets = calloc((size_t)count + 1, sizeof *m->offsets);
    m->flags = calloc((size_t)count + 1, 1);
    return (m->offsets && m->flags) || lrt_fail(error, LRT_FAILED, "out of memory");
}

/* GPT-2's map: printable bytes stand for themselves, the other 68 are U+0100 and on, in order. */
static int byte_of(uint32_t code)
{
    if ((code >= 33 && code <= 126) || (code >= 161 && code <= 172) || (code >= 174 && code <= 255))
        return (int)code;
    if (code < 256 || code >= 256 + 68)
        return -1;
    int number = (int)code - 256;
    return number < 33 ? number : number < 67 ? 127 + number - 33 : 173;
}

/* One character of valid UTF-8; 0 bytes read when it is not. */
static size_t read_character(const uint8_t *p, size_t left, uint32_t *code)
{
    size_t size = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (size > left || (p[0] >= 0x80 && p[0] < 0xc0))
        return 0;
    *code = size == 1 ? p[0] : p[0] & (0xffu >> (size + 1));
    for (size_t i = 1; i < size; i++)
        *code = *code << 6 | (p[i] & 0x3fu);
    return size;
}

static bool append(LrtTokenizerModel *m, const void *data, size_t size, LrtError *error)
{
    while (m->byte_count + size > m->byte_capacity) {
        size_t capacity = m->byte_capacity ? 2 * m->byte_capacity : 1 << 16;
        uint8_t *more = capacity < UINT32_MAX ? realloc(m->bytes, capacity) : NULL;
        if (!more)
            return lrt_fail(error, LRT_FAILED, "out of memory");
        m->bytes = more;
        m->byte_capacity = capacity;
    }
    if (size)
        memcpy(m->bytes + m->byte_count, data, size);
    m->byte_count += size;
    return true;
}

/* Spelled in printable characters unless one of them is none of those: then it stands for itself. */
static bool append_spelled(LrtTokenizerModel *m, const uint8_t *text, size_t length, LrtError *error)
{
    size_t start = m->byte_count;
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        size_t size = read_character(text + i, length - i, &code);
        int byte = size ? byte_of(code) : -1;
        uint8_t value = (uint8_t)byte;
        if (byte < 0) {
            m->byte_count = start;
            return append(m, text, length, error);
        }
        if (!append(m, &value, 1, error))
            return false;
        i += size;
    }
    return true;
}

bool lrt_model_set_token(LrtTokenizerModel *m, int32_t id, const char *text, size_t length, bool plain, LrtError *error)
{
    m->offsets[id] = (uint32_t)m->byte_count;
    bool ok = plain ? append(m, text, length, error) : append_spelled(m, (const uint8_t *)text, length, error);
    m->offsets[id + 1] = (uint32_t)m->byte_count;
    return ok;
}

bool lrt_model_add_split(LrtTokenizerModel *m, const char *pattern, bool drop, const char *path, LrtError *error)
{
    LrtTokenizerRules *r = &m->rules;
    if (r->split_count == TOKENIZER_STAGES || strlen(pattern) >= PATTERN_BYTES)
        return lrt_fail(error, LRT_INVALID, "%s: its pre-tokenizer has too many or too long patterns", path);
    LrtSplit *split = &r->splits[r->split_count++];
    memcpy(split->pattern, pattern, strlen(pattern) + 1);
    split->drop_matches = drop;
    return true;
}

bool lrt_model_add_step(LrtTokenizerModel *m, LrtStepKind kind, const char *from, const char *to, const char *path, LrtError *error)
{
    LrtTokenizerRules *r = &m->rules;
    if (r->step_count == TOKENIZER_STEPS)
        return lrt_fail(error, LRT_INVALID, "%s: its normalizer has more than %d steps", path, TOKENIZER_STEPS);
    LrtStep *step = &r->steps[r->step_count];
    step->kind = (int32_t)kind;
    if ((from && strlen(from) >= STEP_BYTES) || (to && strlen(to) >= STEP_BYTES))
        return lrt_fail(error, LRT_INVALID, "%s: its normalizer replaces texts of %d bytes and more", path, STEP_BYTES);
    strcpy(step->from, from ? from : "");
    strcpy(step->to, to ? to : "");
    r->step_count++;
    return true;
}

bool lrt_model_add_bert_steps(LrtTokenizerModel *m, bool clean, bool chinese, int accents, bool lower, const char *path, LrtError *error)
{
    const bool strip = accents < 0 ? lower : accents;
    const struct {
        bool on;
        LrtStepKind kind;
    } steps[] = {{clean, STEP_CLEAN}, {chinese, STEP_CHINESE}, {strip, STEP_NFD}, {strip, STEP_ACCENTS}, {lower, STEP_LOWER}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (steps[i].on && !lrt_model_add_step(m, steps[i].kind, NULL, NULL, path, error))
            return false;
    return true;
}

bool lrt_model_add_bert_splits(LrtTokenizerModel *m, const char *path, LrtError *error)
{
    return lrt_model_add_split(m, "\\s+", true, path, error) &&
           lrt_model_add_split(m, "[!-/:-@\\[-`{-~\\p{P}]", false, path, error);
}

void lrt_rules_init(LrtTokenizerRules *r)
{
    memset(r, 0, sizeof *r);
    r->begin = r->end = r->unknown = -1;
    lrt_template_add(&r->single, TEMPLATE_FIRST, 0);
    lrt_template_add(&r->pair, TEMPLATE_FIRST, 0);
    lrt_template_add(&r->pair, TEMPLATE_SECOND, 0);
}

bool lrt_template_add(LrtTemplate *t, int32_t id, int32_t type)
{
    if (t->count == TEMPLATE_ITEMS)
        return false;
    t->id[t->count] = id;
    t->type[t->count++] = type;
    return true;
}

/* --- names ------------------------------------------------------------------------------------------------------------- */

static bool is_name(const LrtNames *n, int32_t id, const char *text, size_t length)
{
    return n->length[id] == length && !memcmp(n->text[id], text, length);
}

bool lrt_names_build(LrtNames *n, int32_t count, LrtError *error)
{
    n->slot_count = 16;
    while (n->slot_count < 2 * (size_t)count)
        n->slot_count *= 2;
    n->slots = malloc(sizeof *n->slots * n->slot_count);
    if (!n->slots)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    memset(n->slots, 0xff, sizeof *n->slots * n->slot_count);
    for (int32_t id = 0; id < count; id++) {
        size_t at = XXH3_64bits(n->text[id], n->length[id]) & (n->slot_count - 1);
        while (n->slots[at] >= 0 && !is_name(n, n->slots[at], n->text[id], n->length[id]))
            at = (at + 1) & (n->slot_count - 1);
        n->slots[at] = id; /* of equal names the last counts; holes are all equal */
    }
    return true;
}

int32_t lrt_names_find(const LrtNames *n, const char *text, size_t length)
{
    size_t at = XXH3_64bits(text, length) & (n->slot_count - 1);
    for (; n->slots[at] >= 0; at = (at + 1) & (n->slot_count - 1))
        if (is_name(n, n->slots[at], text, length))
            return n->slots[at];
    return -1;
}

void lrt_names_free(LrtNames *n)
{
    free((void *)n->text);
    free(n->length);
    free(n->slots);
}

bool lrt_model_add_merge(LrtTokenizerModel *m, const LrtNames *names, const char *left, size_t left_length, const char *right,
                         size_t right_length)
{
    char both[1024];
    if (left_length + right_length > sizeof both)
        return false;
    memcpy(both, left, left_length);
    memcpy(both + left_length, right, right_length);
    LrtMerge merge = {lrt_names_find(names, left, left_length), lrt_names_find(names, right, right_length),
                      lrt_names_find(names, both, left_length + right_length)};
    if (merge.left < 0 || merge.right < 0 || merge.result < 0)
        return false;
    m->merges[m->merge_count++] = merge;
    return true;
}
