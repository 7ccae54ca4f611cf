/* text_read.c - see text.h: the reader.  One line is one node; an error ends its line, and the
 * reader goes on with the next.  A value whose line was wrong is known but has no node, so that
 * its users bring no further errors.
 *
 *   graph  = "graph" "@" NAME [ "{" "layers" "=" INT "," "context" "=" INT "}" ] "{" { line }
 * "}" line   = [ node | output ] [ ";" comment ] newline node   = "%" NAME "=" OP [ STRING ] [
 * values ] [ attrs ] [ table ] ":" types [ "@" INT ] [ "bwd" ] output = "output" STRING "%"
 * NAME */
#include <ctype.h>
#include <limits.h>
#include <string.h>

#include "ir/shape.h"
#include "ir/text.h"
#include "ir/text_scan.h"
#include "ir/verify.h"


/* A name after "%" and its node; NULL when the line that makes it is wrong. */
typedef struct Binding {
    const char *name; /* NULL: an empty slot */
    Node *node;
} Binding;

typedef struct Reader {
    Scan scan;
    Graph *graph;
    Binding *bindings; /* hash table */
    int binding_count, binding_slots;
} Reader;

/* --- attributes and fields --- */

static bool unknown_name(Reader *r, const char *at, const char *what, const char *name,
                         const char *nearest)
{
    if (nearest)
        return SCAN_ERROR(&r->scan, at, strlen(name), "unknown %s '%s'; did you mean '%s'?",
                          what, name, nearest);
    return SCAN_ERROR(&r->scan, at, strlen(name), "unknown %s '%s'", what, name);
}

