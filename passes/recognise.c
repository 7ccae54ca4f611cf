/* recognise.c - finds attention and the loss over the vocabulary in what the user wrote.
 *
 * softmax(s q k' + bias, where = mask) v, in any spelling of the scale, of a cap and of the mask, becomes one node on two-dimensional
 * operands; heads that repeat_heads shares become kv_heads.  Bias and mask are made from positions and numbers.
 * cross_entropy(x W + b, targets) with a frozen W, and b if there is one, becomes linear_cross_entropy, which never stores the logits. */
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
    Node *where, *bias;   /* of the scores: which count beside causal and window, and what is added; NULL: none */
    const bool *given;    /* by id: made from positions and numbers only */
    int *seen, attention; /* by id: the last attention whose mask has this condition, counted from 1 */
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

/* row - w < col, row - w <= col, and the same with row - col on one side */
static bool match_window(const Node *mask, Match *m)
{
    const Node *a = mask->inputs[0], *b = mask->inputs[1];
    double w;
    if (mask->op != OP_LT && mask->op != OP_LE)
        return false;
    bool before = a->op == OP_SUB && a->inputs[0]->op == OP_ROW && const_value(a->inputs[1], &w) && b->op == OP_COL;
    bool distance = a->op == OP_SUB && a->inputs[0]->op == OP_ROW && a->inputs[1]->op == OP_COL && const_value(b, &w);
    if (!before && !distance)
        return false;
    if ((mask->op == OP_LT ? w <= 0 : w < 0) || w > INT32_MAX)
        return false; /* a row would not see itself */
    int64_t window = (int64_t)(mask->op == OP_LT ? ceil(w) : floor(w) + 1);
    if (m->window == 0 || window < m->window)
        m->window = window;
    return true;
}

static bool match_mask(Graph *g, Node *mask, Match *m)
{
    double value;
    if (m->seen[mask->id] == m->attention)
        return true;
    m->seen[mask->id] = m->attention;
    if (mask->op == OP_AND)
        return match_mask(g, mask->inputs[0], m) && match_mask(g, mask->inputs[1], m);
    if (mask->op == OP_BROADCAST)
        return match_mask(g, mask->inputs[0], m);
    if (const_value(mask, &value) && value != 0)
        return true;
    if (mask->op == OP_LE && mask->inputs[0]->op == OP_COL && mask->inputs[1]->op == OP_ROW)
        return m->causal = true;
    if (match_window(mask, m))
        return true;
    m->where = m->where ? b_op2(g, OP_AND, m->where, mask) : mask;
    return m->given[mask->id];
}

static Node *strip_repeat(Node *node, int64_t *kv_heads)
{
    if (node->op != OP_REPEAT_HEADS)
        return node;
    *kv_heads = node->inputs[0]->type.dim[0];
    return node->inputs[0];
}

/* The terms of a sum, each with what it is scaled by; how many, 0: too many. */
enum { TERMS_MAX = 8 };

