/* error.h - how the runtime reports what went wrong.
 *
 * The library never prints and never exits.  A function that can fail takes an LrtError *, fills it and returns
 * false, NULL or the status itself; the program's main prints `text` and exits with `status`.  A text is one line,
 * lower case, no full stop: it names the file, the place in it and the remedy. */
#pragma once

typedef enum LrtStatus {
    LRT_OK = 0,
    LRT_FAILED = 1,  /* the run failed: disk full, out of memory */
    LRT_INVALID = 2, /* the call or an input is wrong */
    LRT_INTERRUPTED = 130, /* by a signal: what shells give for Ctrl-C */
} LrtStatus;

typedef struct LrtError {
    LrtStatus status;
    char text[1024];
} LrtError;

/* Formats the message and sets the status.  Keeps the first error: on one that already has a status it does nothing. */
void lrt_report(LrtError *error, LrtStatus status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same as an expression that is false, which the compiler can see. */
#define lrt_fail(error, status, ...) (lrt_report((error), (status), __VA_ARGS__), (_Bool)0)
