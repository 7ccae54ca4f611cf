/* ast.h - the syntax tree of a model description.
 *
 * The parser builds it, sema.c ties every use of a name to its declaration, lower.c walks it
 * once for every unrolled layer.  A declaration holds its present value itself: blocks cannot
 * recurse, so it has one at a time. */
#pragma once
#include "frontend/value.h"
#include "ir/diag.h"
#include "ir/source.h"

/* Foreign text must not overflow our stack: what is nested deeper than this is refused. */
enum { MAX_EXPR_DEPTH = 500, MAX_BRACKETS = 200, MAX_PARAMS = 32 };

typedef struct Symbol Symbol;
typedef struct Decl Decl;
typedef struct Expr Expr;
typedef struct Arg Arg;
typedef struct Piece Piece;
typedef struct Stmt Stmt;

/* An identifier; one for each spelling. */
struct Symbol {
    const char *name;
    Symbol *next; /* in its hash bucket */
    Decl *decl;   /* sema.c: the innermost visible declaration */
};

typedef struct Name {
    Symbol *symbol;
    Loc loc;
} Name;

/* What a name stands for. */
struct Decl {
    Symbol *symbol;
    Loc loc;
    Stmt *stmt; /* the statement that declares it, for parameters the block, for indices the
                   loop */
    bool assignable;
    int level;           /* 0: the model's, 1: a block's */
    struct Scope *scope; /* sema.c */
    Decl *hidden;        /* sema.c: what the name meant outside */
    Decl *sibling;       /* sema.c: in its scope */
    Decl *next;          /* of parameters: the next */
    Val value;           /* lower.c */
};

typedef enum Operator {
#define OPERATOR(id, text, precedence, op, make) OPERATOR_##id,
#include "frontend/operators.def"
    OPERATOR_COUNT
} Operator;

typedef enum OperatorMake {
    MAKE_PLAIN,
    MAKE_SWAP,
    MAKE_NEGATE,
    MAKE_NUMBERS,
    MAKE_PRODUCT
} OperatorMake;

typedef struct OperatorInfo {
    const char *text;
    int precedence;
    Op op; /* OP_COUNT: none */
    OperatorMake make;
} OperatorInfo;

extern const OperatorInfo operator_info[OPERATOR_COUNT];
enum { PRECEDENCE_ADD = 4, PRECEDENCE_AT = 5, PRECEDENCE_SIGN = 7, PRECEDENCE_POSTFIX = 9 };

typedef enum ExprKind {
    EXPR_NUMBER,
    EXPR_BOOL,
    EXPR_STRING,
    EXPR_NAME,
    EXPR_LIST,
    EXPR_UNARY,
    EXPR_BINARY,
    EXPR_TRANSPOSE,
    EXPR_INDEX, /* a[args] */
    EXPR_CALL,  /* symbol(args) */
    EXPR_IF,    /* if a then b else c */
    EXPR_FROM,  /* a from keys (args); a may be NULL in a declaration */
    EXPR_SITE,  /* a at symbol, as b: a string or NULL */
    EXPR_COUNT
} ExprKind;

struct Expr {
    ExprKind kind;
    Loc loc;
    int depth;
    bool parenthesised;
    bool is_word; /* a role written without quotes */
    Operator operator;
    double number; /* also booleans */
    Symbol *symbol;
    Loc symbol_loc; /* of the name in a call or site */
    Decl *decl;     /* names and calls; NULL: predefined */
    Piece *pieces;  /* strings */
    Expr *a, *b, *c;
    Arg *args;
};

/* Part of a string: literal text, or the value of a name in braces. */
struct Piece {
    const char *text;
    Expr *name;
    Piece *next;
};

/* An argument, list element, config key or subscript. */
struct Arg {
    Symbol *name; /* NULL: positional */
    Expr *value;  /* for a range its start, or NULL */
    Expr *stop;   /* or NULL */
    bool is_range;
    Decl *param; /* sema.c: what it binds, in a call of a block; const: the index */
    Loc loc;
    Arg *next;
};

