/* train.c - the training program: options, steps, evaluation, checkpoints. */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "runtime/adapter.h"
#include "runtime/cpu.h"
#include "runtime/file.h"
#include "runtime/initial.h"
#include "runtime/programs.h"
#include "runtime/train.h"
#include "runtime/weights.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- options ------------------------------------------------------------------------------------------------------------ */

static bool read_numbers(Train *t)
{
    const LrtArgs *a = &t->args;
    const LrtProgram *p = t->run.program;
    LrtOptimizer *o = &t->optimizer;
    const double below_one = 1 - 1e-7;
    int64_t seed = 0, learned = p->prefix + p->infix, longest = p->max_length - learned;
    int64_t most = p->max_tokens / p->max_length;
    bool ok = lrt_args_integer(a, STEPS, 0, 1, INT64_MAX / 2, &t->steps, t->error) &&
              lrt_args_integer(a, EPOCHS, 1, 1, 1000000, &t->epochs, t->error) &&
              lrt_args_integer(a, BATCH, most, 1, p->max_sequences, &t->batch, t->error) &&
              lrt_args_integer(a, LENGTH, longest, 2, longest, &t->length, t->error) &&
              lrt_args_integer(a, ACCUMULATE, 1, 1, 1 << 20, &t->accumulate, t->error) &&
              lrt_args_integer(a, WARMUP, 0, 0, INT64_MAX / 2, &t->warmup, t->error) &&
              lrt_args_integer(a, EVAL_EVERY, 0, 1, INT64_MAX / 2, &t->eval_every, t->error) &&
              lrt_args_integer(a, SAVE_EVERY, 0, 1, INT64_MAX / 2, &t->save_every, t->error) &&
              lrt_args_integer(a, SEED, 0, 0, INT64_MAX, &seed, t->error) &&
              lrt_args_real(a, LR, 2e-4, 0, 1e3, &o->lr, t->error) && lrt_args_real(a, LR_RATIO, 1, 0, 1e6, &o->lr_ratio, t->error) &&
              lrt_args_real(a, WEIGHT_DECAY, 0.01, 0, 1e3, &o->weight_decay, t->error) &&
              lrt_args_real(a, CLIP, 1, 0, 1e9, &o->clip, t->error) && lrt_args_real(a, BETA1, 0.9, 0, below_one, &o->beta1, t->error) &&
              lrt_args_real(a, BETA2, 0.999, 0, below_one, &o->beta2, t->error) &&
              lrt_args_real(a, EPSILON, 1e-8, 0, 1, &o->epsilon, t->error);
    t->seed = (uint64_t)seed;
    if (ok && !a->value[OUT] && !a->value[GRADIENTS] && !a->value[CHECK])
        return lrt_fail(t->error, LRT_INVALID, "give the directory for the adapter with --out DIR");
    return ok;
}

static bool read_schedule(Train *t)
{
    static const char *const names[] = {"constant", "linear", "cosine"};
    const char *name = t->args.value[SCHEDULE] ? t->args.value[SCHEDULE] : "linear";
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, names[i])) {
            t->schedule = (LrtScheduleKind)i;
            return true;
        }
    return lrt_fail(t->error, LRT_INVALID, "--schedule: '%s' is not constant, linear or cosine", name);
}

/* --- opening ---------------------------------------------------------------------------------------------------------------- */

static bool open_weights(Train *t)
{
    const char *path = t->args.value[WEIGHTS];
    if (!path)
        path = json_string_value(json_object_get(t->run.settings, "weights"));
    if (!path)
        return lrt_fail(t->error, LRT_INVALID, "no weights; give the checkpoint with --weights PATH");
    t->checkpoint = lrt_checkpoint_open(path, t->error);
    if (!t->checkpoint)
        return false;
    lrt_hash_text(lrt_checkpoint_hash(t->checkpoint), t->run.base);
    return true;
}

