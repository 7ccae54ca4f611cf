/* sema.c - names: ties every use to its declaration, in all branches and in blocks nobody
 * calls.
 *
 * requires: a syntax tree without errors
 * provides: Expr.decl, Stmt.decl, Arg.param; statements only where they may stand; arguments of
 * blocks matched */
#include <string.h>

#include "frontend/ast.h"
#include "frontend/calls.h"

enum Where { WHERE_MODEL, WHERE_ROOT, WHERE_BODY, WHERE_BLOCK };
enum Naming { NAME_NONE, NAME_FIXED, NAME_VARIABLE, NAME_BLOCK };

static const struct {
    enum Where where;
    enum Naming naming;
} rules[STMT_COUNT] = {
#define STATEMENT(id, text, where, name) [STMT_##id] = {WHERE_##where, NAME_##name},
#include "frontend/statements.def"
};

typedef struct Scope {
    Decl *decls;
    struct Scope *outer;
} Scope;

typedef struct Sema {
    Arena *arena;
    Diag *diag;
    Scope *scope;
    int level;   /* 1 in a block */
    int nesting; /* bodies open inside the model or block */
    int repeats; /* of these, repeats */
} Sema;

static void check_body(Sema *s, Body body);
static void check_expr(Sema *s, Expr *expr);

static void scope_open(Sema *s, Scope *scope)
{
    *scope = (Scope){.outer = s->scope};
    s->scope = scope;
}

static void scope_close(Sema *s)
{
    for (Decl *d = s->scope->decls; d; d = d->sibling)
        d->symbol->decl = d->hidden;
    s->scope = s->scope->outer;
}

/* Makes `decl` what its symbol means until the scope closes. */
static void declare(Sema *s, Decl *decl, bool assignable)
{
    Symbol *symbol = decl->symbol;
    decl->assignable = assignable;
    decl->level = s->level;
    decl->scope = s->scope;
    if (symbol->decl && symbol->decl->scope == s->scope) {
        diag_error(s->diag, decl->loc, "'%s' is declared twice", symbol->name);
        diag_note(s->diag, symbol->decl->loc, "the first time here");
        return;
    }
    decl->hidden = symbol->decl;
    decl->sibling = s->scope->decls;
    s->scope->decls = decl;
    symbol->decl = decl;
}

static bool is_block(const Decl *decl)
{
    return decl->stmt->kind == STMT_BLOCK && decl->stmt->decl == decl;
}

static void suggest(Sema *s, Loc loc, const char *name, bool call)
{
    const char **names = NULL;
    int count = 0, capacity = 0;
    for (Scope *scope = s->scope; scope; scope = scope->outer)
        for (Decl *d = scope->decls; d; d = d->sibling)
            if (call == is_block(d))
                ARENA_PUSH(s->arena, names, count, capacity, d->symbol->name);
    const char *predefined;
    for (int i = 0; (predefined = call ? call_name(i) : predefined_name(i)); i++)
        ARENA_PUSH(s->arena, names, count, capacity, predefined);
    const char *near = count ? nearest_word(name, names, count) : NULL;
    if (near)
        diag_note(s->diag, loc, "did you mean '%s'?", near);
}

static void check_name(Sema *s, Expr *expr)
{
    const char *name = expr->symbol->name;
    expr->decl = expr->symbol->decl;
    if (expr->decl && is_block(expr->decl)) {
        diag_error(s->diag, expr->loc, "'%s' is a block; call it with its arguments", name);
    } else if (!expr->decl && !predefined_find(name)) {
        diag_error(s->diag, expr->loc, "'%s' is not declared", name);
        suggest(s, expr->loc, name, false);
    }
}

static void check_args(Sema *s, Arg *args)
{
    for (Arg *arg = args; arg; arg = arg->next) {
        if (arg->value)
            check_expr(s, arg->value);
        if (arg->stop)
            check_expr(s, arg->stop);
    }
}

static const char *signature(Sema *s, const Stmt *block)
{
    Text text = {.arena = s->arena};
    text_format(&text, "%s(", block->name.symbol->name);
    for (const Decl *p = block->params; p; p = p->next)
        text_format(&text, "%s%s", p->symbol->name, p->next ? ", " : "");
    text_add(&text, ")");
    return text.data;
}

