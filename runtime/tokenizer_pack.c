/* tokenizer_pack.c - the form of a tokenizer that programs carry: one block of bytes, checked when it is read. */
#define XXH_INLINE_ALL
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/tokenizer_index.h"

typedef struct Packed {
    char magic[8];
    uint64_t byte_count, charsmap_size;
    int32_t count, merge_count;
    LrtTokenizerRules rules;
} Packed;

static const char magic[8] = "LRTTOK\x03\n";

static size_t score_bytes(const LrtTokenizerRules *rules, int32_t count)
{
    return rules->kind == TOKENIZER_UNIGRAM ? sizeof(double) * (size_t)count : 0;
}

static size_t packed_size(const Packed *p)
{
    return sizeof *p + sizeof(uint32_t) * ((size_t)p->count + 1) + (size_t)p->byte_count + (size_t)p->count +
           sizeof(LrtMerge) * (size_t)p->merge_count + score_bytes(&p->rules, p->count) + (size_t)p->charsmap_size;
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
    p.charsmap_size = m->charsmap_size;
    p.count = m->count, p.merge_count = m->merge_count;
    memcpy(&p.rules, &m->rules, sizeof p.rules);
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
    at = put(at, m->bytes, m->byte_count);
    at = put(at, m->scores, score_bytes(&m->rules, m->count));
    put(at, m->charsmap, m->charsmap_size);
    return data;
}

static bool is_text(const char *text, size_t room)
{
    return memchr(text, '\0', room) != NULL;
}

/* Each text stands in its template once. */
static bool good_template(const LrtTemplate *t, int texts, int32_t tokens)
{
    int found[3] = {0};
    if (t->count < 0 || t->count > TEMPLATE_ITEMS)
        return false;
    for (int32_t i = 0; i < t->count; i++) {
        if (t->id[i] < TEMPLATE_SECOND || t->id[i] >= tokens || t->type[i] < 0 || t->type[i] > TYPE_MAX)
            return false;
        found[t->id[i] < 0 ? -t->id[i] : 0]++;
    }
    return found[1] == 1 && found[2] == texts - 1;
}

static bool good_steps(const LrtTokenizerRules *r)
{
    if (r->step_count < 0 || r->step_count > TOKENIZER_STEPS || r->split_count < 0 || r->split_count > TOKENIZER_STAGES)
        return false;
    for (int i = 0; i < TOKENIZER_STEPS; i++) {
        const LrtStep *step = &r->steps[i];
        if (step->kind < 0 || step->kind >= STEP_COUNT || !is_text(step->from, STEP_BYTES) || !is_text(step->to, STEP_BYTES))
            return false;
    }
    for (int i = 0; i < TOKENIZER_STAGES; i++)
        if (!is_text(r->splits[i].pattern, PATTERN_BYTES))
            return false;
    return true;
}

static bool good_rules(const LrtTokenizerRules *r, int32_t tokens)
{
    return r->kind >= 0 && r->kind < TOKENIZER_KINDS && good_steps(r) && is_text(r->blank, STEP_BYTES) && is_text(r->shown, STEP_BYTES) &&
           r->prepend >= 0 && r->prepend < PREPEND_COUNT && is_text(r->prefix, PREFIX_BYTES) && r->begin >= -1 && r->begin < tokens &&
           r->end >= -1 && r->end < tokens && r->unknown >= (r->kind == TOKENIZER_WORDPIECE || r->kind == TOKENIZER_UNIGRAM ? 0 : -1) &&
           r->unknown < tokens && r->word_max >= 0 && r->decoder >= 0 && r->decoder < DECODER_COUNT && r->strip >= 0 &&
           good_template(&r->single, 1, tokens) && good_template(&r->pair, 2, tokens);
}

static bool check_packed(const Packed *p, size_t size)
{
    return memcmp(p->magic, magic, sizeof magic) == 0 && p->count >= 0 && p->merge_count >= 0 && p->byte_count <= size &&
           p->charsmap_size <= size &&
           packed_size(p) == size && good_rules(&p->rules, p->count);
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
    memcpy(&m->rules, &p.rules, sizeof p.rules);
    m->offsets = copy_part(&at, sizeof *m->offsets * ((size_t)m->count + 1));
    m->merges = copy_part(&at, sizeof *m->merges * (size_t)m->merge_count);
    m->flags = copy_part(&at, (size_t)m->count);
    m->bytes = copy_part(&at, m->byte_count);
    m->charsmap_size = (size_t)p.charsmap_size;
    m->scores = copy_part(&at, score_bytes(&m->rules, m->count));
    m->charsmap = copy_part(&at, m->charsmap_size);
    t->hash = XXH3_64bits(data, size);
    if (m->offsets && m->merges && m->flags && m->bytes && m->scores && m->charsmap && check_tables(m))
        return lrt_tokenizer_finish(t, "the tokenizer in this program", error);
    lrt_report(error, LRT_INVALID, "the tokenizer in this program is damaged");
    lrt_tokenizer_close(t);
    return NULL;
}