static bool read_attr(Reader *r, Op op, Attrs *attrs, const char *at, const char *name)
{
    const char *known[ATTR_COUNT];
    int count = 0;
#define ATTR(id, field, kind, def)                                                             \
    if (op_info[op].attrs & A_##id) {                                                          \
        if (!strcmp(name, #field))                                                             \
            return scan_expect(&r->scan, '=') && scan_##kind(&r->scan, &attrs->field);         \
        known[count++] = #field;                                                               \
    }
#include "ir/attrs.def"
    return unknown_name(r, at, "attribute", name, nearest_word(name, known, count));
}

static bool read_attrs(Reader *r, Op op, Attrs *attrs)
{
    const char *name;
    if (!scan_accept(&r->scan, '{'))
        return true;
    do {
        const char *at = (scan_space(&r->scan), r->scan.at);
        if (!scan_word(&r->scan, "an attribute", &name) || !read_attr(r, op, attrs, at, name))
            return false;
    } while (scan_accept(&r->scan, ','));
    return scan_expect(&r->scan, '}');
}

/* "[0:768/768, 768:1536/2304]" */
static bool read_slices(Reader *r, Param *param)
{
    param->file_rank = 0;
    if (!scan_expect(&r->scan, '['))
        return false;
    do {
        if (param->file_rank == MAX_RANK)
            return SCAN_ERROR(&r->scan, r->scan.at, 1, "more than %d axes", MAX_RANK);
        FileSlice *slice = &param->slices[param->file_rank++];
        if (!scan_int(&r->scan, &slice->start) || !scan_expect(&r->scan, ':') ||
            !scan_int(&r->scan, &slice->stop) || !scan_expect(&r->scan, '/') ||
            !scan_int(&r->scan, &slice->extent))
            return false;
    } while (scan_accept(&r->scan, ','));
    return scan_expect(&r->scan, ']');
}

static bool read_field(Reader *r, Param *param, const char *at, const char *name)
{
#define FIELD(field, kind, def)                                                                \
    if (!strcmp(name, #field))                                                                 \
        return scan_expect(&r->scan, '=') && scan_##kind(&r->scan, &param->field);
#include "ir/params.def"
    if (!strcmp(name, "file"))
        return scan_expect(&r->scan, '=') && read_slices(r, param);
    static const char *const known[] = {
#define FIELD(field, kind, def) #field,
#include "ir/params.def"
        "file"};
    return unknown_name(r, at, "field", name,
                        nearest_word(name, known, sizeof known / sizeof *known));
}

enum { LAYER_AS_NODE = INT_MIN };

static bool read_param(Reader *r, Param *param)
{
    const char *name;
    param->layer = LAYER_AS_NODE;
    const char *at = (scan_space(&r->scan), r->scan.at);
    if (!scan_text(&r->scan, &param->name))
        return false;
    if (graph_find_param(r->graph, param->name))
        return SCAN_ERROR(&r->scan, at, (size_t)(r->scan.at - at), "there are two params '%s'",
                          param->name);
    if (!scan_accept(&r->scan, '{'))
        return true;
    do {
        at = (scan_space(&r->scan), r->scan.at);
        if (!scan_word(&r->scan, "a field", &name) || !read_field(r, param, at, name))
            return false;
    } while (scan_accept(&r->scan, ','));
    return scan_expect(&r->scan, '}');
}

/* --- values --- */

static Binding *find_binding(const Reader *r, const char *name)
{
    uint32_t hash = 2166136261u, mask = (uint32_t)r->binding_slots - 1;
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    while (r->bindings[hash & mask].name && strcmp(r->bindings[hash & mask].name, name) != 0)
        hash++;
    return &r->bindings[hash & mask];
}

static void bind(Reader *r, const char *name, Node *node)
{
    if (2 * r->binding_count >= r->binding_slots) {
        Binding *old = r->bindings;
        int count = r->binding_slots;
        r->binding_slots = count ? 2 * count : 64;
        r->bindings = ARENA_ARRAY(r->scan.arena, Binding, r->binding_slots);
        for (int i = 0; i < count; i++)
            if (old[i].name)
                *find_binding(r, old[i].name) = old[i];
    }
    Binding *binding = find_binding(r, name);
    r->binding_count += !binding->name;
    *binding = (Binding){name, node};
}

/* *node is NULL for a value whose own line was wrong. */
static bool read_value(Reader *r, Node **node)
{
    const char *name, *at = (scan_space(&r->scan), r->scan.at);
    if (!scan_accept(&r->scan, '%') || !scan_word(&r->scan, "a name", &name))
        return scan_unexpected(&r->scan, "a value");
    const Binding *binding = r->binding_slots ? find_binding(r, name) : NULL;
    if (!binding || !binding->name)
        return SCAN_ERROR(&r->scan, at, strlen(name) + 1, "'%%%s' is not defined above", name);
    *node = binding->node;
    return true;
}

static bool read_type(Reader *r, Type *type)
{
    const char *name, *at = (scan_space(&r->scan), r->scan.at);
    DType dtype;
    Dims dims = {0};
    if (!scan_word(&r->scan, "a type", &name))
        return false;
    if (!dtype_parse(name, &dtype))
        return SCAN_ERROR(&r->scan, at, strlen(name), "unknown type '%s'", name);
    if (r->scan.at < r->scan.end && *r->scan.at == '[' && !scan_dims(&r->scan, &dims))
        return false;
    *type = type_of(dtype, dims.count, dims.at);
    return type_is_valid(*type) ||
           SCAN_ERROR(&r->scan, at, (size_t)(r->scan.at - at), "there is no such type");
}

/* "(1, 0.5)" */
static bool read_table(Reader *r, double **data, int *count)
{
    int capacity = 0;
    if (!scan_accept(&r->scan, '('))
        return true;
    do {
        double number;
        if (!scan_f64(&r->scan, &number))
            return false;
        ARENA_PUSH(r->scan.arena, *data, *count, capacity, number);
    } while (scan_accept(&r->scan, ','));
    return scan_expect(&r->scan, ')');
}

/* --- lines --- */

/* All that stands in the line of a node. */
typedef struct Line {
    Op op;
    const char *op_at;
    Attrs attrs;
    Param param;
    Node *inputs[OP_MAX_INPUTS];
    int input_count;
    bool broken; /* an operand has no node */
    double *data;
    int data_count;
    Type types[OP_MAX_RESULTS];
    int type_count;
    const char *type_at, *type_end;
    int layer;
    bool backward;
} Line;

static bool read_op(Reader *r, Line *line)
{
    const char *name, *known[OP_COUNT];
    line->op_at = (scan_space(&r->scan), r->scan.at);
    if (!scan_word(&r->scan, "an op", &name))
        return false;
    line->op = op_find(name);
    if (line->op != OP_COUNT)
        return true;
    for (int i = 0; i < OP_COUNT; i++)
        known[i] = op_info[i].text;
    return unknown_name(r, line->op_at, "op", name, nearest_word(name, known, OP_COUNT));
}

static bool read_values(Reader *r, Line *line)
{
    scan_space(&r->scan);
    if (r->scan.at == r->scan.end || *r->scan.at != '%')
        return true;
    do {
        if (line->input_count == OP_MAX_INPUTS)
            return SCAN_ERROR(&r->scan, r->scan.at, 1, "more than %d operands", OP_MAX_INPUTS);
        if (!read_value(r, &line->inputs[line->input_count]))
            return false;
        line->broken = line->broken || !line->inputs[line->input_count];
        line->input_count++;
    } while (scan_accept(&r->scan, ','));
    return true;
}

static bool read_types(Reader *r, Line *line)
{
    if (!scan_expect(&r->scan, ':'))
        return false;
    line->type_at = (scan_space(&r->scan), r->scan.at);
    bool tuple = scan_accept(&r->scan, '(');
    do {
        if (line->type_count == OP_MAX_RESULTS)
            return SCAN_ERROR(&r->scan, r->scan.at, 1, "more than %d results", OP_MAX_RESULTS);
        if (!read_type(r, &line->types[line->type_count++]))
            return false;
    } while (tuple && scan_accept(&r->scan, ','));
    if (tuple && !scan_expect(&r->scan, ')'))
        return false;
    line->type_end = r->scan.at;
    return true;
}

/* What follows "NAME =". */
static bool read_node(Reader *r, Line *line)
{
    line->attrs = attrs_default();
    line->layer = LAYER_NONE;
    if (!read_op(r, line))
        return false;
    if (!read_values(r, line))
        return false;
    if (line->op == OP_PARAM ? !read_param(r, &line->param)
                             : !read_attrs(r, line->op, &line->attrs))
        return false;
    if (line->op == OP_TABLE && !read_table(r, &line->data, &line->data_count))
        return false;
    if (!read_types(r, line) ||
        (scan_accept(&r->scan, '@') && !scan_count(&r->scan, &line->layer)))
        return false;
    line->backward = scan_accept_word(&r->scan, "bwd");
    return scan_line_end(&r->scan) || scan_unexpected(&r->scan, "the end of the line");
}

static Node *build_leaf(Reader *r, const Line *line)
{
    if (line->op != OP_PARAM)
        return graph_leaf(r->graph, line->op, line->types[0], &line->attrs);
    Param *param = graph_new_param(r->graph, line->param.name);
    int index = param->index;
    *param = line->param;
    param->index = index;
    if (param->layer == LAYER_AS_NODE)
        param->layer = line->layer;
    return graph_param(r->graph, param, line->types[0]);
}

/* The inferred types are those written. */
static bool check_types(Reader *r, const Line *line)
{
    Type type, *results;
    int count;
    const char *reason;
    size_t op_length = strlen(op_info[line->op].text);
    size_t type_length = (size_t)(line->type_end - line->type_at);
    if (!shape_infer(r->scan.arena, line->op, &line->attrs, line->input_count, line->inputs,
                     &type, &results, &count, &reason))
        return SCAN_ERROR(&r->scan, line->op_at, op_length, "'%s': %s", op_info[line->op].text,
                          reason);
    if (count != line->type_count)
        return SCAN_ERROR(&r->scan, line->type_at, type_length, "'%s' has %d result%s, got %d",
                          op_info[line->op].text, count, count == 1 ? "" : "s",
                          line->type_count);
    for (int i = 0; i < count; i++) {
        Type expected = results ? results[i] : type;
        if (!type_equal(expected, line->types[i])) {
            const char *text = type_str(r->scan.arena, expected);
            return SCAN_ERROR(&r->scan, line->type_at, type_length,
                              "the type should be %s, got %s", text,
                              type_str(r->scan.arena, line->types[i]));
        }
    }
    return true;
}

static bool check_leaf(Reader *r, const Line *line)
{
    const char *text = op_info[line->op].text;
    if (line->input_count || line->type_count != 1)
        return SCAN_ERROR(&r->scan, line->op_at, strlen(text),
                          "'%s' has no operands and one type", text);
    int64_t elements = type_elements(line->types[0], NULL);
    if (line->op == OP_TABLE && line->data_count != elements)
        return SCAN_ERROR(&r->scan, line->op_at, strlen(text),
                          "the table has %d numbers, its type %lld", line->data_count,
                          (long long)elements);
    return true;
}

static bool build_node(Reader *r, const Line *line, Node **result)
{
    const char *text = op_info[line->op].text;
    bool leaf = op_info[line->op].traits & TRAIT_LEAF;
    if (leaf ? !check_leaf(r, line) : !check_types(r, line))
        return false;
    r->graph->layer = line->layer;
    r->graph->backward = line->backward;
    r->graph->loc = scan_loc(&r->scan, line->op_at, strlen(text));
    Node *node =
        leaf ? build_leaf(r, line)
             : graph_add(r->graph, line->op, &line->attrs, line->input_count, line->inputs);
    node->backward = line->backward;
    node->data = line->data;
    *result = node;
    const char *reason = node_verify(r->graph, node, r->scan.arena);
    return !reason || SCAN_ERROR(&r->scan, line->op_at, strlen(text), "'%s': %s", text, reason);
}

static bool read_definition(Reader *r)
{
    const char *name, *at = (scan_space(&r->scan), r->scan.at);
    Line *line = ARENA_NEW(r->scan.arena, Line);
    if (!scan_expect(&r->scan, '%') || !scan_word(&r->scan, "a name", &name))
        return false;
    if (r->binding_slots && find_binding(r, name)->name)
        return SCAN_ERROR(&r->scan, at, strlen(name) + 1, "'%%%s' is defined twice", name);
    bind(r, name, NULL);
    if (!scan_expect(&r->scan, '=') || !read_node(r, line) || line->broken)
        return false;
    Node *node = NULL;
    bool built = build_node(r, line, &node);
    bind(r, name, node);
    return built;
}

static bool read_output(Reader *r)
{
    const char *name;
    Node *node;
    const char *at = (scan_space(&r->scan), r->scan.at);
    if (!scan_text(&r->scan, &name) || !read_value(r, &node))
        return false;
    if (node && (op_info[node->op].traits & TRAIT_TUPLE))
        return SCAN_ERROR(&r->scan, at, (size_t)(r->scan.at - at), "output '%s' is a tuple",
                          name);
    if (node)
        graph_output(r->graph, name, node);
    return scan_line_end(&r->scan) || scan_unexpected(&r->scan, "the end of the line");
}

/* "; loracc ir 1" names the version of the form. */
static bool check_version(Reader *r)
{
    static const char head[] = "; loracc ir ";
    size_t length = sizeof head - 1;
    if ((size_t)(r->scan.end - r->scan.at) < length || memcmp(r->scan.at, head, length) != 0)
        return true;
    const char *version = r->scan.at + length;
    if (version < r->scan.end && *version == '1' &&
        (version + 1 == r->scan.end || isspace((unsigned char)version[1])))
        return true;
    return SCAN_ERROR(&r->scan, version, 1,
                      "this is another version of the IR's text form, expected 1");
}

static bool read_head(Reader *r)
{
    const char *name;
    if (!check_version(r))
        return false;
    scan_empty_lines(&r->scan);
    if (!scan_accept_word(&r->scan, "graph") || !scan_accept(&r->scan, '@'))
        return scan_unexpected(&r->scan, "'graph @NAME {'");
    if (!scan_word(&r->scan, "a name", &name) || !scan_expect(&r->scan, '{'))
        return false;
    r->graph = graph_new(r->scan.arena, name);
    if (scan_line_end(&r->scan))
        return true;
    if (!scan_accept_word(&r->scan, "layers"))
        return scan_unexpected(&r->scan, "'layers'");
    if (!scan_expect(&r->scan, '=') || !scan_count(&r->scan, &r->graph->layer_count) ||
        !scan_expect(&r->scan, ','))
        return false;
    if (!scan_accept_word(&r->scan, "context"))
        return scan_unexpected(&r->scan, "'context'");
    if (!scan_expect(&r->scan, '=') || !scan_int(&r->scan, &r->graph->context) ||
        !scan_expect(&r->scan, '}') || !scan_expect(&r->scan, '{'))
        return false;
    return scan_line_end(&r->scan) || scan_unexpected(&r->scan, "the end of the line");
}

Graph *graph_read(Arena *arena, const Source *source, Diag *diag)
{
    Reader r = {
        .scan = {
            .arena = arena, .diag = diag, .source = source, .at = source->text, .line = 1}};
    r.scan.line_start = r.scan.at;
    r.scan.end = r.scan.at + source->length;
    if (!read_head(&r))
        return NULL;
    for (;;) {
        scan_next_line(&r.scan);
        scan_empty_lines(&r.scan);
        if (scan_accept(&r.scan, '}'))
            break;
        if (r.scan.at == r.scan.end) {
            scan_unexpected(&r.scan, "'}'");
            break;
        }
        if (diag_full(diag))
            return NULL;
        if (scan_accept_word(&r.scan, "output"))
            read_output(&r);
        else
            read_definition(&r);
    }
    for (bool more = !r.scan.failed; more; more = r.scan.at < r.scan.end) {
        if (!scan_line_end(&r.scan) && !scan_unexpected(&r.scan, "the end of the text"))
            break;
        scan_next_line(&r.scan);
    }
    r.graph->layer = LAYER_NONE;
    r.graph->backward = false;
    r.graph->loc = (Loc){0};
    return r.scan.failed ? NULL : r.graph;
}
