/* calls.c - the names LDL knows by itself; ops come from the op table. */
#include "frontend/calls.h"

#include <math.h>
#include <string.h>

const char *const site_kinds[SITE_KINDS] = {"embedding", "block_in", "attention_out", "mlp_out",
                                            "block_out", "keys",     "values",        "logits"};

bool site_find(const char *kind)
{
    for (int i = 0; i < SITE_KINDS; i++)
        if (!strcmp(kind, site_kinds[i]))
            return true;
    return false;
}

static const struct {
    const char *name;
    Function meaning;
} functions[] = {
#define FUNCTION(name, meaning) {#name, meaning},
#include "frontend/functions.def"
};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

static const char *const special[] = {
#define SPECIAL(name, count, takes) #name,
#include "frontend/functions.def"
};
enum { SPECIALS = sizeof special / sizeof *special };

Function function_find(const char *name)
{
    for (int i = 0; i < FUNCTIONS; i++)
        if (!strcmp(name, functions[i].name))
            return functions[i].meaning;
    return NULL;
}

static bool is_callable(Op op)
{
    return !(op_info[op].traits & (TRAIT_INTERNAL | TRAIT_LEAF));
}

const char *call_name(int index)
{
    if (index < FUNCTIONS)
        return functions[index].name;
    index -= FUNCTIONS;
    if (index < SPECIALS)
        return special[index];
    index -= SPECIALS;
    for (int op = 0; op < OP_COUNT; op++)
        if (is_callable((Op)op) && index-- == 0)
            return op_info[op].text;
    return NULL;
}

bool call_find(const char *name)
{
    const Op op = op_find(name);
    if (op != OP_COUNT && is_callable(op))
        return true;
    for (int i = 0; i < SPECIALS; i++)
        if (!strcmp(name, special[i]))
            return true;
    return function_find(name) != NULL;
}

/* Positions are those of the row's tokens; rows and columns those of a score matrix. */
static const struct {
    const char *name;
    Op op;
    int rank;
    int64_t dim[2];
} predefined[] = {
    {"T", OP_COUNT, 0, {0}},        {"S", OP_COUNT, 0, {0}},
    {"Q", OP_COUNT, 0, {0}},
    {"pi", OP_COUNT, 0, {0}},       {"row", OP_ROW, 2, {DIM_T, 1}},
    {"col", OP_COL, 2, {1, DIM_S}}, {"positions", OP_POSITIONS, 1, {DIM_T}},
};
enum { PREDEFINED = sizeof predefined / sizeof *predefined };

const char *predefined_name(int index)
{
    return index < PREDEFINED ? predefined[index].name : NULL;
}

bool predefined_find(const char *name)
{
    for (int i = 0; i < PREDEFINED; i++)
        if (!strcmp(name, predefined[i].name))
            return true;
    return false;
}

Op predefined_leaf(const char *name, Type *type)
{
    for (int i = 0; i < PREDEFINED; i++)
        if (!strcmp(name, predefined[i].name)) {
            *type = type_of(DT_I32, predefined[i].rank, predefined[i].dim);
            return predefined[i].op;
        }
    return OP_COUNT;
}

const char *input_name(Op op, int index)
{
    return op == OP_SOFTMAX && index == 1 ? "where" : NULL;
}
