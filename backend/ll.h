/* ll.h - thin helpers over the LLVM C API: types, arithmetic, loads, loops, functions.  The only header that includes LLVM.
 *
 * Kernels are written once on <16 x float> (`vec`); LLVM splits that to what a tier has, so all tiers round alike.
 * Products are explicit `fma`s, never contracted behind our back. */
#pragma once
#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>
#include <stdbool.h>
#include <stdint.h>

#include "ir/arena.h"
#include "ir/type.h"
#include "runtime/lrt_abi.h"

enum { LANES = 16 }; /* floats of a `vec` */

typedef enum TargetId {
#define TARGET(id, text, cpu, features, width, registers, mr, nv, block_kb) TARGET_##id,
#include "backend/targets.def"
    TARGET_COUNT
} TargetId;

typedef struct Target {
    const char *text, *cpu, *features;
    int width, registers, mr, nv, block_kb;
} Target;

extern const Target targets[TARGET_COUNT];

typedef LLVMValueRef Val;

/* The module being built and the function being emitted. */
typedef struct Emit {
    Arena *arena;
    LLVMContextRef context;
    LLVMModuleRef module;
    LLVMBuilderRef builder;
    const Target *target; /* tier of the functions being emitted */
    TargetId tier;
    Val function;
    LLVMTypeRef t_void, t_i1, t_i8, t_i16, t_i32, t_i64, t_f32, t_ptr;
    LLVMTypeRef t_vec, t_ivec, t_mask; /* <16 x float>, <16 x i32>, <16 x i1> */
    LLVMTypeRef t_kernel;              /* LrtKernel */
} Emit;

Emit *emit_new(Arena *arena, const char *module_name);
void emit_free(Emit *e);

/* Starts a function for e->target with an entry block; `internal` ones do not leave the object.  Named "NAME.TIER". */
Val emit_function(Emit *e, const char *name, LLVMTypeRef result, LLVMTypeRef *params, int count, bool internal);
/* The function of this name for this tier if it was emitted already, else NULL. */
Val emit_find(Emit *e, const char *name);
/* Starts a kernel: void (context, record, task, scratch). */
Val emit_kernel(Emit *e, const char *name);
void emit_return(Emit *e); /* ret void */
static inline Val emit_param(Emit *e, int index) { return LLVMGetParam(e->function, (unsigned)index); }
enum { KERNEL_CONTEXT, KERNEL_RECORD, KERNEL_TASK, KERNEL_SCRATCH }; /* parameters of a kernel */

/* Saves and restores what is being emitted, so that a helper function can be emitted in the middle of another. */
typedef struct EmitState {
    Val function;
    LLVMBasicBlockRef block;
} EmitState;
EmitState emit_save(Emit *e);
void emit_restore(Emit *e, EmitState state);

/* Constants. */
Val ll_i64(Emit *e, int64_t value);
Val ll_i32(Emit *e, int64_t value);
Val ll_f32(Emit *e, double value);
Val ll_vec(Emit *e, double value);    /* splat of a constant */
Val ll_ivec(Emit *e, int64_t value);
Val ll_lanes(Emit *e);                /* <0, 1, ..., 15> */

/* Arithmetic; operands of one type. */
Val ll_add(Emit *e, Val a, Val b); /* integers, no signed wrap */
Val ll_sub(Emit *e, Val a, Val b);
Val ll_mul(Emit *e, Val a, Val b);
Val ll_div(Emit *e, Val a, Val b); /* signed */
Val ll_rem(Emit *e, Val a, Val b);
Val ll_ceil_div(Emit *e, Val a, Val b);
Val ll_min(Emit *e, Val a, Val b); /* signed integers */
Val ll_max(Emit *e, Val a, Val b);
Val ll_fadd(Emit *e, Val a, Val b);
Val ll_fsub(Emit *e, Val a, Val b);
Val ll_fmul(Emit *e, Val a, Val b);
Val ll_fdiv(Emit *e, Val a, Val b);
Val ll_fma(Emit *e, Val a, Val b, Val c); /* a * b + c, rounded once */
Val ll_fmax(Emit *e, Val a, Val b);       /* a > b ? a : b;  b when unordered */
Val ll_fmin(Emit *e, Val a, Val b);
Val ll_select(Emit *e, Val condition, Val a, Val b);
Val ll_splat(Emit *e, Val scalar);        /* to 16 lanes */
Val ll_splat_n(Emit *e, Val scalar, int lanes);
Val ll_shuffle(Emit *e, Val a, Val b, const int lanes[LANES]); /* lanes of `a` (0 .. 15) and `b` (16 .. 31) */
Val ll_intrinsic(Emit *e, const char *name, LLVMTypeRef *overloads, int overload_count, Val *args, int count);

