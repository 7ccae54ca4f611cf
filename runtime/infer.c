/* infer.c - the inference program: text, ids, logits, perplexity. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/infer.h"
#include "runtime/programs.h"
#include "runtime/tensors.h"

static const LrtOption options[OPTIONS] = {
    [MAX_TOKENS] = {"max-tokens", "N", "tokens to generate at most (128)"},
    [TEMPERATURE] = {"temperature", "X", "0: always the most likely token (0)"},
    [TOP_K] = {"top-k", "N", "choose among the N most likely (all)"},
    [TOP_P] = {"top-p", "X", "... among the most likely that make up X (1)"},
    [MIN_P] = {"min-p", "X", "... among those at least X times as likely as the best (0)"},
    [SEED] = {"seed", "N", "of the choices (0)"},
    [THREADS] = {"threads", "N", "threads (all cores)"},
    [TIER] = {"tier", "NAME", "instruction set: generic, avx2, avx512 (the best there is)"},
    [IDS] = {"ids", "LIST", "the prompt as token ids: \"5 17 9\"; the answer comes as ids on one line"},
    [LOGITS] = {"logits", "FILE", "input_ids [rows, tokens] in a safetensors file; logits go to the file named next"},
    [PERPLEXITY] = {"perplexity", "FILE", "mean negative log-likelihood of a text"},
    [EVALUATE] = {"evaluate", "FILE", "a classifier: how many labels of a .jsonl, .csv or .tsv file it gets right"},
    [TIME] = {"time", "N", "seconds of N forward passes, after one that does not count"},
    [LENGTH] = {"length", "T", "... of so many tokens (128)"},
    [BATCH] = {"batch", "B", "... of so many sequences, one after another (1)"},
    [TOKENIZE] = {"tokenize", NULL, "the ids of standard input, on one line"},
    [CHAT] = {"chat", NULL, "chat templates are not supported yet: give the prompt as the model expects it"},
    [JSON] = {"json", NULL, "answers, --perplexity, --evaluate and --info as JSON objects"},
    [INFO] = {"info", NULL, "what this program is, and the memory it plans"},
    [HELP] = {"help", NULL, "this text"},
    [STOP] = {"stop", "TEXT", "stop before this text; may be given more than once"},
};

/* --- running the model ---------------------------------------------------------------------------------------------- */

static const LrtTierCode *code(const Infer *f)
{
    return &f->run.program->tiers[f->run.tier];
}

const float *lrt_infer_logits(const Infer *f, int64_t row)
{
    const LrtProgram *p = f->run.program;
    return (const float *)(f->run.context.base[LRT_BASE_ARENA] + p->logits_offset + row * p->logits_pitch);
}

bool lrt_infer_forward(Infer *f, const int32_t *tokens, int64_t count, int64_t prompt)
{
    lrt_batch_clear(&f->run);
    LrtSequence sequence = {.tokens = tokens, .types = f->types, .length = count, .first_position = f->past, .prompt = prompt,
                            .first_target = -1, .label = -1};
    if (!lrt_batch_add(&f->run, &sequence, f->error))
        return false;
    code(f)->forward(&f->run.context);
    f->past += f->run.context.n_tokens;
    return true;
}

/* How many of the `left` tokens go through at once. */
static int64_t piece_length(const Infer *f, int64_t left)
{
    const LrtProgram *p = f->run.program;
    int64_t room = p->max_tokens - p->prefix - p->infix;
    return left < room ? left : room;
}

/* The prompt's end as tokens done .. done + count - 1 see it. */
static int64_t prompt_in(int64_t prompt, int64_t done, int64_t count)
{
    return prompt > done && prompt <= done + count ? prompt - done : 0;
}

bool lrt_infer_prompt(Infer *f, const int32_t *tokens, int64_t length)
{
    f->past = 0;
    for (int64_t done = 0, count; done < length; done += count) {
        count = piece_length(f, length - done);
        if (!lrt_infer_forward(f, tokens + done, count, prompt_in(length, done, count)))
            return false;
    }
    return true;
}

void lrt_infer_head(Infer *f, int64_t first, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        f->run.rows[i] = (int32_t)(first + i);
    f->run.context.n_rows = count;
    code(f)->head(&f->run.context);
}

/* Calls `use` with the logits of every row of a sequence that starts with an empty cache: token's number, or -1 and which learned
 * token it is. */
typedef bool UseLogits(void *user, int64_t token, int32_t learned, const float *logits);

