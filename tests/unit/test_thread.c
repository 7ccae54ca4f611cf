/* test_thread.c - the pool does each task once, on any number of threads, whether its workers
 * spin or sleep, and the results do not depend on how many they are. */
#define _GNU_SOURCE /* usleep */
#include <check.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/thread.h"
#include "tests/unit/run_suite.h"

static const int thread_counts[] = {1, 2, 3, 7};
enum { THREAD_COUNTS = 4, TASKS_MOST = 1000, SCRATCH = 1000, ROUNDS = 100 };

static LrtPool *pool_of(int threads)
{
    LrtError error = {0};
    LrtPool *pool = lrt_pool_new(threads, SCRATCH, &error);
    ck_assert_msg(pool != NULL, "%s", error.text);
    ck_assert_int_eq(lrt_pool_threads(pool), threads);
    return pool;
}

/* --- what the tasks do --- */

typedef struct Job {
    _Atomic int done[TASKS_MOST];
    uint64_t result[TASKS_MOST]; /* not atomic: each belongs to one task, then to the caller */
    uint64_t salt;
    int sleep_us; /* of task 0 */
} Job;

static uint64_t result_of(uint64_t salt, int64_t task)
{
    uint64_t x = salt + (uint64_t)task;
    for (int i = 0; i < 20; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    return x;
}

static void do_job(void *user, int64_t task)
{
    Job *job = user;
    if (task == 0 && job->sleep_us)
        usleep((useconds_t)job->sleep_us);
    atomic_fetch_add(&job->done[task], 1);
    job->result[task] += result_of(job->salt, task);
}

/* As a kernel: base[0] is the job, the record's first number its salt; the scratch is this
 * task's alone while it runs, and all of it can be written. */
static void kernel(LrtContext *context, const uint64_t *record, int64_t task, char *scratch)
{
    Job *job = (Job *)(void *)context->base[LRT_BASE_ARENA];
    if ((uintptr_t)scratch % 64)
        return;
    memset(scratch, (int)(task % 251), SCRATCH);
    uint64_t result = result_of(record[0], task);
    for (int i = 0; i < SCRATCH; i++)
        if (scratch[i] != (char)(task % 251))
            return;
    atomic_fetch_add(&job->done[task], 1);
    job->result[task] += result;
}

/* Tasks 0 .. tasks - 1 were done `times` times, the others never. */
static void expect_done(Job *job, int64_t tasks, int times, const char *what)
{
    for (int64_t i = 0; i < TASKS_MOST; i++) {
        int done = atomic_load(&job->done[i]), want = i < tasks ? times : 0;
        uint64_t result = (uint64_t)want * result_of(job->salt, i);
        if (done != want || job->result[i] != result)
            ck_abort_msg("%s: task %d of %d was done %d times, not %d", what, (int)i,
                         (int)tasks, done, want);
    }
}

static const char *const ways[] = {"lrt_pool_run", "lrt_parallel"};

static void run_job(LrtPool *pool, Job *job, int64_t tasks, int way)
{
    LrtContext context = {.pool = pool};
    context.base[LRT_BASE_ARENA] = (char *)job;
    if (way == 0)
        lrt_pool_run(pool, do_job, job, tasks);
    else
        lrt_parallel(&context, kernel, &job->salt, tasks);
}

/* --- tests --- */

START_TEST(each_task_is_done_once)
{
    int threads = thread_counts[_i % THREAD_COUNTS], way = _i / THREAD_COUNTS;
    const int64_t counts[] = {0, 1, threads - 1, threads, threads + 1, TASKS_MOST};
    LrtPool *pool = pool_of(threads);
    Job *job = malloc(sizeof *job);
    for (int c = 0; c < 6; c++)
        for (int round = 0; round < ROUNDS; round++) {
            memset(job, 0, sizeof *job);
            job->salt = (uint64_t)(c * ROUNDS + round);
            run_job(pool, job, counts[c], way);
            expect_done(job, counts[c], 1, ways[way]);
        }
    free(job);
    lrt_pool_free(pool);
}
END_TEST

/* Regions that follow closely, nothing in between that could hide a worker that is late. */
START_TEST(regions_do_not_overlap)
{
    enum { REGIONS = 600 };
    int threads = thread_counts[_i];
    LrtPool *pool = pool_of(threads);
    Job *job = calloc(1, sizeof *job);
    job->salt = 5;
    for (int region = 0; region < REGIONS; region++)
        run_job(pool, job, threads + 2, region % 2);
    expect_done(job, threads + 2, REGIONS, "many regions");
    free(job);
    lrt_pool_free(pool);
}
END_TEST

/* Workers fall asleep before a region, and the caller while a worker is slow. */
START_TEST(sleepers_wake)
{
    int threads = thread_counts[_i];
    LrtPool *pool = pool_of(threads);
    Job *job = malloc(sizeof *job);
    for (int round = 0; round < 6; round++) {
        memset(job, 0, sizeof *job);
        usleep(10000);
        job->sleep_us = round % 2 ? 10000 : 0;
        run_job(pool, job, threads * 2, 0);
        expect_done(job, threads * 2, 1, "after a sleep");
    }
    free(job);
    lrt_pool_free(pool);
}
END_TEST

START_TEST(results_do_not_depend_on_the_number_of_threads)
{
    Job *jobs = calloc(THREAD_COUNTS, sizeof *jobs);
    for (int i = 0; i < THREAD_COUNTS; i++) {
        LrtPool *pool = pool_of(thread_counts[i]);
        jobs[i].salt = 77;
        run_job(pool, &jobs[i], TASKS_MOST, _i);
        lrt_pool_free(pool);
        ck_assert_mem_eq(jobs[0].result, jobs[i].result, sizeof jobs[0].result);
    }
    free(jobs);
}
END_TEST

/* More pools than one at a time, and pools that never work. */
START_TEST(pools_come_and_go)
{
    for (int round = 0; round < 20; round++) {
        LrtPool *pools[THREAD_COUNTS];
        Job *job = calloc(1, sizeof *job);
        for (int i = 0; i < THREAD_COUNTS; i++)
            pools[i] = pool_of(thread_counts[i]);
        for (int i = 1; i < THREAD_COUNTS; i++)
            run_job(pools[i], job, 10, 0);
        expect_done(job, 10, THREAD_COUNTS - 1, "several pools");
        for (int i = 0; i < THREAD_COUNTS; i++)
            lrt_pool_free(pools[i]);
        free(job);
    }
    lrt_pool_free(NULL);
}
END_TEST

START_TEST(a_wrong_number_of_threads_is_an_error)
{
    static const int wrong[] = {0, -1, 1025};
    for (int i = 0; i < 3; i++) {
        LrtError error = {0};
        ck_assert_ptr_null(lrt_pool_new(wrong[i], 64, &error));
        ck_assert_int_eq(error.status, LRT_INVALID);
        ck_assert_str_eq(error.text, "--threads: expected 1 to 1024");
    }
    ck_assert_int_ge(lrt_online_cpus(), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("thread");
    TCase *tc = tcase_create("pool");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, each_task_is_done_once, 0, 2 * THREAD_COUNTS);
    tcase_add_loop_test(tc, regions_do_not_overlap, 0, THREAD_COUNTS);
    tcase_add_loop_test(tc, sleepers_wake, 0, THREAD_COUNTS);
    tcase_add_loop_test(tc, results_do_not_depend_on_the_number_of_threads, 0, 2);
    tcase_add_test(tc, pools_come_and_go);
    tcase_add_test(tc, a_wrong_number_of_threads_is_an_error);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