static int sum_terms(const Match *m, Node *sum, double scale, Node **terms, double *scales, int count)
{
    Node *node = m->given[sum->id] ? sum : strip_scale(sum, &scale);
    if (!m->given[node->id] && (node->op == OP_ADD || node->op == OP_SUB)) {
        count = sum_terms(m, node->inputs[0], scale, terms, scales, count);
        return count ? sum_terms(m, node->inputs[1], node->op == OP_SUB ? -scale : scale, terms, scales, count) : 0;
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

static void add_bias(Graph *g, Match *m, Node *term, double scale)
{
    Node *bias = b_scale(g, term->type.dtype == DT_F32 ? term : b_op1(g, OP_TO_F32, term), scale);
    m->bias = m->bias ? b_add(g, m->bias, bias) : bias;
}

/* q k' and terms of relative positions, all scaled alike, and a bias, all perhaps capped: c tanh(all / c). */
static bool match_scores(Graph *g, Node *scores, Match *m)
{
    Node *terms[TERMS_MAX], *product = NULL;
    double scales[TERMS_MAX], cap = 1;
    Node *inner = strip_scale(scores, &cap);
    if (inner->op == OP_TANH && cap > 0) {
        m->cap = cap;
        scores = inner->inputs[0];
    }
    int count = sum_terms(m, scores, m->cap > 0 ? cap : 1, terms, scales, 0), first = 0;
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
        if (m->given[terms[i]->id])
            add_bias(g, m, terms[i], scale);
        else if (i != first && (!match_relative(g, terms[i], m->q, m->k, &m->relative, &scale) || !same_scale(scale, m->scale)))
            return false;
    }
    return true;
}

static bool match_attention(Graph *g, Node *product, const bool *given, int *seen, Match *m)
{
    if (product->op != OP_MATMUL || product->attrs.ta || product->attrs.tb || product->type.rank != 3)
        return false;
    Node *softmax = product->inputs[0];
    if (softmax->op != OP_SOFTMAX)
        return false;
    *m = (Match){.scale = 1, .heads = product->type.dim[0], .given = given, .seen = seen, .attention = product->id + 1};
    int64_t v_heads = m->kv_heads = m->heads;
    if (!match_scores(g, softmax->inputs[0], m))
        return false;
    m->k = strip_repeat(m->k, &m->kv_heads);
    m->v = strip_repeat(product->inputs[1], &v_heads);
    bool shapes = m->q->type.rank == 3 && m->k->type.rank == 3 && m->v->type.rank == 3 && v_heads == m->kv_heads &&
                  m->k->type.dim[0] == m->kv_heads && m->k->type.dim[2] == m->q->type.dim[2] &&
                  m->v->type.dim[2] == m->q->type.dim[2];
    return shapes && match_mask(g, softmax->inputs[1], m);
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
    Node *inputs[8] = {b_op1(g, OP_MERGE_HEADS, m->q), b_op1(g, OP_MERGE_HEADS, m->k), b_op1(g, OP_MERGE_HEADS, m->v)};
    const Relative *r = &m->relative;
    if (r->buckets) {
        attrs.index = (r->kr ? 1 : 0) | (r->qr ? 2 : 0);
        inputs[3] = b_op1(g, OP_MERGE_HEADS, r->kr ? r->kr : r->qr);
        inputs[4] = r->qr && r->kr ? b_op1(g, OP_MERGE_HEADS, r->qr) : inputs[3];
        inputs[5] = r->buckets;
    }
    int count = r->buckets ? 6 : 3;
    if (m->where || m->bias) {
        inputs[count++] = m->where ? m->where : b_true(g);
        inputs[count++] = m->bias ? m->bias : b_const(g, 0);
    }
    Node *attention = graph_add(g, r->buckets ? OP_RELATIVE_ATTENTION : OP_ATTENTION, &attrs, count, inputs);
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
    const bool *of_scores = scores_only(graph, context->scratch);
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (of_scores[i])
            continue;
        int over_tokens = 0;
        for (int k = 0; k < node->type.rank; k++)
            over_tokens += node->type.dim[k] == DIM_T || node->type.dim[k] == DIM_S;
        if (over_tokens < 2)
            continue;
        diag_error(context->diag, node->loc,
                   "this attention has a form that is not compiled yet; known is softmax(scale * q @ k' + bias, where = mask) @ v, "
                   "mask and bias made from row, col and numbers, the scores perhaps as cap * tanh(scores / cap)");
        return false;
    }
    return true;
}

/* Which nodes are made from positions and numbers only. */
static bool *find_given(const Graph *graph, Arena *arena)
{
    bool *given = ARENA_ARRAY(arena, bool, graph->node_count + 1);
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        /* a number for each head */
        bool by_heads = node->op == OP_TABLE && node->type.rank == 3 && node->type.dim[1] == 1 && node->type.dim[2] == 1;
        given[i] = node->op == OP_ROW || node->op == OP_COL || node->op == OP_CONST || by_heads ||
                   (op_info[node->op].class == OC_MAP && !(op_info[node->op].attrs & A_RATE)) || node->op == OP_BROADCAST;
        for (int k = 0; k < node->input_count; k++)
            given[i] = given[i] && given[node->inputs[k]->id];
    }
    return given;
}

bool pass_recognise(Graph *graph, PassContext *context)
{
    int count = graph->node_count;
    const bool *given = find_given(graph, context->scratch);
    int *seen = ARENA_ARRAY(context->scratch, int, count + 1);
    Node **map = ARENA_ARRAY(context->scratch, Node *, count + 1);
    for (int i = 0; i < count; i++)
        graph->nodes[i]->note = NULL; /* where tables of relative positions are kept */
    for (int i = 0; i < count; i++) {
        Node *node = graph->nodes[i];
        Match match;
        if (match_attention(graph, node, given, seen, &match))
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
