/* ast_print.c - the syntax tree as LDL text: what it prints parses to the same tree.  Comments
 * are lost. */
#include <string.h>

#include "frontend/ast.h"

static void print_expr(Text *text, const Expr *expr, int outer);

static void print_args(Text *text, const Arg *args)
{
    for (const Arg *arg = args; arg; arg = arg->next) {
        if (arg->name)
            text_format(text, "%s = ", arg->name->name);
        if (arg->value)
            print_expr(text, arg->value, 0);
        if (arg->is_range)
            text_add(text, ":");
        if (arg->stop)
            print_expr(text, arg->stop, 0);
        text_add(text, arg->next ? ", " : "");
    }
}

static void print_string(Text *text, const Expr *expr)
{
    text_add(text, "\"");
    for (const Piece *piece = expr->pieces; piece; piece = piece->next) {
        if (piece->name)
            text_format(text, "{%s}", piece->name->symbol->name);
        for (const char *c = piece->text ? piece->text : ""; *c; c++)
            text_addn(text,
                      *c == '{'   ? "{{"
                      : *c == '}' ? "}}"
                                  : c,
                      *c == '{' || *c == '}' ? 2 : 1);
    }
    text_add(text, "\"");
}

static void print_keys(Text *text, const Arg *keys)
{
    text_add(text, " from ");
    for (const Arg *key = keys; key; key = key->next) {
        print_string(text, key->value);
        text_add(text, key->next ? " or " : "");
    }
}

/* How tightly an expression binds: 0 for `from` and `if`, which take all they can. */
static int precedence(const Expr *expr)
{
    switch (expr->kind) {
    case EXPR_FROM:
    case EXPR_IF:
        return 0;
    case EXPR_SITE:
        return PRECEDENCE_AT;
    case EXPR_UNARY:
    case EXPR_BINARY:
        return operator_info[expr->operator].precedence;
    default:
        return PRECEDENCE_POSTFIX;
    }
}

static void print_operator(Text *text, const Expr *expr)
{
    const OperatorInfo *info = &operator_info[expr->operator];
    if (expr->kind == EXPR_UNARY) {
        text_add(text, info->text);
        print_expr(text, expr->a, info->precedence);
        return;
    }
    const bool right = expr->operator== OPERATOR_POW,
               none = info->precedence == 3; /* associativity */
    print_expr(text, expr->a, info->precedence + (right || none ? 1 : 0));
    text_format(text, " %s ", info->text);
    /* A site on the right of a sum is refused without parentheses. */
    const bool site = expr->b->kind == EXPR_SITE;
    print_expr(text, expr->b, site ? PRECEDENCE_POSTFIX : info->precedence + (right ? 0 : 1));
}

static void print_plain(Text *text, const Expr *expr)
{
    switch (expr->kind) {
    case EXPR_NUMBER:
        text_add(text, number_str(text->arena, expr->number));
        break;
    case EXPR_BOOL:
        text_add(text, expr->number != 0 ? "true" : "false");
        break;
    case EXPR_STRING:
        print_string(text, expr);
        break;
    case EXPR_NAME:
        text_add(text, expr->symbol->name);
        break;
    case EXPR_LIST:
        text_add(text, "[");
        print_args(text, expr->args);
        text_add(text, "]");
        break;
    case EXPR_TRANSPOSE:
        print_expr(text, expr->a, PRECEDENCE_POSTFIX);
        text_add(text, "'");
        break;
    case EXPR_INDEX:
        print_expr(text, expr->a, PRECEDENCE_POSTFIX);
        text_add(text, "[");
        print_args(text, expr->args);
        text_add(text, "]");
        break;
    case EXPR_CALL:
        text_format(text, "%s(", expr->symbol->name);
        print_args(text, expr->args);
        text_add(text, ")");
        break;
    case EXPR_IF:
        text_add(text, "if ");
        print_expr(text, expr->a, 1);
        text_add(text, " then ");
        print_expr(text, expr->b, 0);
        text_add(text, " else ");
        print_expr(text, expr->c, expr->c->kind == EXPR_FROM ? 1 : 0);
        break;
    case EXPR_FROM:
        print_expr(text, expr->a, 1);
        print_keys(text, expr->args);
        break;
    case EXPR_SITE:
        print_expr(text, expr->a, PRECEDENCE_AT);
        text_format(text, " at %s", expr->symbol->name);
        if (expr->b) {
            text_add(text, " as ");
            print_expr(text, expr->b, PRECEDENCE_POSTFIX);
        }
        break;
    default:
        print_operator(text, expr);
    }
}

/* In parentheses when it binds less tightly than `outer`. */
static void print_expr(Text *text, const Expr *expr, int outer)
{
    const bool paren = precedence(expr) < outer;
    text_add(text, paren ? "(" : "");
    print_plain(text, expr);
    text_add(text, paren ? ")" : "");
}

const char *expr_str(const Expr *expr, Arena *arena)
{
    Text text = {.arena = arena};
    print_expr(&text, expr, 0);
    return text.data;
}

/* --- statements --- */

