/* emit_rows.h - kernels that walk rows: element-wise ops with reductions, sums over tokens, rotary embedding, the cache. */
#pragma once
#include "backend/bind.h"
#include "backend/emit_expr.h"

/* Every kind of kernel: `bind` gives it its operands, `emit` its code for e->target, `tasks` how many tasks it has (in the
 * function that calls it; `rows`: number of rows of the kernel's row dimension). */
enum { KERNEL_PARTS = 2 };

typedef struct KernelCode {
    void (*bind)(Binding *b, const Kernel *kernel);
    /* Up to KERNEL_PARTS kernels, run one after the other; NULL: no such part. */
    void (*emit)(Emit *e, Binding *b, const Kernel *kernel, const char *name, Val *parts);
    Val (*tasks)(Emit *e, Binding *b, const Kernel *kernel, Val context, Val rows, int part);
    int64_t (*scratch)(Binding *b, const Kernel *kernel);
} KernelCode;

extern const KernelCode code_rows, code_column_sum, code_scatter, code_rope, code_append;
extern const KernelCode code_gemm, code_gemm_tn, code_attention, code_attention_grad, code_cross_entropy;

/* The number of rows of a kernel. */
Val kernel_rows(Emit *e, const Kernel *kernel, Val context);
/* Rows of a task when a kernel is split into blocks of rows. */
int64_t block_rows(int64_t width);
/* for (row = first row of the task ...): returns the loop; its index is the row. */
Loop begin_row_block(Emit *e, const Kernel *kernel, int64_t block);
Val block_tasks(Emit *e, Val rows, int64_t block);