/* Memory.  Offsets are bytes. */
Val ll_at(Emit *e, Val pointer, Val bytes);
Val ll_at_const(Emit *e, Val pointer, int64_t bytes);
Val ll_load(Emit *e, LLVMTypeRef type, Val pointer, int align);
void ll_store(Emit *e, Val value, Val pointer, int align);
void ll_prefetch(Emit *e, Val pointer, int locality); /* 3: L1, 2: L2 */

/* Reductions of 16 lanes by one fixed tree: lanes i and i + 8, then + 4, + 2, + 1. */
Val ll_reduce_add(Emit *e, Val vec);
Val ll_reduce_max(Emit *e, Val vec);

/* for (index = from; index < to; index += step), with carried values.  `body_once`: at least one round is certain. */
enum { LOOP_CARRIED = 72 };
typedef struct Loop {
    LLVMBasicBlockRef before, head, body, exit;
    Val index, to, step;
    Val carried[LOOP_CARRIED];
    int count;
    bool once;
} Loop;
Loop loop_begin(Emit *e, Val from, Val to, Val step, Val *initial, int count, bool once);
/* `next`: carried values of the next round; `out` (may be NULL) receives their values after the loop. */
void loop_end(Emit *e, Loop *loop, Val *next, Val *out);

/* if (condition) { ... } */
typedef struct If {
    LLVMBasicBlockRef done;
} If;
If if_begin(Emit *e, Val condition);
void if_end(Emit *e, If *branch);

/* Code for a constant number of rows from `row` on. */
typedef void RowsCode(Emit *e, void *user, Val row, int rows);
/* Runs it for rows row .. end - 1, of which there are fewer than `most`: at most once for each power of two below `most`. */
void emit_rest(Emit *e, Val row, Val end, int most, RowsCode *code, void *user);

/* Fields of LrtContext. */
#define CONTEXT_I64(e, context, field) context_load((e), (context), offsetof(LrtContext, field), (e)->t_i64)
#define CONTEXT_I32(e, context, field) context_load((e), (context), offsetof(LrtContext, field), (e)->t_i32)
#define CONTEXT_F32(e, context, field) context_load((e), (context), offsetof(LrtContext, field), (e)->t_f32)
#define CONTEXT_PTR(e, context, field) context_load((e), (context), offsetof(LrtContext, field), (e)->t_ptr)
Val context_load(Emit *e, Val context, size_t offset, LLVMTypeRef type);
/* Whether an index (i64) is one of 0 .. rows - 1. */
Val ll_is_row(Emit *e, Val index, int64_t rows);
/* How many rows there are: of tokens (DIM_T), asked for (DIM_R), of sequences (DIM_Q), or `row_dim` itself (i64). */
Val ll_rows(Emit *e, Val context, int64_t row_dim);

/* Where an operand of a kernel lies: context->base[base] + record[slot]. */
typedef struct Operand {
    int base;      /* enum LrtBase */
    int slot;      /* in the record */
    int64_t pitch; /* bytes from row to row; panels: unused */
} Operand;
Val operand_pointer(Emit *e, Operand operand); /* inside a kernel */
Val record_word(Emit *e, Operand operand);     /* record[slot] itself, i64 */