static bool each_logits(Infer *f, const int32_t *tokens, int64_t length, int64_t prompt, UseLogits *use, void *user)
{
    const LrtProgram *p = f->run.program;
    const int32_t *types = f->types;
    int64_t token = 0;
    f->past = 0;
    for (int64_t done = 0; done < length;) {
        int64_t count = piece_length(f, length - done);
        f->types = types ? types + done : NULL;
        if (!lrt_infer_forward(f, tokens + done, count, prompt_in(prompt, done, count)))
            return false;
        int64_t all = f->run.context.n_tokens;
        for (int64_t row = 0; row < all; row += p->max_rows) {
            int64_t rows = all - row < p->max_rows ? all - row : p->max_rows;
            lrt_infer_head(f, row, rows);
            for (int64_t i = 0; i < rows; i++) {
                int32_t learned = f->run.virtual_tokens[row + i];
                if (!use(user, learned < 0 ? token++ : -1, learned, lrt_infer_logits(f, i)))
                    return lrt_fail(f->error, LRT_FAILED, "out of memory");
            }
        }
        done += count;
    }
    f->types = NULL;
    return true;
}

/* --- generating -------------------------------------------------------------------------------------------------------- */

/* What is generated goes to standard output; text that may become a stop string is held back. */
typedef struct Writer {
    Infer *f;
    bool ids;
    int written;
    char *held;
    size_t held_length;
} Writer;

/* Length of the longest end of the held text that begins a stop string; *found: one is complete, at this offset. */
static size_t match_stops(const Writer *w, bool *found, size_t *at)
{
    size_t longest = 0;
    *found = false;
    for (int s = 0; s < w->f->args.repeated_count; s++) {
        const char *stop = w->f->args.repeated[s];
        size_t length = strlen(stop);
        for (size_t i = 0; length && i < w->held_length; i++) {
            size_t left = w->held_length - i, common = left < length ? left : length;
            if (memcmp(w->held + i, stop, common) != 0)
                continue;
            if (common == length && (!*found || i < *at))
                *found = true, *at = i;
            longest = left > longest && common == left ? left : longest;
        }
    }
    return longest;
}

/* false: a stop string came, or writing failed. */
static bool write_token(Writer *w, int32_t id)
{
    if (w->ids) {
        printf("%s%d", w->written++ ? " " : "", (int)id);
        return true;
    }
    w->held_length += lrt_tokenizer_decode(w->f->tokenizer, id, true, w->held + w->held_length);
    bool found;
    size_t at = 0, keep = match_stops(w, &found, &at), out = found ? at : w->held_length - keep;
    if (fwrite(w->held, 1, out, stdout) != out)
        return false;
    fflush(stdout);
    memmove(w->held, w->held + out, w->held_length - out);
    w->held_length = found ? 0 : w->held_length - out;
    return !found;
}

static bool is_end(const Infer *f, int32_t id)
{
    if (f->tokenizer)
        return lrt_tokenizer_is_end(f->tokenizer, id);
    const json_t *ends = json_object_get(f->run.settings, "end_tokens");
    for (size_t i = 0; i < json_array_size(ends); i++)
        if (json_integer_value(json_array_get(ends, i)) == id)
            return true;
    return false;
}

static bool generate(Infer *f, const int32_t *prompt, int64_t length, Writer *w)
{
    const LrtProgram *p = f->run.program;
    int64_t most = p->max_length - p->prefix - p->infix;
    if (length == 0)
        return lrt_fail(f->error, LRT_INVALID, "the prompt is empty");
    if (length > most)
        return lrt_fail(f->error, LRT_INVALID, "the prompt has %lld tokens, this program holds %lld; compile with a larger --length",
                        (long long)length, (long long)most);
    if (!lrt_infer_prompt(f, prompt, length))
        return false;
    for (int64_t step = 0; step < f->max_tokens; step++) {
        lrt_infer_head(f, f->run.context.n_tokens - 1, 1);
        int32_t id = lrt_sample(&f->sampling, lrt_infer_logits(f, 0), p->logits, (uint64_t)step);
        if (id < 0)
            return lrt_fail(f->error, LRT_FAILED, "out of memory");
        bool end = is_end(f, id);
        if ((!end || w->ids) && !write_token(w, id))
            break;
        if (end)
            break;
        if (f->past == most) {
            fprintf(stderr, "%s: note: stopped at %lld tokens, the most this program holds\n", p->model, (long long)most);
            break;
        }
        if (step + 1 < f->max_tokens && !lrt_infer_forward(f, &id, 1, 0))
            return false;
    }
    if (w->held_length)
        fwrite(w->held, 1, w->held_length, stdout);
    putchar('\n');
    return true;
}

