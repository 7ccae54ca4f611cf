/* run_suite.h - the end of every main: runs a suite as the environment asks (CK_*). */
#pragma once
#include <check.h>

/* The program's exit status. */
static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