/* Positional arguments first, then named ones; every parameter exactly once. */
static void bind_args(Sema *s, Expr *call)
{
    const Stmt *block = call->decl->stmt;
    const char *wrong = NULL;
    Loc at = call->loc;
    Decl *next = block->params;
    int given = 0, taken = 0;
    for (Arg *arg = call->args; arg && !wrong; arg = arg->next, given++) {
        at = arg->loc;
        if (!arg->name) {
            arg->param = next;
            wrong = next ? NULL : "has more arguments than parameters";
            next = next ? next->next : NULL;
            continue;
        }
        for (Decl *p = block->params; p; p = p->next)
            if (p->symbol == arg->name)
                arg->param = p;
        if (!arg->param)
            wrong = "has no parameter of this name";
        for (Arg *other = call->args; other != arg; other = other->next)
            if (other->param && other->param == arg->param)
                wrong = "is given this parameter twice";
        next = NULL; /* after a named argument only named ones */
    }
    for (Decl *p = block->params; p; p = p->next)
        taken++;
    if (!wrong && given < taken) {
        wrong = "needs more arguments";
        at = call->loc;
    }
    if (wrong) {
        diag_error(s->diag, at, "block '%s' %s", block->name.symbol->name, wrong);
        diag_note(s->diag, block->loc, "declared here as '%s'", signature(s, block));
    }
}

static void check_call(Sema *s, Expr *expr)
{
    const char *name = expr->symbol->name;
    expr->decl = expr->symbol->decl;
    check_args(s, expr->args);
    if (expr->decl && !is_block(expr->decl)) {
        if (!call_find(name)) {
            diag_error(s->diag, expr->symbol_loc, "'%s' is not a block or function", name);
            diag_note(s->diag, expr->decl->loc, "'%s' is declared here", name);
        }
        expr->decl = NULL;
    } else if (expr->decl) {
        bind_args(s, expr);
    } else if (!call_find(name)) {
        diag_error(s->diag, expr->symbol_loc, "there is no block or function '%s'", name);
        suggest(s, expr->symbol_loc, name, true);
    }
}

static void check_site(Sema *s, const Expr *expr)
{
    if (site_find(expr->symbol->name))
        return;
    const char *near = nearest_word(expr->symbol->name, site_kinds, SITE_KINDS);
    diag_error(s->diag, expr->symbol_loc, "there is no site '%s'", expr->symbol->name);
    if (near)
        diag_note(s->diag, expr->symbol_loc, "did you mean '%s'?", near);
}

/* "a + b at k": the grammar takes b, the reader may have meant the sum. */
static void check_site_operand(Sema *s, const Expr *binary)
{
    const Expr *b = binary->b;
    const int precedence = operator_info[binary->operator].precedence;
    if (b->kind == EXPR_SITE && !b->parenthesised && precedence <= PRECEDENCE_ADD)
        diag_error(
            s->diag, b->loc,
            "'at %s' could mean this operand or the whole; put what is meant in parentheses",
            b->symbol->name);
}

static void check_expr(Sema *s, Expr *expr)
{
    if (diag_full(s->diag))
        return;
    if (expr->a)
        check_expr(s, expr->a);
    if (expr->b)
        check_expr(s, expr->b);
    if (expr->c)
        check_expr(s, expr->c);
    for (Piece *piece = expr->pieces; piece; piece = piece->next)
        if (piece->name)
            check_name(s, piece->name);
    if (expr->kind == EXPR_NAME)
        check_name(s, expr);
    else if (expr->kind == EXPR_CALL)
        check_call(s, expr);
    else
        check_args(s, expr->args);
    if (expr->kind == EXPR_SITE)
        check_site(s, expr);
    if (expr->kind == EXPR_BINARY && expr->b)
        check_site_operand(s, expr);
}

static void check_place(Sema *s, const Stmt *stmt)
{
    const char *text = statement_text[stmt->kind];
    const enum Where where = rules[stmt->kind].where;
    if (where == WHERE_MODEL && (s->level || s->nesting))
        diag_error(s->diag, stmt->loc, "'%s' may only stand directly in the model", text);
    else if (where == WHERE_ROOT && (s->level || s->repeats))
        diag_error(s->diag, stmt->loc, "'%s' may not stand in a %s", text,
                   s->level ? "block" : "repeat");
    else if (where == WHERE_BLOCK && !s->level)
        diag_error(s->diag, stmt->loc, "'%s' may only stand in a block", text);
}

