/* lower_weight.c - weights: which part of which tensor of the checkpoint they are, and whether
 * it is there.
 *
 * A tensor of the file has one Param for each part that is declared, however often and in
 * whichever orientation: tied weights are one. */
#include <string.h>

#include "frontend/lower.h"

typedef struct Part Part;

/* One declared part of a tensor. */
struct Part {
    Param *param;
    Node *node;
    const Stmt *weight;
    bool open[MAX_RANK]; /* sliced along this axis: the extent of the file is not known from the
                            declaration */
    bool sliced;
    Part *next;
};

struct Tensor {
    const char *name; /* full */
    CheckpointTensor file;
    bool found; /* the checkpoint has been asked and `file` holds its shape */
    Part *parts, *last;
    Tensor *next, *in_order;
};

/* What a declaration says about the file. */
typedef struct Layout {
    const char *tensor; /* full name */
    const char *name;   /* without prefix */
    Type type;          /* of the weight */
    int file_rank;
    FileSlice slices[MAX_RANK];
    bool open[MAX_RANK];
    bool dropped[MAX_RANK];
    bool transposed, sliced;
} Layout;

static Tensor *tensor_intern(Lower *l, const char *name)
{
    if (l->tensor_count * 2 >= l->tensor_buckets) {
        l->tensor_buckets = l->tensor_buckets ? l->tensor_buckets * 2 : 1024;
        l->tensors = ARENA_ARRAY(l->arena, Tensor *, l->tensor_buckets);
        for (Tensor *t = l->first_tensor; t; t = t->in_order) {
            Tensor **bucket = &l->tensors[text_hash(t->name, (int)strlen(t->name)) %
                                          (uint32_t)l->tensor_buckets];
            t->next = *bucket;
            *bucket = t;
        }
    }
    Tensor **bucket =
        &l->tensors[text_hash(name, (int)strlen(name)) % (uint32_t)l->tensor_buckets];
    for (Tensor *t = *bucket; t; t = t->next)
        if (!strcmp(t->name, name))
            return t;
    Tensor *tensor = ARENA_NEW(l->arena, Tensor);
    tensor->name = name;
    tensor->next = *bucket;
    *bucket = tensor;
    if (l->last_tensor)
        l->last_tensor->in_order = tensor;
    else
        l->first_tensor = tensor;
    l->tensor_count++;
    return l->last_tensor = tensor;
}

/* --- the declaration --- */

static bool declared_type(Lower *l, const Stmt *stmt, Type *type)
{
    *type = (Type){.dtype = DT_F32};
    double elements = 1;
    for (const Arg *arg = stmt->args; arg; arg = arg->next) {
        int64_t extent;
        if (type->rank == MAX_RANK) {
            lower_error(l, arg->loc, "a tensor has at most %d axes", MAX_RANK);
            return false;
        }
        if (!lower_extent(l, arg->value, &extent))
            return false;
        if (!dim_is_fixed(extent)) {
            lower_error(l, arg->loc, "the shape of a weight cannot depend on the sequence");
            return false;
        }
        type->dim[type->rank++] = extent;
        elements *= (double)extent;
    }
    if (elements > 1e12) {
        lower_error(l, stmt->loc, "weight '%s' has more than 10^12 elements",
                    stmt->name.symbol->name);
        return false;
    }
    return true;
}

static void swap_last(int64_t *dim, int rank)
{
    const int64_t last = dim[rank - 1];
    dim[rank - 1] = dim[rank - 2];
    dim[rank - 2] = last;
}

/* A range of the file on one axis; `extent` is what the declaration has there. */
static bool sliced_axis(Lower *l, const Arg *arg, int axis, int64_t extent, Layout *layout)
{
    FileSlice *slice = &layout->slices[axis];
    layout->open[axis] = layout->sliced = true;
    if (arg->value && !lower_whole(l, arg->value, "the start of a slice", &slice->start))
        return false;
    slice->stop = slice->start + extent; /* also what "[a:]" means */
    if (arg->stop && !lower_whole(l, arg->stop, "the end of a slice", &slice->stop))
        return false;
    if (slice->start < 0 || slice->stop <= slice->start || slice->stop > (int64_t)1 << 40) {
        lower_error(l, arg->loc, "slice %lld:%lld is empty or negative",
                    (long long)slice->start, (long long)slice->stop);
        return false;
    }
    if (arg->is_range && slice->stop - slice->start != extent) {
        lower_error(l, arg->loc,
                    "this slice has %lld elements, the weight's shape says %lld there",
                    (long long)(slice->stop - slice->start), (long long)extent);
        return false;
    }
    return true;
}

