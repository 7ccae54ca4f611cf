/* thread.h - a pool of threads that do the tasks of one kernel after another. */
#pragma once
#include "runtime/error.h"
#include "runtime/lrt_abi.h"

typedef struct LrtPool LrtPool;

/* `threads` includes the caller.  Each has `scratch_bytes` of its own. */
LrtPool *lrt_pool_new(int threads, int64_t scratch_bytes, LrtError *error);
void lrt_pool_free(LrtPool *pool);
int lrt_pool_threads(const LrtPool *pool);

/* LrtContext.parallel; context->pool is the pool. */
void lrt_parallel(LrtContext *context, LrtKernel *kernel, const uint64_t *record, int64_t tasks);
/* The same for the runtime's own work. */
typedef void LrtWork(void *user, int64_t task);
void lrt_pool_run(LrtPool *pool, LrtWork *work, void *user, int64_t tasks);

int lrt_online_cpus(void);