/* From the checkpoint, an adapter to go on with, and what a new one begins as. */
static bool load_params(Train *t)
{
    LrtInitial initial = {0};
    const char *init = t->args.value[INIT];
    if (!init)
        init = json_string_value(json_object_get(t->run.settings, "adapter"));
    bool computed = json_is_true(json_object_get(t->run.settings, "initial"));
    LrtSafetensors *adapter = init ? lrt_adapter_open(init, t->error) : NULL;
    if ((init && !adapter) || (computed && !lrt_initial_open(&initial, t->error))) {
        lrt_safetensors_close(adapter);
        return false;
    }
    LrtSources sources = {.checkpoint = t->checkpoint, .seed = t->seed, .adapter_path = init, .adapter = adapter,
                          .folds = initial.folds, .fold_count = initial.count};
    t->names = adapter ? lrt_adapter_names(adapter) : NULL;
    bool same = !adapter || t->args.value[ANY_BASE] || lrt_adapter_check_base(adapter, init, t->checkpoint, t->error);
    bool ok = same && lrt_load_params(t->run.program, &sources, t->run.weights, t->run.context.base[LRT_BASE_PARAMS], t->run.pool,
                              t->error);
    lrt_safetensors_close(adapter);
    lrt_initial_close(&initial);
    return ok;
}

static bool open_all(Train *t)
{
    int64_t bytes = t->run.program->params_bytes;
    if (!open_weights(t) || !load_params(t) || !lrt_open_data(t))
        return false;
    t->m = lrt_pages(bytes, "the optimizer", t->error);
    t->v = lrt_pages(bytes, "the optimizer", t->error);
    return t->m && t->v && lrt_pieces_open(&t->pieces, t->run.program, t->error);
}

/* --- a step --------------------------------------------------------------------------------------------------------------------- */

const LrtTierCode *lrt_train_code(const Train *t)
{
    return &t->run.program->tiers[t->run.tier];
}

/* Sum of the batch's losses, in the order of rows: of tokens or of sequences. */
double lrt_sum_losses(const Train *t)
{
    const float *loss = (const float *)(t->run.context.base[LRT_BASE_ARENA] + t->run.program->loss_offset);
    double sum = 0;
    if (lrt_is_sequence_task(t->run.program)) {
        for (int64_t i = 0; i < t->run.context.n_segments; i++)
            sum += (double)loss[i];
        return sum;
    }
    for (int64_t i = 0; i < t->run.context.n_target_rows; i++)
        sum += (double)loss[t->run.target_rows[i]];
    return sum;
}

/* Targets of the next `accumulate` batches: each token weighs 1 / all of them. */
bool lrt_count_targets(Train *t, int64_t step, int64_t *targets)
{
    LrtState kept = t->state;
    *targets = 0;
    for (int64_t i = 0; i < t->accumulate; i++) {
        if (!lrt_next_batch(t, step * t->accumulate + i))
            return false;
        *targets += lrt_batch_finish(&t->run);
    }
    t->state = kept;
    return true;
}

/* Gradients of one optimizer step; returns the mean loss. */
bool lrt_compute_gradients(Train *t, int64_t step, double *loss, int64_t *targets)
{
    LrtContext *c = &t->run.context;
    if (!lrt_count_targets(t, step, targets))
        return false;
    lrt_clear_gradients(&t->pieces, c->base[LRT_BASE_GRADS], t->run.pool);
    c->training = 1;
    c->want_gradients = 1;
    c->seed = t->seed;
    c->step = (uint64_t)step;
    c->loss_scale = *targets ? (float)(1.0 / (double)*targets) : 0;
    double sum = 0;
    for (int64_t i = 0; i < t->accumulate; i++) {
        if (!lrt_next_batch(t, step * t->accumulate + i))
            return false;
        lrt_batch_finish(&t->run);
        if (c->n_tokens == 0)
            continue;
        lrt_train_code(t)->forward(c);
        sum += lrt_sum_losses(t);
        lrt_train_code(t)->backward(c);
    }
    *loss = *targets ? sum / (double)*targets : 0;
    return true;
}

