/* lora.c - LoRA (Hu et al., 2021):   y = x W   ->   y + s (dropout(x) A') B'
 *
 * A [r, in] and B [out, r] are trained, W is frozen; s = alpha / r (rsLoRA, Kalajdzievski 2023: alpha / sqrt r).  A starts uniform in
 * +-1/sqrt(in) as in PEFT, B at zero, so that step 0 is the base model.  LoRA-FA (Zhang et al., 2023) freezes A.
 *
 * A fused weight (GPT-2's c_attn) selected by its module path has one A for all its slices, as in PEFT; selected by role, each
 * slice has factors of its own, as in loralib.  A table: A [r, entries] starts at zero, B [d, r] normal; s B A is added to the lookup.
 * Where a table is the output head as well, what is trained for the lookup leaves the head as it is: PEFT's rule.
 *
 * With PiSSA and OLoRA a product's pair begins as a part of W, s B0 A0, and the base is W - s B0 A0. */
#include <math.h>
#include <string.h>

#include "passes/peft/dora.h"
#include "passes/peft/rewrite.h"
#include "passes/peft/settings.h"

typedef struct Lora {
    PeftRewrite *r;
    Graph *graph;
    const PeftSpec *spec;
    Diag *diag;
    const char *initial; /* "pissa", "olora" or "" */
    PeftSite *sites;
    int site_count;
} Lora;

/* Width of what a product or a lookup gives. */
static int64_t node_out(const Node *node)
{
    return node->type.dim[node->type.rank - 1];
}

static double scaling(const Lora *l, const PeftSite *site)
{
    return site->alpha / (l->spec->rslora ? sqrt((double)site->rank) : (double)site->rank);
}

static const char *tensor_name(Lora *l, const PeftSite *site, const char *suffix)
{
    const Param *param = site->param;
    if (site->by_role && param->site)
        return arena_format(l->graph->arena, "%s.%s%s", param->module, param->site, suffix);
    return peft_name(l->graph, param->module, suffix);
}

static bool check_rank(Lora *l, const PeftSite *site, int64_t in, int64_t out)
{
    int64_t most = in < out ? in : out;
    if (site->rank >= 1 && (site->rank <= most || l->spec->tensors))
        return true;
    diag_error(l->diag, peft_nowhere, "%s: rank %lld of '%s' is not between 1 and %lld, its smaller dimension; give another --rank",
               l->spec->origin, (long long)site->rank, site->param->module, (long long)most);
    return false;
}

/* s (dropout(x) A'), the first half.  A is the value [in, r]; with DoRA, whose norms read its rows, [r, in]. */
static Node *down(Lora *l, const PeftSite *site, const char *a, int64_t in)
{
    Graph *g = l->graph;
    const PeftPart part = {a, 2, {whole_axis(site->rank), whole_axis(in)}, !l->spec->dora, INIT_UNIFORM, 1 / sqrt((double)in)};
    Node *node = rewrite_part(l->r, part), *x = site->input;
    if (!node)
        return NULL;
    node->param->trained = node->param->trained && !l->spec->freeze_a;
    if (l->spec->dropout > 0 && !l->spec->infer) {
        Attrs attrs = attrs_default();
        attrs.rate = l->spec->dropout;
        attrs.name = a;
        x = graph_add(g, OP_DROPOUT, &attrs, 1, &x);
    }
    return b_scale(g, b_matmul(g, x, node, false, l->spec->dora), scaling(l, site));
}

/* y + u B', the second half; B's rows `start` and on of a file tensor with `extent` rows. */
static bool up(Lora *l, const PeftSite *site, Node *u, const char *b, int64_t extent, int64_t start)
{
    Graph *g = l->graph;
    const FileSlice rows = {extent, start, start + node_out(site->node)};
    Node *node = rewrite_part(l->r, (PeftPart){b, 2, {rows, whole_axis(site->rank)}, true, INIT_ZERO, 0});
    if (!node)
        return false;
    node->param->fast = true;
    Node *y = b_add(g, site->node, b_matmul(g, u, node, false, false));
    if (l->spec->dora) {
        DoraSite dora = {site, graph_find_param(g, tensor_name(l, site, ".lora_A.weight"))->node, node, scaling(l, site),
                         tensor_name(l, site, ".lora_magnitude_vector"), rows};
        y = dora_scaled(l->r, &dora, y);
    }
    rewrite_replace(l->r, site->node, y);
    return y != NULL;
}

