/* tokenizer_gguf.c - BPE from the metadata of a GGUF file: byte-level (gpt2), or SentencePiece's (llama). */
#include <stdlib.h>
#include <string.h>

#include "runtime/gguf.h"
#include "runtime/tokenizer_model.h"

/* tokenizer.ggml.pre -> what is split off first, and the pattern of words. */
static const struct Kind {
    const char *pre;
    const char *first, *pattern;
    bool nfc, ignore_merges;
} kinds[] = {
    {"gpt-2", NULL, lrt_gpt2_pattern, false, false},       {"smollm", "\\p{N}", lrt_gpt2_pattern, false, false},
    {"default", NULL, lrt_gpt2_pattern, false, false},     {"roberta-bpe", NULL, lrt_gpt2_pattern, false, false},
    {"llama-bpe", NULL, lrt_llama3_pattern, false, true},  {"llama3", NULL, lrt_llama3_pattern, false, true},
    {"qwen2", NULL, lrt_qwen2_pattern, true, false},
};

/* SentencePiece's: spaces are written as U+2581, and one stands before a text. */
static bool read_spm(LrtTokenizerModel *m, const GgufFile *file, LrtError *error)
{
    static const char blank[] = "\xe2\x96\x81";
    LrtTokenizerRules *r = &m->rules;
    const bool space = gguf_number(file, "tokenizer.ggml.add_space_prefix", 1) != 0;
    r->kind = TOKENIZER_SPM;
    r->decoder = DECODER_FUSE;
    r->byte_fallback = r->fuse_unknown = 1;
    r->strip = space;
    strcpy(r->shown, blank);
    return (!space || lrt_model_add_step(m, STEP_PREPEND, NULL, blank, file->path, error)) &&
           lrt_model_add_step(m, STEP_REPLACE, " ", blank, file->path, error);
}

static bool read_kind(LrtTokenizerModel *m, const GgufFile *file, LrtError *error)
{
    GgufString model = gguf_string(file, "tokenizer.ggml.model"), pre = gguf_string(file, "tokenizer.ggml.pre");
    if (gguf_string_is(model, "llama"))
        return read_spm(m, file, error);
    if (!gguf_string_is(model, "gpt2"))
        return lrt_fail(error, LRT_INVALID, "%s: tokenizers of kind '%.*s' are not supported; gpt2 and llama are", file->path,
                        model.data ? (int)(model.length < 40 ? model.length : 40) : 4, model.data ? model.data : "none");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!(pre.data ? gguf_string_is(pre, kinds[i].pre) : !strcmp(kinds[i].pre, "default")))
            continue;
        m->rules.ignore_merges = kinds[i].ignore_merges;
        return (!kinds[i].nfc || lrt_model_add_step(m, STEP_NFC, NULL, NULL, file->path, error)) &&
               (!kinds[i].first || lrt_model_add_split(m, kinds[i].first, false, file->path, error)) &&
               lrt_model_add_split(m, kinds[i].pattern, false, file->path, error);
    }
    return lrt_fail(error, LRT_INVALID, "%s: pre-tokenizer '%.*s' is not supported; gpt-2, smollm, llama-bpe, qwen2 and roberta-bpe are",
                    file->path, (int)pre.length, pre.data);
}

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER = 4 };

/* A number for each of so many tokens; NULL: the file has none. */
static const GgufValue *numbers(const GgufFile *file, const char *key, uint64_t tokens)
{
    const GgufValue *value = gguf_find(file, key);
    return value && value->is_array && value->count == tokens && value->type != GGUF_STRING ? value : NULL;
}

static int type_of(const GgufValue *types, uint64_t id)
{
    const double type = types ? gguf_element(types, id) : 1.0;
    return type >= 0 && type < 256 ? (int)type : TYPE_NORMAL;
}

