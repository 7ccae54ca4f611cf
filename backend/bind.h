/* bind.h - one place where a kernel is used: which memory its operands are.
 *
 * Binding a kernel walks what it computes in a fixed order and gives every operand a slot of the kernel's record.  It also writes a
 * signature: two kernels with equal signatures have equal code and differ only in their records. */
#pragma once
#include "backend/ll.h"
#include "ir/schedule.h"

enum { RECORD_MAX = 120 };

typedef struct Binding {
    Arena *arena;
    const Schedule *schedule;
    bool openblas;             /* of the whole program: products call OpenBLAS */
    Text signature;
    uint64_t record[RECORD_MAX];
    int base[RECORD_MAX];
    int count;
    const Kernel *kernel;
    int generation;            /* of the marks below */
    int *mark;                 /* by node id: generation in which `number` and `operand` are valid */
    int *number;               /* order in which the walk met the node */
    Operand *operand;          /* leaves: where they lie */
    int next_number;
    /* tables that the program carries: consts, rotary angles */
    struct ConstTable {
        const double *values;
        int64_t count;
        int64_t form; /* what is made of the values: rows of so many columns, 0: angles */
        int64_t offset;
    } *tables;
    int table_count, table_capacity;
    float *const_data;
    int64_t const_count, const_capacity;
} Binding;

Binding *binding_new(Arena *arena, const Schedule *schedule, bool openblas);
/* Starts a kernel: clears record and signature. */
void bind_begin(Binding *b, const Kernel *kernel);
/* Adds an operand, or finds the one of the same base and offset. */
Operand bind_operand(Binding *b, int base, uint64_t offset, int64_t pitch);
/* A number that differs from place to place: its slot holds the number itself (record_word). */
Operand bind_word(Binding *b, uint64_t word);
Operand bind_buffer(Binding *b, const Buffer *buffer);
/* A value in memory, through slices of its columns. */
Operand bind_rows(Binding *b, const Node *node);
Operand bind_param(Binding *b, const Param *param);
Operand bind_gradient(Binding *b, const Param *param);
/* Everything that computing `node` in place needs.  Nodes in `own` (a kernel's outputs) are computed even if they are in memory. */
void bind_expression(Binding *b, const Node *node);
/* The numbers of an OP_TABLE, f32: a matrix as rows, else one behind the other. */
Operand bind_table(Binding *b, const Node *table);
/* cos and sin of position * frequency: [max_length][2 * padded frequencies] f32. */
Operand bind_rotary(Binding *b, const Node *frequencies, int64_t *pitch);
void bind_note(Binding *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool is_own(const Kernel *kernel, const Node *node);
