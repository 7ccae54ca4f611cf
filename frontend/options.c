/* options.c - see options.h. */
#include "frontend/options.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *argument, *help;
} table[OPTION_COUNT] = {
#define GROUP(title)
#define OPTION(id, name, argument, help) [OPTION_##id] = {name, argument, help},
#include "frontend/options.def"
};

static const Loc nowhere = {0};

static int find(const char *name, size_t length)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (strlen(table[i].name) == length && !strncmp(table[i].name, name, length))
            return i;
    return -1;
}

static void unknown(const char *name, Diag *diag)
{
    const char *names[OPTION_COUNT];
    for (int i = 0; i < OPTION_COUNT; i++)
        names[i] = table[i].name;
    diag_error(diag, nowhere, "unknown option '--%s'; --help lists them", name);
    const char *near = nearest_word(name, names, OPTION_COUNT);
    if (near)
        diag_note(diag, nowhere, "did you mean '--%s'?", near);
}

/* One argument that starts with '-'; *used is set when the next one was its value. */
static bool parse_option(Options *options, const char *argument, const char *next, bool *used, Diag *diag)
{
    const char *name = argument + 2;
    if (!strcmp(argument, "-o"))
        name = "output";
    else if (!strcmp(argument, "-h"))
        name = "help";
    else if (argument[1] != '-') {
        diag_error(diag, nowhere, "unknown option '%s'; --help lists them", argument);
        return false;
    }
    size_t length = strcspn(name, "=");
    int id = find(name, length);
    if (id < 0) {
        unknown(name, diag);
        return false;
    }
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    if (!value && table[id].argument) {
        value = next;
        *used = true;
    }
    if (!value && table[id].argument) {
        diag_error(diag, nowhere, "--%s needs a value: %s", table[id].name, table[id].argument);
        return false;
    }
    if (options->given_count == OPTIONS_MAX) {
        diag_error(diag, nowhere, "more than %d options", OPTIONS_MAX);
        return false;
    }
    options->value[id] = value ? value : "";
    options->given[options->given_count].id = (OptionId)id;
    options->given[options->given_count++].value = options->value[id];
    return true;
}

bool options_parse(Options *options, int argc, char **argv, Diag *diag)
{
    memset(options, 0, sizeof *options);
    for (int i = 1; i < argc; i++) {
        bool used = false;
        if (argv[i][0] == '-' && argv[i][1]) {
            if (!parse_option(options, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &used, diag))
                return false;
            i += used;
        } else if (options->input) {
            diag_error(diag, nowhere, "one model at a time: '%s' and '%s'", options->input, argv[i]);
            return false;
        } else {
            options->input = argv[i];
        }
    }
    return true;
}

static void help_line(FILE *out, OptionId id)
{
    int width = fprintf(out, "  --%s%s%s", table[id].name, table[id].argument ? " " : "",
                        table[id].argument ? table[id].argument : "");
    fprintf(out, "%*s%s\n", width < 26 ? 26 - width : 1, "", table[id].help);
}

void options_help(FILE *out)
{
    fputs("usage: loracc MODEL.ldl [--weights PATH] [--lora ROLES | --method NAME[:key=value,...]] [-o PROGRAM]\n"
          "       loracc verify BASE MERGED\n\n"
          "Compiles a transformer described in LDL into a native program: one that trains when a method\n"
          "is given, otherwise one that infers.\n",
          out);
#define GROUP(title) fprintf(out, "\n%s:\n", title);
#define OPTION(id, name, argument, help) help_line(out, OPTION_##id);
#include "frontend/options.def"
}

bool option_integer(const Options *options, OptionId id, int64_t fallback, int64_t low, int64_t high, int64_t *value,
                    Diag *diag)
{
    *value = fallback;
    if (!options->value[id])
        return true;
    char *end;
    *value = strtoll(options->value[id], &end, 10);
    if (*options->value[id] && !*end && *value >= low && *value <= high)
        return true;
    diag_error(diag, nowhere, "--%s: expected a whole number from %lld to %lld, got '%s'", table[id].name, (long long)low,
               (long long)high, options->value[id]);
    return false;
}

bool option_real(const Options *options, OptionId id, double fallback, double low, double high, double *value, Diag *diag)
{
    *value = fallback;
    if (!options->value[id])
        return true;
    char *end;
    *value = strtod(options->value[id], &end);
    if (*options->value[id] && !*end && *value >= low && *value <= high)
        return true;
    diag_error(diag, nowhere, "--%s: expected a number from %g to %g, got '%s'", table[id].name, low, high,
               options->value[id]);
    return false;
}
