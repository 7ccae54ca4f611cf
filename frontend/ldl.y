/* ldl.y - the grammar of LDL.  Actions only build the syntax tree.
 *
 * Any statement is accepted in any body; sema.c says which may stand where, in better words
 * than a grammar can. */
%require "3.8"
%define api.pure full
%define api.prefix {ldl_}
%define api.location.type {Loc}
%define parse.lac full
%define parse.error custom
%locations
%expect 0
%param {void *scanner}
%parse-param {Parser *parser}

%code requires {
#include "frontend/ast.h"

#define YYLLOC_DEFAULT(current, rhs, n)                                                      \
    ((current) = (n) ? loc_join(YYRHSLOC(rhs, 1), YYRHSLOC(rhs, n)) : YYRHSLOC(rhs, 0))
}

%code {
#include <string.h>

#define YYMAXDEPTH 5000
int ldl_lex(LDL_STYPE *value, Loc *location, void *scanner);
static void ldl_error(const Loc *loc, void *scanner, Parser *parser, const char *message);
static Stmt *declaration(Parser *parser, StmtKind kind, Name name, Expr *value, Loc loc);
static Stmt *tensor(Parser *parser, Expr *text, Arg *slices);
static Expr *binary(Parser *parser, Operator operator, Expr *a, Expr *b, Loc loc);
}

%union {
    double number;
    Name name;
    Expr *expr;
    Arg *arg;
    Stmt *stmt;
    Body body;
    Decl *decl;
    StmtKind kind;
    bool flag;
    int count;
}

%token MODEL "'model'" DIM "'dim'" REAL "'real'" BOOL "'bool'"
%token STRING_KIND "'string'" LIST "'list'"
%token PREFIX "'prefix'" INPUT "'input'" OPTIONAL "'optional'" WEIGHT "'weight'" BLOCK "'block'"
%token LET "'let'" REPEAT "'repeat'" IN "'in'" AS "'as'" OUTPUT "'output'" LOSS "'loss'"
%token CONST "'const'" IF "'if'" THEN "'then'" ELSE "'else'" ERROR "'error'" RETURN "'return'"
%token AT "'at'" FROM "'from'" OR "'or'" TRUE "'true'" FALSE "'false'"
%token EQ "'=='" NE "'!='" LE "'<='" GE "'>='"
%token <name> IDENT "a name"
%token <number> NUMBER "a number"
%token <expr> STRING "a string"

%type <kind> kind
%type <flag> optional
%type <expr> expr postfix primary init role label fresh
%type <arg> exprs more_exprs args more_args arg subscripts subscript keys indices index
%type <stmt> stmt if_stmt tensor tensor_part
%type <body> body braces else
%type <decl> params more_params

%precedence FROM
%precedence ELSE
%left '|'
%left '&'
%nonassoc EQ NE '<' LE '>' GE
%left '+' '-'
%precedence AT
%precedence AS /* "at KIND as ..." goes on; a bound of a repeat is no place */
%left '*' '/' '%' '@'
%precedence SIGN
%right '^'

%%

file:
    MODEL IDENT '{' body '}' {
        (void)yynerrs; /* Bison counts, nobody asks: clang minds */
        parser->model = ARENA_NEW(parser->arena, Model);
        *parser->model = (Model){.name = $2.symbol, .loc = @2, .body = $4};
    }

body:
    %empty      { $$ = (Body){0}; }
  | body stmt   { $$ = body_append($1, $2); }

braces:
    '{' body '}'        { $$ = $2; }
  | '{' body error '}'  { $$ = $2; yyerrok; }

