/* virtual.c - see virtual.h. */
#include "passes/peft/virtual.h"

static Node *integer(Graph *g, int64_t value)
{
    Attrs attrs = attrs_default();
    attrs.value = (double)value;
    return graph_leaf(g, OP_CONST, type_scalar(DT_I32), &attrs);
}

static Node *column(Graph *g, Node *x)
{
    return b_reshape(g, x, 2, (int64_t[]){DIM_T, 1});
}

/* index - first where it is in [first, last), else 0 */
static Node *row_of(Graph *g, Node *index, int64_t first, int64_t last)
{
    Node *from = integer(g, first), *inside = b_op2(g, OP_AND, b_op2(g, OP_LE, from, index), b_op2(g, OP_LT, index, integer(g, last)));
    return graph_add(g, OP_WHERE, NULL, 3, (Node *[]){inside, b_sub(g, index, from), integer(g, 0)});
}

Virtual virtual_inputs(PeftRewrite *r)
{
    Graph *g = r->graph;
    int64_t prefix = r->spec->prefix, all = prefix + r->spec->infix;
    g->layer = LAYER_NONE;
    Node *index = b_input(g, "virtual", type_of(DT_I32, 1, (int64_t[]){DIM_T}));
    Virtual v;
    v.is_virtual = b_op2(g, OP_LE, integer(g, 0), column(g, index));
    v.in_prefix = b_op2(g, OP_LT, column(g, index), integer(g, prefix));
    v.prefix = row_of(g, index, 0, prefix);
    v.infix = row_of(g, index, prefix, all);
    return v;
}

Node *virtual_rows(PeftRewrite *r, const Virtual *v, Node *prefix, Node *infix, Node *x)
{
    Graph *g = r->graph;
    Node *a = prefix ? b_op2(g, OP_GATHER, prefix, v->prefix) : NULL, *b = infix ? b_op2(g, OP_GATHER, infix, v->infix) : NULL;
    Node *learned = a && b ? graph_add(g, OP_WHERE, NULL, 3, (Node *[]){v->in_prefix, a, b}) : a ? a : b;
    if (x->type.rank == 3) {
        Attrs attrs = attrs_default();
        attrs.heads = x->type.dim[0];
        learned = graph_add(g, OP_SPLIT_HEADS, &attrs, 1, &learned);
    }
    return graph_add(g, OP_WHERE, NULL, 3, (Node *[]){v->is_virtual, learned, x});
}

Node *virtual_table(PeftRewrite *r, const char *tensor, int64_t rows, int64_t columns, int64_t extent, int64_t start, double scale)
{
    const FileSlice part = {extent, start, start + columns};
    return rewrite_part(r, (PeftPart){tensor, 2, {whole_axis(rows), part}, false, INIT_NORMAL, scale});
}

bool virtual_check(PeftRewrite *r)
{
    int64_t all = r->spec->prefix + r->spec->infix;
    r->result->prefix = r->spec->prefix;
    r->result->infix = r->spec->infix;
    rewrite_cannot_merge(r, "its learned tokens are part of the sequence");
    if (all >= 1 && (!r->graph->context || all < r->graph->context))
        return true;
    if (all < 1)
        diag_error(r->diag, peft_nowhere, "%s: no learned token at all; give prefix or infix", r->spec->origin);
    else
        diag_error(r->diag, peft_nowhere, "%s: %lld learned tokens leave no room in the %lld positions of model '%s'; ask for fewer",
                   r->spec->origin, (long long)all, (long long)r->graph->context, r->graph->name);
    return false;
}
