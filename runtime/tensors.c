/* tensors.c - see tensors.h. */
#include "runtime/tensors.h"

#include <stdlib.h>
#include <string.h>

static bool read_field(LrtBatches *b, const LrtSafetensors *file, const char *path, const char *name, bool needed, int64_t **out,
                       LrtError *error)
{
    const LrtTensor *tensor = lrt_safetensors_find(file, name);
    if (!tensor)
        return !needed || lrt_fail(error, LRT_INVALID, "%s: no tensor '%s'", path, name);
    int rank = tensor->rank;
    int64_t steps = rank == 3 ? tensor->shape[0] : 1;
    if (rank != 2 && rank != 3)
        return lrt_fail(error, LRT_INVALID, "%s: '%s' is not [steps, rows, tokens] or [rows, tokens]", path, name);
    if (!strcmp(name, "input_ids"))
        b->steps = steps, b->rows = tensor->shape[rank - 2], b->length = tensor->shape[rank - 1];
    else if (steps != b->steps || tensor->shape[rank - 2] != b->rows || tensor->shape[rank - 1] != b->length)
        return lrt_fail(error, LRT_INVALID, "%s: '%s' has another shape than 'input_ids'", path, name);
    *out = malloc(sizeof **out * (size_t)(lrt_tensor_elements(tensor) + 1));
    if (!*out)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    return lrt_tensor_read_integers(tensor, *out, error);
}

/* One number for each row, [steps, rows] or [rows]. */
static bool is_for_rows(const LrtBatches *b, const LrtTensor *tensor)
{
    return tensor->rank >= 1 && tensor->rank <= 2 && tensor->shape[tensor->rank - 1] == b->rows &&
           (tensor->rank == 1 ? 1 : tensor->shape[0]) == b->steps;
}

static bool read_prompts(LrtBatches *b, const LrtSafetensors *file, const char *path, LrtError *error)
{
    const LrtTensor *tensor = lrt_safetensors_find(file, "prompt_len");
    if (!tensor)
        return true;
    if (!is_for_rows(b, tensor))
        return lrt_fail(error, LRT_INVALID, "%s: 'prompt_len' is not one length for each row: [steps, rows]", path);
    b->prompts = malloc(sizeof *b->prompts * (size_t)(lrt_tensor_elements(tensor) + 1));
    return b->prompts ? lrt_tensor_read_integers(tensor, b->prompts, error) : lrt_fail(error, LRT_FAILED, "out of memory");
}

/* Labels of sequences: [steps, rows] or [rows]; classes are integers, values f32. */
static bool read_labels(LrtBatches *b, const LrtSafetensors *file, const char *path, LrtError *error)
{
    const LrtTensor *tensor = lrt_safetensors_find(file, "labels");
    b->of_sequences = true;
    if (!tensor)
        return true;
    if (!is_for_rows(b, tensor))
        return lrt_fail(error, LRT_INVALID, "%s: 'labels' is not one label for each row: [steps, rows]", path);
    size_t count = (size_t)lrt_tensor_elements(tensor) + 1;
    if (b->task == LRT_TASK_CLASSES) {
        b->labels = malloc(sizeof *b->labels * count);
        return b->labels ? lrt_tensor_read_integers(tensor, b->labels, error) : lrt_fail(error, LRT_FAILED, "out of memory");
    }
    b->values = malloc(sizeof *b->values * count);
    return b->values ? lrt_tensor_read_rows(tensor, 0, lrt_tensor_rows(tensor), b->values, error)
                     : lrt_fail(error, LRT_FAILED, "out of memory");
}

bool lrt_batches_read(LrtBatches *b, const char *path, int task, LrtError *error)
{
    *b = (LrtBatches){.task = task};
    LrtSafetensors *file = lrt_safetensors_open(path, error);
    if (!file)
        return false;
    bool sequences = task == LRT_TASK_CLASSES || task == LRT_TASK_VALUES;
    bool ok = read_field(b, file, path, "input_ids", true, &b->ids, error) &&
              (sequences ? read_labels(b, file, path, error) : read_field(b, file, path, "labels", false, &b->labels, error)) &&
              read_field(b, file, path, "attention_mask", false, &b->mask, error) &&
              read_field(b, file, path, "segment_ids", false, &b->segments, error) &&
              read_field(b, file, path, "position_ids", false, &b->positions, error) &&
              read_field(b, file, path, "token_type_ids", false, &b->types, error) && read_prompts(b, file, path, error);
    lrt_safetensors_close(file);
    if (!ok)
        lrt_batches_free(b);
    return ok;
}

