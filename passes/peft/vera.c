/* vera.c - VeRA (Kopiczko et al., 2024):   y -> y + b * ((d * (x A')) B')
 *
 * A [r, in] and B [out, r] are random, frozen, and the same for all modules, which read the leading columns and rows of one pair; d [r]
 * and b [out] are learned.  Tensors: base_model.vera_A, base_model.vera_B, MODULE.vera_lambda_d, MODULE.vera_lambda_b. */
#include <math.h>
#include <string.h>

#include "passes/peft/settings.h"

static const char a_name[] = "base_model.vera_A", b_name[] = "base_model.vera_B";

typedef struct Vera {
    PeftRewrite *r;
    PeftSite *sites;
    int site_count;
    int64_t in, out; /* of the shared pair */
} Vera;

static FileSlice out_slice(const Param *param)
{
    return param->slices[param->transposed ? 0 : 1];
}

static int64_t in_of(const PeftSite *site)
{
    return site->input->type.dim[site->input->type.rank - 1];
}

/* [rows, columns] of the transpose of a shared tensor [extent0, extent1], from row `start` of it on; one parameter for each part. */
static Node *shared(Vera *v, const char *tensor, int64_t rows, int64_t columns, int64_t extent0, int64_t extent1, int64_t start)
{
    Graph *g = v->r->graph;
    if (!rewrite_fit(v->r, tensor, 2, (int64_t[]){extent0, extent1}))
        return NULL;
    const char *name = arena_format(g->arena, "%s[%lld:%lld, 0:%lld]", tensor, (long long)start, (long long)(start + columns),
                                    (long long)rows);
    Param *param = graph_find_param(g, name);
    if (param)
        return param->node;
    int layer = g->layer;
    g->layer = LAYER_NONE;
    Node *node = adapter_param(g, v->r->spec, tensor, rows, columns, extent0, start, name);
    node->param->slices[1].extent = extent1;
    node->param->trained = false;
    node->param->init = INIT_UNIFORM;
    node->param->init_scale = sqrt(6 / (double)extent1); /* Kaiming's, with PEFT's gain */
    g->layer = layer;
    return node;
}

/* Elements [start, stop) of a learned vector. */
static Node *lambda(Vera *v, const char *tensor, FileSlice part, double value)
{
    Graph *g = v->r->graph;
    int64_t n = part.stop - part.start;
    if (!rewrite_fit(v->r, tensor, 1, &part.extent))
        return NULL;
    Param *param = graph_new_param(g, n == part.extent ? tensor : arena_format(g->arena, "%s[%lld:%lld]", tensor,
                                                                               (long long)part.start, (long long)part.stop));
    param->tensor = tensor;
    param->layer = g->layer;
    param->adapter = true;
    param->trained = !v->r->spec->infer;
    param->file_rank = 1;
    param->slices[0] = part;
    param->init = INIT_CONSTANT;
    param->init_scale = value;
    return graph_param(g, param, type_of(DT_F32, 1, &n));
}

static bool adapt(Vera *v, PeftSite *first)
{
    Graph *g = v->r->graph;
    const Param *weight = first->param;
    int64_t in = in_of(first), rank = v->r->spec->rank;
    const char *d_tensor = peft_name(g, weight->module, ".vera_lambda_d"), *b_tensor = peft_name(g, weight->module, ".vera_lambda_b");
    graph_stamp(g, first->node);
    Node *a = shared(v, a_name, in, rank, rank, v->in, 0);
    Node *d = a ? lambda(v, d_tensor, (FileSlice){rank, 0, rank}, v->r->spec->d_initial) : NULL;
    if (!d)
        return false;
    Node *u = b_mul(g, b_matmul(g, first->input, a, false, false), d);
    for (PeftSite *site = first; site < v->sites + v->site_count; site++) {
        if (site->done || site->input != first->input || strcmp(site->param->module, weight->module) != 0)
            continue;
        FileSlice part = out_slice(site->param);
        Node *b = shared(v, b_name, rank, part.stop - part.start, v->out, rank, part.start);
        Node *l = b ? lambda(v, b_tensor, part, 0) : NULL;
        if (!l)
            return false;
        rewrite_replace(v->r, site->node, b_add(g, site->node, b_mul(g, b_matmul(g, u, b, false, false), l)));
        site->done = true;
    }
    FileSlice all = out_slice(weight);
    rewrite_add_merge(v->r, (PeftMerge){.tensor = weight->tensor, .a = a_name, .b = b_name, .scale = 1, .row_factor = b_tensor,
                                        .rank_factor = d_tensor, .transposed = !weight->transposed, .out_stop = all.extent});
    return true;
}

static bool apply(PeftRewrite *r)
{
    Vera v = {.r = r};
    v.sites = peft_select(r->graph, r->spec, &v.site_count, r->diag);
    for (int i = 0; v.sites && i < v.site_count; i++) {
        PeftSite *site = &v.sites[i];
        if (site->lookup) {
            diag_error(r->diag, peft_nowhere, "%s: '%s' is a table that is looked up, not a product", r->spec->origin, site->param->module);
            return false;
        }
        v.in = in_of(site) > v.in ? in_of(site) : v.in;
        v.out = out_slice(site->param).extent > v.out ? out_slice(site->param).extent : v.out;
    }
    for (int i = 0; v.sites && i < v.site_count; i++)
        if (!v.sites[i].done && !adapt(&v, &v.sites[i]))
            return false;
    return v.sites != NULL;
}

static const PeftKey keys[] = {PEFT_KEY("targets", NAMES, targets, 0, 0, "q+v"), PEFT_KEY("r", INT, rank, 1, 65536, "256"),
                               PEFT_KEY("d_initial", REAL, d_initial, 0, 1e6, "0.1")};

const PeftMethod peft_vera = {.name = "vera", .summary = "learned scales of one random low-rank pair (Kopiczko et al., 2024)",
                              .apply = apply, .keys = keys, .key_count = 3, .settings = peft_vera_settings};
