/* bind.c - see bind.h. */
#include "backend/bind.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ir/diag.h"
#include "ir/dropout.h"

Binding *binding_new(Arena *arena, const Schedule *schedule, bool openblas)
{
    Binding *b = ARENA_NEW(arena, Binding);
    int nodes = schedule->graph->node_count;
    b->arena = arena;
    b->schedule = schedule;
    b->openblas = openblas;
    b->mark = ARENA_ARRAY(arena, int, nodes);
    b->number = ARENA_ARRAY(arena, int, nodes);
    b->operand = ARENA_ARRAY(arena, Operand, nodes);
    return b;
}

void bind_begin(Binding *b, const Kernel *kernel)
{
    b->generation++;
    b->kernel = kernel;
    b->count = b->next_number = 0;
    b->signature = (Text){.arena = b->arena};
}

void bind_note(Binding *b, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    text_add(&b->signature, text);
}

Operand bind_operand(Binding *b, int base, uint64_t offset, int64_t pitch)
{
    int slot = 0;
    while (slot < b->count && (b->base[slot] != base || b->record[slot] != offset))
        slot++;
    if (slot == b->count) {
        if (b->count == RECORD_MAX)
            ice("a kernel has more than %d operands", RECORD_MAX);
        b->base[slot] = base;
        b->record[slot] = offset;
        b->count++;
    }
    bind_note(b, "[%d:%d:%lld]", base, slot, (long long)pitch);
    return (Operand){base, slot, pitch};
}

Operand bind_word(Binding *b, uint64_t word)
{
    return bind_operand(b, LRT_BASE_COUNT, word, 0);
}

Operand bind_buffer(Binding *b, const Buffer *buffer)
{
    return bind_operand(b, LRT_BASE_ARENA, (uint64_t)buffer->offset, buffer->pitch);
}

static const Node *skip_views(const Node *node)
{
    while (node->op == OP_SITE || node->op == OP_RESHAPE)
        node = node->inputs[0];
    return node;
}

Operand bind_rows(Binding *b, const Node *node)
{
    int64_t column = 0;
    for (node = skip_views(node); node->op == OP_SLICE; node = skip_views(node->inputs[0]))
        column += node->attrs.start;
    const Buffer *buffer = b->schedule->buffer_of[node->id];
    if (!buffer)
        ice("an operand is not in memory: %%%d = %s", node->id, op_info[node->op].text);
    return bind_operand(b, LRT_BASE_ARENA, (uint64_t)(buffer->offset + column * 4), buffer->pitch);
}

Operand bind_param(Binding *b, const Param *param)
{
    const Stored *stored = &b->schedule->stored[param->index];
    bind_note(b, "p%d.%d.%lldx%lld", stored->layout, stored->flipped, (long long)stored->rows,
              (long long)stored->columns);
    return bind_operand(b, param->trained ? LRT_BASE_PARAMS : LRT_BASE_WEIGHTS, (uint64_t)stored->offset, stored->pitch);
}

Operand bind_gradient(Binding *b, const Param *param)
{
    const Stored *stored = &b->schedule->stored[param->index];
    bind_note(b, "g%d.%d.%lldx%lld", stored->layout, stored->flipped, (long long)stored->rows,
              (long long)stored->columns);
    return bind_operand(b, LRT_BASE_GRADS, (uint64_t)stored->offset, stored->pitch);
}

bool is_own(const Kernel *kernel, const Node *node)
{
    if (kernel->kind == KERNEL_GEMM)
        return node == kernel->root;
    for (int i = 0; i < kernel->output_count; i++)
        if (kernel->outputs[i] == node)
            return true;
    return false;
}

