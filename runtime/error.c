/* error.c - see error.h. */
#include "runtime/error.h"

#include <stdarg.h>
#include <stdio.h>

void lrt_report(LrtError *error, LrtStatus status, const char *format, ...)
{
    if (error->status != LRT_OK)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    for (char *c = error->text; *c; c++) /* what foreign files name may have line ends in it */
        if ((unsigned char)*c < ' ')
            *c = ' ';
    error->status = status;
}
