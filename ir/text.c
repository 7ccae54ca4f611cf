/* text.c - see text.h: how a graph is spelled, the printer.  The reader is text_read.c; both
 * take the attributes from attrs.def and the fields of a param from params.def, and IR.md has
 * the grammar. */
#include "ir/text.h"

#include <string.h>

/* Control characters and what would end the string are escaped; the rest is UTF-8 as it stands.
 */
static void print_string(Text *text, const char *string)
{
    text_add(text, "\"");
    for (const char *c = string; *c; c++) {
        unsigned char byte = (unsigned char)*c;
        if (byte < 0x20 || byte == 0x7f) {
            text_format(text, "\\x%02x", byte);
            continue;
        }
        if (*c == '"' || *c == '\\')
            text_add(text, "\\");
        text_addn(text, c, 1);
    }
    text_add(text, "\"");
}

/* --- attributes: is it the default, and how is it printed, for each kind --- */

static bool same_f64(double a, double b)
{
    return !memcmp(&a, &b, sizeof a); /* tells -0 from 0, and a nan is one */
}

static void print_f64(Text *text, double value)
{
    text_format(text, "%.17g", value);
}

static bool same_int(int64_t a, int64_t b)
{
    return a == b;
}

static void print_int(Text *text, int64_t value)
{
    text_format(text, "%lld", (long long)value);
}

static bool same_bool(bool a, bool b)
{
    return a == b;
}

static void print_bool(Text *text, bool value)
{
    text_add(text, value ? "1" : "0");
}

static bool same_dims(Dims a, Dims b)
{
    return a.count == 0 && b.count == 0;
}

static void print_dims(Text *text, Dims dims)
{
    text_add(text, "[");
    for (int i = 0; i < dims.count; i++)
        text_format(text, "%s%s", i ? ", " : "", dim_str(text->arena, dims.at[i]));
    text_add(text, "]");
}

static bool same_text(const char *a, const char *b)
{
    return !a && !b;
}

static void print_text(Text *text, const char *value)
{
    print_string(text, value ? value : "");
}

static bool same_layer(int a, int b)
{
    return a == b;
}

static void print_layer(Text *text, int layer)
{
    print_int(text, layer);
}

static bool same_init(Init a, Init b)
{
    return a == b;
}

static void print_init(Text *text, Init init)
{
    text_add(text, init_names[init]);
}

const char *const init_names[INIT_COUNT] = {"tensor", "zero", "one", "uniform", "normal", "constant", "row_norms", "column_norms"};

static void print_name(Text *text, const char **separator, const char *name)
{
    text_format(text, "%s%s=", *separator, name);
    *separator = ", ";
}

static void print_attrs(Text *text, const Node *node)
{
    Attrs defaults = attrs_default();
    const char *separator = " {";
#define ATTR(id, field, kind, def)                                                             \
    if ((op_info[node->op].attrs & A_##id) &&                                                  \
        !same_##kind(node->attrs.field, defaults.field)) {                                     \
        print_name(text, &separator, #field);                                                  \
        print_##kind(text, node->attrs.field);                                                 \
    }
#include "ir/attrs.def"
    if (separator[0] == ',')
        text_add(text, "}");
}

/* --- nodes --- */

static void print_param(Text *text, const Node *node)
{
    const Param *param = node->param;
    const char *separator = " {";
    text_add(text, " ");
    print_string(text, param->name);
#define FIELD(field, kind, def)                                                                \
    if (!same_##kind(param->field, def)) {                                                     \
        print_name(text, &separator, #field);                                                  \
        print_##kind(text, param->field);                                                      \
    }
#include "ir/params.def"
    if (param->file_rank > 0)
        print_name(text, &separator, "file");
    for (int i = 0; i < param->file_rank; i++) {
        const FileSlice *s = &param->slices[i];
        text_format(text, "%s%lld:%lld/%lld", i ? ", " : "[", (long long)s->start,
                    (long long)s->stop, (long long)s->extent);
    }
    if (param->file_rank > 0)
        text_add(text, "]");
    if (separator[0] == ',')
        text_add(text, "}");
}

static void print_type(Text *text, const Node *node)
{
    if (!node->results) {
        text_format(text, " : %s", type_str(text->arena, node->type));
        return;
    }
    for (int i = 0; i < node->result_count; i++)
        text_format(text, "%s%s", i ? ", " : " : (", type_str(text->arena, node->results[i]));
    text_add(text, ")");
}

static void print_node(Text *text, const Node *node)
{
    text_format(text, "%%%d = %s", node->id, op_info[node->op].text);
    for (int i = 0; i < node->input_count; i++)
        text_format(text, "%s%%%d", i ? ", " : " ", node->inputs[i]->id);
    if (node->op == OP_PARAM && node->param)
        print_param(text, node);
    else
        print_attrs(text, node);
    if (node->data) {
        int64_t count = type_elements(node->type, NULL);
        for (int64_t i = 0; i < count; i++)
            text_format(text, "%s%.17g", i ? ", " : " (", node->data[i]);
        text_add(text, ")");
    }
    print_type(text, node);
    if (node->layer >= 0)
        text_format(text, " @%d", node->layer);
    if (node->backward)
        text_add(text, " bwd");
}

const char *node_str(const Node *node, Arena *arena)
{
    Text text = {.arena = arena};
    print_node(&text, node);
    return text.data;
}

const char *graph_print(const Graph *graph, Arena *arena)
{
    Text text = {.arena = arena};
    text_format(&text, "; loracc ir 1\ngraph @%s {layers=%d, context=%lld} {\n", graph->name,
                graph->layer_count, (long long)graph->context);
    for (int i = 0; i < graph->node_count; i++) {
        text_add(&text, "  ");
        print_node(&text, graph->nodes[i]);
        text_add(&text, "\n");
    }
    for (int i = 0; i < graph->output_count; i++) {
        text_add(&text, "  output ");
        print_string(&text, graph->outputs[i].name);
        text_format(&text, " %%%d\n", graph->outputs[i].node->id);
    }
    text_add(&text, "}\n");
    return text.data;
}
