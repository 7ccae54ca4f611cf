/* value.h - what an LDL expression evaluates to while a description is lowered.
 *
 * Compile-time values (numbers, booleans, strings, lists) and nodes of the graph mix freely; a
 * number or a list of numbers becomes a node only where it meets one. */
#pragma once
#include "ir/graph.h"

typedef struct Val Val;

typedef enum ValKind {
    VAL_ERROR, /* something was reported; uses stay silent */
    VAL_NUMBER,
    VAL_BOOL,
    VAL_STRING,
    VAL_LIST,
    VAL_EXTENT, /* T, S or Q: an extent known at run time */
    VAL_NODE,
    VAL_ABSENT, /* an optional weight that the checkpoint lacks */
} ValKind;

typedef struct List {
    Val *items;
    int count;
    const char *name; /* of the const it was declared as; NULL: none */
    Node *table;      /* once it has been used as a tensor */
} List;

struct Val {
    ValKind kind;
    double number;    /* numbers; booleans 0 or 1; extents DIM_T, DIM_S */
    const char *text; /* strings */
    List *list;
    Node *node;
};

static inline Val value_error(void)
{
    return (Val){.kind = VAL_ERROR};
}
static inline Val value_number(double number)
{
    return (Val){.kind = VAL_NUMBER, .number = number};
}
static inline Val value_bool(bool is)
{
    return (Val){.kind = VAL_BOOL, .number = is ? 1 : 0};
}
static inline Val value_string(const char *text)
{
    return (Val){.kind = VAL_STRING, .text = text};
}
static inline Val value_node(Node *node)
{
    return (Val){.kind = VAL_NODE, .node = node};
}
static inline Val value_list(List *list)
{
    return (Val){.kind = VAL_LIST, .list = list};
}

/* "a number", "a list", "a tensor": for messages. */
const char *value_kind_text(Val value);
/* The value as it is spelled in LDL, lists shortened. */
const char *value_str(Arena *arena, Val value);
/* The shortest decimal text that reads back as `number`. */
const char *number_str(Arena *arena, double number);
/* True when `number` is a whole number that fits; then *whole is set. */
bool number_is_whole(double number, int64_t *whole);