stmt:
    kind IDENT init ';'  { $$ = declaration(parser, $1, $2, $3, @$); }
  | CONST IDENT '=' expr ';'  { $$ = declaration(parser, STMT_CONST, $2, $4, @$); }
  | CONST IDENT '[' indices ']' '=' expr ';' {
        $$ = declaration(parser, STMT_CONST, $2, $7, @$);
        $$->args = arg_finish($4);
    }
  | LET IDENT '=' expr ';'     { $$ = declaration(parser, STMT_LET, $2, $4, @$); }
  | OUTPUT IDENT '=' expr ';'  { $$ = declaration(parser, STMT_OUTPUT, $2, $4, @$); }
  | IDENT '=' expr ';'         { $$ = declaration(parser, STMT_ASSIGN, $1, $3, @$); }
  | PREFIX STRING ';'          { $$ = declaration(parser, STMT_PREFIX, (Name){0}, $2, @$); }
  | ERROR STRING ';'           { $$ = declaration(parser, STMT_ERROR, (Name){0}, $2, @$); }
  | RETURN expr ';'            { $$ = declaration(parser, STMT_RETURN, (Name){0}, $2, @$); }
  | LOSS IDENT '(' args ')' ';' {
        $$ = stmt_new(parser, STMT_LOSS, $2, @$);
        $$->args = arg_finish($4);
    }
  | INPUT IDENT ':' IDENT '[' exprs ']' ';' {
        $$ = stmt_new(parser, STMT_INPUT, $2, @$);
        $$->type = $4.symbol;
        $$->args = arg_finish($6);
    }
  | optional WEIGHT IDENT ':' '[' exprs ']' role '=' tensor fresh ';' {
        $$ = $10;
        $$->name = $3;
        $$->fresh = $11;
        $$->loc = loc_join($1 ? @1 : @2, @12);
        $$->optional = $1;
        $$->args = arg_finish($6);
        $$->role = $8;
    }
  | BLOCK IDENT '(' params ')' braces {
        $$ = stmt_new(parser, STMT_BLOCK, $2, loc_join(@1, @5));
        $$->params = $4;
        $$->body = $6;
    }
  | REPEAT IDENT IN expr ':' expr label braces {
        $$ = stmt_new(parser, STMT_REPEAT, $2, loc_join(@1, @7));
        $$->value = $4;
        $$->stop = $6;
        $$->text = $7;
        $$->body = $8;
    }
  | if_stmt
  | error ';'  { $$ = NULL; yyerrok; }

if_stmt:
    IF expr braces else {
        $$ = stmt_new(parser, STMT_IF, (Name){0}, loc_join(@1, @2));
        $$->value = $2;
        $$->body = $3;
        $$->otherwise = $4;
    }

else:
    %empty        { $$ = (Body){0}; }
  | ELSE braces   { $$ = $2; }
  | ELSE if_stmt  { $$ = body_append((Body){0}, $2); }

kind:
    DIM          { $$ = STMT_DIM; }
  | REAL         { $$ = STMT_REAL; }
  | BOOL         { $$ = STMT_BOOL; }
  | STRING_KIND  { $$ = STMT_STRING; }
  | LIST         { $$ = STMT_LIST; }

init:
    '=' expr   { $$ = $2; }
  | FROM keys  { $$ = expr_with_args(parser, EXPR_FROM, NULL, arg_finish($2), @$); }

keys:
    STRING          { $$ = arg_append(NULL, arg_new(parser, $1, @1)); }
  | keys OR STRING  { $$ = arg_append($1, arg_new(parser, $3, @3)); }

optional:
    %empty    { $$ = false; }
  | OPTIONAL  { $$ = true; }

tensor: /* a weight that lacks its head */
    tensor_part
  | STRING '\'' { $$ = tensor(parser, $1, NULL); $$->transposed_before = true; }
  | STRING '\'' '[' subscripts ']' {
        $$ = tensor(parser, $1, $4);
        $$->transposed_before = true;
    }

tensor_part:
    STRING                    { $$ = tensor(parser, $1, NULL); }
  | STRING '[' subscripts ']' { $$ = tensor(parser, $1, $3); }
  | STRING '[' subscripts ']' '\'' {
        $$ = tensor(parser, $1, $3);
        $$->transposed_after = true;
    }

fresh: /* how a weight begins that the checkpoint lacks */
    %empty                    { $$ = NULL; }
  | OR IDENT                  { $$ = expr_call(parser, $2, NULL, @$); }
  | OR IDENT '(' NUMBER ')'   {
        $$ = expr_call(parser, $2, NULL, @$);
        $$->number = $4;
    }

role:
    %empty     { $$ = NULL; }
  | AS IDENT   {
        $$ = expr_string(parser, $2.symbol->name, (int)strlen($2.symbol->name), @2);
        $$->is_word = true;
    }
  | AS STRING  { $$ = $2; }

label:
    %empty     { $$ = NULL; }
  | AS STRING  { $$ = $2; }

indices:
    index              { $$ = arg_append(NULL, $1); }
  | indices ',' index  { $$ = arg_append($1, $3); }

index:
    IDENT IN expr ':' expr {
        $$ = arg_range(parser, $3, $5, @$);
        $$->name = $1.symbol;
        $$->loc = @1;
    }

params:
    %empty       { $$ = NULL; }
  | more_params  { $$ = $1->next; $1->next = NULL; }