/* Walks the axes of the file beside those of the weight (both in the order the subscripts are
 * written in). */
static bool file_slices(Lower *l, const Stmt *stmt, const int64_t *dim, Layout *layout)
{
    const Arg *arg = stmt->slices;
    int taken = 0, axis = 0;
    for (; arg || taken < layout->type.rank; axis++, arg = arg ? arg->next : NULL) {
        const bool drop = arg && !arg->is_range;
        if (axis == MAX_RANK || (!drop && taken == layout->type.rank)) {
            lower_error(l, arg ? arg->loc : stmt->loc,
                        "the tensor has more axes than the weight's shape");
            return false;
        }
        const int64_t extent = drop ? 1 : dim[taken++];
        layout->dropped[axis] = drop;
        layout->slices[axis] = (FileSlice){.start = 0, .stop = extent};
        if (arg && (drop || arg->value || arg->stop) &&
            !sliced_axis(l, arg, axis, extent, layout))
            return false;
        if (drop && layout->slices[axis].stop != layout->slices[axis].start + 1)
            layout->slices[axis].stop = layout->slices[axis].start + 1;
    }
    layout->file_rank = axis;
    return true;
}

static void swap_axes(Layout *layout)
{
    const int a = layout->file_rank - 1, b = layout->file_rank - 2;
    const FileSlice slice = layout->slices[a];
    const bool open = layout->open[a];
    layout->slices[a] = layout->slices[b];
    layout->slices[b] = slice;
    layout->open[a] = layout->open[b];
    layout->open[b] = open;
}

/* "[:, 0:64]": what tells the parts of one tensor apart. */
static const char *slices_str(Lower *l, const Layout *layout)
{
    Text text = {.arena = l->arena};
    for (int i = 0; i < layout->file_rank; i++) {
        text_add(&text, i ? ", " : "[");
        if (!layout->open[i])
            text_add(&text, ":");
        else if (layout->dropped[i])
            text_format(&text, "%lld", (long long)layout->slices[i].start);
        else
            text_format(&text, "%lld:%lld", (long long)layout->slices[i].start,
                        (long long)layout->slices[i].stop);
    }
    text_add(&text, "]");
    return text.data;
}

static bool read_layout(Lower *l, const Stmt *stmt, Layout *layout)
{
    const char *text = lower_string(l, stmt->text, "the name of a tensor");
    if (!text || !declared_type(l, stmt, &layout->type))
        return false;
    const bool absolute = *text == '/';
    layout->name = text + absolute;
    layout->tensor = absolute ? layout->name : arena_format(l->arena, "%s%s", l->prefix, text);
    if (!*layout->tensor) {
        lower_error(l, stmt->text->loc, "a tensor needs a name");
        return false;
    }
    layout->transposed = stmt->transposed_before || stmt->transposed_after;
    int64_t dim[MAX_RANK];
    memcpy(dim, layout->type.dim, sizeof dim);
    if (layout->transposed && layout->type.rank < 2) {
        lower_error(l, stmt->text->loc, "' needs a weight of at least two axes");
        return false;
    }
    if (stmt->transposed_after)
        swap_last(dim, layout->type.rank); /* subscripts count the file's axes */
    if (!file_slices(l, stmt, dim, layout))
        return false;
    if (stmt->transposed_before) {
        for (int i = 0; i < layout->file_rank; i++)
            if (layout->dropped[i]) {
                lower_error(
                    l, stmt->loc,
                    "a transposed tensor cannot lose an axis; slice first, then transpose");
                return false;
            }
        swap_axes(layout);
    }
    return true;
}

/* --- the file --- */

/* Asks the checkpoint once for each tensor: under its full name, then without the prefix that
 * some files lack. */
static bool find_tensor(Lower *l, Tensor *tensor, const Layout *layout)
{
    if (tensor->found || !l->checkpoint || !l->checkpoint->tensors_known)
        return true;
    const Checkpoint *c = l->checkpoint;
    return tensor->found = c->tensor(c->user, tensor->name, &tensor->file) ||
                           (layout->name != layout->tensor &&
                            c->tensor(c->user, layout->name, &tensor->file));
}

