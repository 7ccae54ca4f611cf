/* index_code.c - an expression of positions as a list of steps: what relative positions and lookups by position are tabulated with. */
#include <math.h>

#include "ir/eval.h"
#include "passes/passes.h"

enum { MAX_STEPS = 256, MAX_OPERANDS = 3 };

typedef struct Step {
    const Node *node;
    int in[MAX_OPERANDS]; /* the steps that give its operands */
    double value;
} Step;

struct IndexCode {
    int count;
    Step *steps;
};

static bool is_position(Op op)
{
    return op == OP_ROW || op == OP_POSITIONS || op == OP_COL;
}

/* The step that gives `node`; -1: it is not of positions and numbers only, or there are too many. */
static int add_step(IndexCode *code, const Node *node, int depth)
{
    while (node->op == OP_BROADCAST || node->op == OP_RESHAPE)
        node = node->inputs[0];
    for (int i = 0; i < code->count; i++)
        if (code->steps[i].node == node)
            return i;
    Step step = {.node = node, .value = node->attrs.value};
    if (!is_position(node->op) && node->op != OP_CONST) {
        if (!eval_is_map(node->op) || node->op == OP_DROPOUT || node->input_count > MAX_OPERANDS || depth == MAX_STEPS)
            return -1;
        for (int i = 0; i < node->input_count; i++)
            if ((step.in[i] = add_step(code, node->inputs[i], depth + 1)) < 0)
                return -1;
    }
    if (code->count == MAX_STEPS)
        return -1;
    code->steps[code->count] = step;
    return code->count++;
}

IndexCode *index_code(Arena *arena, const Node *node)
{
    Step steps[MAX_STEPS];
    IndexCode code = {.steps = steps};
    if (add_step(&code, node, 0) < 0)
        return NULL;
    code.steps = arena_copy(arena, steps, sizeof *steps * (size_t)code.count);
    return arena_copy(arena, &code, sizeof code);
}

double index_at(IndexCode *code, double row, double col)
{
    for (int i = 0; i < code->count; i++) {
        Step *step = &code->steps[i];
        Op op = step->node->op;
        if (is_position(op)) {
            step->value = op == OP_COL ? col : row;
        } else if (op != OP_CONST) {
            double in[MAX_OPERANDS] = {0};
            for (int k = 0; k < step->node->input_count; k++)
                in[k] = code->steps[step->in[k]].value;
            step->value = eval_map(op, in);
            if (step->node->type.dtype == DT_I32)
                step->value = isfinite(step->value) ? trunc(step->value) : 0;
        }
    }
    return code->steps[code->count - 1].value;
}
