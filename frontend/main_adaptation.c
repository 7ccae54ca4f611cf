/* main_adaptation.c - what is trained or merged: --lora and --method, or an adapter with the settings that it brings. */
#include <string.h>

#include "frontend/main.h"
#include "passes/peft/config.h"

static const Loc nowhere = {0};

/* LoRA by --lora and its companions; settings by --method come after. */
static bool read_lora(const Options *options, PeftSpec *spec, Arena *arena, Diag *diag)
{
    const char *roles = options->value[OPTION_LORA];
    spec->method = "lora";
    if (roles)
        spec->origin = arena_format(arena, "--lora %s", roles);
    return option_integer(options, OPTION_RANK, 8, 1, 65536, &spec->rank, diag) &&
           option_real(options, OPTION_ALPHA, 0, 0, 1e9, &spec->alpha, diag) &&
           option_real(options, OPTION_DROPOUT, 0, 0, 0.999, &spec->dropout, diag) &&
           (!roles || peft_parse_lora(spec, roles, arena, diag));
}

/* What neither said. */
static bool complete_lora(PeftSpec *spec, Arena *arena, Diag *diag)
{
    if (spec->alpha <= 0)
        spec->alpha = 2.0 * (double)spec->rank;
    return spec->target_count || peft_parse_lora(spec, "q,v", arena, diag);
}

/* --lora, and each --method, one spec after the other; what is said of LoRA is of one. */
static bool read_new(const Options *options, PeftSpec *first, Arena *arena, Diag *diag)
{
    PeftSpec *lora = options->value[OPTION_LORA] ? first : NULL, *last = lora;
    if (lora && !read_lora(options, lora, arena, diag))
        return false;
    for (int i = 0; i < options->given_count; i++) {
        const char *text = options->given[i].value;
        if (options->given[i].id != OPTION_METHOD)
            continue;
        const PeftMethod *method = peft_method_of(text, arena);
        bool is_lora = method && !strcmp(method->name, "lora"), again = is_lora && lora;
        PeftSpec *spec = again ? lora : last ? (last->next = ARENA_NEW(arena, PeftSpec)) : first;
        if (is_lora && !again && !read_lora(options, lora = spec, arena, diag))
            return false;
        if (!peft_parse_method(spec, text, arena, diag))
            return false;
        last = again ? last : spec;
    }
    if (!lora && (options->value[OPTION_RANK] || options->value[OPTION_ALPHA] || options->value[OPTION_DROPOUT])) {
        diag_error(diag, nowhere, "--rank, --alpha and --dropout are LoRA's; method '%s' has settings of its own: --method %s:key=value",
                   first->method, first->method);
        return false;
    }
    if (options->value[OPTION_TRAIN]) {
        int count;
        first->train = peft_parse_names(options->value[OPTION_TRAIN], &count, arena);
        first->train_count = count;
    }
    return !lora || complete_lora(lora, arena, diag);
}

/* Settings beside those of an adapter: what is trained is not what it says any more. */
static bool change_settings(const Options *options, ModelFiles *files, PeftSpec *spec, Arena *arena, Diag *diag)
{
    const char *method = options->value[OPTION_METHOD];
    if (method && spec->next) {
        diag_error(diag, nowhere, "--method %s: the adapter combines several methods, whose settings stay as they are", method);
        return false;
    }
    if (method && strchr(method, ':'))
        files->adapter_config = NULL;
    return !method || peft_parse_method(spec, method, arena, diag);
}

bool main_read_adaptation(const Options *options, ModelFiles *files, PeftSpec *spec, Arena *arena, Diag *diag)
{
    static const OptionId ids[] = {OPTION_ADAPTER, OPTION_MERGE, OPTION_WITH};
    const char *adapter = NULL, *lora = options->value[OPTION_LORA], *layers = options->value[OPTION_LAYERS];
    int given = 0;
    for (int i = 0; i < 3; i++)
        if (options->value[ids[i]])
            adapter = options->value[ids[i]], given++;
    if (given > 1 || (given && lora)) {
        diag_error(diag, nowhere, "--adapter, --merge, --with and --lora exclude one another");
        return false;
    }
    spec->infer = options->value[OPTION_MERGE] || options->value[OPTION_WITH];
    if (!adapter && !lora && !options->value[OPTION_METHOD])
        return true;
    if (adapter ? !main_read_adapter(files, adapter, spec, arena, diag) || !change_settings(options, files, spec, arena, diag)
                : !read_new(options, spec, arena, diag))
        return false;
    return !layers || peft_parse_layers(spec, layers, arena, diag);
}