/* --- showing ---------------------------------------------------------------------------------------------------------------------- */

static void show_progress(Train *t, double loss, double rate)
{
    double time = now();
    bool terminal = isatty(STDERR_FILENO), last = t->state.step == t->steps;
    if (time - t->last_shown < (terminal ? 0.5 : 5) && !last && t->steps_done > 1)
        return;
    t->last_shown = time;
    double seconds = time - t->started, left = seconds / (double)t->steps_done * (double)(t->steps - t->state.step);
    fprintf(stderr, "%sstep %lld/%lld  loss %.4f  lr %.2e  %.0f tokens/s  %lld MiB  %d:%02d left%s", terminal ? "\r\033[K" : "",
            (long long)t->state.step, (long long)t->steps, loss, rate, (double)t->tokens_done / seconds,
            (long long)(lrt_resident_bytes() >> 20), (int)(left / 60), (int)left % 60, terminal && !last ? "" : "\n");
}

static void write_metrics(Train *t, double loss, double rate, double norm, int64_t tokens, double seconds)
{
    if (!t->metrics)
        return;
    fprintf(t->metrics, "{\"step\": %lld, \"loss\": %.9g, \"lr\": %.9g, \"grad_norm\": %.9g, \"tokens\": %lld, \"seconds\": %.6f, "
            "\"rss_bytes\": %lld}\n", (long long)t->state.step, loss, rate, norm, (long long)tokens, seconds,
            (long long)lrt_resident_bytes());
    fflush(t->metrics);
}

/* --- evaluation and checkpoints ------------------------------------------------------------------------------------------------ */

typedef struct Score {
    double loss;
    int64_t targets, correct; /* correct: of classes */
} Score;

static int64_t count_correct(const Train *t)
{
    const LrtProgram *p = t->run.program;
    const char *logits = t->run.context.base[LRT_BASE_ARENA] + p->logits_offset;
    int64_t correct = 0;
    for (int64_t i = 0; i < t->run.context.n_segments; i++) {
        const float *row = (const float *)(const void *)(logits + i * p->logits_pitch);
        int64_t best = 0;
        for (int64_t k = 1; k < p->logits; k++)
            best = row[k] > row[best] ? k : best;
        correct += best == t->run.labels[i];
    }
    return correct;
}

static bool evaluate(Train *t, Score *score)
{
    LrtContext *c = &t->run.context;
    int64_t size = lrt_dataset_size(t->validation);
    double sum = 0;
    *score = (Score){0};
    c->training = c->want_gradients = 0;
    for (int64_t place = 0; place < size && !interrupted;) {
        if (!lrt_validation_batch(t, &place))
            return false;
        score->targets += lrt_batch_finish(&t->run);
        lrt_train_code(t)->forward(c);
        sum += lrt_sum_losses(t);
        score->correct += t->run.program->task == LRT_TASK_CLASSES ? count_correct(t) : 0;
    }
    score->loss = score->targets ? sum / (double)score->targets : 0;
    return true;
}

static void show_score(Train *t, const Score *score)
{
    bool classes = t->run.program->task == LRT_TASK_CLASSES;
    double accuracy = score->targets ? (double)score->correct / (double)score->targets : 0;
    fprintf(stderr, "%sstep %lld: validation loss %.4f", isatty(STDERR_FILENO) ? "\r\033[K" : "", (long long)t->state.step, score->loss);
    if (classes)
        fprintf(stderr, ", accuracy %.2f %%", 100 * accuracy);
    fputc('\n', stderr);
    if (!t->metrics)
        return;
    fprintf(t->metrics, "{\"step\": %lld, \"validation_loss\": %.9g", (long long)t->state.step, score->loss);
    if (classes)
        fprintf(t->metrics, ", \"accuracy\": %.9g", accuracy);
    fputs("}\n", t->metrics);
    fflush(t->metrics);
}