static bool run_ids(Infer *f)
{
    const char *text = f->args.value[IDS];
    LrtIds ids = {0};
    bool ok = true;
    while (ok && *(text += strspn(text, " ,\t\n"))) {
        char *end;
        long id = strtol(text, &end, 10);
        if (end == text || id < 0 || id >= f->run.program->vocabulary)
            ok = lrt_fail(f->error, LRT_INVALID, "--ids: '%.20s' is not a token of the model's %lld", text,
                          (long long)f->run.program->vocabulary);
        else if (!lrt_ids_push(&ids, (int32_t)id))
            ok = lrt_fail(f->error, LRT_FAILED, "out of memory");
        text = end;
    }
    Writer w = {.f = f, .ids = true};
    ok = ok && generate(f, ids.data, (int64_t)ids.count, &w);
    lrt_ids_free(&ids);
    return ok;
}

/* --- text in ------------------------------------------------------------------------------------------------------------------ */

char *lrt_read_all(FILE *file, size_t *length, LrtError *error)
{
    size_t capacity = 65536, count;
    char *text = malloc(capacity);
    *length = 0;
    while (text && (count = fread(text + *length, 1, capacity - *length, file)) > 0) {
        *length += count;
        if (*length == capacity) {
            char *more = realloc(text, capacity *= 2);
            if (!more)
                free(text);
            text = more;
        }
    }
    if (!text)
        lrt_report(error, LRT_FAILED, "out of memory");
    return text;
}

bool lrt_need_tokenizer(Infer *f)
{
    return f->tokenizer || lrt_fail(f->error, LRT_INVALID, "this program was compiled without a tokenizer; use --ids");
}

static bool run_text(Infer *f)
{
    size_t length = 0;
    LrtIds ids = {0};
    char *given = NULL;
    const char *text = f->args.positional_count ? f->args.positional[0] : NULL;
    if (!lrt_need_tokenizer(f))
        return false;
    if (text)
        length = strlen(text);
    else if (!(text = given = lrt_read_all(stdin, &length, f->error)))
        return false;
    Writer w = {.f = f, .held = malloc(1 << 20)};
    bool ok = w.held ? lrt_tokenizer_encode(f->tokenizer, text, length, true, &ids, f->error)
                     : lrt_fail(f->error, LRT_FAILED, "out of memory");
    ok = ok && generate(f, ids.data, (int64_t)ids.count, &w);
    free(w.held);
    free(given);
    lrt_ids_free(&ids);
    return ok;
}

static bool run_tokenize(Infer *f)
{
    size_t length;
    LrtIds ids = {0};
    if (!lrt_need_tokenizer(f))
        return false;
    char *text = lrt_read_all(stdin, &length, f->error);
    bool ok = text && lrt_tokenizer_encode(f->tokenizer, text, length, true, &ids, f->error);
    for (size_t i = 0; ok && i < ids.count; i++)
        printf("%s%d", i ? " " : "", (int)ids.data[i]);
    if (ok)
        putchar('\n');
    free(text);
    lrt_ids_free(&ids);
    return ok;
}

/* --- logits ----------------------------------------------------------------------------------------------------------------------- */

typedef struct Collect {
    Infer *f;
    float *out;             /* of the row */
    const LrtPiece *piece;
} Collect;

/* Where a row's logits stand in the output: learned tokens take places of their own, if they count. */
static int64_t place_of(const Collect *c, int64_t token, int32_t learned)
{
    const LrtProgram *p = c->f->run.program;
    const LrtPiece *piece = c->piece;
    if (token < 0)
        return learned < p->prefix ? piece->places[0] + learned : piece->places[piece->prompt - 1] + 1 + learned;
    if (!p->virtual_logits)
        return piece->places[token];
    return piece->places[token] + p->prefix + (piece->prompt && token >= piece->prompt ? p->infix : 0);
}

static bool collect_logits(void *user, int64_t token, int32_t learned, const float *logits)
{
    Collect *c = user;
    int64_t columns = c->f->run.program->logits;
    if (token >= 0 || c->f->run.program->virtual_logits)
        memcpy(c->out + place_of(c, token, learned) * columns, logits, sizeof *logits * (size_t)columns);
    return true;
}