/* A name tells inputs and tables apart; a parameter's or a dropout's is only where it lies or what it draws. */
static void note_attributes(Binding *b, const Node *node)
{
    unsigned attrs = op_info[node->op].attrs;
    if (node->op == OP_PARAM || attrs & A_RATE)
        attrs &= ~(unsigned)A_NAME;
#define ATTR(id, field, kind, def)                                                                               \
    if (attrs & A_##id)                                                                        \
        note_##kind(b, node->attrs.field);
#define note_f64(b, x) bind_note((b), ",%.17g", (double)(x))
#define note_int(b, x) bind_note((b), ",%lld", (long long)(x))
#define note_bool(b, x) bind_note((b), ",%d", (int)(x))
#define note_dims(b, x) bind_note((b), ",%d", (x).count)
#define note_text(b, x) bind_note((b), ",%s", (x) ? (x) : "")
#include "ir/attrs.def"
}

/* Stops at what is in memory already; a table looked up is an operand too. */
void bind_expression(Binding *b, const Node *node)
{
    node = skip_views(node);
    if (b->mark[node->id] == b->generation) {
        bind_note(b, "%%%d", b->number[node->id]);
        return;
    }
    b->mark[node->id] = b->generation;
    b->number[node->id] = b->next_number++;
    bind_note(b, "(%s", op_info[node->op].text);
    note_attributes(b, node);
    char width[32];
    snprintf(width, sizeof width, ":%d.%lld", node->type.rank, (long long)node_columns(node));
    text_add(&b->signature, width);
    if (node->op == OP_GATHER)
        bind_note(b, "#%lld", (long long)node->inputs[0]->type.dim[0]);
    const Buffer *buffer = b->schedule->buffer_of[node->id];
    if (buffer && !is_own(b->kernel, node)) {
        b->operand[node->id] = bind_buffer(b, buffer);
    } else if (node->op == OP_PARAM) {
        b->operand[node->id] = bind_param(b, node->param);
    } else if (node->op == OP_TABLE) {
        b->operand[node->id] = bind_table(b, node);
    } else if (node != b->kernel->anchor || b->kernel->kind != KERNEL_GEMM) {
        if (op_info[node->op].attrs & A_RATE)
            b->operand[node->id] = bind_word(b, dropout_site(node->attrs.name));
        if (node != b->kernel->second)
            for (int i = 0; i < node->input_count; i++)
                bind_expression(b, node->inputs[i]);
    }
    bind_note(b, ")");
}

/* Room for `floats` more numbers of the program's tables; their offset in bytes. */
static int64_t add_const(Binding *b, const double *values, int64_t count, int64_t form, int64_t floats)
{
    struct ConstTable table = {values, count, form, b->const_count * 4};
    ARENA_PUSH(b->arena, b->tables, b->table_count, b->table_capacity, table);
    float *data = ARENA_ARRAY(b->arena, float, b->const_count + floats);
    if (b->const_count)
        memcpy(data, b->const_data, sizeof(float) * (size_t)b->const_count);
    b->const_data = data;
    b->const_count += floats;
    return table.offset;
}

/* -1: not there yet. */
static int64_t find_const(const Binding *b, const double *values, int64_t count, int64_t form)
{
    for (int i = 0; i < b->table_count; i++)
        if (b->tables[i].form == form && b->tables[i].count == count &&
            !memcmp(b->tables[i].values, values, sizeof(double) * (size_t)count))
            return b->tables[i].offset;
    return -1;
}

enum { FORM_ANGLES };

Operand bind_table(Binding *b, const Node *table)
{
    int64_t count = type_elements(table->type, NULL), columns = table->type.rank == 2 ? table->type.dim[1] : count;
    int64_t pitch = row_pitch(columns) / 4, offset = find_const(b, table->data, count, columns);
    if (offset < 0) {
        int64_t floats = (count / columns * pitch + 2 * LANES - 1) / LANES * LANES; /* room to read a vector past the last number */
        offset = add_const(b, table->data, count, columns, floats);
        for (int64_t i = 0; i < count; i++)
            b->const_data[offset / 4 + i / columns * pitch + i % columns] = (float)table->data[i];
    }
    return bind_operand(b, LRT_BASE_CONST, (uint64_t)offset, 4 * pitch);
}

/* Frequencies and angles are f32, as the models were trained with: at position 1000 their rounding is felt in the scores.
 * Cosine and sine of an angle are rounded once. */
Operand bind_rotary(Binding *b, const Node *frequencies, int64_t *pitch)
{
    int64_t count = frequencies->type.dim[0], padded = (count + LANES - 1) / LANES * LANES;
    int64_t positions = b->schedule->options.max_length;
    *pitch = 2 * padded * 4;
    int64_t offset = find_const(b, frequencies->data, count, FORM_ANGLES);
    if (offset >= 0)
        return bind_operand(b, LRT_BASE_CONST, (uint64_t)offset, *pitch);
    offset = add_const(b, frequencies->data, count, FORM_ANGLES, positions * 2 * padded);
    for (int64_t p = 0; p < positions; p++) {
        float *row = b->const_data + offset / 4 + p * 2 * padded;
        for (int64_t i = 0; i < count; i++) {
            double angle = (double)((float)p * (float)frequencies->data[i]);
            row[i] = (float)cos(angle);
            row[padded + i] = (float)sin(angle);
        }
    }
    return bind_operand(b, LRT_BASE_CONST, (uint64_t)offset, *pitch);
}
