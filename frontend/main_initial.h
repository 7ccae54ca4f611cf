/* main_initial.h - low-rank pairs that begin as a part of the weight they adapt. */
#pragma once
#include "frontend/main.h"
#include "runtime/error.h"

/* The pair of merge->initial for its part W [out, in] of a base tensor, s being merge->scale:
 *   "pissa"  a = sqrt(S/s) V', b = U sqrt(S/s) of the r largest singular values (Meng et al., 2024)
 *   "olora"  a = R[:r, :], b = Q[:, :r] of W = Q R                              (Bueyuekakyuez, 2024)
 * a [r, in], b [out, r]: the caller's.  The base becomes W - s b a, so that training starts at the base model. */
bool main_initial_pair(const ModelFiles *files, const PeftMerge *merge, float *a, float *b, LrtError *error);
bool main_has_initial(const PeftResult *result);
/* Appends the pairs of the result's merges to a linked training program (runtime/initial.h). */
bool main_add_initial(const ModelFiles *files, const PeftResult *result, const char *program, Arena *arena, Diag *diag);
