/* kernel_memory.h - what the tests of kernels share: buffers that end at a page that cannot be read, rows whose
 * padding is NaN, tasks in any order. */
#pragma once
#include <check.h>
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/emit_library.h"

/* Memory of exactly this many bytes, a multiple of 64: what follows cannot be read. */
typedef struct Guarded {
    char *map, *data;
    size_t bytes;
    int64_t size;
} Guarded;

static inline Guarded guarded(int64_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = ((size_t)bytes + page - 1) / page * page;
    Guarded g = {.bytes = size + page, .size = bytes};
    g.map = mmap(NULL, g.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(g.map != MAP_FAILED);
    ck_assert_int_eq(mprotect(g.map + size, page, PROT_NONE), 0);
    g.data = g.map + size - bytes;
    for (int64_t i = 0; i < bytes / 4; i++)
        ((float *)(void *)g.data)[i] = NAN;
    return g;
}

static inline void release(Guarded g)
{
    munmap(g.map, g.bytes);
}

static uint64_t random_state;

static inline uint32_t random_bits(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

static inline float random_value(void)
{
    return (float)(int32_t)random_bits() * 0x1p-31f;
}

/* Floats side by side, rows apart by `pitch` bytes. */
typedef struct Rows {
    Guarded memory;
    int64_t rows, columns, pitch;
} Rows;

static inline int64_t pitch_of(int64_t columns)
{
    int64_t pitch = (columns + LANES - 1) / LANES * LANES * 4;
    return pitch % 2048 ? pitch : pitch + 64;
}

static inline float *row_of(const Rows *r, int64_t row)
{
    return (float *)(void *)(r->memory.data + row * r->pitch);
}

/* All NaN. */
static inline Rows rows_new(int64_t rows, int64_t columns)
{
    int64_t pitch = pitch_of(columns);
    return (Rows){guarded(rows * pitch), rows, columns, pitch};
}

static inline Rows rows_random(int64_t rows, int64_t columns)
{
    Rows r = rows_new(rows, columns);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            row_of(&r, i)[j] = random_value();
    return r;
}

static inline uint64_t address_of(const Rows *r)
{
    return (uintptr_t)r->memory.data;
}

/* `count` rows of both are the same, bit by bit. */
static inline void rows_equal(const Rows *a, int64_t a_row, const Rows *b, int64_t b_row,
                              int64_t count, const char *what)
{
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < a->columns; j++) {
            float x = row_of(a, a_row + i)[j], y = row_of(b, b_row + i)[j];
            if (memcmp(&x, &y, 4)) /* each ck_assert writes to a file: too slow in here */
                ck_abort_msg("%s: [%d][%d] is %.9g, and %.9g", what, (int)i, (int)j, (double)x,
                             (double)y);
        }
}

/* Every element is within `tolerance` of the largest of `want` ([rows][columns], dense), or of 0.1 where exact results
 * cancel to nothing: operands are numbers up to 1. */
static inline void rows_near(const Rows *got, const double *want, double tolerance,
                             const char *what)
{
    double most = 0.1;
    for (int64_t i = 0; i < got->rows * got->columns; i++)
        most = fmax(most, fabs(want[i]));
    for (int64_t i = 0; i < got->rows; i++)
        for (int64_t j = 0; j < got->columns; j++) {
            double x = (double)row_of(got, i)[j], y = want[i * got->columns + j];
            if (!(fabs(x - y) <= tolerance * most))
                ck_abort_msg("%s: [%d][%d] is %.9g, not %.9g (off by %.2g of %.3g)", what, (int)i,
                             (int)j, x, y, fabs(x - y) / most, most);
        }
}

/* Starts an exported function i64 "NAME.TIER" (context). */
static inline Val library_tasks(Emit *e, const char *name)
{
    Val function = emit_function(e, name, e->t_i64, &e->t_ptr, 1, false);
    LLVMSetVisibility(function, LLVMDefaultVisibility);
    return emit_param(e, 0);
}

/* Runs the kernel "run.NAME.TIER", of "tasks.NAME.TIER" tasks, in an order that depends on
 * `order`; scratch is exactly as large as it says, and dirty. */
static inline void run_kernel(void *library, const char *name, int tier, LrtContext *context,
                              const uint64_t *record, int64_t scratch_bytes, int order)
{
    LrtKernel *run;
    int64_t (*count)(LrtContext *);
    LIBRARY_FIND(library, run, "run.%s.%s", name, targets[tier].text);
    LIBRARY_FIND(library, count, "tasks.%s.%s", name, targets[tier].text);
    int64_t tasks = count(context);
    Guarded scratch = guarded((scratch_bytes + 63) / 64 * 64);
    int64_t stride = order == 0 ? 1 : tasks - 1, at = order == 0 ? 0 : tasks / 2;
    if (order == 2) /* a step that meets all tasks */
        for (stride = tasks / 2 + 1; stride > 1; stride--) {
            int64_t a = stride, b = tasks;
            while (b)
                a %= b, a ^= b, b ^= a, a ^= b;
            if (a == 1)
                break;
        }
    for (int64_t i = 0; i < tasks; i++, at = (at + stride) % tasks)
        run(context, record, at, scratch.data);
    release(scratch);
}
