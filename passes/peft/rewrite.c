/* rewrite.c - see rewrite.h. */
#include "passes/peft/rewrite.h"

#include <string.h>

static const char *shape_text(Arena *arena, int rank, const int64_t *shape)
{
    Text text = {.arena = arena};
    for (int i = 0; i < rank; i++)
        text_format(&text, "%s%lld", i ? ", " : "", (long long)shape[i]);
    return text.data ? text.data : "";
}

static const PeftTensor *given_tensor(const PeftSpec *spec, const char *name)
{
    for (int i = 0; i < spec->tensor_count; i++)
        if (!strcmp(spec->tensors[i].name, name))
            return &spec->tensors[i];
    return NULL;
}

/* Has the adapter that is given, if one is, this tensor? */
static bool fits(PeftRewrite *r, const PeftPart *part)
{
    const PeftSpec *spec = r->spec;
    Arena *arena = r->graph->arena;
    if (!spec->tensors)
        return true;
    const PeftTensor *found = given_tensor(spec, part->tensor);
    if (!found) {
        diag_error(r->diag, peft_nowhere, "%s: the adapter has no tensor '%s', which its settings ask for", spec->origin, part->tensor);
        return false;
    }
    int64_t shape[2];
    bool same = found->rank == part->rank;
    for (int i = 0; i < part->rank; i++) {
        shape[i] = part->slices[i].extent;
        same = same && found->shape[i] == shape[i];
    }
    if (same)
        return true;
    const char *expected = shape_text(arena, part->rank, shape);
    diag_error(r->diag, peft_nowhere, "%s: '%s' does not fit this model and these settings: expected [%s], got [%s]",
               spec->origin, part->tensor, expected, shape_text(arena, found->rank, found->shape));
    return false;
}

/* "tensor", or "tensor[0:4, :]" where it is not the whole. */
static const char *part_name(Arena *arena, const PeftPart *part)
{
    Text text = {.arena = arena};
    bool whole = true;
    for (int i = 0; i < part->rank; i++) {
        FileSlice slice = part->slices[i];
        bool all = slice.stop - slice.start == slice.extent;
        text_add(&text, i ? ", " : "[");
        text_add(&text, all ? ":" : arena_format(arena, "%lld:%lld", (long long)slice.start, (long long)slice.stop));
        whole = whole && all;
    }
    return whole ? part->tensor : arena_format(arena, "%s%s]", part->tensor, text.data);
}

Node *rewrite_part(PeftRewrite *r, PeftPart part)
{
    Graph *g = r->graph;
    if (!fits(r, &part))
        return NULL;
    const char *name = part_name(g->arena, &part);
    Param *param = graph_find_param(g, name);
    if (param)
        return param->node;
    param = graph_new_param(g, name);
    param->tensor = part.tensor;
    param->layer = g->layer;
    param->adapter = true;
    param->trained = !r->spec->infer;
    param->transposed = part.transposed;
    param->file_rank = part.rank;
    memcpy(param->slices, part.slices, sizeof part.slices);
    param->init = part.init;
    param->init_scale = part.init_scale;
    int64_t shape[2];
    for (int i = 0; i < part.rank; i++)
        shape[part.transposed ? part.rank - 1 - i : i] = part.slices[i].stop - part.slices[i].start;
    return graph_param(g, param, type_of(DT_F32, part.rank, shape));
}

Node *rewrite_matrix(PeftRewrite *r, const char *tensor, int64_t in, int64_t out, Init init, double scale)
{
    return rewrite_part(r, (PeftPart){tensor, 2, {whole_axis(out), whole_axis(in)}, true, init, scale});
}