static bool validate(Train *t)
{
    Score score;
    if (!t->validation)
        return true;
    if (!evaluate(t, &score))
        return false;
    if (interrupted)
        return true;
    show_score(t, &score);
    if (t->state.best >= 0 && score.loss >= t->state.best)
        return true;
    t->state.best = score.loss;
    if (!t->args.value[OUT] || t->state.step == 0)
        return true;
    char *best = lrt_path_join(t->args.value[OUT], "best");
    bool ok = best && lrt_adapter_save(&t->run, best, t->error);
    free(best);
    return ok;
}

static bool save(Train *t, bool resumable)
{
    const char *out = t->args.value[OUT];
    if (!out)
        return true;
    return lrt_adapter_save(&t->run, out, t->error) &&
           (!resumable || lrt_state_save(&t->run, &t->state, t->m, t->v, out, t->error));
}

/* --- the loop ------------------------------------------------------------------------------------------------------------------ */

static bool train_step(Train *t)
{
    double loss, began = now();
    int64_t targets;
    if (!lrt_compute_gradients(t, t->state.step, &loss, &targets))
        return false;
    LrtContext *c = &t->run.context;
    double norm = lrt_gradient_norm(&t->pieces, c->base[LRT_BASE_GRADS], t->run.pool);
    if (!isfinite(loss) || !isfinite(norm))
        return lrt_fail(t->error, LRT_FAILED, "step %lld: the loss is not finite; try a smaller --lr", (long long)t->state.step);
    double factor = t->optimizer.clip > 0 ? t->optimizer.clip / (norm + 1e-6) : 1;
    double rate = t->optimizer.lr * lrt_schedule(t->schedule, t->state.step, t->steps, t->warmup);
    t->state.step++;
    lrt_adamw(&t->pieces, &t->optimizer, rate, t->state.step, factor < 1 ? factor : 1, c->base[LRT_BASE_PARAMS],
              c->base[LRT_BASE_GRADS], t->m, t->v, t->run.tier, t->run.pool);
    t->tokens_done += c->n_tokens * t->accumulate;
    t->steps_done++;
    write_metrics(t, loss, rate, norm, targets, now() - began);
    show_progress(t, loss, rate);
    return true;
}

/* A run is the same when data, seed and every number that enters a step are. */
static uint64_t identity_of(const Train *t)
{
    struct {
        double numbers[8];
        int64_t integers[8];
        uint64_t data, seed;
    } all;
    memset(&all, 0, sizeof all);
    const LrtOptimizer *o = &t->optimizer;
    double numbers[] = {o->lr, o->lr_ratio, o->beta1, o->beta2, o->epsilon, o->weight_decay, o->clip, 0};
    int64_t integers[] = {t->steps, t->warmup, t->accumulate, t->batch, t->length, (int64_t)t->schedule, 0, 0};
    memcpy(all.numbers, numbers, sizeof numbers);
    memcpy(all.integers, integers, sizeof integers);
    all.data = t->data ? lrt_dataset_hash(t->data)
                       : XXH3_64bits(t->batches.ids, sizeof(int64_t) * (size_t)(t->batches.steps * t->batches.rows * t->batches.length));
    all.seed = t->seed;
    return XXH3_64bits(&all, sizeof all);
}

