/* thread.c - see thread.h.
 *
 * Workers wait for the next region by spinning a bounded while, then asleep: a region costs a fraction of a microsecond when
 * they come closely, and nobody burns a core that something else needs.  Tasks are handed out by one counter. */
#define _GNU_SOURCE
#include "runtime/thread.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { SPINS = 20000, THREADS_MAX = 1024 };

typedef struct Worker {
    LrtPool *pool;
    pthread_t thread;
    char *scratch;
} Worker;

struct LrtPool {
    Worker *workers; /* 0 is the caller */
    int count;
    int started;
    /* The region: written before `generation` is raised, read after. */
    LrtContext *context;
    LrtKernel *kernel;
    const uint64_t *record;
    LrtWork *work;
    void *user;
    int64_t tasks;
    _Atomic int64_t next;
    _Atomic uint64_t generation;
    _Atomic int busy; /* workers that have not finished the region */
    _Atomic int quit;
    pthread_mutex_t mutex;
    pthread_cond_t wake, done;
};

int lrt_online_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void do_tasks(LrtPool *pool, Worker *worker)
{
    for (;;) {
        int64_t task = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (task >= pool->tasks)
            return;
        if (pool->kernel)
            pool->kernel(pool->context, pool->record, task, worker->scratch);
        else
            pool->work(pool->user, task);
    }
}

/* Waits until the generation is not `seen` any more. */
static uint64_t await_region(LrtPool *pool, uint64_t seen)
{
    uint64_t now;
    for (int i = 0; i < SPINS; i++) {
        now = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (now != seen)
            return now;
        relax();
    }
    pthread_mutex_lock(&pool->mutex);
    while ((now = atomic_load_explicit(&pool->generation, memory_order_acquire)) == seen)
        pthread_cond_wait(&pool->wake, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    return now;
}

static void *worker_main(void *argument)
{
    Worker *worker = argument;
    LrtPool *pool = worker->pool;
    uint64_t seen = 0;
    for (;;) {
        seen = await_region(pool, seen);
        if (atomic_load_explicit(&pool->quit, memory_order_acquire))
            return NULL;
        do_tasks(pool, worker);
        if (atomic_fetch_sub_explicit(&pool->busy, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
}

static void start_region(LrtPool *pool)
{
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->busy, pool->started, memory_order_relaxed);
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add_explicit(&pool->generation, 1, memory_order_acq_rel);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

static void await_workers(LrtPool *pool)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&pool->busy, memory_order_acquire) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load_explicit(&pool->busy, memory_order_acquire) != 0)
        pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

static void run_region(LrtPool *pool, int64_t tasks)
{
    pool->tasks = tasks;
    if (tasks <= 1 || pool->started == 0) {
        atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
        do_tasks(pool, &pool->workers[0]);
        return;
    }
    start_region(pool);
    do_tasks(pool, &pool->workers[0]);
    await_workers(pool);
}

void lrt_parallel(LrtContext *context, LrtKernel *kernel, const uint64_t *record, int64_t tasks)
{
    LrtPool *pool = context->pool;
    pool->context = context;
    pool->kernel = kernel;
    pool->record = record;
    run_region(pool, tasks);
}

void lrt_pool_run(LrtPool *pool, LrtWork *work, void *user, int64_t tasks)
{
    pool->kernel = NULL;
    pool->work = work;
    pool->user = user;
    run_region(pool, tasks);
}

int lrt_pool_threads(const LrtPool *pool)
{
    return pool->count;
}

LrtPool *lrt_pool_new(int threads, int64_t scratch_bytes, LrtError *error)
{
    LrtPool *pool = calloc(1, sizeof *pool);
    if (threads < 1 || threads > THREADS_MAX) {
        free(pool);
        lrt_report(error, LRT_INVALID, "--threads: expected 1 to %d", THREADS_MAX);
        return NULL;
    }
    if (pool)
        pool->workers = calloc((size_t)threads, sizeof *pool->workers);
    if (!pool || !pool->workers) {
        free(pool);
        lrt_report(error, LRT_FAILED, "out of memory");
        return NULL;
    }
    pool->count = threads;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    size_t bytes = ((size_t)scratch_bytes + 4095) / 4096 * 4096 + 4096;
    for (int i = 0; i < threads; i++) {
        Worker *worker = &pool->workers[i];
        worker->pool = pool;
        worker->scratch = aligned_alloc(4096, bytes);
        if (!worker->scratch || (i > 0 && pthread_create(&worker->thread, NULL, worker_main, worker) != 0)) {
            lrt_report(error, LRT_FAILED, "cannot start %d threads; try --threads %d", threads, i > 1 ? i : 1);
            lrt_pool_free(pool);
            return NULL;
        }
        pool->started = i;
    }
    return pool;
}

void lrt_pool_free(LrtPool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->quit, 1);
    start_region(pool);
    for (int i = 0; i < pool->count; i++) {
        if (i > 0 && i <= pool->started)
            pthread_join(pool->workers[i].thread, NULL);
        free(pool->workers[i].scratch);
    }
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->workers);
    free(pool);
}
