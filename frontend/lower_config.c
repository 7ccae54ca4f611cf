/* lower_config.c - compile-time settings: declared defaults, values of the checkpoint's config,
 * tables by formula. */
#include <string.h>

#include "frontend/lower.h"

enum { MAX_CONFIG_DEPTH = 4 };

/* False when the config lacks the key or has null there. */
static bool config_value(Lower *l, Loc loc, const char *key, int depth, Val *value)
{
    const ConfigValue v = l->checkpoint->config(l->checkpoint->user, key);
    switch (v.kind) {
    case CONFIG_ABSENT:
    case CONFIG_NULL:
        return false;
    case CONFIG_BOOL:
        *value = value_bool(v.boolean);
        return true;
    case CONFIG_INT:
    case CONFIG_REAL:
        *value = value_number(v.kind == CONFIG_INT ? (double)v.integer : v.real);
        return true;
    case CONFIG_STRING:
        *value = value_string(arena_strdup(l->arena, v.string));
        return true;
    case CONFIG_LIST:
        break;
    case CONFIG_OBJECT: /* where a number is wanted: of its entries */
        *value = value_number(v.length);
        return true;
    }
    if (depth == MAX_CONFIG_DEPTH || v.length < 0 || v.length > MAX_ITEMS) {
        *value =
            lower_error(l, loc, "the list of config key '%s' is too long or too deep", key);
        return true;
    }
    List *list = ARENA_NEW(l->arena, List);
    list->items = ARENA_ARRAY(l->arena, Val, v.length);
    for (; list->count < v.length; list->count++) {
        Val *item = &list->items[list->count];
        if (!config_value(l, loc, arena_format(l->arena, "%s.%d", key, list->count), depth + 1,
                          item))
            *item =
                lower_error(l, loc, "element %d of config key '%s' is null", list->count, key);
        if (item->kind == VAL_ERROR) {
            *value = *item;
            return true;
        }
    }
    *value = value_list(list);
    return true;
}

Val lower_from(Lower *l, const Expr *expr)
{
    Text keys = {.arena = l->arena};
    for (const Arg *arg = expr->args; arg; arg = arg->next) {
        const char *key = lower_string(l, arg->value, "a config key");
        Val value;
        if (!key)
            return value_error();
        if (l->checkpoint && config_value(l, arg->loc, key, 0, &value))
            return value;
        text_format(&keys, "%s'%s'", arg == expr->args ? "" : " or ", key);
    }
    if (expr->a)
        return lower_eval(l, expr->a);
    return lower_error(l, expr->loc,
                       l->checkpoint
                           ? "the config of the checkpoint has no %s, and there is no default"
                           : "without a checkpoint, which has %s, a default is needed",
                       keys.data);
}

Val lower_setting(Lower *l, const Stmt *stmt)
{
    static const struct {
        ValKind kind;
        const char *text;
    } expected[STMT_COUNT] = {
        [STMT_DIM] = {VAL_NUMBER, "a whole number of at least 1"},
        [STMT_REAL] = {VAL_NUMBER, "a number"},
        [STMT_BOOL] = {VAL_BOOL, "true or false"},
        [STMT_STRING] = {VAL_STRING, "a string"},
        [STMT_LIST] = {VAL_LIST, "a list"},
    };
    const char *name = stmt->name.symbol->name;
    Val value = lower_eval(l, stmt->value);
    if (value.kind == VAL_ERROR)
        return value;
    int64_t whole = 0;
    bool fits = value.kind == expected[stmt->kind].kind;
    if (stmt->kind == STMT_DIM)
        fits = fits && number_is_whole(value.number, &whole) && whole >= 1 &&
               whole <= (int64_t)1 << 40;
    if (!fits)
        return lower_error(l, stmt->value->loc, "%s '%s' must be %s, got %s",
                           statement_text[stmt->kind], name, expected[stmt->kind].text,
                           value_str(l->arena, value));
    if (stmt->kind == STMT_LIST && !value.list->name)
        value.list->name = name;
    if (stmt->kind == STMT_DIM && stmt->decl->level == 0) {
        const NamedDim dim = {name, whole};
        ARENA_PUSH(l->arena, l->dims, l->dim_count, l->dim_capacity, dim);
        if (!strcmp(name, "context"))
            l->graph->context = whole;
    }
    return value;
}

/* The items for one index and, inside, for those after it. */
static Val tabulate(Lower *l, const Stmt *stmt, const Arg *index)
{
    if (!index) {
        const Val value = lower_eval(l, stmt->value);
        if (value.kind == VAL_NODE || value.kind == VAL_ABSENT)
            return lower_error(l, stmt->value->loc,
                               "a const must be known when the model is compiled, got %s",
                               value_str(l->arena, value));
        return value;
    }
    int64_t start, stop;
    if (!lower_whole(l, index->value, "the start of a range", &start) ||
        !lower_whole(l, index->stop, "the end of a range", &stop))
        return value_error();
    if (stop < start || stop - start > MAX_ITEMS - l->items)
        return lower_error(l, index->loc,
                           "consts can have up to %d elements in all, %lld more is too many",
                           MAX_ITEMS, (long long)(stop - start));
    l->items += (int)(stop - start);
    List *list = ARENA_NEW(l->arena, List);
    list->items = ARENA_ARRAY(l->arena, Val, stop - start);
    list->name = stmt->name.symbol->name;
    for (int64_t i = start; i < stop; i++) {
        index->param->value = value_number((double)i);
        const Val item = tabulate(l, stmt, index->next);
        if (item.kind == VAL_ERROR)
            return item;
        list->items[list->count++] = item;
    }
    return value_list(list);
}

Val lower_const(Lower *l, const Stmt *stmt)
{
    return tabulate(l, stmt, stmt->args);
}
