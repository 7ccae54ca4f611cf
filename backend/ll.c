/* ll.c - see ll.h. */
#include "backend/ll.h"

#include <assert.h>
#include <llvm-c/DebugInfo.h>
#include <string.h>

#include "ir/diag.h"

const Target targets[TARGET_COUNT] = {
#define TARGET(id, text, cpu, features, width, registers, mr, nv, block_kb)                                     \
    [TARGET_##id] = {text, cpu, features, width, registers, mr, nv, block_kb},
#include "backend/targets.def"
};

Emit *emit_new(Arena *arena, const char *module_name)
{
    Emit *e = ARENA_NEW(arena, Emit);
    e->arena = arena;
    e->context = LLVMContextCreate();
    e->module = LLVMModuleCreateWithNameInContext(module_name, e->context);
    e->builder = LLVMCreateBuilderInContext(e->context);
    e->tier = TARGET_AVX512;
    e->target = &targets[e->tier];
    e->t_void = LLVMVoidTypeInContext(e->context);
    e->t_i1 = LLVMInt1TypeInContext(e->context);
    e->t_i8 = LLVMInt8TypeInContext(e->context);
    e->t_i16 = LLVMInt16TypeInContext(e->context);
    e->t_i32 = LLVMInt32TypeInContext(e->context);
    e->t_i64 = LLVMInt64TypeInContext(e->context);
    e->t_f32 = LLVMFloatTypeInContext(e->context);
    e->t_ptr = LLVMPointerTypeInContext(e->context, 0);
    e->t_vec = LLVMVectorType(e->t_f32, LANES);
    e->t_ivec = LLVMVectorType(e->t_i32, LANES);
    e->t_mask = LLVMVectorType(e->t_i1, LANES);
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr, e->t_i64, e->t_ptr};
    e->t_kernel = LLVMFunctionType(e->t_void, params, 4, 0);
    return e;
}

void emit_free(Emit *e)
{
    LLVMDisposeBuilder(e->builder);
    LLVMDisposeModule(e->module);
    LLVMContextDispose(e->context);
}

/* --- functions ------------------------------------------------------------------------------------------- */

static void add_attribute(Emit *e, Val function, unsigned index, const char *name)
{
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    LLVMAddAttributeAtIndex(function, index, LLVMCreateEnumAttribute(e->context, kind, 0));
}

static void add_text_attribute(Emit *e, Val function, const char *name, const char *value)
{
    LLVMAttributeRef attribute = LLVMCreateStringAttribute(e->context, name, (unsigned)strlen(name), value,
                                                           (unsigned)strlen(value));
    LLVMAddAttributeAtIndex(function, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, attribute);
}

static const char *tier_name(Emit *e, const char *name)
{
    return arena_format(e->arena, "%s.%s", name, e->target->text);
}

Val emit_function(Emit *e, const char *name, LLVMTypeRef result, LLVMTypeRef *params, int count, bool internal)
{
    LLVMTypeRef type = LLVMFunctionType(result, params, (unsigned)count, 0);
    e->function = LLVMAddFunction(e->module, tier_name(e, name), type);
    LLVMSetLinkage(e->function, internal ? LLVMInternalLinkage : LLVMExternalLinkage);
    LLVMSetVisibility(e->function, internal ? LLVMDefaultVisibility : LLVMHiddenVisibility);
    add_text_attribute(e, e->function, "target-cpu", e->target->cpu);
    if (*e->target->features)
        add_text_attribute(e, e->function, "target-features", e->target->features);
    add_text_attribute(e, e->function, "prefer-vector-width", "512");
    add_text_attribute(e, e->function, "min-legal-vector-width", "512");
    add_attribute(e, e->function, (unsigned)LLVMAttributeFunctionIndex, "nounwind");
    add_attribute(e, e->function, (unsigned)LLVMAttributeFunctionIndex, "noinline");
    LLVMPositionBuilderAtEnd(e->builder, LLVMAppendBasicBlockInContext(e->context, e->function, "entry"));
    return e->function;
}

Val emit_find(Emit *e, const char *name)
{
    return LLVMGetNamedFunction(e->module, tier_name(e, name));
}

Val emit_kernel(Emit *e, const char *name)
{
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr, e->t_i64, e->t_ptr};
    return emit_function(e, name, e->t_void, params, 4, true);
}

void emit_return(Emit *e)
{
    LLVMBuildRetVoid(e->builder);
}

EmitState emit_save(Emit *e)
{
    return (EmitState){e->function, LLVMGetInsertBlock(e->builder)};
}

