/* train_data.c - the data of the training program: files, labels, masks, and the batches made of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/random.h"
#include "runtime/train.h"

/* --- files ------------------------------------------------------------------------------------------------------------------ */

static void say_counts(const char *path, const LrtDataset *data, bool labelled)
{
    const LrtDataCounts *c = lrt_dataset_counts(data);
    fprintf(stderr, "%s: %lld rows, %lld documents, %lld tokens", path, (long long)c->rows, (long long)c->documents,
            (long long)c->tokens);
    if (!labelled)
        fprintf(stderr, ", %lld of them targets", (long long)c->targets);
    if (c->split)
        fprintf(stderr, "; %lld split", (long long)c->split);
    if (c->truncated)
        fprintf(stderr, "; %lld truncated", (long long)c->truncated);
    if (c->skipped)
        fprintf(stderr, "; %lld skipped (no target)", (long long)c->skipped);
    fprintf(stderr, "%s\n", c->no_end_token ? "; the tokenizer has no end token, none is added" : "");
}

static bool open_labels(Train *t)
{
    const LrtProgram *p = t->run.program;
    const json_t *config = t->names ? t->names : lrt_checkpoint_config(t->checkpoint);
    const char *source = t->names ? t->args.value[INIT] : lrt_checkpoint_path(t->checkpoint);
    t->labels = lrt_labels_new(config, source ? source : "the adapter", p->task == LRT_TASK_VALUES, t->error);
    return t->labels != NULL;
}

static LrtDataset *open_labelled(Train *t, const char *path)
{
    if (!t->labels && !open_labels(t))
        return NULL;
    LrtDataset *data = lrt_dataset_open_labelled(path, t->tokenizer, (int32_t)t->length, t->labels, t->error);
    if (data && !lrt_labels_fit(t->labels, path, t->run.program->logits, t->error)) {
        lrt_dataset_close(data);
        return NULL;
    }
    return data;
}

/* An infix stands behind the prompt. */
static bool has_prompts(const Train *t, const LrtDataset *data, const char *path)
{
    for (int64_t i = 0; i < lrt_dataset_size(data) && t->run.program->infix && t->run.program->task == LRT_TASK_NEXT_TOKEN; i++)
        if (lrt_dataset_document(data, i).targets[0] >= 0)
            return lrt_fail(t->error, LRT_INVALID,
                            "%s: the infix stands behind the prompt of a document: give \"prompt\" and \"completion\", "
                            "or compile without infix", path);
    return true;
}

static LrtDataset *open_text(Train *t, const char *path)
{
    const char *way = t->args.value[LONG] ? t->args.value[LONG] : "split";
    LrtDataOptions how = {.length = (int32_t)t->length, .append_end = t->run.program->task == LRT_TASK_NEXT_TOKEN};
    how.too_long = !strcmp(way, "truncate") ? LRT_LONG_TRUNCATE : LRT_LONG_SPLIT;
    if (strcmp(way, "truncate") != 0 && strcmp(way, "split") != 0) {
        lrt_report(t->error, LRT_INVALID, "--long: '%s' is not split or truncate", way);
        return NULL;
    }
    LrtDataset *data = lrt_dataset_open(path, t->tokenizer, &how, t->error);
    if (!data || has_prompts(t, data, path))
        return data;
    lrt_dataset_close(data);
    return NULL;
}

static LrtDataset *open_dataset(Train *t, const char *path)
{
    bool labelled = lrt_is_sequence_task(t->run.program);
    LrtDataset *data = labelled ? open_labelled(t, path) : open_text(t, path);
    if (data)
        say_counts(path, data, labelled);
    return data;
}

/* The names of the classes go into the adapter. */
static bool keep_names(Train *t)
{
    if (!t->labels || lrt_labels_are_values(t->labels))
        return true;
    json_t *names = lrt_labels_json(t->labels);
    t->run.class_names = names ? json_dumps(names, JSON_COMPACT) : NULL;
    json_decref(names);
    return t->run.class_names || lrt_fail(t->error, LRT_FAILED, "out of memory");
}

