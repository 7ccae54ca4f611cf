/* calls.h - what a description may name or call without declaring it: ops, functions, index
 * values, sites. */
#pragma once
#include "frontend/value.h"

enum { SITE_KINDS = 8 };
extern const char *const site_kinds[SITE_KINDS];
bool site_find(const char *kind);

/* Ops that LDL may call, and functions of compile-time values. */
bool call_find(const char *name);
const char *call_name(int index); /* NULL after the last */

/* T, S, pi, and the ops that are leaves without attributes: row, col, positions. */
bool predefined_find(const char *name);
const char *predefined_name(int index); /* NULL after the last */
/* The op of an index value, OP_COUNT for the other names; its type. */
Op predefined_leaf(const char *name, Type *type);

/* What input `index` of an op is called in a call, or NULL; inputs with a name may be left out
 * and are then `true`. */
const char *input_name(Op op, int index);

/* The meaning of a function of one number, or NULL. */
typedef double (*Function)(double);
Function function_find(const char *name);
