/* emit_library.h - from a module of kernels to functions that a test can call: verify, compile,
 * link, load. */
#pragma once
#include <dlfcn.h>
#include <llvm-c/Analysis.h>
#include <llvm-c/Target.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ll.h"

/* A module that LLVM rejects, or a linker that fails, ends the test. */
static inline void library_check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "%s\n", what ? what : "unknown error");
    abort();
}

/* Compiles the module, links it with what it calls and loads it. */
static inline void *library_open(Emit *e)
{
    char folder[] = "/tmp/loracc_test.XXXXXX", object[64], shared[64], command[256];
    char *message = NULL, *triple = LLVMGetDefaultTargetTriple();
    library_check(mkdtemp(folder) != NULL, "mkdtemp");
    snprintf(object, sizeof object, "%s/k.o", folder);
    snprintf(shared, sizeof shared, "%s/k.so", folder);
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    library_check(!LLVMVerifyModule(e->module, LLVMReturnStatusAction, &message), message);
    LLVMDisposeMessage(message);
    LLVMTargetRef target;
    library_check(!LLVMGetTargetFromTriple(triple, &target, &message), message);
    LLVMTargetMachineRef machine =
        LLVMCreateTargetMachine(target, triple, "x86-64", "", LLVMCodeGenLevelDefault,
                                LLVMRelocPIC, LLVMCodeModelDefault);
    LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(machine);
    LLVMSetTarget(e->module, triple);
    LLVMSetModuleDataLayout(e->module, layout);
    library_check(
        !LLVMTargetMachineEmitToFile(machine, e->module, object, LLVMObjectFile, &message),
        message);
    if (getenv("KEEP_OBJECT")) {
        snprintf(command, sizeof command, "cp %s %s", object, getenv("KEEP_OBJECT"));
        library_check(system(command) == 0, command);
    }
    LLVMDisposeTargetData(layout);
    LLVMDisposeTargetMachine(machine);
    LLVMDisposeMessage(triple);
    snprintf(command, sizeof command, "cc -shared -o %s %s -lm -Wl,--as-needed -lopenblas", shared, object);
    library_check(system(command) == 0, command);
    void *library = dlopen(shared, RTLD_NOW);
    library_check(library != NULL, "dlopen");
    snprintf(command, sizeof command, "rm -r %s", folder);
    library_check(system(command) == 0, command);
    return library;
}

/* An exported function "NAME.TIER" that calls the kernel. */
static inline void library_export(Emit *e, const char *name, Val kernel)
{
    LLVMTypeRef params[] = {e->t_ptr, e->t_ptr, e->t_i64, e->t_ptr};
    Val function = emit_function(e, name, e->t_void, params, 4, false);
    LLVMSetVisibility(function, LLVMDefaultVisibility);
    Val args[] = {emit_param(e, 0), emit_param(e, 1), emit_param(e, 2), emit_param(e, 3)};
    LLVMBuildCall2(e->builder, e->t_kernel, kernel, args, 4, "");
    emit_return(e);
}

/* Starts an exported function i64 "NAME.TIER" (i64). */
static inline Val library_count(Emit *e, const char *name)
{
    Val function = emit_function(e, name, e->t_i64, &e->t_i64, 1, false);
    LLVMSetVisibility(function, LLVMDefaultVisibility);
    return emit_param(e, 0);
}

/* POSIX's way from an object pointer to a function pointer. */
#define LIBRARY_FIND(library, function, ...)                                                   \
    do {                                                                                       \
        char library_name[96];                                                                 \
        snprintf(library_name, sizeof library_name, __VA_ARGS__);                              \
        *(void **)&(function) = dlsym((library), library_name);                                \
        library_check((function) != NULL, library_name);                                       \
    } while (0)

static inline bool tier_runs_here(int tier)
{
    if (tier == TARGET_AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (tier == TARGET_AVX2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return true;
}