/* All sites of one module that share an A: the slices of a fused weight. */
static bool rewrite_product(Lora *l, PeftSite *site)
{
    const Param *param = site->param;
    int64_t in = site->input->type.dim[site->input->type.rank - 1];
    bool apart = site->by_role && param->site;
    FileSlice slice = param_out(param);
    const char *a = tensor_name(l, site, ".lora_A.weight"), *b = tensor_name(l, site, ".lora_B.weight");
    int64_t extent = apart ? slice.stop - slice.start : slice.extent;
    if (apart && l->spec->dora) {
        diag_error(l->diag, peft_nowhere, "%s: DoRA of a fused weight needs the module's name, '%s', not the role of a slice",
                   l->spec->origin, param->module);
        return false;
    }
    if (!check_rank(l, site, in, extent))
        return false;
    graph_stamp(l->graph, site->node);
    Node *u = down(l, site, a, in);
    if (!u)
        return false;
    for (PeftSite *other = site; other < l->sites + l->site_count; other++) {
        if (other->done || strcmp(other->param->module, param->module) != 0 || other->lookup || other->input != site->input ||
            (apart && other != site))
            continue;
        FileSlice part = param_out(other->param);
        if (!up(l, other, u, b, extent, apart ? 0 : part.start))
            return false;
        other->done = true;
    }
    rewrite_add_merge(l->r, (PeftMerge){.tensor = param->tensor,
                                        .a = a,
                                        .b = b,
                                        .scale = scaling(l, site),
                                        .transposed = !param->transposed,
                                        .out_start = apart ? slice.start : 0,
                                        .out_stop = apart ? slice.stop : slice.extent,
                                        .param = param,
                                        .rank = site->rank,
                                        .alpha = site->alpha,
                                        .part = apart,
                                        .initial = *l->initial ? l->initial : NULL,
                                        .inputs = in,
                                        .outputs = slice.extent});
    if (l->spec->dora)
        rewrite_add_merge(l->r, (PeftMerge){.tensor = param->tensor,
                                            .factor = tensor_name(l, site, ".lora_magnitude_vector"),
                                            .normalised = true,
                                            .transposed = !param->transposed,
                                            .out_stop = slice.extent});
    return true;
}

static bool rewrite_lookup(Lora *l, PeftSite *site)
{
    Graph *g = l->graph;
    int64_t entries = site->param->slices[0].extent, width = node_out(site->node);
    const char *a = tensor_name(l, site, ".lora_embedding_A"), *b = tensor_name(l, site, ".lora_embedding_B");
    if (!check_rank(l, site, entries, width))
        return false;
    graph_stamp(g, site->node);
    Node *table = rewrite_matrix(l->r, a, entries, site->rank, INIT_ZERO, 0);
    Node *node = table ? rewrite_matrix(l->r, b, site->rank, width, INIT_NORMAL, 1) : NULL;
    if (!node)
        return false;
    table->param->trained = table->param->trained && !l->spec->freeze_a;
    node->param->fast = true;
    Node *u = b_scale(g, b_op2(g, OP_GATHER, table, site->input), scaling(l, site));
    rewrite_replace(l->r, site->node, b_add(g, site->node, b_matmul(g, u, node, false, false)));
    if (site->tied)
        rewrite_keep_head(l->r, site->param);
    /* The table is [entries, d] = (B A)'. */
    rewrite_add_merge(l->r, (PeftMerge){.tensor = site->param->tensor,
                                        .a = a,
                                        .b = b,
                                        .scale = scaling(l, site),
                                        .transposed = true,
                                        .out_stop = width,
                                        .param = site->param,
                                        .rank = site->rank,
                                        .alpha = site->alpha,
                                        .inputs = entries,
                                        .outputs = width});
    return true;
}

static bool has_lora(const Lora *l, const char *module)
{
    for (int i = 0; i < l->site_count; i++)
        if (!strcmp(l->sites[i].param->module, module))
            return true;
    return false;
}

static void train_biases(Lora *l)
{
    PeftBias bias = peft_bias(l->spec);
    for (int i = 0; i < l->graph->param_count; i++) {
        Param *param = l->graph->params[i];
        size_t length = strlen(param->tensor);
        if (param->adapter || length < 5 || strcmp(param->tensor + length - 5, ".bias") != 0)
            continue;
        bool own = has_lora(l, param->module);
        if (bias == PEFT_BIAS_NONE || (bias == PEFT_BIAS_LORA_ONLY && !own))
            continue;
        rewrite_train_whole(l->r, param, peft_name(l->graph, param->module, own ? ".base_layer.bias" : ".bias"));
    }
}