static void print_body(Text *text, Body body, int indent);
static void print_stmt(Text *text, const Stmt *stmt, int indent);

static void print_braces(Text *text, Body body, int indent)
{
    text_add(text, " {\n");
    print_body(text, body, indent + 1);
    text_format(text, "%*s}", indent * 4, "");
}

static void print_weight(Text *text, const Stmt *stmt)
{
    text_format(text, "%sweight %s: [", stmt->optional ? "optional " : "",
                stmt->name.symbol->name);
    print_args(text, stmt->args);
    text_add(text, "]");
    if (stmt->role) {
        const Piece *piece = stmt->role->pieces;
        text_add(text, " as ");
        if (piece->text && !piece->next && stmt->role->is_word)
            text_add(text, piece->text);
        else
            print_string(text, stmt->role);
    }
    text_add(text, " = ");
    print_string(text, stmt->text);
    text_add(text, stmt->transposed_before ? "'" : "");
    if (stmt->slices) {
        text_add(text, "[");
        print_args(text, stmt->slices);
        text_add(text, "]");
    }
    text_add(text, stmt->transposed_after ? "'" : "");
    if (stmt->fresh)
        text_format(text, " or %s", stmt->fresh->symbol->name);
    if (stmt->fresh && stmt->fresh->number != 0)
        text_format(text, "(%.17g)", stmt->fresh->number);
    text_add(text, ";");
}

static void print_if(Text *text, const Stmt *stmt, int indent)
{
    text_add(text, "if ");
    print_expr(text, stmt->value, 0);
    print_braces(text, stmt->body, indent);
    const Stmt *other = stmt->otherwise.first;
    if (!other)
        return;
    text_add(text, " else");
    if (other->kind == STMT_IF && !other->next) {
        text_add(text, " ");
        print_if(text, other, indent);
    } else {
        print_braces(text, stmt->otherwise, indent);
    }
}

static void print_block(Text *text, const Stmt *stmt, int indent)
{
    text_format(text, "block %s(", stmt->name.symbol->name);
    for (const Decl *p = stmt->params; p; p = p->next)
        text_format(text, "%s%s", p->symbol->name, p->next ? ", " : "");
    text_add(text, ")");
    print_braces(text, stmt->body, indent);
}

static void print_repeat(Text *text, const Stmt *stmt, int indent)
{
    text_format(text, "repeat %s in ", stmt->name.symbol->name);
    print_expr(text, stmt->value, 0);
    text_add(text, ":");
    print_expr(text, stmt->stop, 0);
    if (stmt->text) {
        text_add(text, " as ");
        print_string(text, stmt->text);
    }
    print_braces(text, stmt->body, indent);
}

static void print_indices(Text *text, const Arg *indices)
{
    for (const Arg *arg = indices; arg; arg = arg->next) {
        text_format(text, "%s%s in ", arg == indices ? "[" : ", ", arg->name->name);
        print_expr(text, arg->value, 0);
        text_add(text, ":");
        print_expr(text, arg->stop, 0);
    }
    text_add(text, indices ? "]" : "");
}

/* The others: KEYWORD NAME = VALUE; with variations. */
static void print_plain_stmt(Text *text, const Stmt *stmt)
{
    const char *name = stmt->name.symbol ? stmt->name.symbol->name : NULL;
    if (stmt->kind != STMT_ASSIGN)
        text_format(text, "%s ", statement_text[stmt->kind]);
    text_add(text, name ? name : "");
    if (stmt->kind == STMT_CONST)
        print_indices(text, stmt->args);
    if (stmt->kind == STMT_INPUT || stmt->kind == STMT_LOSS) {
        if (stmt->type)
            text_format(text, ": %s", stmt->type->name);
        text_add(text, stmt->type ? "[" : "(");
        print_args(text, stmt->args);
        text_add(text, stmt->type ? "]" : ")");
    } else if (stmt->value->kind == EXPR_FROM && !stmt->value->a) {
        print_keys(text, stmt->value->args);
    } else {
        text_add(text, name ? " = " : "");
        print_expr(text, stmt->value, 0);
    }
    text_add(text, ";");
}

static void print_stmt(Text *text, const Stmt *stmt, int indent)
{
    text_format(text, "%*s", indent * 4, "");
    if (stmt->kind == STMT_WEIGHT)
        print_weight(text, stmt);
    else if (stmt->kind == STMT_BLOCK)
        print_block(text, stmt, indent);
    else if (stmt->kind == STMT_REPEAT)
        print_repeat(text, stmt, indent);
    else if (stmt->kind == STMT_IF)
        print_if(text, stmt, indent);
    else
        print_plain_stmt(text, stmt);
    text_add(text, "\n");
}

static void print_body(Text *text, Body body, int indent)
{
    for (const Stmt *stmt = body.first; stmt; stmt = stmt->next)
        print_stmt(text, stmt, indent);
}

const char *ast_print(const Model *model, Arena *arena)
{
    Text text = {.arena = arena};
    text_format(&text, "model %s {\n", model->name->name);
    print_body(&text, model->body, 1);
    text_add(&text, "}\n");
    return text.data;
}
