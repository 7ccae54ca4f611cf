/* answer.c - what programs of encoders answer: a class, a value, hidden words. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/infer.h"

static bool no_memory(Infer *f)
{
    return lrt_fail(f->error, LRT_FAILED, "out of memory");
}

/* --- classes and values ------------------------------------------------------------------------------------------------------ */

static LrtLabels *open_labels(Infer *f)
{
    return lrt_labels_new(f->run.settings, f->run.program->model, f->run.program->task == LRT_TASK_VALUES, f->error);
}

static void softmax(const float *logits, int64_t count, double *p)
{
    double most = (double)logits[0], sum = 0;
    for (int64_t i = 1; i < count; i++)
        most = fmax(most, (double)logits[i]);
    for (int64_t i = 0; i < count; i++)
        sum += p[i] = exp((double)logits[i] - most);
    for (int64_t i = 0; i < count; i++)
        p[i] /= sum;
}

static int64_t most_likely(const double *p, int64_t count)
{
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        best = p[i] > p[best] ? i : best;
    return best;
}

static const char *name_of(const LrtLabels *labels, int64_t label, char number[24])
{
    const char *name = label < lrt_labels_count(labels) ? lrt_labels_name(labels, (int32_t)label) : NULL;
    snprintf(number, 24, "%lld", (long long)label);
    return name ? name : number;
}

static bool print_json(Infer *f, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (text)
        puts(text);
    json_decref(object);
    free(text);
    return text || no_memory(f);
}

static bool print_class(Infer *f, const LrtLabels *labels)
{
    int64_t count = f->run.program->logits;
    double *p = malloc(sizeof *p * (size_t)count);
    char number[24];
    if (!p)
        return no_memory(f);
    softmax(lrt_infer_logits(f, 0), count, p);
    int64_t best = most_likely(p, count);
    bool ok = true;
    if (f->args.value[JSON]) {
        json_t *all = json_object();
        for (int64_t i = 0; i < count; i++)
            json_object_set_new(all, name_of(labels, i, number), json_real(p[i]));
        ok = print_json(f, json_pack("{s:s, s:o}", "label", name_of(labels, best, number), "probabilities", all));
    } else {
        printf("%s\t%.4f\n", name_of(labels, best, number), p[best]);
    }
    free(p);
    return ok;
}

static bool print_value(Infer *f)
{
    double value = (double)lrt_infer_logits(f, 0)[0];
    if (f->args.value[JSON])
        return print_json(f, json_pack("{s:f}", "value", value));
    printf("%.6g\n", value);
    return true;
}

/* --- hidden words ---------------------------------------------------------------------------------------------------------------- */

enum { WORDS = 5 };

/* The likeliest tokens of the row in front, the best first. */
static void choose_words(const double *p, int64_t count, int64_t *best)
{
    for (int w = 0; w < WORDS; w++) {
        int64_t found = -1;
        for (int64_t i = 0; i < count; i++) {
            bool taken = false;
            for (int k = 0; k < w; k++)
                taken = taken || best[k] == i;
            if (!taken && (found < 0 || p[i] > p[found]))
                found = i;
        }
        best[w] = found;
    }
}

static bool print_words(Infer *f, int64_t place)
{
    int64_t count = f->run.program->logits, best[WORDS];
    double *p = malloc(sizeof *p * (size_t)count);
    char *text = malloc(lrt_tokenizer_longest(f->tokenizer) + 1);
    json_t *all = json_array();
    bool ok = (p && text && all) || no_memory(f);
    if (ok) {
        softmax(lrt_infer_logits(f, 0), count, p);
        choose_words(p, count, best);
    }
    for (int w = 0; ok && w < WORDS && best[w] >= 0; w++) {
        int32_t id = (int32_t)best[w];
        text[lrt_tokenizer_decode_text(f->tokenizer, &id, 1, false, text)] = '\0';
        if (f->args.value[JSON])
            json_array_append_new(all, json_pack("{s:s%, s:f}", "token", text, strlen(text), "probability", p[id]));
        else
            printf("%s%s\t%.4f", w ? "\t" : "", text, p[id]);
    }
    free(p);
    free(text);
    if (ok && f->args.value[JSON])
        return print_json(f, json_pack("{s:I, s:o}", "place", (json_int_t)place, "tokens", all));
    json_decref(all);
    if (ok)
        putchar('\n');
    return ok;
}

static bool print_hidden(Infer *f, const LrtIds *ids)
{
    int32_t mask = lrt_tokenizer_find(f->tokenizer, "[MASK]");
    bool any = false;
    mask = mask >= 0 ? mask : lrt_tokenizer_find(f->tokenizer, "<mask>");
    if (mask < 0)
        return lrt_fail(f->error, LRT_INVALID, "the tokenizer has no mask token");
    for (size_t i = 0; i < ids->count; i++) {
        if (ids->data[i] != mask)
            continue;
        any = true;
        lrt_infer_head(f, (int64_t)i + f->run.program->prefix, 1);
        if (!print_words(f, (int64_t)i))
            return false;
    }
    return any || lrt_fail(f->error, LRT_INVALID, "the text hides no word: put [MASK] (RoBERTa: <mask>) where one is to be found");
}

/* --- texts --------------------------------------------------------------------------------------------------------------------------- */

static bool run_model(Infer *f, const LrtEncoded *e)
{
    f->past = 0;
    f->types = f->run.program->types > 1 && lrt_tokenizer_types(f->tokenizer) > 1 ? e->types.data : NULL;
    if (e->removed)
        fprintf(stderr, "%s: note: %zu tokens cut off; compile with a larger --length\n", f->run.program->model, e->removed);
    return e->ids.count ? lrt_infer_forward(f, e->ids.data, (int64_t)e->ids.count, (int64_t)e->ids.count)
                        : lrt_fail(f->error, LRT_INVALID, "the text is empty");
}