static bool read_tokens(LrtTokenizerModel *m, const GgufFile *file, LrtNames *names, LrtError *error)
{
    GgufString *tokens;
    uint64_t count;
    if (!gguf_strings(file, "tokenizer.ggml.tokens", &tokens, &count, error))
        return false;
    const GgufValue *types = numbers(file, "tokenizer.ggml.token_type", count);
    const bool spm = m->rules.kind == TOKENIZER_SPM;
    bool ok = count < INT32_MAX / 4 && lrt_model_reserve(m, (int32_t)count, error);
    names->text = calloc((size_t)count + 1, sizeof *names->text);
    names->length = calloc((size_t)count + 1, sizeof *names->length);
    if (!names->text || !names->length)
        ok = lrt_fail(error, LRT_FAILED, "out of memory");
    for (uint64_t i = 0; ok && i < count; i++) {
        const int type = type_of(types, i);
        bool special = type == TYPE_CONTROL || (spm && type == TYPE_UNKNOWN), added = special || type == TYPE_USER;
        names->text[i] = tokens[i].data;
        names->length[i] = (size_t)tokens[i].length;
        m->flags[i] = (uint8_t)((added ? TOKEN_ADDED : 0) | (special ? TOKEN_SPECIAL : 0));
        ok = lrt_model_set_token(m, (int32_t)i, tokens[i].data, (size_t)tokens[i].length, spm || added, error);
    }
    free(tokens);
    return ok && lrt_names_build(names, (int32_t)count, error);
}

static bool read_merges(LrtTokenizerModel *m, const GgufFile *file, const LrtNames *names, LrtError *error)
{
    GgufString *merges;
    uint64_t count;
    if (!gguf_strings(file, "tokenizer.ggml.merges", &merges, &count, error))
        return false;
    m->merges = calloc((size_t)count + 1, sizeof *m->merges);
    bool ok = m->merges || lrt_fail(error, LRT_FAILED, "out of memory");
    for (uint64_t i = 0; ok && i < count; i++) {
        const char *space = merges[i].length > 1 ? memchr(merges[i].data + 1, ' ', (size_t)merges[i].length - 1) : NULL;
        size_t left = space ? (size_t)(space - merges[i].data) : 0;
        if (!space || !lrt_model_add_merge(m, names, merges[i].data, left, space + 1, (size_t)merges[i].length - left - 1))
            ok = lrt_fail(error, LRT_INVALID, "%s: merge %llu of the tokenizer, '%.*s', joins no two tokens", file->path,
                          (unsigned long long)i, (int)(merges[i].length < 40 ? merges[i].length : 40), merges[i].data);
    }
    free(merges);
    return ok;
}

/* --- merges that follow from scores ------------------------------------------------------------------------------------------ */

typedef struct Scored {
    double score;
    LrtMerge merge;
} Scored;

static int by_score(const void *a, const void *b)
{
    const Scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->merge.left != y->merge.left)
        return x->merge.left < y->merge.left ? -1 : 1;
    return (x->merge.right > y->merge.right) - (x->merge.right < y->merge.right);
}

/* All ways to make a token of two; returns how many there are, and writes them to `out` unless it is NULL. */
static size_t cuts_of(const LrtNames *names, int32_t id, double score, Scored *out)
{
    const char *text = names->text[id];
    size_t count = 0;
    for (size_t cut = 1; cut < names->length[id]; cut++) {
        if ((text[cut] & 0xc0) == 0x80)
            continue; /* inside a character */
        const int32_t left = lrt_names_find(names, text, cut), right = lrt_names_find(names, text + cut, names->length[id] - cut);
        if (left < 0 || right < 0)
            continue;
        if (out)
            out[count] = (Scored){score, {left, right, id}};
        count++;
    }
    return count;
}

enum { TOKEN_BYTES_MAX = 1024, MERGES_MAX = 1 << 26 };

