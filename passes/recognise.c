/* recognise.c - finds attention and the loss over the vocabulary in what the user wrote.
 *
 * softmax(s q k', where = mask) v, in any spelling of the scale, of a cap and of the mask, becomes one node on two-dimensional
 * operands; heads that repeat_heads shares become kv_heads.  cross_entropy(x W + b, targets) with a frozen W, and b if there is
 * one, becomes linear_cross_entropy, which never stores the logits. */
#include <math.h>

#include "ir/build.h"
#include "passes/relative.h"

/* What attention is made of. */
typedef struct Match {
    Node *q, *k, *v; /* [heads, T, size] */
    double scale, cap;
    bool causal;
    int64_t window;
    int64_t heads, kv_heads;
    Relative relative;
} Match;

/* x c and c x and x / c for a number c: strips it off and multiplies *scale. */
Node *strip_scale(Node *node, double *scale)
{
    double c;
    for (;;) {
        if (node->op == OP_MUL && const_value(node->inputs[1], &c)) {
            *scale *= c;
            node = node->inputs[0];
        } else if (node->op == OP_MUL && const_value(node->inputs[0], &c)) {
            *scale *= c;
            node = node->inputs[1];
        } else if (node->op == OP_DIV && const_value(node->inputs[1], &c)) {
            *scale /= c;
            node = node->inputs[0];
        } else {
            return node;
        }
    }
}

/* row - w < col */
static bool match_window(const Node *mask, Match *m)
{
    const Node *a = mask->inputs[0], *b = mask->inputs[1];
    double w;
    if (mask->op != OP_LT)
        return false;
    bool before = a->op == OP_SUB && a->inputs[0]->op == OP_ROW && const_value(a->inputs[1], &w) && b->op == OP_COL;
    bool distance = a->op == OP_SUB && a->inputs[0]->op == OP_ROW && a->inputs[1]->op == OP_COL && const_value(b, &w);
    if (!before && !distance)
        return false;
    if (w <= 0 || w > INT32_MAX)
        return false; /* a row would not see itself */
    int64_t window = (int64_t)ceil(w);
    if (m->window == 0 || window < m->window)
        m->window = window;
    return true;
}

static bool match_mask(const Node *mask, Match *m)
{
    double value;
    if (mask->op == OP_AND)
        return match_mask(mask->inputs[0], m) && match_mask(mask->inputs[1], m);
    if (mask->op == OP_BROADCAST)
        return match_mask(mask->inputs[0], m);
    if (const_value(mask, &value))
        return value != 0;
    if (mask->op == OP_LE && const_value(mask->inputs[0], &value) && const_value(mask->inputs[1], &value))
        return true; /* how "everything" is spelled */
    if (mask->op == OP_LE && mask->inputs[0]->op == OP_COL && mask->inputs[1]->op == OP_ROW)
        return m->causal = true;
    return match_window(mask, m);
}

static Node *strip_repeat(Node *node, int64_t *kv_heads)
{
    if (node->op != OP_REPEAT_HEADS)
        return node;
    *kv_heads = node->inputs[0]->type.dim[0];
    return node->inputs[0];
}

/* The terms of a sum, each with what it is scaled by; how many, 0: too many. */
enum { TERMS_MAX = 3 };

static int sum_terms(Node *sum, double scale, Node **terms, double *scales, int count)
{
    Node *node = strip_scale(sum, &scale);
    if (node->op == OP_ADD) {
        count = sum_terms(node->inputs[0], scale, terms, scales, count);
        return count ? sum_terms(node->inputs[1], scale, terms, scales, count) : 0;
    }
    if (count == TERMS_MAX)
        return 0;
    terms[count] = node;
    scales[count] = scale;
    return count + 1;
}

static bool same_scale(double a, double b)
{
    return fabs(a - b) <= 1e-12 * fabs(a);
}

/* q k' and terms of relative positions, all scaled alike, and perhaps capped: c tanh(all / c). */
static bool match_scores(Graph *g, Node *scores, Match *m)
{
    Node *terms[TERMS_MAX], *product = NULL;
    double scales[TERMS_MAX], cap = 1;
    Node *inner = strip_scale(scores, &cap);
    if (inner->op == OP_TANH && cap > 0) {
        m->cap = cap;
        scores = inner->inputs[0];
    }
    int count = sum_terms(scores, m->cap > 0 ? cap : 1, terms, scales, 0), first = 0;
    for (int i = 0; i < count && !product; i++)
        if (terms[i]->op == OP_MATMUL && !terms[i]->attrs.ta && terms[i]->attrs.tb)
            product = terms[i], first = i;
    if (!product)
        return false;
    m->scale = scales[first];
    m->q = strip_scale(product->inputs[0], &m->scale);
    m->k = strip_scale(product->inputs[1], &m->scale);
    for (int i = 0; i < count; i++) {
        double scale = scales[i];
        if (i != first && (!match_relative(g, terms[i], m->q, m->k, &m->relative, &scale) || !same_scale(scale, m->scale)))
            return false;
    }
    return true;
}

static bool match_attention(Graph *g, Node *product, Match *m)
{
    if (product->op != OP_MATMUL || product->attrs.ta || product->attrs.tb || product->type.rank != 3)
        return false;
    Node *softmax = product->inputs[0];
    if (softmax->op != OP_SOFTMAX)
        return false;
    *m = (Match){.scale = 1, .heads = product->type.dim[0]};
    int64_t v_heads = m->kv_heads = m->heads;
    if (!match_scores(g, softmax->inputs[0], m))
        return false;
    m->k = strip_repeat(m->k, &m->kv_heads);
    m->v = strip_repeat(product->inputs[1], &v_heads);
    bool shapes = m->q->type.rank == 3 && m->k->type.rank == 3 && m->v->type.rank == 3 && v_heads == m->kv_heads &&
                  m->k->type.dim[0] == m->kv_heads && m->k->type.dim[2] == m->q->type.dim[2] &&
                  m->v->type.dim[2] == m->q->type.dim[2];
    return shapes && match_mask(softmax->inputs[1], m);
}

