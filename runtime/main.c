/* main.c - main of every emitted program. */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>

#include "runtime/programs.h"

int main(int argc, char **argv)
{
    LrtError error = {LRT_OK, ""};
    int status = LRT_OK;
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error, not the end */
    signal(SIGPIPE, SIG_IGN);
    if (lrt_program.abi != LRT_ABI_VERSION)
        lrt_report(&error, LRT_FAILED, "compiled for another version of the runtime library; compile it again");
    else if (lrt_program.kind == LRT_TRAIN)
        status = lrt_train_main(&lrt_program, argc, argv, &error);
    else
        status = lrt_infer_main(&lrt_program, argc, argv, &error);
    if (status == LRT_OK && fflush(stdout) != 0)
        lrt_report(&error, LRT_FAILED, "cannot write the results");
    if (error.status != LRT_OK)
        fprintf(stderr, "%s: error: %s\n", lrt_program.model, error.text);
    return (int)error.status;
}