/* What stands for a hidden token: BERT's and RoBERTa's name for it. */
static bool find_mask(Train *t, const char *path)
{
    static const char *const names[] = {"[MASK]", "<mask>"};
    t->mask = -1;
    for (int i = 0; i < 2 && t->mask < 0; i++)
        t->mask = lrt_tokenizer_find(t->tokenizer, names[i]);
    return t->run.program->task != LRT_TASK_TOKENS || t->mask >= 0 ||
           lrt_fail(t->error, LRT_INVALID, "%s: the tokenizer has no mask token, which this model is trained with", path);
}

bool lrt_open_data(Train *t)
{
    const char *tensors = t->args.value[TENSORS], *data = t->args.value[DATA], *validation = t->args.value[VALIDATION];
    if (!tensors == !data)
        return lrt_fail(t->error, LRT_INVALID, "give the training data with --data FILE (or --tensors FILE)");
    if (tensors)
        return lrt_batches_read(&t->batches, tensors, (int)t->run.program->task, t->error);
    const char *path = lrt_checkpoint_tokenizer_path(t->checkpoint);
    if (!path)
        return lrt_fail(t->error, LRT_INVALID, "%s: no tokenizer.json or vocab.txt in it, which --data needs",
                        lrt_checkpoint_path(t->checkpoint));
    t->tokenizer = lrt_tokenizer_open(path, t->error);
    if (!t->tokenizer || !find_mask(t, path) || !(t->data = open_dataset(t, data)) || !keep_names(t))
        return false;
    if (validation && !(t->validation = open_dataset(t, validation)))
        return false;
    t->order = calloc((size_t)lrt_dataset_size(t->data) + 1, sizeof *t->order);
    t->hidden = calloc(2 * (size_t)t->length + 1, sizeof *t->hidden);
    t->ordered_epoch = -1;
    return (t->order && t->hidden) || lrt_fail(t->error, LRT_FAILED, "out of memory");
}

void lrt_close_data(Train *t)
{
    lrt_batches_free(&t->batches);
    lrt_dataset_close(t->data);
    lrt_dataset_close(t->validation);
    lrt_labels_free(t->labels);
    lrt_tokenizer_close(t->tokenizer);
    json_decref(t->names);
    free(t->order);
    free(t->hidden);
}

/* --- documents ---------------------------------------------------------------------------------------------------------------- */

static int64_t learned_tokens(const Train *t)
{
    return t->run.program->prefix + t->run.program->infix;
}

/* Which tokens are to be found again (Devlin et al., 2019): 15 % of them, of which 80 % are hidden by the mask, 10 % by any token,
 * 10 % stand as they are.  It depends on seed, epoch, document and place only. */
static void hide(Train *t, const LrtDocument *d, int64_t epoch, int32_t *tokens, int32_t *targets)
{
    const uint64_t stream = lrt_random(lrt_stream("mask"), d->id, (uint64_t)epoch);
    for (int64_t i = 0; i < d->length; i++) {
        const double chosen = lrt_uniform(t->seed, stream, 3 * (uint64_t)i), way = lrt_uniform(t->seed, stream, 3 * (uint64_t)i + 1);
        const bool hidden = chosen < 0.15 && !lrt_tokenizer_is_special(t->tokenizer, d->tokens[i]);
        tokens[i] = d->tokens[i];
        targets[i] = hidden ? d->tokens[i] : LRT_NO_TARGET;
        if (hidden && way < 0.8)
            tokens[i] = t->mask;
        else if (hidden && way < 0.9)
            tokens[i] = (int32_t)(lrt_random(t->seed, stream, 3 * (uint64_t)i + 2) % (uint64_t)lrt_tokenizer_size(t->tokenizer));
    }
}

static bool add_labelled(Train *t, const LrtDocument *d)
{
    LrtSequence sequence = {.tokens = d->tokens, .types = t->run.program->types > 1 ? d->types : NULL, .length = d->length,
                            .number = d->id, .prompt = d->length, .first_target = LRT_NO_TARGET, .label = d->label, .value = d->value};
    return lrt_batch_add(&t->run, &sequence, t->error);
}

