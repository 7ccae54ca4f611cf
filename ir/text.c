/* text.c - see text.h: the printer.  The reader is text_read.c. */
#include "ir/text.h"

#include <string.h>

static void print_string(Text *text, const char *string)
{
    text_add(text, "\"");
    for (const char *c = string; *c; c++) {
        if (*c == '"' || *c == '\\')
            text_add(text, "\\");
        text_addn(text, c, 1);
    }
    text_add(text, "\"");
}

/* --- attributes: one function for each kind -------------------------------------------------------------------- */

static void print_f64(Text *text, double value)
{
    text_format(text, "%.17g", value);
}

static void print_int(Text *text, int64_t value)
{
    text_format(text, "%lld", (long long)value);
}

static void print_bool(Text *text, bool value)
{
    text_add(text, value ? "1" : "0");
}

static void print_dims(Text *text, Dims dims)
{
    text_add(text, "[");
    for (int i = 0; i < dims.count; i++)
        text_format(text, "%s%s", i ? ", " : "", dim_str(text->arena, dims.at[i]));
    text_add(text, "]");
}

static void print_text(Text *text, const char *value)
{
    print_string(text, value ? value : "");
}

static void print_attrs(Text *text, const Node *node)
{
    Attrs defaults = attrs_default();
    const char *separator = " {";
#define ATTR(id, field, kind, def)                                                                              \
    if ((op_info[node->op].attrs & A_##id) && !same_##kind(node->attrs.field, defaults.field)) {                \
        text_format(text, "%s%s=", separator, #field);                                                          \
        print_##kind(text, node->attrs.field);                                                                  \
        separator = ", ";                                                                                       \
    }
#define same_f64(a, b) (!((a) < (b)) && !((a) > (b)))
#define same_int(a, b) ((a) == (b))
#define same_bool(a, b) ((a) == (b))
#define same_dims(a, b) ((a).count == 0 && (b).count == 0)
#define same_text(a, b) (!(a) && !(b))
#include "ir/attrs.def"
    if (separator[0] == ',')
        text_add(text, "}");
}

/* --- parameters --------------------------------------------------------------------------------------------------- */

static void print_param(Text *text, const Param *param)
{
    static const char *const inits[] = {"tensor", "zero", "one", "uniform", "normal"};
    text_add(text, " ");
    print_string(text, param->name);
    text_add(text, " {tensor=");
    print_string(text, param->tensor ? param->tensor : "");
    if (param->module)
        text_add(text, ", module="), print_string(text, param->module);
    if (param->role)
        text_format(text, ", role=%s", param->role);
    if (param->site)
        text_format(text, ", site=%s", param->site);
    if (param->base)
        text_add(text, ", base="), print_string(text, param->base);
    text_add(text, ", file=[");
    for (int i = 0; i < param->file_rank; i++) {
        const FileSlice *s = &param->slices[i];
        text_format(text, "%s%lld:%lld/%lld", i ? ", " : "", (long long)s->start, (long long)s->stop, (long long)s->extent);
    }
    text_format(text, "]%s%s%s%s", param->transposed ? ", transposed" : "", param->trained ? ", trained" : "",
                param->adapter ? ", adapter" : "", param->fast ? ", fast" : "");
    if (param->init != INIT_TENSOR)
        text_format(text, ", init=%s", inits[param->init]);
    if (param->init == INIT_UNIFORM || param->init == INIT_NORMAL)
        text_format(text, ":%.17g", param->init_scale);
    text_add(text, "}");
}

static void print_type(Text *text, const Node *node)
{
    if (node->result_count == 1) {
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
    if (node->op == OP_PARAM && node->param)
        print_param(text, node->param);
    else
        print_attrs(text, node);
    for (int i = 0; i < node->input_count; i++)
        text_format(text, "%s%%%d", i ? ", " : " ", node->inputs[i]->id);
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
    text_format(&text, "; loracc ir 1\ngraph @%s {layers=%d, context=%lld} {\n", graph->name, graph->layer_count,
                (long long)graph->context);
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
