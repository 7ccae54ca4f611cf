/* programs.h - the two kinds of programs, and what they say about themselves. */
#pragma once
#include "runtime/error.h"
#include "runtime/lrt_abi.h"

int lrt_train_main(const LrtProgram *program, int argc, char **argv, LrtError *error);
int lrt_infer_main(const LrtProgram *program, int argc, char **argv, LrtError *error);
_Bool lrt_print_info(const LrtProgram *program, const char *tier, int threads, _Bool json, LrtError *error);