void emit_restore(Emit *e, EmitState state)
{
    e->function = state.function;
    if (state.block)
        LLVMPositionBuilderAtEnd(e->builder, state.block);
}

/* --- constants --------------------------------------------------------------------------------------------- */

static Val splat_constant(Val constant)
{
    Val lanes[LANES];
    for (int i = 0; i < LANES; i++)
        lanes[i] = constant;
    return LLVMConstVector(lanes, LANES);
}

Val ll_i64(Emit *e, int64_t value)
{
    return LLVMConstInt(e->t_i64, (unsigned long long)value, 1);
}

Val ll_i32(Emit *e, int64_t value)
{
    return LLVMConstInt(e->t_i32, (unsigned long long)value, 1);
}

Val ll_f32(Emit *e, double value)
{
    return LLVMConstReal(e->t_f32, value);
}

Val ll_vec(Emit *e, double value)
{
    return splat_constant(ll_f32(e, value));
}

Val ll_ivec(Emit *e, int64_t value)
{
    return splat_constant(ll_i32(e, value));
}

Val ll_lanes(Emit *e)
{
    Val lanes[LANES];
    for (int i = 0; i < LANES; i++)
        lanes[i] = ll_i32(e, i);
    return LLVMConstVector(lanes, LANES);
}

/* --- arithmetic ---------------------------------------------------------------------------------------------- */

Val ll_add(Emit *e, Val a, Val b)
{
    return LLVMBuildAdd(e->builder, a, b, "");
}

Val ll_sub(Emit *e, Val a, Val b)
{
    return LLVMBuildSub(e->builder, a, b, "");
}

Val ll_mul(Emit *e, Val a, Val b)
{
    return LLVMBuildMul(e->builder, a, b, "");
}

Val ll_div(Emit *e, Val a, Val b)
{
    return LLVMBuildSDiv(e->builder, a, b, "");
}

Val ll_is_row(Emit *e, Val index, int64_t rows)
{
    return LLVMBuildICmp(e->builder, LLVMIntULT, index, ll_i64(e, rows), "");
}

Val ll_rem(Emit *e, Val a, Val b)
{
    return LLVMBuildSRem(e->builder, a, b, "");
}

Val ll_ceil_div(Emit *e, Val a, Val b)
{
    Val one = LLVMConstInt(LLVMTypeOf(a), 1, 0);
    return ll_div(e, ll_add(e, a, ll_sub(e, b, one)), b);
}

Val ll_min(Emit *e, Val a, Val b)
{
    return ll_select(e, LLVMBuildICmp(e->builder, LLVMIntSLT, a, b, ""), a, b);
}

Val ll_max(Emit *e, Val a, Val b)
{
    return ll_select(e, LLVMBuildICmp(e->builder, LLVMIntSGT, a, b, ""), a, b);
}

Val ll_fadd(Emit *e, Val a, Val b)
{
    return LLVMBuildFAdd(e->builder, a, b, "");
}

Val ll_fsub(Emit *e, Val a, Val b)
{
    return LLVMBuildFSub(e->builder, a, b, "");
}

Val ll_fmul(Emit *e, Val a, Val b)
{
    return LLVMBuildFMul(e->builder, a, b, "");
}

Val ll_fdiv(Emit *e, Val a, Val b)
{
    return LLVMBuildFDiv(e->builder, a, b, "");
}

Val ll_fma(Emit *e, Val a, Val b, Val c)
{
    LLVMTypeRef type = LLVMTypeOf(a);
    return ll_intrinsic(e, "llvm.fma", &type, 1, (Val[]){a, b, c}, 3);
}

Val ll_fmax(Emit *e, Val a, Val b)
{
    return ll_select(e, LLVMBuildFCmp(e->builder, LLVMRealOGT, a, b, ""), a, b);
}

Val ll_fmin(Emit *e, Val a, Val b)
{
    return ll_select(e, LLVMBuildFCmp(e->builder, LLVMRealOLT, a, b, ""), a, b);
}

Val ll_select(Emit *e, Val condition, Val a, Val b)
{
    return LLVMBuildSelect(e->builder, condition, a, b, "");
}

Val ll_splat(Emit *e, Val scalar)
{
    return ll_splat_n(e, scalar, LANES);
}

Val ll_splat_n(Emit *e, Val scalar, int lanes)
{
    LLVMTypeRef type = LLVMVectorType(LLVMTypeOf(scalar), (unsigned)lanes);
    Val poison = LLVMGetPoison(type);
    Val first = LLVMBuildInsertElement(e->builder, poison, scalar, ll_i32(e, 0), "");
    Val zeros = LLVMConstNull(LLVMVectorType(e->t_i32, (unsigned)lanes));
    return LLVMBuildShuffleVector(e->builder, first, poison, zeros, "");
}

