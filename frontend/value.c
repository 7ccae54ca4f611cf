/* value.c - compile-time values as text. */
#include "frontend/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *value_kind_text(Val value)
{
    static const char *const text[] = {
        [VAL_ERROR] = "an error",     [VAL_NUMBER] = "a number",
        [VAL_BOOL] = "true or false", [VAL_STRING] = "a string",
        [VAL_LIST] = "a list",        [VAL_EXTENT] = "an extent known at run time",
        [VAL_NODE] = "a tensor",      [VAL_ABSENT] = "an absent weight"};
    return text[value.kind];
}

const char *number_str(Arena *arena, double number)
{
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
    return arena_strdup(arena, text);
}

const char *value_str(Arena *arena, Val value)
{
    switch (value.kind) {
    case VAL_NUMBER:
        return number_str(arena, value.number);
    case VAL_BOOL:
        return value.number != 0 ? "true" : "false";
    case VAL_STRING:
        return arena_format(arena, "\"%.60s\"", value.text);
    case VAL_LIST:
        return arena_format(arena, "a list of %d", value.list->count);
    case VAL_NODE:
        return arena_format(arena, "a tensor %s", type_str(arena, value.node->type));
    default:
        return value_kind_text(value);
    }
}

bool number_is_whole(double number, int64_t *whole)
{
    if (!(fabs(number) <= 9007199254740992.0) || number != floor(number))
        return false;
    *whole = (int64_t)number;
    return true;
}