static bool collect_piece(void *user, const LrtPiece *piece, LrtError *error)
{
    Collect *c = user;
    c->piece = piece;
    c->f->types = piece->types;
    c->f->past = 0;
    if (c->f->run.program->infix && (piece->prompt < 1 || piece->prompt > piece->length))
        return lrt_fail(error, LRT_INVALID, "an infix stands behind the prompt: the file needs 'prompt_len' of at least 1 for each row");
    if (!lrt_is_sequence_task(c->f->run.program))
        return each_logits(c->f, piece->tokens, piece->length, piece->prompt, collect_logits, c);
    if (!lrt_infer_forward(c->f, piece->tokens, piece->length, piece->prompt))
        return false;
    memcpy(c->out, lrt_infer_logits(c->f, 0), sizeof *c->out * (size_t)c->f->run.program->logits);
    return true;
}

static bool run_logits(Infer *f)
{
    LrtBatches b;
    const LrtProgram *p = f->run.program;
    bool sequences = lrt_is_sequence_task(p);
    if (f->args.positional_count != 1)
        return lrt_fail(f->error, LRT_INVALID, "--logits IN OUT: name the file for the logits");
    if (!lrt_batches_read(&b, f->args.value[LOGITS], (int)p->task, f->error))
        return false;
    int64_t length = b.length + (p->virtual_logits ? p->prefix + p->infix : 0), width = (sequences ? 1 : length) * p->logits;
    float *all = calloc((size_t)(b.steps * b.rows * width) + 1, sizeof *all);
    bool ok = all || lrt_fail(f->error, LRT_FAILED, "out of memory");
    for (int64_t row = 0; ok && row < b.steps * b.rows; row++) {
        Collect c = {f, all + row * width, NULL};
        ok = lrt_batches_pieces(&b, row / b.rows, row % b.rows, collect_piece, &c, f->error);
    }
    LrtTensor tensor = {.name = "logits", .dtype = LRT_F32, .rank = sequences ? 2 : 3,
                        .shape = {b.steps * b.rows, sequences ? p->logits : length, p->logits}, .data = (const uint8_t *)all};
    ok = ok && lrt_safetensors_write(f->args.positional[0], &tensor, 1, NULL, f->error);
    free(all);
    lrt_batches_free(&b);
    return ok;
}

/* --- perplexity ---------------------------------------------------------------------------------------------------------------------- */

typedef struct Likelihood {
    const int32_t *tokens;
    int64_t length, vocabulary, counted;
    double nll;
} Likelihood;

static bool add_likelihood(void *user, int64_t position, int32_t learned, const float *logits)
{
    Likelihood *l = user;
    (void)learned;
    if (position < 0 || position + 1 >= l->length)
        return true;
    double largest = (double)logits[0], sum = 0;
    for (int64_t i = 1; i < l->vocabulary; i++)
        largest = (double)logits[i] > largest ? (double)logits[i] : largest;
    for (int64_t i = 0; i < l->vocabulary; i++)
        sum += exp((double)logits[i] - largest);
    l->nll += largest + log(sum) - (double)logits[l->tokens[position + 1]];
    l->counted++;
    return true;
}

static bool run_perplexity(Infer *f)
{
    size_t length;
    LrtIds ids = {0};
    const char *path = f->args.value[PERPLEXITY];
    if (!lrt_need_tokenizer(f))
        return false;
    FILE *file = fopen(path, "rb");
    if (!file)
        return lrt_fail(f->error, LRT_INVALID, "%s: cannot read it", path);
    char *text = lrt_read_all(file, &length, f->error);
    fclose(file);
    bool ok = text && lrt_tokenizer_encode(f->tokenizer, text, length, true, &ids, f->error);
    if (ok && ids.count < 2)
        ok = lrt_fail(f->error, LRT_INVALID, "%s: fewer than two tokens", path);
    Likelihood l = {.vocabulary = f->run.program->logits};
    int64_t most = f->run.program->max_length - f->run.program->prefix - f->run.program->infix;
    for (int64_t start = 0; ok && start + 1 < (int64_t)ids.count; start += most) {
        int64_t left = (int64_t)ids.count - start;
        l.tokens = ids.data + start;
        l.length = left < most ? left : most;
        ok = each_logits(f, l.tokens, l.length, 0, add_likelihood, &l);
    }
    if (ok && f->args.value[JSON])
        printf("{\"tokens\": %lld, \"nll\": %.9g, \"perplexity\": %.9g}\n", (long long)ids.count, l.nll / (double)l.counted,
               exp(l.nll / (double)l.counted));
    else if (ok)
        printf("%lld tokens, mean negative log-likelihood %.6f, perplexity %.4f\n", (long long)ids.count,
               l.nll / (double)l.counted, exp(l.nll / (double)l.counted));
    free(text);
    lrt_ids_free(&ids);
    return ok;
}

