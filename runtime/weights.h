/* weights.h - parameters of a program: from files into memory and back. */
#pragma once
#include "runtime/checkpoint.h"
#include "runtime/fold.h"
#include "runtime/lrt_abi.h"
#include "runtime/thread.h"

/* Where values come from; any may be NULL. */
typedef struct LrtSources {
    const LrtCheckpoint *checkpoint;
    const LrtSafetensors *adapter;   /* an adapter to start from */
    const char *adapter_path;        /* for messages */
    uint64_t seed;                   /* of fresh parameters */
    const LrtFold *folds;            /* into frozen tensors of the checkpoint; some say how a new adapter begins */
    int fold_count;
} LrtSources;

/* Finds a tensor under its name, or without the model's prefix ("transformer.", "model."), which some files lack. */
const LrtTensor *lrt_find_weight(const LrtCheckpoint *checkpoint, const char *name);

/* Fills the frozen image and the trained parameters; either pointer may be NULL: those are left out. */
bool lrt_load_params(const LrtProgram *program, const LrtSources *sources, char *weights, char *params, LrtPool *pool,
                     LrtError *error);

/* The adapter's tensors, whole, in the file's form, without their data.  `only_trained`: leave out frozen ones (gradients).  Caller
 * frees with lrt_free_tensors. */
bool lrt_adapter_list(const LrtProgram *program, bool only_trained, LrtTensor **tensors, int *count, LrtError *error);
/* Rows of one of them (a vector is one row), from `trained` (parameters or gradients) and the frozen image. */
bool lrt_adapter_rows(const LrtProgram *program, const char *weights, const char *trained, const LrtTensor *tensor, int64_t first,
                      int64_t count, float *rows, LrtError *error);
/* The list with all data in memory. */
bool lrt_adapter_tensors(const LrtProgram *program, const char *weights, const char *trained, bool only_trained,
                         LrtTensor **tensors, int *count, LrtError *error);
void lrt_free_tensors(LrtTensor *tensors, int count);