more_params: /* circular: the last */
    IDENT { $$ = decl_new(parser->arena, $1.symbol, @1, NULL); $$->next = $$; }
  | more_params ',' IDENT {
        $$ = decl_new(parser->arena, $3.symbol, @3, NULL);
        $$->next = $1->next;
        $1->next = $$;
    }

exprs:
    %empty  { $$ = NULL; }
  | more_exprs

more_exprs:
    expr                 { $$ = arg_append(NULL, arg_new(parser, $1, @1)); }
  | more_exprs ',' expr  { $$ = arg_append($1, arg_new(parser, $3, @3)); }

args:
    %empty  { $$ = NULL; }
  | more_args

more_args:
    arg                { $$ = arg_append(NULL, $1); }
  | more_args ',' arg  { $$ = arg_append($1, $3); }

arg:
    expr            { $$ = arg_new(parser, $1, @1); }
  | IDENT '=' expr  { $$ = arg_new(parser, $3, @$); $$->name = $1.symbol; }

subscripts:
    subscript                 { $$ = arg_append(NULL, $1); }
  | subscripts ',' subscript  { $$ = arg_append($1, $3); }

subscript:
    expr           { $$ = arg_new(parser, $1, @1); }
  | expr ':' expr  { $$ = arg_range(parser, $1, $3, @$); }
  | expr ':'       { $$ = arg_range(parser, $1, NULL, @$); }
  | ':' expr       { $$ = arg_range(parser, NULL, $2, @$); }
  | ':'            { $$ = arg_range(parser, NULL, NULL, @$); }

expr:
    postfix
  | expr '|' expr  { $$ = binary(parser, OPERATOR_OR, $1, $3, @$); }
  | expr '&' expr  { $$ = binary(parser, OPERATOR_AND, $1, $3, @$); }
  | expr EQ expr   { $$ = binary(parser, OPERATOR_EQ, $1, $3, @$); }
  | expr NE expr   { $$ = binary(parser, OPERATOR_NE, $1, $3, @$); }
  | expr '<' expr  { $$ = binary(parser, OPERATOR_LT, $1, $3, @$); }
  | expr LE expr   { $$ = binary(parser, OPERATOR_LE, $1, $3, @$); }
  | expr '>' expr  { $$ = binary(parser, OPERATOR_GT, $1, $3, @$); }
  | expr GE expr   { $$ = binary(parser, OPERATOR_GE, $1, $3, @$); }
  | expr '+' expr  { $$ = binary(parser, OPERATOR_ADD, $1, $3, @$); }
  | expr '-' expr  { $$ = binary(parser, OPERATOR_SUB, $1, $3, @$); }
  | expr '*' expr  { $$ = binary(parser, OPERATOR_MUL, $1, $3, @$); }
  | expr '/' expr  { $$ = binary(parser, OPERATOR_DIV, $1, $3, @$); }
  | expr '%' expr  { $$ = binary(parser, OPERATOR_MOD, $1, $3, @$); }
  | expr '@' expr  { $$ = binary(parser, OPERATOR_MATMUL, $1, $3, @$); }
  | expr '^' expr  { $$ = binary(parser, OPERATOR_POW, $1, $3, @$); }
  | '-' expr %prec SIGN  { $$ = expr_unary(parser, OPERATOR_NEG, $2, @$); }
  | '!' expr %prec SIGN  { $$ = expr_unary(parser, OPERATOR_NOT, $2, @$); }
  | expr AT IDENT %prec AT   { $$ = expr_site(parser, $1, $3, NULL, @$); }
  | expr AT IDENT AS STRING  { $$ = expr_site(parser, $1, $3, $5, @$); }
  | expr FROM keys       { $$ = expr_with_args(parser, EXPR_FROM, $1, arg_finish($3), @$); }
  | IF expr THEN expr ELSE expr  { $$ = expr_ternary(parser, EXPR_IF, $2, $4, $6, @$); }

postfix:
    primary
  | postfix '\'' {
        $$ = expr_ternary(parser, EXPR_TRANSPOSE, $1, NULL, NULL, @$);
    }
  | postfix '[' subscripts ']' {
        $$ = expr_with_args(parser, EXPR_INDEX, $1, arg_finish($3), @$);
    }

primary:
    NUMBER              { $$ = expr_number(parser, $1, @1); }
  | STRING
  | TRUE                { $$ = expr_new(parser, EXPR_BOOL, @1); $$->number = 1; }
  | FALSE               { $$ = expr_new(parser, EXPR_BOOL, @1); }
  | IDENT               { $$ = expr_name(parser, $1); }
  | IDENT '(' args ')'  { $$ = expr_call(parser, $1, arg_finish($3), @$); }
  | '[' exprs ']'       { $$ = expr_with_args(parser, EXPR_LIST, NULL, arg_finish($2), @$); }
  | '(' expr ')'        { $$ = $2; $$->parenthesised = true; }