typedef enum StmtKind {
#define STATEMENT(id, text, where, name) STMT_##id,
#include "frontend/statements.def"
    STMT_COUNT
} StmtKind;

typedef struct Body {
    Stmt *first, *last;
} Body;

struct Stmt {
    StmtKind kind;
    Loc loc;
    Name name;
    Decl *decl;   /* what it declares or assigns; repeat: its index */
    Expr *value;  /* initial value, condition, message, start of a repeat; input: NULL */
    Expr *stop;   /* end of a repeat */
    Expr *text;   /* tensor of a weight, label of a repeat, or NULL */
    Expr *role;   /* string, or NULL */
    Expr *fresh;  /* weight: how it begins where the checkpoint lacks it, a name with a number; or NULL */
    Symbol *type; /* element type of an input */
    Arg *args;    /* shape of a weight or input, arguments of a loss; const: its index ranges */
    Arg *slices;  /* of a weight's tensor */
    Decl *params; /* of a block; const: its indices */
    bool optional, transposed_before, transposed_after;
    Body body, otherwise;
    Stmt *next;
};

typedef struct Model {
    Symbol *name;
    Loc loc;
    Body body;
} Model;

/* State of one parse. */
typedef struct Parser {
    const Source *source;
    Arena *arena;
    Diag *diag;
    Symbol **buckets;
    Model *model;
    int line, column, brackets;
    bool stopped;      /* nested too deeply: the scanner reports the end of the file */
    Loc last, token;   /* of the last two tokens */
    Name before, word; /* the last two identifiers, for "did you mean" in syntax errors */
} Parser;

extern const char *const statement_text[STMT_COUNT];

/* ldl.l: NULL after reporting errors. */
Model *ldl_parse_source(const Source *source, Arena *arena, Diag *diag);
/* sema.c: resolves all names, checks that statements stand where they may; false after
 * reporting errors. */
bool sema_check(Model *model, Arena *arena, Diag *diag);
/* ast_print.c: the description as LDL text. */
const char *ast_print(const Model *model, Arena *arena);
const char *expr_str(const Expr *expr, Arena *arena);

uint32_t text_hash(const char *text, int length);
Symbol *symbol_intern(Parser *parser, const char *text, int length);
Loc loc_join(Loc first, Loc last);

Expr *expr_new(Parser *parser, ExprKind kind, Loc loc);
Expr *expr_number(Parser *parser, double number, Loc loc);
Expr *expr_name(Parser *parser, Name name);
/* `text` is what stands between the quotes; reports malformed braces and escapes. */
Expr *expr_string(Parser *parser, const char *text, int length, Loc loc);
Expr *expr_unary(Parser *parser, Operator operator, Expr * a, Loc loc);
Expr *expr_binary(Parser *parser, Operator operator, Expr * a, Expr *b, Loc loc);
Expr *expr_ternary(Parser *parser, ExprKind kind, Expr *a, Expr *b, Expr *c, Loc loc);
Expr *expr_call(Parser *parser, Name name, Arg *args, Loc loc);
Expr *expr_with_args(Parser *parser, ExprKind kind, Expr *a, Arg *args, Loc loc);
Expr *expr_site(Parser *parser, Expr *a, Name kind, Expr *path, Loc loc);

Arg *arg_new(Parser *parser, Expr *value, Loc loc);
Arg *arg_range(Parser *parser, Expr *start, Expr *stop, Loc loc);
Arg *arg_append(Arg *last, Arg *arg); /* lists are circular while they grow: returns the last */
Arg *arg_finish(Arg *last);           /* the first of a now NULL-terminated list */

Stmt *stmt_new(Parser *parser, StmtKind kind, Name name, Loc loc);
Body body_append(Body body, Stmt *stmt);
Decl *decl_new(Arena *arena, Symbol *symbol, Loc loc, Stmt *stmt);