/* The checkpoint cannot be listed, but the prefixes of other families can be tried. */
static void missing_tensor(Lower *l, const Stmt *stmt, const Layout *layout)
{
    static const char *const prefixes[] = {
        "model.", "transformer.", "gpt_neox.",      "roberta.",
        "bert.",  "deberta.",     "model.decoder.", "language_model.model."};
    const Checkpoint *c = l->checkpoint;
    CheckpointTensor found;
    lower_error(l, stmt->text->loc, "the checkpoint has no tensor '%s'", layout->tensor);
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        const char *name = arena_format(l->arena, "%s%s", prefixes[i], layout->name);
        if (c->tensor(c->user, name, &found)) {
            lower_note(l, stmt->text->loc, "did you mean '%s'? the prefix here is '%s'", name,
                       l->prefix);
            return;
        }
    }
}

static const char *expected_shape(Lower *l, const Layout *layout)
{
    Text text = {.arena = l->arena};
    for (int i = 0; i < layout->file_rank; i++)
        text_format(&text, "%s%lld%s", i ? ", " : "[", (long long)layout->slices[i].stop,
                    layout->open[i] ? " or more" : "");
    text_add(&text, layout->file_rank ? "]" : "[]");
    return text.data;
}

static const char *found_shape(Lower *l, const CheckpointTensor *file)
{
    Text text = {.arena = l->arena};
    text_add(&text, "[");
    for (int i = 0; i < file->rank && i < MAX_RANK; i++)
        text_format(&text, "%s%lld", i ? ", " : "", (long long)file->shape[i]);
    text_add(&text, "]");
    return text.data;
}

static bool fits(const Layout *layout, const CheckpointTensor *file, bool swapped)
{
    if (file->rank != layout->file_rank || (swapped && file->rank < 2))
        return false;
    for (int i = 0; i < file->rank; i++) {
        const int at = !swapped || i < file->rank - 2 ? i : i == file->rank - 1 ? i - 1 : i + 1;
        const int64_t stop = layout->slices[i].stop;
        if (layout->open[i] ? file->shape[at] < stop : file->shape[at] != stop)
            return false;
    }
    return true;
}

static bool check_shape(Lower *l, const Stmt *stmt, const Layout *layout, const Tensor *tensor)
{
    if (!tensor->found || fits(layout, &tensor->file, false))
        return true;
    lower_error(l, stmt->loc, "tensor '%s' should have the shape %s, but the checkpoint has %s",
                tensor->file.name, expected_shape(l, layout), found_shape(l, &tensor->file));
    if (fits(layout, &tensor->file, true))
        lower_note(l, stmt->text->loc,
                   layout->transposed ? "it fits without the '"
                                      : "its transpose fits: write ' behind the name");
    return false;
}

/* --- the param --- */

static bool same_part(const Part *part, const Layout *layout)
{
    if (part->param->file_rank != layout->file_rank)
        return false;
    for (int i = 0; i < layout->file_rank; i++)
        if (part->param->slices[i].start != layout->slices[i].start ||
            part->param->slices[i].stop != layout->slices[i].stop)
            return false;
    return true;
}

static bool overlaps(const Part *part, const Layout *layout)
{
    if (part->param->file_rank != layout->file_rank)
        return true;
    for (int i = 0; i < layout->file_rank; i++)
        if (part->param->slices[i].stop <= layout->slices[i].start ||
            layout->slices[i].stop <= part->param->slices[i].start)
            return false;
    return true;
}

static const char *module_of(Lower *l, const char *tensor)
{
    const char *dot = strrchr(tensor, '.');
    return dot ? arena_strndup(l->arena, tensor, (size_t)(dot - tensor)) : "";
}

static Part *new_part(Lower *l, Stmt *stmt, const Layout *layout, Tensor *tensor,
                      const char *role)
{
    const char *name = layout->sliced
                           ? arena_format(l->arena, "%s%s", layout->name, slices_str(l, layout))
                           : layout->name;
    if (layout->tensor == layout->name && *l->prefix) /* "/a" beside prefix + "a" */
        name = arena_format(l->arena, "/%s", name);
    Part *part = ARENA_NEW(l->arena, Part);
    Param *param = part->param = graph_new_param(l->graph, name);
    param->tensor = layout->tensor;
    param->file_name =
        tensor->found ? arena_strdup(l->arena, tensor->file.name) : layout->tensor;
    param->module = module_of(l, layout->tensor);
    param->role = role;
    param->layer = l->graph->layer;
    param->file_rank = layout->file_rank;
    memcpy(param->slices, layout->slices, sizeof param->slices);
    param->transposed = layout->transposed;
    param->loc = l->graph->loc = stmt->loc;
    Attrs attrs = attrs_default();
    attrs.name = name;
    part->node =
        graph_leaf(l->graph, OP_PARAM, layout->type, &attrs); /* graph_param searches: O(n^2) */
    part->node->param = param;
    part->node->note = stmt; /* for messages: how it was declared */
    part->weight = stmt;
    memcpy(part->open, layout->open, sizeof part->open);
    part->sliced = layout->sliced;
    if (tensor->last)
        tensor->last->next = part;
    else
        tensor->parts = part;
    return tensor->last = part;
}

