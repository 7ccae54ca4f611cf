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

bool lrt_batches_read(LrtBatches *b, const char *path, LrtError *error)
{
    *b = (LrtBatches){0};
    LrtSafetensors *file = lrt_safetensors_open(path, error);
    if (!file)
        return false;
    bool ok = read_field(b, file, path, "input_ids", true, &b->ids, error) &&
              read_field(b, file, path, "labels", false, &b->labels, error) &&
              read_field(b, file, path, "attention_mask", false, &b->mask, error) &&
              read_field(b, file, path, "segment_ids", false, &b->segments, error) &&
              read_field(b, file, path, "position_ids", false, &b->positions, error);
    lrt_safetensors_close(file);
    if (!ok)
        lrt_batches_free(b);
    return ok;
}

void lrt_batches_free(LrtBatches *b)
{
    free(b->ids), free(b->labels), free(b->mask), free(b->segments), free(b->positions);
    *b = (LrtBatches){0};
}

/* Targets are the labels of the next place of the same sequence. */
static void shift_labels(LrtPiece *piece, const int64_t *labels)
{
    for (int64_t i = 0; i < piece->length; i++) {
        bool next = labels && i + 1 < piece->length;
        piece->targets[i] = next ? (int32_t)labels[piece->places[i + 1]] : LRT_NO_TARGET;
    }
}

bool lrt_batches_pieces(const LrtBatches *b, int64_t step, int64_t row,
                        bool (*use)(void *, const LrtPiece *, LrtError *), void *user, LrtError *error)
{
    int64_t at = (step * b->rows + row) * b->length;
    size_t n = (size_t)b->length + 1;
    LrtPiece piece = {calloc(n, sizeof(int32_t)), calloc(n, sizeof(int32_t)), calloc(n, sizeof(int64_t)), 0, 0};
    bool ok = piece.tokens && piece.targets && piece.places;
    if (!ok)
        lrt_report(error, LRT_FAILED, "out of memory");
    for (int64_t i = 0; ok && i <= b->length; i++) {
        bool here = i < b->length && (!b->mask || b->mask[at + i]);
        int64_t before = piece.length ? piece.places[piece.length - 1] : 0;
        bool ends = piece.length && (i == b->length || (here && b->segments && b->segments[at + i] != b->segments[at + before]));
        if (ends) {
            shift_labels(&piece, b->labels ? b->labels + at : NULL);
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
        piece.places[piece.length++] = i;
    }
    free(piece.tokens), free(piece.targets), free(piece.places);
    return ok;
}

typedef struct Loader {
    LrtRun *run;
    uint64_t sequence;
} Loader;

static bool add_piece(void *user, const LrtPiece *piece, LrtError *error)
{
    Loader *loader = user;
    return lrt_batch_add(loader->run, piece->tokens, piece->targets, piece->length, piece->first_position, loader->sequence++,
                         error);
}

bool lrt_batches_load(const LrtBatches *b, int64_t step, LrtRun *run, LrtError *error)
{
    /* Numbered through the batch, so that they do not depend on how documents were put into rows. */
    Loader loader = {run, (uint64_t)step << 32};
    lrt_batch_clear(run);
    for (int64_t row = 0; row < b->rows; row++)
        if (!lrt_batches_pieces(b, step, row, add_piece, &loader, error))
            return false;
    return true;
}