/* --- main ---------------------------------------------------------------------------------------------------------------------- */

static bool open_program(Infer *f, const LrtProgram *program)
{
    int64_t threads, seed;
    LrtSampling *s = &f->sampling;
    if (!lrt_args_integer(&f->args, THREADS, lrt_online_cpus(), 1, 1024, &threads, f->error) ||
        !lrt_args_integer(&f->args, MAX_TOKENS, 128, 1, INT32_MAX, &f->max_tokens, f->error) ||
        !lrt_args_integer(&f->args, TOP_K, 0, 0, INT32_MAX, &s->top_k, f->error) ||
        !lrt_args_integer(&f->args, SEED, 0, 0, INT64_MAX, &seed, f->error) ||
        !lrt_args_real(&f->args, TEMPERATURE, 0, 0, 100, &s->temperature, f->error) ||
        !lrt_args_real(&f->args, TOP_P, 1, 0, 1, &s->top_p, f->error) || !lrt_args_real(&f->args, MIN_P, 0, 0, 1, &s->min_p, f->error))
        return false;
    s->seed = (uint64_t)seed;
    if (!lrt_image_open_self(&f->image, f->error))
        return false;
    if (f->image.trailer.weights_bytes != program->weights_bytes)
        return lrt_fail(f->error, LRT_INVALID, "its weights are not those of its code; compile it again");
    if (!lrt_run_open(&f->run, program, f->args.value[TIER], (int)threads, f->image.weights, f->error))
        return false;
    json_decref(f->run.settings);
    f->run.settings = json_loadb(f->image.settings, (size_t)f->image.trailer.settings_bytes, 0, NULL);
    if (f->image.trailer.tokenizer_bytes)
        f->tokenizer = lrt_tokenizer_unpack(f->image.tokenizer, (size_t)f->image.trailer.tokenizer_bytes, f->error);
    return f->error->status == LRT_OK;
}

static bool run_infer(Infer *f, const LrtProgram *program)
{
    if (f->args.value[CHAT])
        return lrt_fail(f->error, LRT_INVALID, "--chat: chat templates are not supported yet; give the prompt as the model expects it");
    if (f->args.value[INFO])
        return lrt_print_info(program, f->args.value[TIER], lrt_online_cpus(), f->args.value[JSON] != NULL, f->error);
    if (!open_program(f, program))
        return false;
    if (f->args.value[TOKENIZE])
        return run_tokenize(f);
    if (f->args.value[TIME])
        return lrt_infer_time(f);
    if (f->args.value[LOGITS])
        return run_logits(f);
    if (f->args.value[PERPLEXITY])
        return program->task == LRT_TASK_NEXT_TOKEN
                   ? run_perplexity(f)
                   : lrt_fail(f->error, LRT_INVALID, "--perplexity is of models that predict the next token");
    if (f->args.value[EVALUATE])
        return lrt_evaluate(f);
    if (program->task != LRT_TASK_NEXT_TOKEN)
        return lrt_answer(f);
    return f->args.value[IDS] ? run_ids(f) : run_text(f);
}

static const char next_usage[] = "usage: PROGRAM [PROMPT] [options]\n\nContinues a prompt (or standard input).\n\n";
static const char answer_usage[] =
    "usage: PROGRAM [TEXT [SECOND TEXT]] [options]\n\nAnswers for a text or two: the class or the value, or what stands "
    "where its mask token is.\nWithout TEXT: for each line of standard input.\n\n";

int lrt_infer_main(const LrtProgram *program, int argc, char **argv, LrtError *error)
{
    Infer *f = calloc(1, sizeof *f);
    if (!f)
        return 1;
    f->error = error;
    bool ok = lrt_args_parse(&f->args, options, OPTIONS, argc, argv, error);
    if (ok && f->args.value[HELP])
        lrt_args_help(stdout, program->task == LRT_TASK_NEXT_TOKEN ? next_usage : answer_usage, options, OPTIONS);
    else if (ok)
        run_infer(f, program);
    lrt_run_close(&f->run);
    lrt_tokenizer_close(f->tokenizer);
    lrt_image_close(&f->image);
    free(f);
    return (int)error->status;
}
