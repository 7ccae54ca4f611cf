/* tokenizer_pack.c - the form of a tokenizer that programs carry: one block of bytes, checked when it is read. */
#define XXH_INLINE_ALL
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/tokenizer_index.h"

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
        return lrt_tokenizer_finish(t, "the tokenizer in this program", error);
    lrt_report(error, LRT_INVALID, "the tokenizer in this program is damaged");
    lrt_tokenizer_close(t);
    return NULL;
}
