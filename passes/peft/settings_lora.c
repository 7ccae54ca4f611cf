/* settings_lora.c - the adapter_config.json of LoRA as PEFT writes it (`json.dumps(indent=2, sort_keys=True)`): the keys that PEFT >= 0.10
 * reads. */
#include "passes/peft/settings.h"

#include <stdlib.h>
#include <string.h>

#include "passes/peft/select.h"

static void add_string(Text *text, const char *string)
{
    text_add(text, "\"");
    for (const char *c = string; *c; c++) {
        if (*c == '"' || *c == '\\')
            text_format(text, "\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            text_format(text, "\\u%04x", (unsigned)*c);
        else
            text_addn(text, c, 1);
    }
    text_add(text, "\"");
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A list, sorted and without repetition; null when empty. */
static void add_list(Text *text, const char **names, int count)
{
    if (!count) {
        text_add(text, "null");
        return;
    }
    qsort(names, (size_t)count, sizeof *names, by_text);
    text_add(text, "[");
    for (int i = 0, written = 0; i < count; i++) {
        if (i && !strcmp(names[i - 1], names[i]))
            continue;
        text_add(text, written++ ? ",\n    " : "\n    ");
        add_string(text, names[i]);
    }
    text_add(text, "\n  ]");
}

/* --- which modules there are --------------------------------------------------------------------------------------------- */

/* A base module with a low-rank update, as PEFT's config has to describe it. */
typedef struct Adapted {
    const Param *param;
    int64_t rank, placed; /* placed: of the rank, in blocks so far */
    double alpha, scale;
} Adapted;

typedef struct Writer {
    Graph *graph;
    const PeftSpec *spec;
    PeftResult *result;
    Diag *diag;
    Adapted *modules; /* sorted by path */
    int module_count;
    Adapted first;    /* in the model's order: what `r` and `lora_alpha` say */
    int parts;        /* pairs that are for slices of fused weights */
} Writer;

static int by_path(const void *a, const void *b)
{
    return strcmp(((const Adapted *)a)->param->module, ((const Adapted *)b)->param->module);
}

static Adapted *find_module(const Writer *w, const Param *param)
{
    const Adapted key = {.param = param};
    return bsearch(&key, w->modules, (size_t)w->module_count, sizeof key, by_path);
}

static void collect_modules(Writer *w)
{
    const PeftResult *r = w->result;
    w->modules = ARENA_ARRAY(w->graph->arena, Adapted, r->merge_count + 1);
    for (int i = 0; i < r->merge_count; i++) {
        const PeftMerge *m = &r->merges[i];
        if (!m->a)
            continue;
        int k = m->part ? w->module_count - 1 : -1;
        while (k >= 0 && strcmp(w->modules[k].param->module, m->param->module) != 0)
            k--;
        if (k < 0)
            w->modules[k = w->module_count++] = (Adapted){.param = m->param, .alpha = m->alpha, .scale = m->scale};
        w->modules[k].rank += m->rank;
        w->parts += m->part;
    }
    for (int i = 0; i < w->module_count && w->parts; i++)
        w->modules[i].alpha = w->modules[i].scale * (double)w->modules[i].rank;
    if (w->module_count)
        w->first = w->modules[0];
    qsort(w->modules, (size_t)w->module_count, sizeof *w->modules, by_path);
}

/* The pairs of a fused weight's slices are, together, one pair of the whole: A = [A1; A2], B has B1 and B2 in their slices' rows
 * and the columns of their ranks.  Its scale is the first slice's; in the others' B is what theirs differs by. */
static void make_blocks(Writer *w)
{
    PeftResult *r = w->result;
    PeftBlock *blocks = ARENA_ARRAY(w->graph->arena, PeftBlock, 2 * w->parts + 1);
    for (int i = 0; i < r->merge_count; i++) {
        const PeftMerge *m = &r->merges[i];
        if (!m->a || !m->part)
            continue;
        Adapted *whole = find_module(w, m->param);
        const char *a = peft_name(w->graph, m->param->module, ".lora_A.weight"), *b = peft_name(w->graph, m->param->module, ".lora_B.weight");
        blocks[r->block_count++] = (PeftBlock){m->a, a, whole->rank, m->inputs, whole->placed, 0, 1};
        blocks[r->block_count++] = (PeftBlock){m->b, b, m->outputs, whole->rank, m->out_start, whole->placed, m->scale / whole->scale};
        whole->placed += m->rank;
    }
    r->blocks = blocks;
}

/* --- their names ------------------------------------------------------------------------------------------------------------ */

/* The shortest end of a path, cut at a dot, that `only` accepts; the whole path if none is. */
static const char *shortest(const Writer *w, const char *path, const void *what, bool (*only)(const Writer *, const char *, const void *))
{
    for (const char *name = path + strlen(path); name > path; name--)
        if (name[-1] == '.' && only(w, name, what))
            return name;
    return path;
}

static bool targets(const Writer *w, const char *name, const Param *param)
{
    return !strcmp(param->module, name) ||
           (path_has_suffix(param->module, name) && param_in_layers(w->graph, w->spec, param, w->diag));
}

static bool targets_only_ours(const Writer *w, const char *name, const void *what)
{
    (void)what;
    for (int i = 0; i < w->graph->param_count; i++) {
        const Param *param = w->graph->params[i];
        if (!param->adapter && param->file_rank == 2 && targets(w, name, param) && !find_module(w, param))
            return false;
    }
    return true;
}

static void add_targets(const Writer *w, Text *text)
{
    const char **names = ARENA_ARRAY(w->graph->arena, const char *, w->module_count + 1);
    int count = 0;
    for (int i = 0; i < w->module_count; i++) {
        const Param *param = w->modules[i].param;
        bool named = false;
        for (int k = 0; k < count && !named; k++)
            named = targets(w, names[k], param);
        if (!named)
            names[count++] = shortest(w, param->module, NULL, targets_only_ours);
        if (!named && !targets(w, names[count - 1], param))
            names[count - 1] = param->module;
    }
    add_list(text, names, count);
}

static bool same_rank(const Writer *w, const char *name, const void *what)
{
    for (int i = 0; i < w->module_count; i++)
        if (path_has_suffix(w->modules[i].param->module, name) && w->modules[i].rank != ((const Adapted *)what)->rank)
            return false;
    return true;
}

static bool same_alpha(const Writer *w, const char *name, const void *what)
{
    for (int i = 0; i < w->module_count; i++)
        if (path_has_suffix(w->modules[i].param->module, name) && w->modules[i].alpha != ((const Adapted *)what)->alpha)
            return false;
    return true;
}

/* Modules whose rank (or alpha) is not the first one's. */
static void add_patterns(const Writer *w, Text *text, bool alpha)
{
    const char **names = ARENA_ARRAY(w->graph->arena, const char *, w->module_count + 1);
    int count = 0;
    text_add(text, "{");
    for (int i = 0; i < w->module_count; i++) {
        const Adapted *m = &w->modules[i];
        bool named = alpha ? m->alpha == w->first.alpha : m->rank == w->first.rank;
        for (int k = 0; k < count && !named; k++)
            named = path_has_suffix(m->param->module, names[k]);
        if (named)
            continue;
        names[count] = shortest(w, m->param->module, m, alpha ? same_alpha : same_rank);
        text_add(text, count ? ",\n    " : "\n    ");
        add_string(text, names[count++]);
        if (alpha)
            text_format(text, ": %.17g", m->alpha);
        else
            text_format(text, ": %lld", (long long)m->rank);
    }
    text_add(text, count ? "\n  }" : "}");
}

typedef struct Names {
    const char **names;
    int count;
} Names;

static bool saves_only_ours(const Writer *w, const char *name, const void *what)
{
    const Names *saved = what;
    for (int i = 0; i < w->graph->param_count; i++) {
        const Param *param = w->graph->params[i];
        if (param->module && module_ends_with(param->module, name) &&
            !bsearch(&param->module, saved->names, (size_t)saved->count, sizeof *saved->names, by_text))
            return false;
    }
    return true;
}

/* Modules trained whole.  Biases are not among them: PEFT has a setting of its own for these. */
static void add_saved(const Writer *w, Text *text)
{
    const PeftSpec *spec = w->spec;
    Names saved = {ARENA_ARRAY(w->graph->arena, const char *, w->graph->param_count * spec->train_count + 1), 0};
    for (int t = 0; t < spec->train_count && !spec->train_is_modules; t++)
        for (int i = 0; i < w->graph->param_count && strcmp(spec->train[t], "bias") != 0; i++)
            if (w->graph->params[i]->role && !strcmp(w->graph->params[i]->role, spec->train[t]))
                saved.names[saved.count++] = w->graph->params[i]->module;
    qsort(saved.names, (size_t)saved.count, sizeof *saved.names, by_text);
    const char **names = ARENA_ARRAY(w->graph->arena, const char *, saved.count + spec->train_count + 3);
    int count = 0;
    for (int i = 0; i < saved.count; i++) {
        bool named = false;
        for (int k = 0; k < count && !named; k++)
            named = module_ends_with(saved.names[i], names[k]);
        if (!named)
            names[count++] = shortest(w, saved.names[i], &saved, saves_only_ours);
    }
    for (int t = 0; t < spec->train_count && spec->train_is_modules; t++)
        names[count++] = spec->train[t];
    if (graph_classifies(w->graph)) /* PEFT's own addition for this task */
        names[count++] = "classifier", names[count++] = "score";
    add_list(text, names, count);
}

/* --- the texts -------------------------------------------------------------------------------------------------------------- */

static void add_layers(const Writer *w, Text *text)
{
    const PeftSpec *spec = w->spec;
    for (int i = 0; i < spec->layer_count; i++)
        text_format(text, "%s%lld", i ? ",\n    " : "[\n    ", (long long)spec->layers[i]);
    text_add(text, spec->layer_count ? "\n  ]" : "null");
}

static void add_initial(const Writer *w, Text *text)
{
    if (w->spec->initial && *w->spec->initial)
        add_string(text, w->spec->initial);
    else
        text_add(text, "true");
}

static const char *const biases[] = {"none", "all", "lora_only"};

static const char *in_peft_form(const Writer *w)
{
    const PeftSpec *spec = w->spec;
    Text text = {.arena = w->graph->arena};
    bool conv1d = false;
    for (int i = 0; i < w->result->merge_count; i++) {
        const PeftMerge *m = &w->result->merges[i];
        conv1d = conv1d || (m->a && m->transposed && strstr(m->a, ".lora_A"));
    }
    text_add(&text, "{\n  \"alpha_pattern\": ");
    add_patterns(w, &text, true);
    text_add(&text, ",\n  \"auto_mapping\": null,\n  \"base_model_name_or_path\": ");
    if (spec->base)
        add_string(&text, spec->base);
    else
        text_add(&text, "null");
    text_format(&text, ",\n  \"bias\": \"%s\",\n  \"fan_in_fan_out\": %s,\n  \"inference_mode\": true,\n", biases[peft_bias(spec)],
                conv1d ? "true" : "false");
    text_add(&text, "  \"init_lora_weights\": ");
    add_initial(w, &text);
    text_add(&text, ",\n  \"layer_replication\": null,\n  \"layers_pattern\": null,\n"
                    "  \"layers_to_transform\": ");
    add_layers(w, &text);
    text_format(&text, ",\n  \"loftq_config\": {},\n  \"lora_alpha\": %.17g,\n  \"lora_dropout\": %.17g,\n", w->first.alpha,
                spec->dropout);
    text_add(&text, "  \"megatron_config\": null,\n  \"megatron_core\": \"megatron.core\",\n  \"modules_to_save\": ");
    add_saved(w, &text);
    text_format(&text, ",\n  \"peft_type\": \"LORA\",\n  \"r\": %lld,\n  \"rank_pattern\": ", (long long)w->first.rank);
    add_patterns(w, &text, false);
    text_add(&text, ",\n  \"revision\": null,\n  \"target_modules\": ");
    add_targets(w, &text);
    const char *task = peft_task_type(w->graph);
    text_format(&text, ",\n  \"task_type\": %s%s%s,\n  \"use_dora\": %s,\n  \"use_rslora\": %s\n}", task ? "\"" : "", task ? task : "null",
                task ? "\"" : "", spec->dora ? "true" : "false", spec->rslora && !w->parts ? "true" : "false");
    return text.data;
}

static void add_part_patterns(const Writer *w, Text *text, bool alpha)
{
    int count = 0;
    text_add(text, "{");
    for (int i = 0; i < w->spec->pattern_count; i++) {
        const PeftPattern *pattern = &w->spec->patterns[i];
        if (alpha ? pattern->alpha == 0 : pattern->rank == 0)
            continue;
        text_add(text, count++ ? ",\n    " : "\n    ");
        add_string(text, pattern->key);
        if (alpha)
            text_format(text, ": %.17g", pattern->alpha);
        else
            text_format(text, ": %lld", (long long)pattern->rank);
    }
    text_add(text, count ? "\n  }" : "}");
}

/* Slices by role; the other settings are called as PEFT calls them. */
static const char *in_split_form(const Writer *w)
{
    const PeftSpec *spec = w->spec;
    Text text = {.arena = w->graph->arena};
    text_format(&text, "{\n  \"alpha\": %.17g,\n  \"alpha_pattern\": ", spec->alpha);
    add_part_patterns(w, &text, true);
    text_format(&text, ",\n  \"bias\": \"%s\",\n  \"init_lora_weights\": ", biases[peft_bias(spec)]);
    add_initial(w, &text);
    text_add(&text, ",\n  \"layers_to_transform\": ");
    add_layers(w, &text);
    text_format(&text, ",\n  \"lora_dropout\": %.17g,\n  \"method\": \"split_lora\",\n  \"modules_to_save\": ", spec->dropout);
    add_saved(w, &text);
    text_add(&text, ",\n  \"parts\": [");
    for (int i = 0; i < spec->target_count; i++) {
        text_add(&text, i ? ",\n    " : "\n    ");
        add_string(&text, spec->targets[i]);
    }
    text_format(&text, "\n  ],\n  \"r\": %lld,\n  \"rank_pattern\": ", (long long)spec->rank);
    add_part_patterns(w, &text, false);
    text_format(&text, ",\n  \"use_rslora\": %s\n}", spec->rslora ? "true" : "false");
    return text.data;
}

const char *peft_lora_settings(const PeftRewrite *r)
{
    Writer w = {.graph = r->graph, .spec = r->spec, .result = r->result, .diag = r->diag};
    collect_modules(&w);
    const char *settings = in_peft_form(&w);
    if (!w.parts)
        return settings;
    if (!r->spec->initial || !*r->spec->initial) { /* the sum of decompositions of slices is none of the whole */
        r->result->peft_settings = settings;
        make_blocks(&w);
    }
    return in_split_form(&w);
}
