/* emit_program.c - bodies, records and the program's table.
 *
 * Kernels of one layer and direction make a body.  Bodies that call the same code in the same order are one function; a constant table
 * of records says where each one's operands are, and a run of such bodies is a loop over that table.  So code does not grow with depth. */
#include "backend/emit_program.h"

#include <stdio.h>
#include <string.h>

#include "backend/emit_blas.h"
#include "backend/emit_rows.h"
#include "ir/diag.h"

static const KernelCode *const code_of[KERNEL_KIND_COUNT] = {
    [KERNEL_ROWS] = &code_rows,
    [KERNEL_GEMM] = &code_gemm,
    [KERNEL_GEMM_TN] = &code_gemm_tn,
    [KERNEL_COLUMN_SUM] = &code_column_sum,
    [KERNEL_SCATTER] = &code_scatter,
    [KERNEL_ROPE] = &code_rope,
    [KERNEL_ATTENTION] = &code_attention,
    [KERNEL_ATTENTION_GRAD] = &code_attention_grad,
    [KERNEL_CROSS_ENTROPY] = &code_cross_entropy,
    [KERNEL_APPEND] = &code_append,
};

/* Code shared by kernels of one signature. */
typedef struct Code {
    const char *signature;
    const Kernel *kernel;    /* the first of them: what is emitted */
    const char *name;
    Val parts[KERNEL_PARTS]; /* of the tier being emitted */
} Code;

/* One kernel's place in the program. */
typedef struct Call {
    Code *code;
    const Kernel *kernel;
    int64_t record; /* index of its first word in the record table */
    int words;
} Call;

/* Calls of one layer and direction. */
typedef struct Body {
    int first, count; /* calls */
    int64_t record;   /* index of its first word */
    int64_t words;
    int shape;        /* bodies of equal shape are one function */
} Body;

/* Which entry point a kernel belongs to. */
enum { ENTRY_FORWARD, ENTRY_BACKWARD, ENTRY_HEAD, ENTRY_COUNT };

typedef struct Program {
    Emit *e;
    Arena *arena;
    const Schedule *schedule;
    Binding *binding;
    Code *codes;
    int code_count, code_capacity;
    Call *calls;
    int call_count, call_capacity;
    Body *bodies;
    int body_count, body_capacity;
    uint64_t *records;
    int64_t record_count;
    int record_capacity;
    int shape_count;
    int64_t scratch_bytes;
    Val record_table;
    Val *shape_function; /* of the tier being emitted */
} Program;

/* --- binding ---------------------------------------------------------------------------------------------------------- */

static Code *find_code(Program *p, const char *signature)
{
    for (int i = 0; i < p->code_count; i++)
        if (!strcmp(p->codes[i].signature, signature))
            return &p->codes[i];
    return NULL;
}

static void bind_kernel(Program *p, const Kernel *kernel)
{
    Binding *b = p->binding;
    bind_begin(b, kernel);
    code_of[kernel->kind]->bind(b, kernel);
    Call call = {.kernel = kernel, .record = p->record_count, .words = b->count};
    int count = (int)p->record_count;
    for (int i = 0; i < b->count; i++)
        ARENA_PUSH(p->arena, p->records, count, p->record_capacity, b->record[i]);
    p->record_count = count;
    /* A copy: asking for scratch or tasks binds once more and writes on. */
    const char *signature = arena_strdup(p->arena, b->signature.data);
    if (!find_code(p, signature)) {
        Code code = {.signature = signature, .kernel = kernel};
        code.name = arena_format(p->arena, "kernel.%d", p->code_count);
        if (code_of[kernel->kind]->scratch) {
            int64_t bytes = code_of[kernel->kind]->scratch(b, kernel);
            p->scratch_bytes = bytes > p->scratch_bytes ? bytes : p->scratch_bytes;
        }
        ARENA_PUSH(p->arena, p->codes, p->code_count, p->code_capacity, code);
    }
    call.code = find_code(p, signature);
    ARENA_PUSH(p->arena, p->calls, p->call_count, p->call_capacity, call);
}

static int entry_of(const Kernel *kernel)
{
    return kernel->row_dim == DIM_R ? ENTRY_HEAD : kernel->backward ? ENTRY_BACKWARD : ENTRY_FORWARD;
}

static bool same_body(const Kernel *a, const Kernel *b)
{
    return a->layer == b->layer && entry_of(a) == entry_of(b);
}

static bool same_shape(const Program *p, const Body *a, const Body *b)
{
    if (a->count != b->count)
        return false;
    for (int i = 0; i < a->count; i++)
        if (p->calls[a->first + i].code != p->calls[b->first + i].code)
            return false;
    return true;
}

