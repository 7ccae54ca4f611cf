/* options.h - the command line, as values of options.def. */
#pragma once
#include <stdint.h>

#include "ir/diag.h"

typedef enum OptionId {
#define GROUP(title)
#define OPTION(id, name, argument, help) OPTION_##id,
#include "frontend/options.def"
    OPTION_COUNT
} OptionId;

enum { OPTIONS_MAX = 64 };

typedef struct Options {
    const char *value[OPTION_COUNT]; /* NULL: not given; a switch that is given: ""; one that is given again: the last */
    struct {
        OptionId id;
        const char *value;
    } given[OPTIONS_MAX];            /* all of them, in their order */
    int given_count;
    const char *input;               /* MODEL.ldl */
    int64_t number[OPTION_COUNT];    /* of options read by option_integer */
} Options;

/* false after reporting errors (did-you-mean for unknown names). */
bool options_parse(Options *options, int argc, char **argv, Diag *diag);
void options_help(FILE *out);
/* A whole number within [low, high]; `fallback` when the option is not given. */
bool option_integer(const Options *options, OptionId id, int64_t fallback, int64_t low, int64_t high, int64_t *value,
                    Diag *diag);
bool option_real(const Options *options, OptionId id, double fallback, double low, double high, double *value, Diag *diag);
