/* state.h - what a training run needs to go on exactly: parameters, moments, and where it was. */
#pragma once
#include "runtime/run.h"

typedef struct LrtState {
    int64_t step;          /* optimizer steps done */
    int64_t epoch, place;  /* position in the data */
    double best;           /* best validation loss; negative: none */
    uint64_t identity;     /* of program, data and options: another run's state is refused */
} LrtState;

/* One file in DIR, written atomically. */
bool lrt_state_save(const LrtRun *run, const LrtState *state, const char *m, const char *v, const char *directory, LrtError *error);
bool lrt_state_load(LrtRun *run, LrtState *state, char *m, char *v, const char *directory, LrtError *error);