static void make_bodies(Program *p)
{
    const Schedule *s = p->schedule;
    /* Codes are pointed to: they must not move any more. */
    for (int i = 0; i < p->call_count; i++) {
        bool starts = i == 0 || !same_body(s->kernels[i - 1], s->kernels[i]);
        if (starts) {
            Body body = {.first = i, .record = p->calls[i].record};
            ARENA_PUSH(p->arena, p->bodies, p->body_count, p->body_capacity, body);
        }
        Body *body = &p->bodies[p->body_count - 1];
        body->count++;
        body->words += p->calls[i].words;
    }
    for (int i = 0; i < p->body_count; i++) {
        int same = 0;
        while (!same_shape(p, &p->bodies[same], &p->bodies[i]))
            same++;
        p->bodies[i].shape = same == i ? p->shape_count++ : p->bodies[same].shape;
    }
}

static void bind_program(Program *p)
{
    const Schedule *s = p->schedule;
    p->code_capacity = s->kernel_count;
    p->codes = ARENA_ARRAY(p->arena, Code, s->kernel_count);
    for (int i = 0; i < s->kernel_count; i++)
        bind_kernel(p, s->kernels[i]);
    if (p->binding->openblas)
        p->scratch_bytes += BLAS_OWN_BYTES; /* stays untouched: the plan counts what OpenBLAS takes */
    make_bodies(p);
    p->shape_function = ARENA_ARRAY(p->arena, Val, p->shape_count);
    LLVMTypeRef type = LLVMArrayType2(p->e->t_i64, (uint64_t)p->record_count);
    Val *words = ARENA_ARRAY(p->arena, Val, p->record_count + 1);
    for (int64_t i = 0; i < p->record_count; i++)
        words[i] = ll_i64(p->e, (int64_t)p->records[i]);
    p->record_table = LLVMAddGlobal(p->e->module, type, "records");
    LLVMSetInitializer(p->record_table, LLVMConstArray2(p->e->t_i64, words, (uint64_t)p->record_count));
    LLVMSetGlobalConstant(p->record_table, 1);
    LLVMSetLinkage(p->record_table, LLVMInternalLinkage);
}

/* --- code ------------------------------------------------------------------------------------------------------------------ */

static void emit_codes(Program *p)
{
    for (int i = 0; i < p->code_count; i++) {
        Code *code = &p->codes[i];
        memset(code->parts, 0, sizeof code->parts);
        bind_begin(p->binding, code->kernel);
        code_of[code->kernel->kind]->bind(p->binding, code->kernel);
        code_of[code->kernel->kind]->emit(p->e, p->binding, code->kernel, code->name, code->parts);
    }
}

static void emit_call(Program *p, const Call *call, Val context, Val record)
{
    Emit *e = p->e;
    Val parallel = CONTEXT_PTR(e, context, parallel);
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr, e->t_ptr, e->t_i64};
    LLVMTypeRef type = LLVMFunctionType(e->t_void, params, 4, 0);
    const Kernel *kernel = call->code->kernel;
    Val rows = kernel_rows(e, kernel, context);
    for (int part = 0; part < KERNEL_PARTS && call->code->parts[part]; part++) {
        bind_begin(p->binding, kernel);
        code_of[kernel->kind]->bind(p->binding, kernel);
        Val tasks = code_of[kernel->kind]->tasks(e, p->binding, kernel, context, rows, part);
        Val args[] = {context, call->code->parts[part], record, tasks};
        LLVMBuildCall2(e->builder, type, parallel, args, 4, "");
    }
}

/* void body(context, record): its kernels in order. */
static void emit_shape(Program *p, const Body *body)
{
    Emit *e = p->e;
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr};
    const char *name = arena_format(p->arena, "body.%d", body->shape);
    p->shape_function[body->shape] = emit_function(e, name, e->t_void, params, 2, true);
    for (int i = 0; i < body->count; i++) {
        const Call *call = &p->calls[body->first + i];
        emit_call(p, call, emit_param(e, 0), ll_at_const(e, emit_param(e, 1), (call->record - body->record) * 8));
    }
    emit_return(e);
}

static void call_body(Program *p, int shape, Val record)
{
    Emit *e = p->e;
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr};
    LLVMTypeRef type = LLVMFunctionType(e->t_void, params, 2, 0);
    LLVMBuildCall2(e->builder, type, p->shape_function[shape], (Val[]){emit_param(e, 0), record}, 2, "");
}

static int body_entry(const Program *p, const Body *body)
{
    return entry_of(p->calls[body->first].kernel);
}