Val ll_shuffle(Emit *e, Val a, Val b, const int lanes[LANES])
{
    Val mask[LANES];
    for (int i = 0; i < LANES; i++)
        mask[i] = ll_i32(e, lanes[i]);
    return LLVMBuildShuffleVector(e->builder, a, b, LLVMConstVector(mask, LANES), "");
}

/* LLVMLookupIntrinsicID also accepts longer names that begin with an intrinsic's, so names are base names. */
Val ll_intrinsic(Emit *e, const char *name, LLVMTypeRef *overloads, int overload_count, Val *args, int count)
{
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    if (!id)
        ice("LLVM has no intrinsic '%s'", name);
    Val function = LLVMGetIntrinsicDeclaration(e->module, id, overloads, (size_t)overload_count);
    LLVMTypeRef type = LLVMIntrinsicGetType(e->context, id, overloads, (size_t)overload_count);
    return LLVMBuildCall2(e->builder, type, function, args, (unsigned)count, "");
}

/* --- memory ---------------------------------------------------------------------------------------------------- */

Val ll_at(Emit *e, Val pointer, Val bytes)
{
    return LLVMBuildGEP2(e->builder, e->t_i8, pointer, &bytes, 1, "");
}

Val ll_at_const(Emit *e, Val pointer, int64_t bytes)
{
    if (bytes == 0)
        return pointer;
    Val offset = ll_i64(e, bytes);
    return LLVMBuildInBoundsGEP2(e->builder, e->t_i8, pointer, &offset, 1, "");
}

Val ll_load(Emit *e, LLVMTypeRef type, Val pointer, int align)
{
    Val value = LLVMBuildLoad2(e->builder, type, pointer, "");
    LLVMSetAlignment(value, (unsigned)align);
    return value;
}

void ll_store(Emit *e, Val value, Val pointer, int align)
{
    LLVMSetAlignment(LLVMBuildStore(e->builder, value, pointer), (unsigned)align);
}

void ll_prefetch(Emit *e, Val pointer, int locality)
{
    Val args[] = {pointer, ll_i32(e, 0), ll_i32(e, locality), ll_i32(e, 1)};
    ll_intrinsic(e, "llvm.prefetch", &e->t_ptr, 1, args, 4);
}

/* Lanes i + `distance` of `vec` in lane i; the upper lanes are not used any more. */
static Val lanes_down(Emit *e, Val vec, int distance)
{
    int lanes[LANES];
    for (int i = 0; i < LANES; i++)
        lanes[i] = (i + distance) % LANES;
    return ll_shuffle(e, vec, vec, lanes);
}

Val ll_reduce_add(Emit *e, Val vec)
{
    for (int distance = LANES / 2; distance; distance /= 2)
        vec = ll_fadd(e, vec, lanes_down(e, vec, distance));
    return LLVMBuildExtractElement(e->builder, vec, ll_i32(e, 0), "");
}

Val ll_reduce_max(Emit *e, Val vec)
{
    for (int distance = LANES / 2; distance; distance /= 2)
        vec = ll_fmax(e, vec, lanes_down(e, vec, distance));
    return LLVMBuildExtractElement(e->builder, vec, ll_i32(e, 0), "");
}

/* --- control flow ------------------------------------------------------------------------------------------------ */

static LLVMBasicBlockRef new_block(Emit *e, const char *name)
{
    return LLVMAppendBasicBlockInContext(e->context, e->function, name);
}

/* Our loops are unrolled by whoever writes them: LLVM shall not do it again. */
static void never_unroll(Emit *e, Val branch)
{
    LLVMMetadataRef self = LLVMTemporaryMDNode(e->context, NULL, 0);
    LLVMMetadataRef text = LLVMMDStringInContext2(e->context, "llvm.loop.unroll.disable", 24);
    LLVMMetadataRef operands[] = {self, LLVMMDNodeInContext2(e->context, &text, 1)};
    LLVMMetadataRef node = LLVMMDNodeInContext2(e->context, operands, 2);
    LLVMMetadataReplaceAllUsesWith(self, node);
    LLVMSetMetadata(branch, LLVMGetMDKindIDInContext(e->context, "llvm.loop", 9),
                    LLVMMetadataAsValue(e->context, node));
}

