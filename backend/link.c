/* link.c - the linker, through the system's C compiler, which knows where the C library's parts are. */
#include "backend/backend.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs a command without a shell; its standard error is dropped when `quiet`. */
static int run(char *const *argv, bool quiet)
{
    pid_t child = fork();
    if (child < 0)
        return -1;
    if (child == 0) {
        if (quiet && !freopen("/dev/null", "w", stderr))
            _exit(127);
        execvp(argv[0], argv);
        _exit(127);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A compiler built with sanitizers links them into its programs too: their runtime library needs them. */
#ifndef LORACC_SANITIZER
#define LORACC_SANITIZER NULL
#endif

/* And what it needs; the runtime asks for the name of its kernels where it is linked (runtime/cpu.c). */
static char *const openblas_library[] = {"-Wl,-u,openblas_get_corename", "-lopenblas", "-lm", "-lpthread"};

/* Links nothing but the library, in the program's place: does the compiler find it?  The status is that of `run`. */
static int try_openblas(char *compiler, const char *program)
{
    char *argv[] = {compiler, "-shared", "-nostdlib", "-o", (char *)program, "-lopenblas", NULL};
    return run(argv, true);
}

bool backend_link(const char *object, const char *runtime, bool openblas, const char *program, Diag *diag)
{
    const char *cc = getenv("CC");
    char *compiler = (char *)(cc && *cc ? cc : "cc");
    char *common[] = {(char *)object, (char *)runtime, "-lm", "-lpthread", "-Wl,--gc-sections", "-o", (char *)program};
    int found = openblas ? try_openblas(compiler, program) : 0;
    if (found != 0 && found != 127) {
        diag_error(diag, (Loc){0}, "--gemm openblas: '%s' finds no libopenblas to link with; install Debian's libopenblas-dev", compiler);
        return false;
    }
    /* A static program runs on another Linux; where the static C library is missing, a dynamic one has to do. */
    const char *sanitizer = LORACC_SANITIZER;
    for (int attempt = sanitizer ? 1 : 0; attempt < 2; attempt++) {
        char *argv[16] = {compiler, attempt == 0 ? "-static-pie" : "-pie"}, **end = argv + 2;
        memcpy(end, common, sizeof common);
        end += sizeof common / sizeof *common;
        if (openblas) {
            memcpy(end, openblas_library, sizeof openblas_library);
            end += sizeof openblas_library / sizeof *openblas_library;
        }
        *end = (char *)(uintptr_t)sanitizer;
        int status = run(argv, attempt == 0);
        if (status == 0)
            return true;
        if (status == 127) {
            diag_error(diag, (Loc){0}, "cannot run the C compiler '%s' to link; install one or set CC", compiler);
            return false;
        }
    }
    diag_error(diag, (Loc){0}, "'%s' could not link '%s'", compiler, program);
    return false;
}
