/* args.h - a program's command line, from a table. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/error.h"

typedef struct LrtOption {
    const char *name, *argument, *help; /* argument NULL: a switch; name NULL: `help` is a heading */
} LrtOption;

enum { LRT_OPTIONS_MAX = 64, LRT_REPEATS_MAX = 32 };

typedef struct LrtArgs {
    const LrtOption *options;
    int count;
    const char *value[LRT_OPTIONS_MAX];    /* NULL: not given; a switch: "" */
    const char *positional[LRT_REPEATS_MAX];
    int positional_count;
    const char *repeated[LRT_REPEATS_MAX]; /* values of the last option of the table, which may come more than once */
    int repeated_count;
} LrtArgs;

bool lrt_args_parse(LrtArgs *args, const LrtOption *options, int count, int argc, char **argv, LrtError *error);
void lrt_args_help(FILE *out, const char *usage, const LrtOption *options, int count);
/* The option's value as a number within [low, high]; `fallback` when it is not given. */
bool lrt_args_integer(const LrtArgs *args, int option, int64_t fallback, int64_t low, int64_t high, int64_t *value, LrtError *error);
bool lrt_args_real(const LrtArgs *args, int option, double fallback, double low, double high, double *value, LrtError *error);