static bool answer_pair(Infer *f, const LrtPair *pair, const LrtLabels *labels)
{
    const LrtProgram *p = f->run.program;
    LrtEncoded e = {0};
    bool ok = lrt_tokenizer_encode_pair(f->tokenizer, pair, (size_t)(p->max_length - p->prefix - p->infix), &e, f->error) &&
              run_model(f, &e);
    if (ok && p->task == LRT_TASK_TOKENS)
        ok = print_hidden(f, &e.ids);
    else if (ok)
        ok = p->task == LRT_TASK_VALUES ? print_value(f) : print_class(f, labels);
    lrt_encoded_free(&e);
    return ok;
}

static bool answer_lines(Infer *f, const LrtLabels *labels)
{
    size_t length;
    char *text = lrt_read_all(stdin, &length, f->error);
    bool ok = text != NULL;
    for (size_t at = 0; ok && at < length;) {
        char *end = memchr(text + at, '\n', length - at);
        size_t stop = end ? (size_t)(end - text) : length;
        ok = answer_pair(f, &(LrtPair){.first = text + at, .first_length = stop - at}, labels);
        at = stop + 1;
    }
    free(text);
    return ok;
}

static bool answer_ids(Infer *f)
{
    return lrt_fail(f->error, LRT_INVALID, "--ids is of models that predict the next token; use --logits");
}

bool lrt_answer(Infer *f)
{
    const LrtArgs *a = &f->args;
    if (a->value[IDS])
        return answer_ids(f);
    LrtLabels *labels = lrt_need_tokenizer(f) ? open_labels(f) : NULL;
    if (!labels)
        return false;
    LrtPair pair = {.first = a->positional[0], .second = a->positional[1]};
    pair.first_length = pair.first ? strlen(pair.first) : 0;
    pair.second_length = pair.second ? strlen(pair.second) : 0;
    bool ok = a->positional_count > 2    ? lrt_fail(f->error, LRT_INVALID, "unexpected '%s': one text, or two", a->positional[2])
              : a->positional_count == 0 ? answer_lines(f, labels)
                                         : answer_pair(f, &pair, labels);
    lrt_labels_free(labels);
    return ok;
}

/* --- a file -------------------------------------------------------------------------------------------------------------------- */

typedef struct Tally {
    int64_t rows, correct;
    double loss;                   /* sum: cross-entropy, or squared error */
    double x, y, xx, yy, xy;       /* of values: predicted, wanted */
} Tally;

static bool tally_row(Infer *f, const LrtDocument *d, Tally *t)
{
    const LrtProgram *p = f->run.program;
    double *likely = malloc(sizeof *likely * (size_t)p->logits);
    f->past = 0;
    f->types = p->types > 1 ? d->types : NULL;
    bool ok = (likely || no_memory(f)) && lrt_infer_forward(f, d->tokens, d->length, d->length);
    t->rows++;
    if (ok && p->task == LRT_TASK_VALUES) {
        double x = (double)lrt_infer_logits(f, 0)[0], y = (double)d->value;
        t->loss += (x - y) * (x - y);
        t->x += x, t->y += y, t->xx += x * x, t->yy += y * y, t->xy += x * y;
    } else if (ok) {
        softmax(lrt_infer_logits(f, 0), p->logits, likely);
        t->loss -= log(likely[d->label]);
        t->correct += most_likely(likely, p->logits) == d->label;
    }
    free(likely);
    return ok;
}

static bool print_tally(Infer *f, const Tally *t)
{
    double n = (double)t->rows, loss = t->loss / n, accuracy = (double)t->correct / n;
    bool values = f->run.program->task == LRT_TASK_VALUES;
    double spread = sqrt((n * t->xx - t->x * t->x) * (n * t->yy - t->y * t->y));
    double pearson = spread > 0 ? (n * t->xy - t->x * t->y) / spread : 0;
    if (f->args.value[JSON])
        return print_json(f, values ? json_pack("{s:I, s:f, s:f}", "rows", (json_int_t)t->rows, "squared_error", loss, "pearson", pearson)
                                    : json_pack("{s:I, s:f, s:f}", "rows", (json_int_t)t->rows, "loss", loss, "accuracy", accuracy));
    if (values)
        printf("%lld rows, mean squared error %.6f, Pearson correlation %.4f\n", (long long)t->rows, loss, pearson);
    else
        printf("%lld rows, loss %.4f, accuracy %.2f %%\n", (long long)t->rows, loss, 100 * accuracy);
    return true;
}

bool lrt_evaluate(Infer *f)
{
    const LrtProgram *p = f->run.program;
    const char *path = f->args.value[EVALUATE];
    if (!lrt_is_sequence_task(p))
        return lrt_fail(f->error, LRT_INVALID, "--evaluate is of models with a class or a value for a sequence; this one is none");
    LrtLabels *labels = lrt_need_tokenizer(f) ? open_labels(f) : NULL;
    if (!labels)
        return false;
    int32_t length = (int32_t)(p->max_length - p->prefix - p->infix);
    LrtDataset *data = lrt_dataset_open_labelled(path, f->tokenizer, length, labels, f->error);
    bool ok = data && lrt_labels_fit(labels, path, p->logits, f->error);
    Tally tally = {0};
    for (int64_t i = 0; ok && i < lrt_dataset_size(data); i++) {
        LrtDocument d = lrt_dataset_document(data, i);
        ok = tally_row(f, &d, &tally);
    }
    ok = ok && print_tally(f, &tally);
    lrt_dataset_close(data);
    lrt_labels_free(labels);
    return ok;
}