static Node *build_attention(Graph *g, Node *product, const Match *m)
{
    Attrs attrs = attrs_default();
    attrs.scale = m->scale;
    attrs.cap = m->cap;
    attrs.heads = m->heads;
    attrs.kv_heads = m->kv_heads;
    attrs.head_dim = m->q->type.dim[2];
    attrs.causal = m->causal;
    attrs.window = m->window;
    graph_stamp(g, product);
    Node *inputs[6] = {b_op1(g, OP_MERGE_HEADS, m->q), b_op1(g, OP_MERGE_HEADS, m->k), b_op1(g, OP_MERGE_HEADS, m->v)};
    const Relative *r = &m->relative;
    if (r->buckets) {
        attrs.index = (r->kr ? 1 : 0) | (r->qr ? 2 : 0);
        inputs[3] = b_op1(g, OP_MERGE_HEADS, r->kr ? r->kr : r->qr);
        inputs[4] = r->qr && r->kr ? b_op1(g, OP_MERGE_HEADS, r->qr) : inputs[3];
        inputs[5] = r->buckets;
    }
    Node *attention = graph_add(g, r->buckets ? OP_RELATIVE_ATTENTION : OP_ATTENTION, &attrs, r->buckets ? 6 : 3, inputs);
    Attrs split = attrs_default();
    split.heads = m->heads;
    Node *o = b_result(g, attention, 0);
    return graph_add(g, OP_SPLIT_HEADS, &split, 1, &o);
}

/* A frozen bias that is added to `product`, an operand of `sum`; NULL if something else is. */
static Node *bias_of(const Node *sum, const Node *product)
{
    Node *bias = sum->inputs[sum->inputs[0] == product];
    return bias->op == OP_PARAM && bias->type.rank == 1 && bias->type.dim[0] == product->type.dim[1] && !bias->param->trained ? bias : NULL;
}

static Node *build_loss(Graph *g, Node *loss)
{
    Node *logits = loss->inputs[0], *bias = NULL;
    if (logits->op == OP_ADD) {
        Node *product = logits->inputs[logits->inputs[0]->op != OP_MATMUL];
        if (product->op != OP_MATMUL || !(bias = bias_of(logits, product)))
            return NULL;
        logits = product;
    }
    if (logits->op != OP_MATMUL || logits->attrs.ta || logits->type.dim[0] != DIM_T || logits->inputs[1]->op != OP_PARAM ||
        logits->inputs[1]->param->trained)
        return NULL;
    Attrs attrs = attrs_default();
    attrs.tb = logits->attrs.tb;
    graph_stamp(g, loss);
    Node *inputs[] = {logits->inputs[0], logits->inputs[1], loss->inputs[1], bias};
    return b_result(g, graph_add(g, OP_LINEAR_CROSS_ENTROPY, &attrs, bias ? 4 : 3, inputs), 0);
}

/* A score matrix that is left over has no kernel. */
static bool check_left(Graph *graph, PassContext *context)
{
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        int over_tokens = 0;
        for (int k = 0; k < node->type.rank; k++)
            over_tokens += node->type.dim[k] == DIM_T || node->type.dim[k] == DIM_S;
        if (over_tokens < 2)
            continue;
        diag_error(context->diag, node->loc,
                   "this attention has a form that is not compiled yet; known is softmax(scale * q @ k', where = mask) @ v, "
                   "the scores perhaps as cap * tanh(scores / cap), with masks of 'col <= row' and 'col > row - window'");
        return false;
    }
    return true;
}

bool pass_recognise(Graph *graph, PassContext *context)
{
    int count = graph->node_count;
    Node **map = ARENA_ARRAY(context->scratch, Node *, count + 1);
    for (int i = 0; i < count; i++)
        graph->nodes[i]->note = NULL; /* where tables of relative positions are kept */
    for (int i = 0; i < count; i++) {
        Node *node = graph->nodes[i];
        Match match;
        if (match_attention(graph, node, &match))
            map[i] = build_attention(graph, node, &match);
        else if (node->op == OP_CROSS_ENTROPY && context->training)
            map[i] = build_loss(graph, node);
    }
    graph_replace_all(graph, map, count);
    /* Operands of one node may be another's: new nodes follow too. */
    for (int i = count; i < graph->node_count; i++)
        for (int k = 0; k < graph->nodes[i]->input_count; k++) {
            Node *input = graph->nodes[i]->inputs[k];
            if (input->id < count && map[input->id])
                graph->nodes[i]->inputs[k] = map[input->id];
        }
    Node *loss = graph_find_output(graph, "loss"), *logits = graph_find_output(graph, "logits");
    bool of_sequences = logits && logits->type.dim[0] == DIM_Q; /* few: kept beside the loss, so that answers can be counted */
    graph->output_count = 0;
    if (context->training && loss)
        graph_output(graph, "loss", loss);
    if (logits && (!context->training || !loss || of_sequences))
        graph_output(graph, "logits", logits);
    graph_compact(graph);
    return simplify_graph(graph, context->scratch) && check_left(graph, context);
}
