/* backend.c - LLVM from module to file. */
#include "backend/backend.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/ErrorHandling.h>
#include <llvm-c/Target.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <stdlib.h>
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
    message = NULL;
    optimise(e, machine);
    int failed;
    if (kind == EMIT_LLVM)
        failed = LLVMPrintModuleToFile(e->module, path, &message);
    else
        failed = LLVMTargetMachineEmitToFile(machine, e->module, path,
                                             kind == EMIT_OBJECT ? LLVMObjectFile : LLVMAssemblyFile, &message);
    if (failed)
        diag_error(diag, (Loc){0}, "cannot write '%s': %s", path, message);
    LLVMDisposeMessage(message);
    LLVMDisposeTargetData(data);
    LLVMDisposeTargetMachine(machine);
    emit_free(e);
    return !failed;
}
