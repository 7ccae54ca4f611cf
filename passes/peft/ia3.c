/* ia3.c - (IA)3 (Liu et al., 2022): learned factors on keys, values and inside the feed-forward part.
 *
 *   y = x W + b  ->  (x W + b) * l          l [out], starts at one
 *   feed-forward:     (x * l) W + b          l [in]
 *
 * Tensors as PEFT stores them: MODULE.ia3_l, [out, 1] or [1, in].  A fused weight has one vector: slices that are not selected keep
 * factors of one.  Folded: W's output (and b) or W's input is scaled. */
#include <string.h>

#include "passes/peft/rewrite.h"
#include "passes/peft/settings.h"

static bool is_feedforward(const PeftSpec *spec, const Param *param)
{
    for (int i = 0; i < spec->feedforward_count; i++) {
        const char *name = spec->feedforward[i];
        size_t length = strlen(param->module), n = strlen(name);
        if ((param->role && !strcmp(param->role, name)) || (n <= length && !strcmp(param->module + length - n, name)))
            return true;
    }
    return false;
}

/* Elements [start, stop) of a tensor [extent, 1] (or [1, extent]). */
static Node *factors(PeftRewrite *r, const char *tensor, FileSlice part, bool row)
{
    FileSlice one = whole_axis(1);
    PeftPart vector = {tensor, 2, {row ? one : part, row ? part : one}, !row, INIT_ONE, 0};
    return rewrite_part(r, vector);
}

static Param *bias_of(const Graph *graph, const Param *weight, FileSlice part)
{
    const char *name = arena_format(graph->arena, "%s.bias", weight->module);
    for (int i = 0; i < graph->param_count; i++) {
        Param *param = graph->params[i];
        if (!param->adapter && !strcmp(param->tensor, name) && param->slices[0].start == part.start)
            return param;
    }
    return NULL;
}

/* The sum with the bias behind a product, or the product itself. */
static Node *with_bias(PeftRewrite *r, Node *product, const Param *bias)
{
    for (int i = product->id + 1; bias && i < r->node_count && i <= product->id + 3; i++) {
        Node *node = r->graph->nodes[i];
        if (node->op == OP_ADD && node->inputs[0] == product && node->inputs[1]->param == bias)
            return node;
    }
    return product;
}

static bool scale_output(PeftRewrite *r, const PeftSite *site, const char *tensor)
{
    const Param *weight = site->param;
    FileSlice part = param_out(weight);
    const Param *bias = bias_of(r->graph, weight, part);
    Node *y = with_bias(r, site->node, bias);
    graph_stamp(r->graph, y);
    Node *l = factors(r, tensor, part, false);
    if (!l)
        return false;
    rewrite_replace(r, y, b_mul(r->graph, y, l));
    rewrite_add_merge(r, (PeftMerge){.tensor = weight->tensor, .factor = tensor, .transposed = !weight->transposed,
                                     .out_start = part.start, .out_stop = part.stop});
    if (bias)
        rewrite_add_merge(r, (PeftMerge){.tensor = bias->tensor, .factor = tensor, .transposed = true, .out_start = part.start,
                                         .out_stop = part.stop});
    return true;
}

static bool scale_input(PeftRewrite *r, const PeftSite *site, const char *tensor)
{
    const Param *weight = site->param;
    int64_t in = site->input->type.dim[site->input->type.rank - 1];
    graph_stamp(r->graph, site->node);
    Node *l = factors(r, tensor, whole_axis(in), true);
    if (!l)
        return false;
    const Node *node = site->node;
    rewrite_replace(r, site->node, b_matmul(r->graph, b_mul(r->graph, site->input, l), node->inputs[1], false, node->attrs.tb));
    rewrite_add_merge(r, (PeftMerge){.tensor = weight->tensor, .factor = tensor, .transposed = weight->transposed, .out_stop = in});
    return true;
}

/* Slices of a fused weight that are not selected: their factors are in the file, too, and stay one. */
static void fill_slices(PeftRewrite *r, const PeftSite *sites, int count)
{
    for (int i = 0; i < r->node_count; i++) {
        Node *node = r->graph->nodes[i];
        Param *param = op_info[node->op].class == OC_GEMM ? node->inputs[1]->param : NULL;
        const PeftSite *selected = NULL;
        bool itself = false;
        for (int k = 0; param && param->site && k < count; k++) {
            itself = itself || sites[k].param == param;
            if (!strcmp(sites[k].param->module, param->module))
                selected = &sites[k];
        }
        if (!selected || itself)
            continue;
        PeftSite site = {.node = node, .input = node->inputs[0], .param = param};
        const char *tensor = peft_name(r->graph, param->module, ".ia3_l");
        if (scale_output(r, &site, tensor))
            r->graph->params[r->graph->param_count - 1]->trained = false;
    }
}

static bool apply(PeftRewrite *r)
{
    int count;
    PeftSite *sites = peft_select(r->graph, r->spec, &count, r->diag);
    for (int i = 0; sites && i < count; i++) {
        const char *tensor = peft_name(r->graph, sites[i].param->module, ".ia3_l");
        if (sites[i].lookup) {
            diag_error(r->diag, peft_nowhere, "%s: '%s' is a table that is looked up, not a product", r->spec->origin,
                       sites[i].param->module);
            return false;
        }
        if (!(is_feedforward(r->spec, sites[i].param) ? scale_input : scale_output)(r, &sites[i], tensor))
            return false;
    }
    if (sites)
        fill_slices(r, sites, count);
    return sites != NULL;
}

static const PeftKey keys[] = {PEFT_KEY("targets", NAMES, targets, 0, 0, "k+v+down"),
                               PEFT_KEY("feedforward", NAMES, feedforward, 0, 0, "down")};

const PeftMethod peft_ia3 = {.name = "ia3", .summary = "learned factors on keys, values and feed-forward (Liu et al., 2022)",
                             .apply = apply, .keys = keys, .key_count = 2, .settings = peft_ia3_settings};