Loop loop_begin(Emit *e, Val from, Val to, Val step, Val *initial, int count, bool once)
{
    Loop loop = {.to = to, .step = step, .count = count, .once = once};
    assert(count <= LOOP_CARRIED);
    loop.before = LLVMGetInsertBlock(e->builder);
    loop.head = new_block(e, "loop");
    LLVMBuildBr(e->builder, loop.head);
    LLVMPositionBuilderAtEnd(e->builder, loop.head);
    loop.index = LLVMBuildPhi(e->builder, LLVMTypeOf(from), "");
    LLVMAddIncoming(loop.index, &from, &loop.before, 1);
    for (int i = 0; i < count; i++) {
        loop.carried[i] = LLVMBuildPhi(e->builder, LLVMTypeOf(initial[i]), "");
        LLVMAddIncoming(loop.carried[i], &initial[i], &loop.before, 1);
    }
    loop.body = loop.head;
    if (!once) {
        loop.body = new_block(e, "body");
        loop.exit = new_block(e, "exit");
        Val more = LLVMBuildICmp(e->builder, LLVMIntSLT, loop.index, to, "");
        LLVMBuildCondBr(e->builder, more, loop.body, loop.exit);
        LLVMPositionBuilderAtEnd(e->builder, loop.body);
    }
    return loop;
}

void loop_end(Emit *e, Loop *loop, Val *next, Val *out)
{
    LLVMBasicBlockRef end = LLVMGetInsertBlock(e->builder);
    Val index = LLVMBuildNSWAdd(e->builder, loop->index, loop->step, "");
    LLVMAddIncoming(loop->index, &index, &end, 1);
    for (int i = 0; i < loop->count; i++)
        LLVMAddIncoming(loop->carried[i], &next[i], &end, 1);
    if (loop->once) {
        loop->exit = new_block(e, "exit");
        Val more = LLVMBuildICmp(e->builder, LLVMIntSLT, index, loop->to, "");
        never_unroll(e, LLVMBuildCondBr(e->builder, more, loop->head, loop->exit));
    } else {
        never_unroll(e, LLVMBuildBr(e->builder, loop->head));
    }
    LLVMPositionBuilderAtEnd(e->builder, loop->exit);
    for (int i = 0; out && i < loop->count; i++)
        out[i] = loop->once ? next[i] : loop->carried[i];
}

If if_begin(Emit *e, Val condition)
{
    LLVMBasicBlockRef then = new_block(e, "then");
    If branch = {new_block(e, "done")};
    LLVMBuildCondBr(e->builder, condition, then, branch.done);
    LLVMPositionBuilderAtEnd(e->builder, then);
    return branch;
}

void if_end(Emit *e, If *branch)
{
    LLVMBuildBr(e->builder, branch->done);
    LLVMPositionBuilderAtEnd(e->builder, branch->done);
}

void emit_rest(Emit *e, Val row, Val end, int most, RowsCode *code, void *user)
{
    Val rest = ll_sub(e, end, row);
    int largest = 1;
    while (2 * largest < most)
        largest *= 2;
    for (int rows = most > 1 ? largest : 0; rows; rows /= 2) {
        Val bit = LLVMBuildAnd(e->builder, rest, ll_i64(e, rows), "");
        If branch = if_begin(e, LLVMBuildICmp(e->builder, LLVMIntNE, bit, ll_i64(e, 0), ""));
        /* Before these rows are those of the larger powers in `rest`. */
        Val before = LLVMBuildAnd(e->builder, rest, ll_i64(e, -2 * (int64_t)rows), "");
        code(e, user, ll_add(e, row, before), rows);
        if_end(e, &branch);
    }
}

/* --- the runtime's structures ------------------------------------------------------------------------------------ */

Val context_load(Emit *e, Val context, size_t offset, LLVMTypeRef type)
{
    return ll_load(e, type, ll_at_const(e, context, (int64_t)offset), type == e->t_i32 || type == e->t_f32 ? 4 : 8);
}

Val ll_rows(Emit *e, Val context, int64_t row_dim)
{
    if (row_dim > 0)
        return ll_i64(e, row_dim);
    return row_dim == DIM_R   ? CONTEXT_I64(e, context, n_rows)
           : row_dim == DIM_Q ? CONTEXT_I64(e, context, n_segments)
                              : CONTEXT_I64(e, context, n_tokens);
}

Val record_word(Emit *e, Operand operand)
{
    return ll_load(e, e->t_i64, ll_at_const(e, emit_param(e, KERNEL_RECORD), 8 * (int64_t)operand.slot), 8);
}

Val operand_pointer(Emit *e, Operand operand)
{
    Val context = emit_param(e, KERNEL_CONTEXT);
    Val base = context_load(e, context, offsetof(LrtContext, base) + 8 * (size_t)operand.base, e->t_ptr);
    return ll_at(e, base, record_word(e, operand));
}