/* PEFT's names of how A and B begin; the file of a trained adapter says it still. */
static bool read_initial(Lora *l)
{
    static const char *const plain[] = {"", "gaussian", "orthogonal", "eva"}; /* B A = 0, whatever A is */
    const char *name = l->spec->initial ? l->spec->initial : "";
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!strcmp(name, plain[i]))
            l->initial = "";
    if (!strncmp(name, "pissa", 5) && (!name[5] || !strncmp(name + 5, "_niter_", 7))) /* with iterations: an estimate of the same */
        l->initial = "pissa";
    if (!strcmp(name, "olora"))
        l->initial = "olora";
    if (!l->initial)
        diag_error(l->diag, peft_nowhere, "%s: initial values \"%s\" are not supported; pissa and olora are", l->spec->origin, name);
    return l->initial != NULL;
}

static int target_of(const PeftSpec *spec, const Param *param)
{
    int i = 0;
    while (i < spec->target_count && strcmp(spec->targets[i], param->role) != 0)
        i++;
    return i;
}

/* Are the targets in the order of the slices, as loralib's factors are? */
static bool check_order(Lora *l)
{
    for (int i = 1; i < l->site_count; i++) {
        const Param *a = l->sites[i - 1].param, *b = l->sites[i].param;
        bool slices = l->sites[i - 1].by_role && l->sites[i].by_role && !strcmp(a->module, b->module);
        if (!slices || (target_of(l->spec, a) < target_of(l->spec, b)) == (param_out(a).start < param_out(b).start))
            continue;
        diag_error(l->diag, peft_nowhere, "%s: \"parts\" has '%s' and '%s' in another order than '%s' has these slices", l->spec->origin,
                   a->role, b->role, a->module);
        return false;
    }
    return true;
}

static bool adapt(PeftRewrite *r, bool tokens_only)
{
    Lora l = {.r = r, .graph = r->graph, .spec = r->spec, .diag = r->diag};
    if (!read_initial(&l))
        return false;
    l.sites = peft_select(r->graph, r->spec, &l.site_count, r->diag);
    if (!l.sites || (l.spec->stacked && !check_order(&l)))
        return false;
    for (int i = 0; i < l.site_count; i++) {
        PeftSite *site = &l.sites[i];
        bool skipped = tokens_only && dim_is_fixed(site->node->type.dim[0]);
        if (!site->done && !skipped && !(site->lookup ? rewrite_lookup(&l, site) : rewrite_product(&l, site)))
            return false;
    }
    train_biases(&l);
    return true;
}

static bool apply(PeftRewrite *r)
{
    return adapt(r, false);
}

static bool apply_to_tokens(PeftRewrite *r)
{
    rewrite_cannot_merge(r, "the update is for tokens only, the weight is used for relative positions as well");
    return adapt(r, true);
}

static const PeftKey keys[] = {
    PEFT_KEY("targets", NAMES, targets, 0, 0, NULL),
    PEFT_KEY("r", INT, rank, 1, 65536, NULL),
    PEFT_KEY("rank", INT, rank, 1, 65536, NULL),
    PEFT_KEY("alpha", REAL, alpha, 0, 1e9, NULL),
    PEFT_KEY("dropout", REAL, dropout, 0, 0.999, NULL),
    PEFT_KEY("rslora", FLAG, rslora, 0, 0, NULL),
    PEFT_KEY("freeze_a", FLAG, freeze_a, 0, 0, NULL),
    PEFT_KEY("dora", FLAG, dora, 0, 0, NULL),
    PEFT_KEY("init", TEXT, initial, 0, 0, ""),
    PEFT_KEY("bias", BIAS, bias, 0, 0, NULL),
};

const PeftMethod peft_lora = {.name = "lora", .summary = "low-rank update of the selected products (Hu et al., 2021)", .apply = apply,
                              .keys = keys, .key_count = sizeof keys / sizeof *keys, .settings = peft_lora_settings};

/* LoRA as the paper's code has it in DeBERTa: where a weight meets tokens, but not where it meets relative positions. */
static const PeftKey content_keys[] = {
    PEFT_KEY("targets", NAMES, targets, 0, 0, "q+v"),
    PEFT_KEY("r", INT, rank, 1, 65536, "8"),
    PEFT_KEY("alpha", REAL, alpha, 0, 1e9, "16"),
};

const PeftMethod peft_content_lora = {.name = "content_lora",
                                      .summary = "LoRA on what tokens meet, not relative positions (the LoRA paper's DeBERTa)",
                                      .apply = apply_to_tokens, .keys = content_keys, .key_count = 3};