void lrt_batches_free(LrtBatches *b)
{
    free(b->ids), free(b->labels), free(b->mask), free(b->segments), free(b->positions), free(b->types), free(b->values), free(b->prompts);
    *b = (LrtBatches){0};
}

/* Targets are the labels of the next place of the same sequence, or of the place itself. */
static void set_targets(const LrtBatches *b, LrtPiece *piece, int64_t at)
{
    int64_t shift = b->task == LRT_TASK_NEXT_TOKEN ? 1 : 0;
    bool labelled = b->labels && !b->of_sequences;
    piece->first_target = labelled && piece->length ? (int32_t)b->labels[at + piece->places[0]] : LRT_NO_TARGET;
    for (int64_t i = 0; i < piece->length; i++) {
        bool has = labelled && i + shift < piece->length;
        piece->targets[i] = has ? (int32_t)b->labels[at + piece->places[i + shift]] : LRT_NO_TARGET;
    }
}

bool lrt_batches_pieces(const LrtBatches *b, int64_t step, int64_t row,
                        bool (*use)(void *, const LrtPiece *, LrtError *), void *user, LrtError *error)
{
    int64_t at = (step * b->rows + row) * b->length;
    size_t n = (size_t)b->length + 1;
    LrtPiece piece = {.tokens = calloc(n, sizeof(int32_t)), .targets = calloc(n, sizeof(int32_t)),
                      .types = calloc(n, sizeof(int32_t)), .places = calloc(n, sizeof(int64_t))};
    bool ok = piece.tokens && piece.targets && piece.types && piece.places;
    if (!ok)
        lrt_report(error, LRT_FAILED, "out of memory");
    for (int64_t i = 0; ok && i <= b->length; i++) {
        bool here = i < b->length && (!b->mask || b->mask[at + i]);
        int64_t before = piece.length ? piece.places[piece.length - 1] : 0;
        bool ends = piece.length && (i == b->length || (here && b->segments && b->segments[at + i] != b->segments[at + before]));
        if (ends) {
            set_targets(b, &piece, at);
            piece.prompt = b->prompts ? b->prompts[step * b->rows + row] : 0;
            ok = use(user, &piece, error);
            piece.length = 0;
        }
        if (!here)
            continue;
        if (piece.length == 0)
            piece.first_position = b->positions ? b->positions[at + i] : 0;
        if (b->ids[at + i] < INT32_MIN || b->ids[at + i] > INT32_MAX)
            ok = lrt_fail(error, LRT_INVALID, "token %lld is out of range", (long long)b->ids[at + i]);
        piece.tokens[piece.length] = (int32_t)b->ids[at + i];
        piece.types[piece.length] = b->types ? (int32_t)b->types[at + i] : 0;
        piece.places[piece.length++] = i;
    }
    free(piece.tokens), free(piece.targets), free(piece.types), free(piece.places);
    return ok;
}

typedef struct Loader {
    LrtRun *run;
    uint64_t sequence;
    int32_t label;
    float value;
} Loader;

static bool add_piece(void *user, const LrtPiece *piece, LrtError *error)
{
    Loader *loader = user;
    LrtSequence sequence = {piece->tokens, piece->targets, piece->types, piece->length, piece->first_position, loader->sequence++,
                            piece->prompt, piece->first_target, loader->label, loader->value};
    if (loader->run->program->infix && piece->prompt < 1)
        return lrt_fail(error, LRT_INVALID, "an infix stands behind the prompt: the file needs 'prompt_len' [steps, rows] of at least 1");
    return lrt_batch_add(loader->run, &sequence, error);
}

bool lrt_batches_load(const LrtBatches *b, int64_t step, LrtRun *run, LrtError *error)
{
    /* Numbered through the batch, so that they do not depend on how documents were put into rows. */
    Loader loader = {run, (uint64_t)step << 32, -1, 0};
    lrt_batch_clear(run);
    for (int64_t row = 0; row < b->rows; row++) {
        int64_t at = step * b->rows + row;
        loader.label = b->of_sequences && b->labels ? (int32_t)b->labels[at] : -1;
        loader.value = b->values ? b->values[at] : 0;
        if (!lrt_batches_pieces(b, step, row, add_piece, &loader, error))
            return false;
    }
    return true;
}