/* The param of this part of the tensor, as the weight wants to see it. */
static Val find_part(Lower *l, Stmt *stmt, const Layout *layout, Tensor *tensor,
                     const char *role)
{
    for (Part *part = tensor->parts; part; part = part->next) {
        if (!overlaps(part, layout))
            continue;
        const bool turned = part->param->transposed != layout->transposed;
        Val value = value_node(part->node);
        if (same_part(part, layout) && turned)
            value = lower_transpose(l, stmt->loc, part->node);
        if (same_part(part, layout) && value.kind == VAL_NODE &&
            type_equal(value.node->type, layout->type))
            return value;
        lower_error(l, stmt->loc,
                    "weight '%s' and an earlier one share elements of tensor '%s', but are not "
                    "the same part of it",
                    stmt->name.symbol->name, layout->tensor);
        lower_note(l, part->weight->loc, "the earlier one is '%s'",
                   part->weight->name.symbol->name);
        return value_error();
    }
    return value_node(new_part(l, stmt, layout, tensor, role)->node);
}

/* normal(deviation), zero, one: how a weight begins that the checkpoint lacks. */
static bool find_init(Lower *l, const Stmt *stmt, Init *init)
{
    static const char *const names[] = {"normal", "zero", "one"};
    static const Init inits[] = {INIT_NORMAL, INIT_ZERO, INIT_ONE};
    const char *name = stmt->fresh->symbol->name;
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, names[i])) {
            *init = inits[i];
            if (*init != INIT_NORMAL || stmt->fresh->number > 0)
                return true;
            lower_error(l, stmt->fresh->loc, "'normal' needs its deviation: normal(0.02)");
            return false;
        }
    lower_error(l, stmt->fresh->loc, "a weight can begin as normal(DEVIATION), zero or one, not '%s'", name);
    return false;
}

Val lower_weight(Lower *l, Stmt *stmt)
{
    Layout layout = {0};
    const char *role = stmt->role ? lower_string(l, stmt->role, "a role") : NULL;
    Init init = INIT_TENSOR;
    if ((stmt->fresh && !find_init(l, stmt, &init)) || (stmt->role && !role) || !read_layout(l, stmt, &layout))
        return value_error();
    Tensor *tensor = tensor_intern(l, layout.tensor);
    const bool found = find_tensor(l, tensor, &layout);
    if (!found && !stmt->fresh) {
        if (stmt->optional)
            return (Val){.kind = VAL_ABSENT, .text = stmt->name.symbol->name};
        missing_tensor(l, stmt, &layout);
        return value_error();
    }
    if (!check_shape(l, stmt, &layout, tensor))
        return value_error();
    const Val value = find_part(l, stmt, &layout, tensor, role);
    if (!found && value.kind == VAL_NODE && value.node->param) {
        value.node->param->fresh = true;
        value.node->param->init = init;
        value.node->param->init_scale = stmt->fresh->number;
    }
    return value;
}

/* --- when all are known --- */

/* Roles tell the parts of a tensor apart if they all differ; else the names of the weights do.
 */
static bool roles_differ(const Tensor *tensor)
{
    for (const Part *a = tensor->parts; a; a = a->next) {
        if (!a->param->role)
            return false;
        for (const Part *b = a->next; b; b = b->next)
            if (b->param->role && !strcmp(a->param->role, b->param->role))
                return false;
    }
    return true;
}

void lower_weights_finish(Lower *l)
{
    for (Tensor *tensor = l->first_tensor; tensor; tensor = tensor->in_order) {
        int64_t extent[MAX_RANK] = {0};
        for (const Part *part = tensor->parts; part; part = part->next)
            for (int i = 0; i < part->param->file_rank; i++)
                if (extent[i] < part->param->slices[i].stop)
                    extent[i] = part->param->slices[i].stop;
        const bool by_role = roles_differ(tensor);
        for (Part *part = tensor->parts; part; part = part->next) {
            Param *param = part->param;
            for (int i = 0; i < param->file_rank; i++)
                param->slices[i].extent = tensor->found ? tensor->file.shape[i] : extent[i];
            if (part->sliced)
                param->site = by_role ? param->role : part->weight->name.symbol->name;
            part->node->note = NULL;
        }
    }
}