static bool start(Train *t)
{
    if (!t->steps)
        t->steps = t->data ? lrt_count_steps(t) : t->batches.steps / t->accumulate;
    t->state = (LrtState){.best = -1};
    t->state.identity = identity_of(t);
    const char *out = t->args.value[OUT];
    if (!t->data && t->steps * t->accumulate > t->batches.steps)
        return lrt_fail(t->error, LRT_INVALID, "%s: has only %lld batches, %lld are asked for", t->args.value[TENSORS],
                        (long long)t->batches.steps, (long long)(t->steps * t->accumulate));
    if (t->args.value[RESUME] && !lrt_state_load(&t->run, &t->state, t->m, t->v, out, t->error))
        return false;
    if (!lrt_make_directory(out, t->error))
        return false;
    if (access(out, W_OK) != 0)
        return lrt_fail(t->error, LRT_FAILED, "cannot write to '%s': %s", out, strerror(errno));
    if (t->args.value[METRICS] && !(t->metrics = fopen(t->args.value[METRICS], t->args.value[RESUME] ? "a" : "w")))
        return lrt_fail(t->error, LRT_FAILED, "cannot write '%s': %s", t->args.value[METRICS], strerror(errno));
    const char *core = lrt_openblas_core();
    fprintf(stderr, "%s: %lld steps on %d threads, %s%s%s\n", t->run.program->model, (long long)t->steps,
            lrt_pool_threads(t->run.pool), lrt_tier_name(t->run.tier), core ? ", products by OpenBLAS for " : "", core ? core : "");
    return true;
}

static bool train(Train *t)
{
    struct sigaction action = {.sa_handler = on_signal};
    if (!start(t))
        return false;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (t->state.step == 0 && !validate(t))
        return false;
    t->started = now();
    while (t->state.step < t->steps && !interrupted) {
        if (!train_step(t))
            return false;
        bool last = t->state.step == t->steps;
        if (!last && t->save_every && t->state.step % t->save_every == 0 && !save(t, true))
            return false;
        if (!interrupted && (last || (t->eval_every && t->state.step % t->eval_every == 0)) && !validate(t))
            return false;
    }
    if (!save(t, true))
        return false;
    if (interrupted && t->state.step < t->steps)
        return lrt_fail(t->error, LRT_INTERRUPTED, "interrupted at step %lld; saved, go on with --resume", (long long)t->state.step);
    fprintf(stderr, "adapter written to %s\n", t->args.value[OUT]);
    return true;
}

/* --- main ---------------------------------------------------------------------------------------------------------------------- */

static bool run_train(Train *t, const LrtProgram *program)
{
    int64_t threads;
    const char *tier = t->args.value[TIER];
    t->run.program = program;
    if (t->args.positional_count)
        return lrt_fail(t->error, LRT_INVALID, "unexpected '%s'; data is given with --data", t->args.positional[0]);
    if (!lrt_args_integer(&t->args, THREADS, lrt_online_cpus(), 1, 1024, &threads, t->error))
        return false;
    if (t->args.value[INFO])
        return lrt_print_info(program, tier, (int)threads, t->args.value[JSON] != NULL, t->error);
    if (!read_numbers(t) || !read_schedule(t) || !lrt_run_open(&t->run, program, tier, (int)threads, NULL, t->error) || !open_all(t))
        return false;
    if (t->args.value[GRADIENTS])
        return lrt_write_gradients(t);
    return t->args.value[CHECK] ? lrt_check_gradients(t) : train(t);
}

static void close_all(Train *t)
{
    int64_t bytes = t->run.program ? t->run.program->params_bytes : 0;
    lrt_free_pages(t->m, bytes);
    lrt_free_pages(t->v, bytes);
    lrt_pieces_close(&t->pieces);
    lrt_close_data(t);
    lrt_checkpoint_close(t->checkpoint);
    if (t->run.pool)
        lrt_run_close(&t->run);
    if (t->metrics)
        fclose(t->metrics);
}

int lrt_train_main(const LrtProgram *program, int argc, char **argv, LrtError *error)
{
    Train *t = calloc(1, sizeof *t);
    if (!t)
        return 1;
    t->error = error;
    bool ok = lrt_args_parse(&t->args, lrt_train_options, OPTIONS, argc, argv, error);
    if (ok && t->args.value[HELP])
        lrt_args_help(stdout, "usage: PROGRAM --data FILE --out DIR [options]\n\nTrains an adapter.\n\n", lrt_train_options, OPTIONS);
    else if (ok)
        run_train(t, program);
    close_all(t);
    free(t);
    return (int)error->status;
}
