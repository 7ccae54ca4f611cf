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

static int64_t in_of(const PeftSite *site)
{
    return site->input->type.dim[site->input->type.rank - 1];
}

/* The transpose of a part of a shared tensor; it belongs to no layer. */
static Node *shared(Vera *v, const char *tensor, FileSlice rows, FileSlice columns)
{
    Graph *g = v->r->graph;
    int layer = g->layer;
    double bound = sqrt(6 / (double)columns.extent); /* Kaiming's, with PEFT's gain */
    g->layer = LAYER_NONE;
    Node *node = rewrite_part(v->r, (PeftPart){tensor, 2, {rows, columns}, true, INIT_UNIFORM, bound});
    g->layer = layer;
    if (node)
        node->param->trained = false;
    return node;
}

/* Elements of a learned vector. */
static Node *lambda(Vera *v, const char *tensor, FileSlice part, double value)
{
    return rewrite_part(v->r, (PeftPart){.tensor = tensor, .rank = 1, .slices = {part}, .init = INIT_CONSTANT, .init_scale = value});
}

static bool adapt(Vera *v, PeftSite *first)
{
    Graph *g = v->r->graph;
    const Param *weight = first->param;
    int64_t in = in_of(first), rank = v->r->spec->rank;
    const char *d_tensor = peft_name(g, weight->module, ".vera_lambda_d"), *b_tensor = peft_name(g, weight->module, ".vera_lambda_b");
    graph_stamp(g, first->node);
    Node *a = shared(v, a_name, whole_axis(rank), (FileSlice){v->in, 0, in});
    Node *d = a ? lambda(v, d_tensor, whole_axis(rank), v->r->spec->d_initial) : NULL;
    if (!d)
        return false;
    Node *u = b_mul(g, b_matmul(g, first->input, a, false, false), d);
    for (PeftSite *site = first; site < v->sites + v->site_count; site++) {
        if (site->done || site->input != first->input || strcmp(site->param->module, weight->module) != 0)
            continue;
        FileSlice part = param_out(site->param);
        Node *b = shared(v, b_name, (FileSlice){v->out, part.start, part.stop}, whole_axis(rank));
        Node *l = b ? lambda(v, b_tensor, part, 0) : NULL;
        if (!l)
            return false;
        rewrite_replace(v->r, site->node, b_add(g, site->node, b_mul(g, b_matmul(g, u, b, false, false), l)));
        site->done = true;
    }
    FileSlice all = param_out(weight);
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
        v.out = param_out(site->param).extent > v.out ? param_out(site->param).extent : v.out;
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