/* void entry(context).  Returns NULL when no kernel belongs to it. */
static Val emit_entry(Program *p, int entry, const char *name)
{
    Emit *e = p->e;
    Val function = NULL;
    for (int i = 0; i < p->body_count;) {
        const Body *body = &p->bodies[i];
        int run = 1;
        while (i + run < p->body_count && p->bodies[i + run].shape == body->shape &&
               body_entry(p, &p->bodies[i + run]) == body_entry(p, body))
            run++;
        if (body_entry(p, body) == entry) {
            if (!function) {
                function = emit_function(e, name, e->t_void, &e->t_ptr, 1, true);
                if (p->binding->openblas)
                    blas_start(e);
            }
            Val record = ll_at_const(e, p->record_table, body->record * 8);
            Loop loop = loop_begin(e, ll_i64(e, 0), ll_i64(e, run), ll_i64(e, 1), NULL, 0, true);
            call_body(p, body->shape, ll_at(e, record, ll_mul(e, loop.index, ll_i64(e, body->words * 8))));
            loop_end(e, &loop, NULL, NULL);
        }
        i += run;
    }
    if (function)
        emit_return(e);
    return function;
}

static void emit_tier(Program *p, Val entries[ENTRY_COUNT])
{
    static const char *const names[ENTRY_COUNT] = {"forward", "backward", "head"};
    emit_codes(p);
    memset(p->shape_function, 0, sizeof *p->shape_function * (size_t)p->shape_count);
    for (int i = 0; i < p->body_count; i++)
        if (!p->shape_function[p->bodies[i].shape])
            emit_shape(p, &p->bodies[i]);
    for (int i = 0; i < ENTRY_COUNT; i++)
        entries[i] = emit_entry(p, i, names[i]);
}

/* --- the program's table ------------------------------------------------------------------------------------------------------ */

static Val text_constant(Emit *e, const char *text)
{
    if (!text)
        return LLVMConstNull(e->t_ptr);
    Val value = LLVMConstStringInContext2(e->context, text, strlen(text), 0);
    Val global = LLVMAddGlobal(e->module, LLVMTypeOf(value), "text");
    LLVMSetInitializer(global, value);
    LLVMSetGlobalConstant(global, 1);
    LLVMSetLinkage(global, LLVMPrivateLinkage);
    LLVMSetUnnamedAddress(global, LLVMGlobalUnnamedAddr);
    return global;
}

static Val int_array(Emit *e, const int64_t *values, int count)
{
    Val words[LRT_PARAM_RANK];
    for (int i = 0; i < count; i++)
        words[i] = ll_i64(e, values[i]);
    return LLVMConstArray2(e->t_i64, words, (uint64_t)count);
}

/* The file's slices in the form of LrtParam; a scalar counts as one element. */
static void file_slices(const Param *param, int64_t *shape, int64_t *start, int64_t *stop)
{
    for (int i = 0; i < LRT_PARAM_RANK; i++)
        shape[i] = stop[i] = 1, start[i] = 0;
    for (int i = 0; i < param->file_rank && i < LRT_PARAM_RANK; i++) {
        shape[i] = param->slices[i].extent;
        start[i] = param->slices[i].start;
        stop[i] = param->slices[i].stop;
    }
}

static Val param_constant(Program *p, const Param *param)
{
    Emit *e = p->e;
    const Stored *stored = &p->schedule->stored[param->index];
    int64_t shape[LRT_PARAM_RANK], start[LRT_PARAM_RANK], stop[LRT_PARAM_RANK];
    file_slices(param, shape, start, stop);
    Val fields[] = {
        text_constant(e, param->tensor),
        text_constant(e, param->base),
        ll_i32(e, param->adapter),
        ll_i32(e, param->trained),
        ll_i32(e, param->file_rank),
        ll_i32(e, param->transposed != stored->flipped),
        int_array(e, shape, LRT_PARAM_RANK),
        int_array(e, start, LRT_PARAM_RANK),
        int_array(e, stop, LRT_PARAM_RANK),
        ll_i32(e, (int)stored->layout),
        ll_i32(e, stored->store),
        ll_i64(e, stored->rows),
        ll_i64(e, stored->columns),
        ll_i64(e, stored->pitch),
        ll_i64(e, stored->offset),
        ll_i64(e, stored->bytes),
        ll_i32(e, (int)param->init),
        ll_i32(e, param->fast),
        LLVMConstReal(LLVMDoubleTypeInContext(e->context), param->init_scale),
    };
    return LLVMConstStructInContext(e->context, fields, sizeof fields / sizeof *fields, 0);
}

