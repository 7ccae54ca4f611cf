/* ast.c - construction of the syntax tree: symbols, expressions with their depth, strings with
 * names in braces. */
#include "frontend/ast.h"

#include <string.h>

enum { BUCKETS = 4096 };

const OperatorInfo operator_info[OPERATOR_COUNT] = {
#define OPERATOR(id, text, precedence, op, make)                                               \
    [OPERATOR_##id] = {text, (precedence), OP_##op, MAKE_##make},
#include "frontend/operators.def"
};

const char *const statement_text[STMT_COUNT] = {
#define STATEMENT(id, text, where, name) [STMT_##id] = text,
#include "frontend/statements.def"
};

/* FNV-1a */
uint32_t text_hash(const char *text, int length)
{
    uint32_t hash = 2166136261u;
    for (int i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    return hash;
}

Symbol *symbol_intern(Parser *parser, const char *text, int length)
{
    if (!parser->buckets)
        parser->buckets = ARENA_ARRAY(parser->arena, Symbol *, BUCKETS);
    Symbol **bucket = &parser->buckets[text_hash(text, length) % BUCKETS];
    for (Symbol *s = *bucket; s; s = s->next)
        if (!strncmp(s->name, text, (size_t)length) && !s->name[length])
            return s;
    Symbol *symbol = ARENA_NEW(parser->arena, Symbol);
    symbol->name = arena_strndup(parser->arena, text, (size_t)length);
    symbol->next = *bucket;
    return *bucket = symbol;
}

Loc loc_join(Loc first, Loc last)
{
    first.end_line = last.end_line;
    first.end_column = last.end_column;
    return first;
}

Expr *expr_new(Parser *parser, ExprKind kind, Loc loc)
{
    Expr *expr = ARENA_NEW(parser->arena, Expr);
    expr->kind = kind;
    expr->loc = loc;
    expr->depth = 1;
    return expr;
}

/* Counts a child into the depth of `expr`; too deep a tree stops the parse. */
static void adopt(Parser *parser, Expr *expr, const Expr *child)
{
    if (!child || child->depth < expr->depth)
        return;
    expr->depth = child->depth + 1;
    if (expr->depth > MAX_EXPR_DEPTH && !parser->stopped) {
        parser->stopped = true;
        diag_error(parser->diag, expr->loc,
                   "this expression is nested more than %d levels deep", MAX_EXPR_DEPTH);
    }
}

Expr *expr_number(Parser *parser, double number, Loc loc)
{
    Expr *expr = expr_new(parser, EXPR_NUMBER, loc);
    expr->number = number;
    return expr;
}

Expr *expr_name(Parser *parser, Name name)
{
    Expr *expr = expr_new(parser, EXPR_NAME, name.loc);
    expr->symbol = name.symbol;
    return expr;
}

static bool is_name_char(char c, bool first)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (!first && c >= '0' && c <= '9');
}

/* `loc` of the characters [from, to) of a string, whose text starts after its quote. */
static Loc loc_inside(Loc string, int from, int to)
{
    string.end_line = string.line;
    string.end_column = string.column + 1 + to;
    string.column += 1 + from;
    return string;
}

/* "{name}" at text[at]: a piece, and *end behind the brace.  NULL after reporting what is
 * wrong. */
static Piece *name_piece(Parser *parser, const char *text, int at, int length, Loc loc,
                         int *end)
{
    int i = at + 1;
    while (i < length && is_name_char(text[i], i == at + 1))
        i++;
    if (i == at + 1 || i == length || text[i] != '}') {
        diag_error(parser->diag, loc_inside(loc, at, i),
                   "expected a name in braces, such as '{l}'; a brace itself is written '{{'");
        return NULL;
    }
    Name name = {symbol_intern(parser, text + at + 1, i - at - 1), loc_inside(loc, at + 1, i)};
    Piece *piece = ARENA_NEW(parser->arena, Piece);
    piece->name = expr_name(parser, name);
    *end = i + 1;
    return piece;
}

Expr *expr_string(Parser *parser, const char *text, int length, Loc loc)
{
    Expr *expr = expr_new(parser, EXPR_STRING, loc);
    Piece **tail = &expr->pieces;
    Text literal = {.arena = parser->arena};
    for (int i = 0; i < length;) {
        char c = text[i];
        if (c == '{' && !(i + 1 < length && text[i + 1] == '{')) {
            if (literal.length) {
                *tail = ARENA_NEW(parser->arena, Piece);
                (*tail)->text = literal.data;
                tail = &(*tail)->next;
                literal = (Text){.arena = parser->arena};
            }
            *tail = name_piece(parser, text, i, length, loc, &i);
            if (!*tail)
                return expr;
            tail = &(*tail)->next;
            continue;
        }
        if (c == '}' && !(i + 1 < length && text[i + 1] == '}')) {
            diag_error(parser->diag, loc_inside(loc, i, i + 1),
                       "'}' without '{'; a brace itself is written '}}'");
            return expr;
        }
        text_addn(&literal, &c, 1);
        i += c == '{' || c == '}' ? 2 : 1;
    }
    if (literal.length || !expr->pieces) {
        *tail = ARENA_NEW(parser->arena, Piece);
        (*tail)->text = literal.length ? literal.data : "";
    }
    return expr;
}

Expr *expr_unary(Parser *parser, Operator operator, Expr * a, Loc loc)
{
    Expr *expr = expr_new(parser, EXPR_UNARY, loc);
    expr->operator= operator;
    expr->a = a;
    adopt(parser, expr, a);
    return expr;
}

Expr *expr_binary(Parser *parser, Operator operator, Expr * a, Expr *b, Loc loc)
{
    Expr *expr = expr_new(parser, EXPR_BINARY, loc);
    expr->operator= operator;
    expr->a = a;
    expr->b = b;
    adopt(parser, expr, a);
    adopt(parser, expr, b);
    return expr;
}

Expr *expr_ternary(Parser *parser, ExprKind kind, Expr *a, Expr *b, Expr *c, Loc loc)
{
    Expr *expr = expr_new(parser, kind, loc);
    expr->a = a;
    expr->b = b;
    expr->c = c;
    adopt(parser, expr, a);
    adopt(parser, expr, b);
    adopt(parser, expr, c);
    return expr;
}

Expr *expr_with_args(Parser *parser, ExprKind kind, Expr *a, Arg *args, Loc loc)
{
    Expr *expr = expr_new(parser, kind, loc);
    expr->a = a;
    expr->args = args;
    adopt(parser, expr, a);
    for (Arg *arg = args; arg; arg = arg->next) {
        adopt(parser, expr, arg->value);
        adopt(parser, expr, arg->stop);
    }
    return expr;
}

Expr *expr_call(Parser *parser, Name name, Arg *args, Loc loc)
{
    Expr *expr = expr_with_args(parser, EXPR_CALL, NULL, args, loc);
    expr->symbol = name.symbol;
    expr->symbol_loc = name.loc;
    return expr;
}

Expr *expr_site(Parser *parser, Expr *a, Name kind, Expr *path, Loc loc)
{
    Expr *expr = expr_new(parser, EXPR_SITE, loc);
    expr->symbol = kind.symbol;
    expr->symbol_loc = kind.loc;
    expr->a = a;
    expr->b = path;
    adopt(parser, expr, a);
    return expr;
}

Arg *arg_new(Parser *parser, Expr *value, Loc loc)
{
    Arg *arg = ARENA_NEW(parser->arena, Arg);
    arg->value = value;
    arg->loc = loc;
    return arg;
}

Arg *arg_range(Parser *parser, Expr *start, Expr *stop, Loc loc)
{
    Arg *arg = arg_new(parser, start, loc);
    arg->stop = stop;
    arg->is_range = true;
    return arg;
}

Arg *arg_append(Arg *last, Arg *arg)
{
    arg->next = last ? last->next : arg;
    if (last)
        last->next = arg;
    return arg;
}

Arg *arg_finish(Arg *last)
{
    if (!last)
        return NULL;
    Arg *first = last->next;
    last->next = NULL;
    return first;
}

Stmt *stmt_new(Parser *parser, StmtKind kind, Name name, Loc loc)
{
    Stmt *stmt = ARENA_NEW(parser->arena, Stmt);
    stmt->kind = kind;
    stmt->name = name;
    stmt->loc = loc;
    return stmt;
}

Body body_append(Body body, Stmt *stmt)
{
    if (!stmt)
        return body;
    if (body.last)
        body.last->next = stmt;
    else
        body.first = stmt;
    body.last = stmt;
    return body;
}

Decl *decl_new(Arena *arena, Symbol *symbol, Loc loc, Stmt *stmt)
{
    Decl *decl = ARENA_NEW(arena, Decl);
    decl->symbol = symbol;
    decl->loc = loc;
    decl->stmt = stmt;
    return decl;
}
