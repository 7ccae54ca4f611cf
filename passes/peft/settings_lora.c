/* settings_lora.c - the adapter_config.json of LoRA, as PEFT writes it: the keys that PEFT >= 0.10 reads. */
#include "passes/peft/settings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- which modules there are --------------------------------------------------------------------------------------------- */

/* A base module with a low-rank update, as PEFT's config has to describe it. */
typedef struct Adapted {
    const Param *param;
    int64_t rank, placed; /* placed: of the rank, in blocks so far */
    double alpha, scale;
} Adapted;

typedef struct Writer {
    const PeftRewrite *rewrite;
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
        const char *a = peft_name(w->graph, m->param->module, ".lora_A.weight"),
                   *b = peft_name(w->graph, m->param->module, ".lora_B.weight");
        blocks[r->block_count++] = (PeftBlock){m->a, a, whole->rank, m->inputs, whole->placed, 0, 1};
        blocks[r->block_count++] = (PeftBlock){m->b, b, m->outputs, whole->rank, m->out_start, whole->placed, m->scale / whole->scale};
        whole->placed += m->rank;
    }
    r->blocks = blocks;
}

/* --- their names ------------------------------------------------------------------------------------------------------------ */

static bool targets(const Writer *w, const char *name, const Param *param)
{
    return !strcmp(param->module, name) ||
           (path_has_suffix(param->module, name) && param_in_layers(w->graph, w->spec, param, w->diag));
}

static bool targets_only_ours(const void *user, const char *name)
{
    const Writer *w = user;
    for (int i = 0; i < w->graph->param_count; i++) {
        const Param *param = w->graph->params[i];
        if (!param->adapter && param->file_rank == 2 && targets(w, name, param) && !find_module(w, param))
            return false;
    }
    return true;
}

static json_t *target_modules(const Writer *w)
{
    const char **names = ARENA_ARRAY(w->graph->arena, const char *, w->module_count + 1);
    int count = 0;
    for (int i = 0; i < w->module_count; i++) {
        const Param *param = w->modules[i].param;
        bool named = false;
        for (int k = 0; k < count && !named; k++)
            named = targets(w, names[k], param);
        if (!named)
            names[count++] = settings_name(param->module, targets_only_ours, w);
        if (!named && !targets(w, names[count - 1], param))
            names[count - 1] = param->module;
    }
    return settings_list(names, count);
}

/* Modules that a name has to keep apart from others: by their rank, or by their alpha. */
typedef struct Kind {
    const Writer *w;
    const Adapted *like;
    bool alpha;
} Kind;

static double setting_of(const Kind *kind, const Adapted *module)
{
    return kind->alpha ? module->alpha : (double)module->rank;
}

static bool same(const Kind *kind, const Adapted *module)
{
    double a = setting_of(kind, module), b = setting_of(kind, kind->like);
    return a >= b && a <= b;
}

static bool names_only_same(const void *user, const char *name)
{
    const Kind *kind = user;
    for (int i = 0; i < kind->w->module_count; i++)
        if (path_has_suffix(kind->w->modules[i].param->module, name) && !same(kind, &kind->w->modules[i]))
            return false;
    return true;
}

/* As PEFT writes it: whole numbers without a point. */
static json_t *number(double value)
{
    return fabs(value) < 1e15 && trunc(value) >= value && trunc(value) <= value ? json_integer((json_int_t)value) : json_real(value);
}

/* Modules whose rank (or alpha) is not the first one's. */
static json_t *patterns(const Writer *w, bool alpha)
{
    json_t *all = json_object();
    for (int i = 0; i < w->module_count; i++) {
        const Adapted *module = &w->modules[i];
        bool named = same(&(Kind){w, &w->first, alpha}, module);
        const char *name;
        json_t *value;
        json_object_foreach(all, name, value)
            named = named || path_has_suffix(module->param->module, name);
        const Kind kind = {w, module, alpha};
        if (!named)
            json_object_set_new(all, settings_name(module->param->module, names_only_same, &kind), number(setting_of(&kind, module)));
    }
    return all;
}

/* --- the texts -------------------------------------------------------------------------------------------------------------- */

static const char *const biases[] = {"none", "all", "lora_only"};

static json_t *initial_of(const PeftSpec *spec)
{
    return spec->initial && *spec->initial ? json_string(spec->initial) : json_true();
}

static const char *in_peft_form(const Writer *w)
{
    const PeftSpec *spec = w->spec;
    bool conv1d = false;
    for (int i = 0; i < w->result->merge_count; i++) {
        const PeftMerge *m = &w->result->merges[i];
        conv1d = conv1d || (m->a && m->transposed && strstr(m->a, ".lora_A"));
    }
    json_t *all = json_pack("{s:o, s:n, s:s?, s:s, s:b, s:b, s:o, s:n, s:n, s:o, s:{}, s:o, s:o}", "alpha_pattern", patterns(w, true),
                            "auto_mapping", "base_model_name_or_path", spec->base, "bias", biases[peft_bias(spec)], "fan_in_fan_out",
                            conv1d, "inference_mode", 1, "init_lora_weights", initial_of(spec), "layer_replication", "layers_pattern",
                            "layers_to_transform", settings_layers(spec), "loftq_config", "lora_alpha", number(w->first.alpha),
                            "lora_dropout", number(spec->dropout));
    json_t *more = json_pack("{s:n, s:s, s:o, s:s, s:I, s:o, s:n, s:o, s:s?, s:b, s:b}", "megatron_config", "megatron_core",
                             "megatron.core", "modules_to_save", settings_saved(w->rewrite), "peft_type", "LORA", "r",
                             (json_int_t)w->first.rank, "rank_pattern", patterns(w, false), "revision", "target_modules",
                             target_modules(w), "task_type", peft_task_type(w->graph), "use_dora", spec->dora, "use_rslora",
                             spec->rslora && !w->parts);
    json_object_update(all, more);
    json_decref(more);
    return settings_text(w->graph->arena, all);
}

static json_t *part_patterns(const PeftSpec *spec, bool alpha)
{
    json_t *all = json_object();
    for (int i = 0; i < spec->pattern_count; i++) {
        const PeftPattern *pattern = &spec->patterns[i];
        double value = alpha ? pattern->alpha : (double)pattern->rank;
        if (value > 0)
            json_object_set_new(all, pattern->key, number(value));
    }
    return all;
}

/* Slices by role; the other settings are called as PEFT calls them. */
static const char *in_split_form(const Writer *w)
{
    const PeftSpec *spec = w->spec;
    json_t *parts = json_array();
    for (int i = 0; i < spec->target_count; i++)
        json_array_append_new(parts, json_string(spec->targets[i]));
    json_t *all = json_pack("{s:o, s:o, s:s, s:o, s:o, s:o, s:s, s:o, s:o, s:I, s:o, s:b}", "alpha", number(spec->alpha), "alpha_pattern",
                            part_patterns(spec, true), "bias", biases[peft_bias(spec)], "init_lora_weights", initial_of(spec),
                            "layers_to_transform", settings_layers(spec), "lora_dropout", number(spec->dropout), "method", "split_lora",
                            "modules_to_save", settings_saved(w->rewrite), "parts", parts, "r", (json_int_t)spec->rank, "rank_pattern",
                            part_patterns(spec, false), "use_rslora", spec->rslora);
    return settings_text(w->graph->arena, all);
}

const char *peft_lora_settings(const PeftRewrite *r)
{
    Writer w = {.rewrite = r, .graph = r->graph, .spec = r->spec, .result = r->result, .diag = r->diag};
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