static bool add_text(Train *t, const LrtDocument *d)
{
    int64_t prompt = 0; /* what it predicts first comes behind it */
    while (prompt < d->length && d->targets[prompt++] < 0)
        ;
    bool all = d->length > 0 && d->targets[0] >= 0;
    LrtSequence sequence = {.tokens = d->tokens, .targets = d->targets, .length = d->length, .number = d->id, .prompt = prompt,
                            .first_target = all ? d->tokens[0] : LRT_NO_TARGET, .label = -1};
    return lrt_batch_add(&t->run, &sequence, t->error);
}

static bool add_masked(Train *t, const LrtDocument *d, int64_t epoch)
{
    int32_t *tokens = t->hidden, *targets = t->hidden + t->length;
    hide(t, d, epoch, tokens, targets);
    LrtSequence sequence = {.tokens = tokens, .targets = targets, .length = d->length, .number = d->id, .prompt = d->length,
                            .first_target = LRT_NO_TARGET, .label = -1};
    return lrt_batch_add(&t->run, &sequence, t->error);
}

static bool add_document(Train *t, const LrtDataset *data, int64_t index, int64_t epoch)
{
    LrtDocument d = lrt_dataset_document(data, index);
    if (lrt_is_sequence_task(t->run.program))
        return add_labelled(t, &d);
    return t->run.program->task == LRT_TASK_TOKENS ? add_masked(t, &d, epoch) : add_text(t, &d);
}

/* --- batches ------------------------------------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The next batch of documents; at the end of an epoch the next one begins. */
static bool next_documents(Train *t)
{
    int64_t size = lrt_dataset_size(t->data), capacity = t->run.program->max_tokens;
    if (t->state.place >= size) {
        t->state.place = 0;
        t->state.epoch++;
    }
    if (t->ordered_epoch != t->state.epoch) {
        lrt_dataset_shuffle(t->data, t->seed, (uint64_t)t->state.epoch, t->order);
        t->ordered_epoch = t->state.epoch;
    }
    int64_t count = lrt_dataset_take(t->data, t->order, t->state.place, size, capacity, t->batch, learned_tokens(t));
    int64_t *taken = t->order + t->state.place; /* sorted in place: the same documents at the same places on a resumed run */
    qsort(taken, (size_t)count, sizeof *taken, by_number);
    t->state.place += count;
    lrt_batch_clear(&t->run);
    for (int64_t i = 0; i < count; i++)
        if (!add_document(t, t->data, taken[i], t->state.epoch))
            return false;
    return true;
}

bool lrt_next_batch(Train *t, int64_t index)
{
    if (t->data)
        return next_documents(t);
    if (index >= t->batches.steps)
        return lrt_fail(t->error, LRT_INVALID, "%s: has only %lld batches", t->args.value[TENSORS], (long long)t->batches.steps);
    return lrt_batches_load(&t->batches, index, &t->run, t->error);
}

bool lrt_validation_batch(Train *t, int64_t *place)
{
    int64_t size = lrt_dataset_size(t->validation), left = size - *place;
    int64_t *order = malloc(sizeof *order * (size_t)(left + 1));
    if (!order)
        return lrt_fail(t->error, LRT_FAILED, "out of memory");
    for (int64_t i = 0; i < left; i++)
        order[i] = *place + i;
    int64_t count = lrt_dataset_take(t->validation, order, 0, left, t->run.program->max_tokens, t->run.program->max_sequences,
                                     learned_tokens(t));
    free(order);
    lrt_batch_clear(&t->run);
    bool ok = true;
    for (int64_t i = 0; ok && i < count; i++)
        ok = add_document(t, t->validation, *place + i, 0);
    *place += count;
    return ok;
}

int64_t lrt_count_steps(Train *t)
{
    int64_t batches = 0, size = lrt_dataset_size(t->data);
    for (int64_t epoch = 0; epoch < t->epochs; epoch++) {
        lrt_dataset_shuffle(t->data, t->seed, (uint64_t)epoch, t->order);
        for (int64_t place = 0; place < size; batches++)
            place += lrt_dataset_take(t->data, t->order, place, size, t->run.program->max_tokens, t->batch, learned_tokens(t));
    }
    t->ordered_epoch = -1;
    return (batches + t->accumulate - 1) / t->accumulate;
}