/* A body in braces; `decls` are visible in it and in `label` (may be NULL). */
static void check_inner(Sema *s, Stmt *stmt, Body body, Decl *decls, Expr *label)
{
    Scope scope;
    scope_open(s, &scope);
    s->nesting++;
    for (Decl *d = decls; d; d = d->next) {
        d->stmt = stmt;
        declare(s, d, stmt->kind == STMT_BLOCK);
    }
    if (label)
        check_expr(s, label);
    check_body(s, body);
    s->nesting--;
    scope_close(s);
}

static void check_block(Sema *s, Stmt *stmt)
{
    Sema inner = *s;
    inner.level = 1;
    inner.nesting = -1; /* its body is the one opened next */
    int params = 0;
    for (const Decl *p = stmt->params; p; p = p->next)
        params++;
    if (params > MAX_PARAMS)
        diag_error(s->diag, stmt->loc, "a block has at most %d parameters", MAX_PARAMS);
    check_inner(&inner, stmt, stmt->body, stmt->params, NULL);
}

static void check_assign(Sema *s, Stmt *stmt)
{
    const char *name = stmt->name.symbol->name;
    Decl *decl = stmt->decl = stmt->name.symbol->decl;
    if (!decl) {
        diag_error(s->diag, stmt->name.loc, "'%s' is not declared; 'let' declares a variable",
                   name);
        suggest(s, stmt->name.loc, name, false);
    } else if (!decl->assignable || decl->level != s->level) {
        diag_error(s->diag, stmt->name.loc,
                   decl->assignable
                       ? "'%s' belongs to the model and cannot be assigned in a block"
                       : "'%s' cannot be assigned: it is not a variable",
                   name);
        diag_note(s->diag, decl->loc, "'%s' is declared here", name);
    }
}

static void check_const(Sema *s, Stmt *stmt)
{
    Scope scope;
    check_args(s, stmt->args);
    scope_open(s, &scope);
    for (Arg *index = stmt->args; index; index = index->next) {
        index->param = decl_new(s->arena, index->name, index->loc, stmt);
        declare(s, index->param, false);
    }
    check_expr(s, stmt->value);
    scope_close(s);
}

static void check_stmt(Sema *s, Stmt *stmt)
{
    check_place(s, stmt);
    if (stmt->kind == STMT_CONST) {
        check_const(s, stmt);
    } else {
        if (stmt->value)
            check_expr(s, stmt->value);
        if (stmt->stop)
            check_expr(s, stmt->stop);
        check_args(s, stmt->args);
        check_args(s, stmt->slices);
        if (stmt->role)
            check_expr(s, stmt->role);
        if (stmt->text && stmt->kind != STMT_REPEAT)
            check_expr(s, stmt->text);
    }
    if (stmt->kind == STMT_ASSIGN) {
        check_assign(s, stmt);
    } else if (stmt->kind == STMT_BLOCK) {
        check_block(s, stmt);
    } else if (stmt->kind == STMT_IF) {
        check_inner(s, stmt, stmt->body, NULL, NULL);
        check_inner(s, stmt, stmt->otherwise, NULL, NULL);
    } else if (stmt->kind == STMT_REPEAT) {
        s->repeats++;
        stmt->decl = decl_new(s->arena, stmt->name.symbol, stmt->name.loc, stmt);
        check_inner(s, stmt, stmt->body, stmt->decl, stmt->text);
        s->repeats--;
    }
    const enum Naming naming = rules[stmt->kind].naming;
    if (naming != NAME_NONE) {
        stmt->decl = decl_new(s->arena, stmt->name.symbol, stmt->name.loc, stmt);
        declare(s, stmt->decl, naming == NAME_VARIABLE);
    }
}

static void check_body(Sema *s, Body body)
{
    for (Stmt *stmt = body.first; stmt && !diag_full(s->diag); stmt = stmt->next)
        check_stmt(s, stmt);
}

bool sema_check(Model *model, Arena *arena, Diag *diag)
{
    const int errors = diag->errors;
    Sema sema = {.arena = arena, .diag = diag};
    Scope scope;
    scope_open(&sema, &scope);
    check_body(&sema, model->body);
    scope_close(&sema);
    return diag->errors == errors;
}
