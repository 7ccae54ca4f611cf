/* backend.c - LLVM from module to file. */
#include "backend/backend.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/ErrorHandling.h>
#include <llvm-c/Target.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backend/emit_attention.h"
#include "backend/emit_program.h"

const char *backend_tier_name(int tier)
{
    return tier < TARGET_COUNT ? targets[tier].text : NULL;
}

int64_t backend_attention_work(const Node *node, int64_t max_tokens)
{
    AttentionSpec spec = {
        .heads = node->attrs.heads,
        .kv_heads = node->attrs.kv_heads,
        .head_dim = node->attrs.head_dim,
        .max_tokens = max_tokens,
    };
    return attention_work_bytes(&spec);
}

/* LLVM calls this for what its verifier does not see, e.g. an instruction the tier lacks. */
static void fatal(const char *reason)
{
    ice("LLVM: %s", reason);
}

static LLVMTargetMachineRef target_machine(void)
{
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();
    LLVMInstallFatalErrorHandler(fatal);
    const char *triple = "x86_64-pc-linux-gnu";
    char *message = NULL;
    LLVMTargetRef target;
    if (LLVMGetTargetFromTriple(triple, &target, &message))
        ice("LLVM: %s", message);
    return LLVMCreateTargetMachine(target, triple, "x86-64", "", LLVMCodeGenLevelAggressive, LLVMRelocPIC,
                                   LLVMCodeModelDefault);
}

/* Kernels are written as they shall run: one cheap pass that merges equal addresses is all they need (measured: O3 gives the
 * same speed for twice the time). */
static void optimise(Emit *e, LLVMTargetMachineRef machine)
{
    LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
    LLVMErrorRef error = LLVMRunPasses(e->module, "function(early-cse)", machine, options);
    if (error)
        ice("LLVM: %s", LLVMGetErrorMessage(error));
    LLVMDisposePassBuilderOptions(options);
}

/* Through memory, so that a full disk is an error like any other. */
static bool write_code(Emit *e, LLVMTargetMachineRef machine, EmitKind kind, const char *path, Diag *diag)
{
    LLVMMemoryBufferRef code = NULL;
    char *text = NULL, *message = NULL;
    if (kind == EMIT_LLVM)
        text = LLVMPrintModuleToString(e->module);
    else if (LLVMTargetMachineEmitToMemoryBuffer(machine, e->module, kind == EMIT_OBJECT ? LLVMObjectFile : LLVMAssemblyFile,
                                                 &message, &code))
        ice("LLVM: %s", message);
    const char *data = text ? text : LLVMGetBufferStart(code);
    size_t size = text ? strlen(text) : LLVMGetBufferSize(code);
    FILE *file = fopen(path, "wb");
    bool ok = file && fwrite(data, 1, size, file) == size;
    if (file && fclose(file) != 0)
        ok = false;
    if (!ok) {
        diag_error(diag, (Loc){0}, "cannot write '%s': %s", path, strerror(errno));
        unlink(path);
    }
    if (text)
        LLVMDisposeMessage(text);
    else
        LLVMDisposeMemoryBuffer(code);
    return ok;
}

bool backend_emit(const Schedule *schedule, const BackendOptions *options, EmitKind kind, const char *path, Arena *arena,
                  Diag *diag)
{
    Emit *e = emit_new(arena, schedule->graph->name);
    LLVMTargetMachineRef machine = target_machine();
    LLVMTargetDataRef data = LLVMCreateTargetDataLayout(machine);
    LLVMSetModuleDataLayout(e->module, data);
    LLVMSetTarget(e->module, "x86_64-pc-linux-gnu");
    emit_program(e, schedule, options);
    char *message = NULL;
    if (LLVMVerifyModule(e->module, LLVMReturnStatusAction, &message))
        ice("LLVM rejects the module: %s", message);
    LLVMDisposeMessage(message);
    optimise(e, machine);
    bool ok = write_code(e, machine, kind, path, diag);
    LLVMDisposeTargetData(data);
    LLVMDisposeTargetMachine(machine);
    emit_free(e);
    return ok;
}