/* SentencePiece joins the pair whose token has the best score; so merges ranked by score do the same. */
static bool derive_merges(LrtTokenizerModel *m, const GgufFile *file, const LrtNames *names, LrtError *error)
{
    const GgufValue *scores = numbers(file, "tokenizer.ggml.scores", (uint64_t)m->count);
    const GgufValue *types = numbers(file, "tokenizer.ggml.token_type", (uint64_t)m->count);
    if (!scores)
        return lrt_fail(error, LRT_INVALID, "%s: no score for each token in tokenizer.ggml.scores", file->path);
    Scored *all = NULL;
    for (int pass = 0; pass < 2; pass++) { /* counts, then writes */
        size_t count = 0;
        for (int32_t id = 0; id < m->count; id++) {
            const double score = gguf_element(scores, (uint64_t)id);
            if (names->length[id] <= TOKEN_BYTES_MAX && score == score && type_of(types, (uint64_t)id) == TYPE_NORMAL)
                count += cuts_of(names, id, score, all ? all + count : NULL);
        }
        if (count >= MERGES_MAX)
            return lrt_fail(error, LRT_INVALID, "%s: its tokens can be joined in %zu ways", file->path, count);
        if (!all && !(all = malloc(sizeof *all * (count + 1))))
            return lrt_fail(error, LRT_FAILED, "out of memory");
        m->merge_count = (int32_t)count;
    }
    qsort(all, (size_t)m->merge_count, sizeof *all, by_score);
    m->merges = malloc(sizeof *m->merges * ((size_t)m->merge_count + 1));
    for (int32_t i = 0; m->merges && i < m->merge_count; i++)
        m->merges[i] = all[i].merge;
    free(all);
    return m->merges || lrt_fail(error, LRT_FAILED, "out of memory");
}

static int32_t token_key(const LrtTokenizerModel *m, const GgufFile *file, const char *key, double fallback)
{
    double id = gguf_number(file, key, fallback);
    return id >= 0 && id < m->count ? (int32_t)id : -1;
}

static void add_text(LrtTemplate *t, const LrtTokenizerRules *r, int32_t text, bool begin, bool end)
{
    if (begin)
        lrt_template_add(t, r->begin, 0);
    lrt_template_add(t, text, 0);
    if (end)
        lrt_template_add(t, r->end, 0);
}

/* <s> A </s> and <s> A </s> <s> B </s>, as far as the file asks for them. */
static void set_templates(LrtTokenizerRules *r, bool begin, bool end)
{
    r->single.count = r->pair.count = 0;
    add_text(&r->single, r, TEMPLATE_FIRST, begin, end);
    add_text(&r->pair, r, TEMPLATE_FIRST, begin, end);
    add_text(&r->pair, r, TEMPLATE_SECOND, begin, end);
}

bool lrt_read_tokenizer_gguf(LrtTokenizerModel *m, const char *path, LrtError *error)
{
    LrtNames names = {0};
    GgufFile *file = gguf_open(path, error);
    if (!file)
        return false;
    LrtTokenizerRules *r = &m->rules;
    bool ok = read_kind(m, file, error) && read_tokens(m, file, &names, error) &&
              (r->kind == TOKENIZER_SPM ? derive_merges(m, file, &names, error) : read_merges(m, file, &names, error));
    if (ok) {
        const bool spm = r->kind == TOKENIZER_SPM; /* as llama.cpp does without these keys */
        r->begin = token_key(m, file, "tokenizer.ggml.bos_token_id", spm ? 1 : -1);
        r->end = token_key(m, file, "tokenizer.ggml.eos_token_id", spm ? 2 : -1);
        if (spm)
            r->unknown = token_key(m, file, "tokenizer.ggml.unknown_token_id", 0);
        set_templates(r, r->begin >= 0 && gguf_number(file, "tokenizer.ggml.add_bos_token", spm) != 0,
                      r->end >= 0 && gguf_number(file, "tokenizer.ggml.add_eos_token", 0) != 0);
    }
    lrt_names_free(&names);
    gguf_close(file);
    return ok;
}
