/* cpu.h - which tiers this machine runs. */
#pragma once
#include "runtime/error.h"
#include "runtime/lrt_abi.h"

const char *lrt_tier_name(int tier);
/* The CPU whose kernels OpenBLAS has chosen, in programs that leave their products to it; else NULL. */
const char *lrt_openblas_core(void);
/* Whether CPU and operating system support a tier. */
_Bool lrt_tier_runs(int tier);
/* The best tier that runs and that the program has code for, or the one called `name` (not NULL); -1 with an error. */
int lrt_choose_tier(const LrtProgram *program, const char *name, LrtError *error);
