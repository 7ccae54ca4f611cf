/* tokenizer_gguf.c - byte-level BPE from the metadata of a GGUF file. */
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

static bool read_kind(LrtTokenizerModel *m, const GgufFile *file, LrtError *error)
{
    GgufString model = gguf_string(file, "tokenizer.ggml.model"), pre = gguf_string(file, "tokenizer.ggml.pre");
    if (!gguf_string_is(model, "gpt2"))
        return lrt_fail(error, LRT_INVALID, "%s: tokenizers of kind '%.*s' are not supported; byte-level BPE (gpt2) is", file->path,
                        model.data ? (int)model.length : 4, model.data ? model.data : "none");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!(pre.data ? gguf_string_is(pre, kinds[i].pre) : !strcmp(kinds[i].pre, "default")))
            continue;
        m->rules.ignore_merges = kinds[i].ignore_merges;
        return (!kinds[i].nfc || lrt_model_add_step(m, STEP_NFC, file->path, error)) &&
               (!kinds[i].first || lrt_model_add_split(m, kinds[i].first, false, file->path, error)) &&
               lrt_model_add_split(m, kinds[i].pattern, false, file->path, error);
    }
    return lrt_fail(error, LRT_INVALID, "%s: pre-tokenizer '%.*s' is not supported; gpt-2, smollm, llama-bpe, qwen2 and roberta-bpe are",
                    file->path, (int)pre.length, pre.data);
}

enum { TYPE_CONTROL = 3, TYPE_USER = 4 };

static bool read_tokens(LrtTokenizerModel *m, const GgufFile *file, LrtNames *names, LrtError *error)
{
    GgufString *tokens;
    uint64_t count;
    if (!gguf_strings(file, "tokenizer.ggml.tokens", &tokens, &count, error))
        return false;
    const GgufValue *types = gguf_find(file, "tokenizer.ggml.token_type");
    bool typed = types && types->is_array && types->count == count && types->type != GGUF_STRING;
    bool ok = count < INT32_MAX / 4 && lrt_model_reserve(m, (int32_t)count, error);
    names->text = calloc((size_t)count + 1, sizeof *names->text);
    names->length = calloc((size_t)count + 1, sizeof *names->length);
    if (!names->text || !names->length)
        ok = lrt_fail(error, LRT_FAILED, "out of memory");
    for (uint64_t i = 0; ok && i < count; i++) {
        int type = typed ? (int)gguf_element(types, i) : 1;
        bool added = type == TYPE_CONTROL || type == TYPE_USER;
        names->text[i] = tokens[i].data;
        names->length[i] = (size_t)tokens[i].length;
        m->flags[i] = (uint8_t)(added ? TOKEN_ADDED | (type == TYPE_CONTROL ? TOKEN_SPECIAL : 0) : 0);
        ok = lrt_model_set_token(m, (int32_t)i, tokens[i].data, (size_t)tokens[i].length, added, error);
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

static int32_t token_key(const LrtTokenizerModel *m, const GgufFile *file, const char *key)
{
    double id = gguf_number(file, key, -1);
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
    bool ok = read_kind(m, file, error) && read_tokens(m, file, &names, error) && read_merges(m, file, &names, error);
    if (ok) {
        LrtTokenizerRules *r = &m->rules;
        r->begin = token_key(m, file, "tokenizer.ggml.bos_token_id");
        r->end = token_key(m, file, "tokenizer.ggml.eos_token_id");
        set_templates(r, r->begin >= 0 && gguf_number(file, "tokenizer.ggml.add_bos_token", 0) != 0,
                      r->end >= 0 && gguf_number(file, "tokenizer.ggml.add_eos_token", 0) != 0);
    }
    lrt_names_free(&names);
    gguf_close(file);
    return ok;
}
