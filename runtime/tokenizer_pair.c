/* tokenizer_pair.c - one text or two as a sequence for a model: cut to a length, joined by the tokenizer's special tokens, each
 * token with its type. */
#include "runtime/tokenizer_index.h"

static const LrtTemplate *template_of(const LrtTokenizer *t, bool pair)
{
    return pair ? &t->model.rules.pair : &t->model.rules.single;
}

size_t lrt_tokenizer_specials(const LrtTokenizer *t, bool pair)
{
    return (size_t)template_of(t, pair)->count - (pair ? 2 : 1);
}

void lrt_encoded_free(LrtEncoded *e)
{
    lrt_ids_free(&e->ids);
    lrt_ids_free(&e->types);
}

/* Hugging Face's longest_first: the longer text is cut to what the shorter one leaves; when that is not enough both get half,
 * an odd token going to the longer one, or to the second of two equal ones. */
static void cut_longest(size_t *first, size_t *second, size_t most)
{
    size_t *shorter = *first > *second ? second : first, *longer = *first > *second ? first : second;
    if (*first + *second <= most)
        return;
    *longer = *shorter > most ? *shorter : most - *shorter;
    *longer = *longer > *shorter ? *longer : *shorter;
    if (*first + *second > most) {
        *shorter = most / 2;
        *longer = most / 2 + most % 2;
    }
}

static bool push_text(LrtEncoded *out, const LrtIds *ids, int32_t type)
{
    for (size_t i = 0; i < ids->count; i++)
        if (!lrt_ids_push(&out->ids, ids->data[i]) || !lrt_ids_push(&out->types, type))
            return false;
    return true;
}

static bool join(const LrtTemplate *t, const LrtIds texts[2], LrtEncoded *out)
{
    out->ids.count = out->types.count = 0;
    for (int32_t i = 0; i < t->count; i++) {
        bool ok = t->id[i] < 0 ? push_text(out, &texts[t->id[i] == TEMPLATE_SECOND], t->type[i])
                               : lrt_ids_push(&out->ids, t->id[i]) && lrt_ids_push(&out->types, t->type[i]);
        if (!ok)
            return false;
    }
    return true;
}

bool lrt_tokenizer_encode_pair(const LrtTokenizer *t, const LrtPair *pair, size_t most, LrtEncoded *out, LrtError *error)
{
    const size_t specials = lrt_tokenizer_specials(t, pair->second);
    LrtIds texts[2] = {{0}, {0}};
    if (most && most <= specials)
        return lrt_fail(error, LRT_INVALID, "a length of %zu has no room for a text beside %zu special tokens; give a larger --length",
                        most, specials);
    bool ok = lrt_encode_text(t, pair->first, pair->first_length, true, &texts[0], error) &&
              (!pair->second || lrt_encode_text(t, pair->second, pair->second_length, true, &texts[1], error));
    if (ok) {
        const size_t whole = texts[0].count + texts[1].count;
        if (most)
            cut_longest(&texts[0].count, &texts[1].count, most - specials);
        out->removed = whole - texts[0].count - texts[1].count;
        ok = join(template_of(t, pair->second), texts, out) || lrt_fail(error, LRT_FAILED, "out of memory");
    }
    lrt_ids_free(&texts[0]);
    lrt_ids_free(&texts[1]);
    return ok;
}