Node *rewrite_vector(PeftRewrite *r, const char *tensor, int64_t n, Init init)
{
    return rewrite_part(r, (PeftPart){.tensor = tensor, .rank = 1, .slices = {whole_axis(n)}, .init = init});
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

void rewrite_add_merge(PeftRewrite *r, PeftMerge merge)
{
    for (int i = 0; i < r->result->merge_count; i++) {
        const PeftMerge *m = &r->result->merges[i];
        if (same_text(m->tensor, merge.tensor) && m->param == merge.param && same_text(m->a, merge.a) && same_text(m->b, merge.b) &&
            same_text(m->factor, merge.factor) && m->out_start == merge.out_start)
            return;
    }
    ARENA_PUSH(r->graph->arena, r->result->merges, r->result->merge_count, r->merge_capacity, merge);
}

void rewrite_train_whole(PeftRewrite *r, Param *param, const char *tensor)
{
    if (param->adapter)
        return;
    rewrite_add_merge(r, (PeftMerge){.tensor = param->tensor, .param = param, .b = tensor});
    param_into_adapter(param, r->spec, tensor);
}

bool graph_classifies(const Graph *graph)
{
    const Node *logits = graph_find_output(graph, "logits");
    return logits && logits->type.rank == 2 && logits->type.dim[0] == DIM_Q;
}

void rewrite_keep_head(PeftRewrite *r, const Param *table)
{
    rewrite_cannot_merge(r,
                         arena_format(r->graph->arena, "'%s' is the output head as well, which the update must not change", table->tensor));
}

/* Lookups in a table that is the output head as well get a table of their own. */
static void train_lookups(PeftRewrite *r, const Param *param, const char *tensor)
{
    Graph *g = r->graph;
    Param *copy = graph_new_param(g, tensor);
    copy->tensor = param->tensor;
    copy->module = param->module;
    copy->file_rank = param->file_rank;
    memcpy(copy->slices, param->slices, sizeof copy->slices);
    copy->transposed = param->transposed;
    param_into_adapter(copy, r->spec, tensor);
    for (int i = 0; i < r->node_count; i++) {
        Node *node = g->nodes[i];
        if (node->op != OP_GATHER || node->inputs[0]->op != OP_PARAM || node->inputs[0]->param != param)
            continue;
        graph_stamp(g, node);
        rewrite_replace(r, node, b_op2(g, OP_GATHER, graph_param(g, copy, node->inputs[0]->type), node->inputs[1]));
    }
    rewrite_add_merge(r, (PeftMerge){.tensor = param->tensor, .param = param, .b = tensor});
    rewrite_keep_head(r, param);
}

static bool has_update(const PeftRewrite *r, const char *module)
{
    for (int i = 0; i < r->result->merge_count; i++) {
        const PeftMerge *merge = &r->result->merges[i];
        if (merge->a && merge->param && !strcmp(merge->param->module, module))
            return true;
    }
    return false;
}

/* The whole module: a norm's bias with its weight, all slices of a fused weight.  `prefix`: see rewrite_train_further. */
static void train_module(PeftRewrite *r, const char *module, const char *prefix)
{
    Graph *g = r->graph;
    if (has_update(r, module)) {
        diag_error(r->diag, peft_nowhere, "%s: '%s' is to be trained whole and has an update of its own; choose one", r->spec->origin,
                   module);
        return;
    }
    for (int i = 0, count = g->param_count; i < count; i++) {
        Param *param = g->params[i];
        if (param->adapter || !param->module || strcmp(param->module, module) != 0)
            continue;
        const char *tensor = prefix ? arena_format(g->arena, "%s%s", prefix, param->tensor) : param->tensor;
        if (prefix && param_is_tied(g, param))
            train_lookups(r, param, tensor);
        else
            rewrite_train_whole(r, param, tensor);
    }
}

static bool is_asked(const PeftSpec *spec, const Param *param, const char *name)
{
    return spec->train_is_modules ? module_ends_with(param->module, name) : param->role && !strcmp(param->role, name);
}

/* Biases are no modules: with LoRA they are PEFT's setting "bias" (peft_bias), which its other methods lack. */
static void train_asked(PeftRewrite *r, Param *param, const char *name, const char *prefix)
{
    bool bias = !r->spec->train_is_modules && !strcmp(name, "bias"), lora = !strcmp(r->spec->method, "lora");
    if (param->adapter || (bias && lora))
        return;
    if (bias && prefix)
        diag_error(r->diag, peft_nowhere, "%s: the form in which PEFT stores '%s' has no place for biases; --train something else",
                   r->spec->origin, r->spec->method);
    else if (bias)
        rewrite_train_whole(r, param, param->tensor);
    else
        train_module(r, param->module, prefix);
}

void rewrite_train_further(PeftRewrite *r, const char *prefix)
{
    const PeftSpec *spec = r->spec;
    bool classifies = graph_classifies(r->graph);
    int *hits = ARENA_ARRAY(r->graph->arena, int, spec->train_count + 1);
    for (int i = 0, count = r->graph->param_count; i < count && !r->diag->errors; i++) {
        Param *param = r->graph->params[i];
        if (!param->module)
            continue;
        for (int t = 0; t < spec->train_count; t++)
            if (is_asked(spec, param, spec->train[t])) {
                train_asked(r, param, spec->train[t], prefix);
                hits[t]++;
            }
        if (classifies && param->role && !strcmp(param->role, "head") && !param->adapter)
            train_module(r, param->module, prefix);
    }
    for (int t = 0; t < spec->train_count; t++)
        if (!hits[t] && !spec->tensors)
            diag_error(r->diag, peft_nowhere, "%s: '%s', to be trained whole, matches no weight of model '%s'", spec->origin,
                       spec->train[t], r->graph->name);
}

void rewrite_replace(PeftRewrite *r, Node *node, Node *by)
{
    r->map[node->id] = by;
}

void rewrite_cannot_merge(PeftRewrite *r, const char *reason)
{
    r->result->cannot_merge = reason;
}

/* --- places ------------------------------------------------------------------------------------------------------------- */

/* Without a path of its own a place is called after the module of the product it comes from. */
static const char *path_of(const Node *site)
{
    if (site->attrs.path)
        return site->attrs.path;
    const Node *node = site;
    while (node->input_count && op_info[node->op].class != OC_GEMM)
        node = node->inputs[0];
    return node->input_count > 1 && node->inputs[1]->param ? node->inputs[1]->param->module : "model";
}

static bool layer_asked(const PeftSpec *spec, int layer)
{
    bool asked = spec->layer_count == 0;
    for (int i = 0; i < spec->layer_count; i++)
        asked = asked || spec->layers[i] == layer;
    return layer == LAYER_NONE || (asked && layer >= spec->drop_first);
}

PeftPlace *rewrite_places(PeftRewrite *r, const char *kind, int *count)
{
    PeftPlace *places = NULL;
    int capacity = 0, all = 0;
    *count = 0;
    for (int i = 0; i < r->node_count; i++) {
        Node *node = r->graph->nodes[i];
        if (node->op != OP_SITE || strcmp(node->attrs.name, kind) != 0)
            continue;
        all++;
        PeftPlace place = {node, path_of(node), node->layer};
        if (layer_asked(r->spec, node->layer))
            ARENA_PUSH(r->graph->arena, places, *count, capacity, place);
    }
    if (!all)
        diag_error(r->diag, peft_nowhere, "%s: model '%s' marks no place 'at %s', which method '%s' needs", r->spec->origin,
                   r->graph->name, kind, r->spec->method);
    else if (!*count)
        diag_error(r->diag, peft_nowhere, "%s: none of the layers asked for is there: model '%s' has %d", r->spec->origin,
                   r->graph->name, all);
    return places;
}