static Val params_constant(Program *p)
{
    Emit *e = p->e;
    const Graph *graph = p->schedule->graph;
    Val *values = ARENA_ARRAY(p->arena, Val, graph->param_count + 1);
    for (int i = 0; i < graph->param_count; i++)
        values[i] = param_constant(p, graph->params[i]);
    LLVMTypeRef type = LLVMTypeOf(values[0]);
    Val array = LLVMConstArray2(type, values, (uint64_t)graph->param_count);
    Val global = LLVMAddGlobal(e->module, LLVMTypeOf(array), "params");
    LLVMSetInitializer(global, array);
    LLVMSetGlobalConstant(global, 1);
    LLVMSetLinkage(global, LLVMInternalLinkage);
    return global;
}

static Val const_data(Program *p)
{
    Emit *e = p->e;
    const Binding *b = p->binding;
    if (!b->const_count)
        return LLVMConstNull(e->t_ptr);
    Val bytes = LLVMConstStringInContext2(e->context, (const char *)b->const_data, (size_t)b->const_count * 4, 1);
    Val global = LLVMAddGlobal(e->module, LLVMTypeOf(bytes), "tables");
    LLVMSetInitializer(global, bytes);
    LLVMSetGlobalConstant(global, 1);
    LLVMSetLinkage(global, LLVMInternalLinkage);
    LLVMSetAlignment(global, 64);
    return global;
}

static const Buffer *output_buffer(const Schedule *s, const char *name)
{
    Node *node = graph_find_output(s->graph, name);
    while (node && (node->op == OP_SITE || node->op == OP_RESHAPE))
        node = node->inputs[0];
    return node ? s->buffer_of[node->id] : NULL;
}

static void emit_table(Program *p, const BackendOptions *options, Val entries[LRT_TIER_COUNT][ENTRY_COUNT])
{
    Emit *e = p->e;
    const Schedule *s = p->schedule;
    const Buffer *loss = output_buffer(s, "loss"), *logits = output_buffer(s, "logits");
    Val tiers[LRT_TIER_COUNT];
    for (int t = 0; t < LRT_TIER_COUNT; t++) {
        Val functions[ENTRY_COUNT];
        for (int k = 0; k < ENTRY_COUNT; k++)
            functions[k] = entries[t][k] ? entries[t][k] : LLVMConstNull(e->t_ptr);
        tiers[t] = LLVMConstStructInContext(e->context, functions, ENTRY_COUNT, 0);
    }
    Val fields[] = {
        ll_i32(e, LRT_ABI_VERSION),
        ll_i32(e, s->options.training ? LRT_TRAIN : LRT_INFER),
        text_constant(e, s->graph->name),
        text_constant(e, options->method),
        text_constant(e, options->settings),
        ll_i64(e, s->options.max_tokens),
        ll_i64(e, s->options.max_length),
        ll_i64(e, s->options.max_rows),
        ll_i64(e, s->options.max_sequences),
        ll_i64(e, options->task),
        ll_i64(e, options->prefix),
        ll_i64(e, options->infix),
        ll_i64(e, options->virtual_logits),
        ll_i64(e, options->predict_first),
        ll_i64(e, s->whole),
        ll_i64(e, options->vocabulary),
        ll_i64(e, s->graph->context),
        ll_i64(e, options->types),
        ll_i64(e, options->logits),
        ll_i64(e, s->arena_bytes),
        ll_i64(e, s->weights_bytes),
        ll_i64(e, s->params_bytes),
        ll_i64(e, s->cache_bytes),
        ll_i64(e, (p->scratch_bytes + 4095) / 4096 * 4096),
        ll_i64(e, p->binding->const_count * 4),
        ll_i64(e, s->bytes_per_token),
        ll_i64(e, loss ? loss->offset : -1),
        ll_i64(e, logits ? logits->offset : -1),
        ll_i64(e, logits ? logits->pitch : 0),
        ll_i64(e, s->graph->param_count),
        params_constant(p),
        const_data(p),
        LLVMConstArray2(LLVMTypeOf(tiers[0]), tiers, LRT_TIER_COUNT),
    };
    Val value = LLVMConstStructInContext(e->context, fields, sizeof fields / sizeof *fields, 0);
    Val global = LLVMAddGlobal(e->module, LLVMTypeOf(value), "lrt_program");
    LLVMSetInitializer(global, value);
    LLVMSetGlobalConstant(global, 1);
    LLVMSetAlignment(global, 64);
}

void emit_program(Emit *e, const Schedule *schedule, const BackendOptions *options)
{
    Program p = {.e = e, .arena = e->arena, .schedule = schedule, .binding = binding_new(e->arena, schedule, options->openblas)};
    Val entries[LRT_TIER_COUNT][ENTRY_COUNT] = {{NULL}};
    bind_program(&p);
    for (int t = 0; t < LRT_TIER_COUNT; t++) {
        if (!options->tiers[t])
            continue;
        e->tier = (TargetId)t;
        e->target = &targets[t];
        emit_tier(&p, entries[t]);
    }
    emit_table(&p, options, entries);
}
