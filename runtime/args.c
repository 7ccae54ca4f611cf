/* args.c - see args.h. */
#include "runtime/args.h"

#include <stdlib.h>
#include <string.h>

static int find(const LrtArgs *args, const char *name, size_t length)
{
    for (int i = 0; i < args->count; i++)
        if (args->options[i].name && strlen(args->options[i].name) == length && !strncmp(args->options[i].name, name, length))
            return i;
    return -1;
}

/* The option that shares the longest beginning, if it is most of the word. */
static const char *similar(const LrtArgs *args, const char *name)
{
    const char *best = NULL;
    size_t longest = 2;
    for (int i = 0; i < args->count; i++) {
        size_t same = 0;
        const char *other = args->options[i].name;
        while (other && other[same] && other[same] == name[same])
            same++;
        if (same > longest)
            best = other, longest = same;
    }
    return best;
}

static bool take_option(LrtArgs *args, const char *argument, const char *next, bool *used, LrtError *error)
{
    const char *name = argument + 2;
    size_t length = strcspn(name, "=");
    int option = !strcmp(argument, "-h") ? find(args, "help", 4) : argument[1] == '-' ? find(args, name, length) : -1;
    if (option < 0) {
        const char *near = argument[1] == '-' ? similar(args, name) : NULL;
        return lrt_fail(error, LRT_INVALID, "unknown option '%s'%s%s%s; --help lists them", argument, near ? ", did you mean '--" : "",
                        near ? near : "", near ? "'?" : "");
    }
    const char *value = argument[1] == '-' && name[length] == '=' ? name + length + 1 : NULL;
    if (!args->options[option].argument) {
        args->value[option] = value ? value : "";
        return true;
    }
    if (!value) {
        value = next;
        *used = true;
    }
    if (!value)
        return lrt_fail(error, LRT_INVALID, "--%s needs a value: %s", args->options[option].name, args->options[option].argument);
    args->value[option] = value;
    if (option == args->count - 1) {
        if (args->repeated_count == LRT_REPEATS_MAX)
            return lrt_fail(error, LRT_INVALID, "--%s more than %d times", args->options[option].name, LRT_REPEATS_MAX);
        args->repeated[args->repeated_count++] = value;
    }
    return true;
}

bool lrt_args_parse(LrtArgs *args, const LrtOption *options, int count, int argc, char **argv, LrtError *error)
{
    *args = (LrtArgs){.options = options, .count = count};
    bool only_positional = false;
    for (int i = 1; i < argc; i++) {
        bool used = false;
        if (!only_positional && !strcmp(argv[i], "--")) {
            only_positional = true;
        } else if (!only_positional && argv[i][0] == '-' && argv[i][1]) {
            if (!take_option(args, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &used, error))
                return false;
            i += used;
        } else if (args->positional_count < LRT_REPEATS_MAX) {
            args->positional[args->positional_count++] = argv[i];
        }
    }
    return true;
}

void lrt_args_help(FILE *out, const char *usage, const LrtOption *options, int count)
{
    fputs(usage, out);
    for (int i = 0; i < count; i++) {
        if (!options[i].name) {
            fprintf(out, "\n%s:\n", options[i].help);
            continue;
        }
        int width = fprintf(out, "  --%s%s%s", options[i].name, options[i].argument ? " " : "",
                            options[i].argument ? options[i].argument : "");
        fprintf(out, "%*s%s\n", width < 30 ? 30 - width : 1, "", options[i].help);
    }
}

bool lrt_args_integer(const LrtArgs *args, int option, int64_t fallback, int64_t low, int64_t high, int64_t *value, LrtError *error)
{
    const char *text = args->value[option];
    char *end;
    *value = fallback;
    if (!text)
        return true;
    *value = strtoll(text, &end, 10);
    if (*text && !*end && *value >= low && *value <= high)
        return true;
    return lrt_fail(error, LRT_INVALID, "--%s: expected a whole number from %lld to %lld, got '%s'", args->options[option].name,
                    (long long)low, (long long)high, text);
}

bool lrt_args_real(const LrtArgs *args, int option, double fallback, double low, double high, double *value, LrtError *error)
{
    const char *text = args->value[option];
    char *end;
    *value = fallback;
    if (!text)
        return true;
    *value = strtod(text, &end);
    if (*text && !*end && *value >= low && *value <= high)
        return true;
    return lrt_fail(error, LRT_INVALID, "--%s: expected a number from %.7g to %.7g, got '%s'", args->options[option].name, low, high,
                    text);
}