%%

static Stmt *declaration(Parser *parser, StmtKind kind, Name name, Expr *value, Loc loc)
{
    Stmt *stmt = stmt_new(parser, kind, name, loc);
    stmt->value = value;
    return stmt;
}

static Stmt *tensor(Parser *parser, Expr *text, Arg *slices)
{
    Stmt *stmt = stmt_new(parser, STMT_WEIGHT, (Name){0}, text->loc);
    stmt->text = text;
    stmt->slices = arg_finish(slices);
    return stmt;
}

static Expr *binary(Parser *parser, Operator operator, Expr *a, Expr *b, Loc loc)
{
    return expr_binary(parser, operator, a, b, loc);
}

/* Bison's own troubles; what it says about syntax comes through yyreport_syntax_error. */
static void ldl_error(const Loc *loc, void *scanner, Parser *parser, const char *message)
{
    (void)scanner;
    (void)message;
    if (!parser->stopped)
        diag_error(parser->diag, *loc, "this is nested too deeply");
    parser->stopped = true;
}

/* Where many tokens could go on, names what they begin instead. */
static const char *expected_text(const yypcontext_t *context, Arena *arena)
{
    yysymbol_kind_t tokens[YYNTOKENS];
    int count = yypcontext_expected_tokens(context, tokens, YYNTOKENS);
    bool expression = false, statement = false;
    for (int i = 0; i < count; i++) {
        expression |= tokens[i] == YYSYMBOL_NUMBER;
        statement |= tokens[i] == YYSYMBOL_LET;
    }
    if (expression || statement)
        return expression ? "an expression" : "a statement or '}'";
    /* Behind an expression: what ends it, not all the operators that could go on. */
    static const char *const ends[] = {"';'", "')'", "']'", "'{'", "':'", "'then'", "'else'"};
    for (size_t e = 0; count > 5 && e < sizeof ends / sizeof *ends; e++)
        for (int i = 0; i < count; i++)
            if (!strcmp(yysymbol_name(tokens[i]), ends[e]))
                return arena_format(arena, "an operator or %s", ends[e]);
    Text text = {.arena = arena};
    for (int i = 0; i < count && count <= 5; i++) {
        text_add(&text, i == 0 ? "" : i == count - 1 ? " or " : ", ");
        text_add(&text, yysymbol_name(tokens[i]));
    }
    return text.length ? text.data : "an operator or the end of the expression";
}

static int yyreport_syntax_error(const yypcontext_t *context, void *scanner, Parser *parser)
{
    static const char *const keywords[] = {
        "model",  "dim",   "real", "bool",   "string", "list", "prefix", "input", "optional",
        "weight", "block", "let",  "repeat", "output", "loss", "const",  "if",    "else",
        "error",  "return"};
    (void)scanner;
    yysymbol_kind_t token = yypcontext_token(context);
    if (parser->stopped || diag_full(parser->diag) || token == YYSYMBOL_YYEMPTY)
        return 0;
    Loc loc = *yypcontext_location(context);
    const char *got = yysymbol_name(token);
    if (token == YYSYMBOL_IDENT)
        got = arena_format(parser->arena, "'%s'", parser->word.symbol->name);
    if (token == YYSYMBOL_YYEOF && parser->diag->errors)
        return 0; /* an earlier error has swallowed a brace */
    const char *expected = expected_text(context, parser->arena);
    if (strstr(expected, "';'") && parser->last.line && parser->last.end_line < loc.line) {
        loc = parser->last; /* what is missing is missing at the end of the line before */
        loc.line = loc.end_line;
        loc.column = loc.end_column;
    }
    diag_error(parser->diag, loc, "expected %s, got %s", expected, got);
    /* A misspelt keyword is a name; the complaint comes at the token after it. */
    const Name last = token == YYSYMBOL_IDENT ? parser->before : parser->word;
    if (last.symbol && last.loc.line == loc.line && last.loc.end_column + 1 == loc.column) {
        const char *near = nearest_word(last.symbol->name, keywords,
                                        (int)(sizeof keywords / sizeof *keywords));
        if (near)
            diag_note(parser->diag, last.loc, "did you mean '%s'?", near);
    }
    return 0;
}
