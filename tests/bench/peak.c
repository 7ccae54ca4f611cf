/* peak.c - the roofline of this machine, measured now: f32 multiply-adds on registers, and reading memory, on N threads.
 *
 *   cc -O3 -march=native -pthread peak.c && ./a.out THREADS        prints GFLOP/s and GB/s */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CHAINS = 12, ROUNDS = 20000000, THREADS_MAX = 256 };
static const size_t bytes_each = (size_t)256 << 20;

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 }; /* longer vectors take two registers each, and there are not as many */
#else
enum { LANES = 4 };
#endif
typedef float Vector __attribute__((vector_size(4 * LANES)));

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *multiply(void *result)
{
    Vector chain[CHAINS], factor, term;
    for (int i = 0; i < LANES; i++)
        factor[i] = 0.999f, term[i] = 0.001f;
    for (int c = 0; c < CHAINS; c++)
        chain[c] = term;
    for (int64_t r = 0; r < ROUNDS; r++)
        for (int c = 0; c < CHAINS; c++)
            chain[c] = chain[c] * factor + term;
    for (int c = 1; c < CHAINS; c++)
        chain[0] += chain[c];
    *(float *)result = chain[0][0];
    return NULL;
}

static void *read_memory(void *memory)
{
    const Vector *data = *(Vector **)memory;
    Vector sum[8] = {0};
    for (int round = 0; round < 4; round++)
        for (size_t i = 0; i + 8 <= bytes_each / sizeof *data; i += 8)
            for (int k = 0; k < 8; k++)
                sum[k] += data[i + k];
    for (int k = 1; k < 8; k++)
        sum[0] += sum[k];
    *(float *)(void *)(uintptr_t)data = sum[0][0];
    return NULL;
}

static double run(int threads, void *(*work)(void *), void **arguments)
{
    pthread_t thread[THREADS_MAX];
    double start = now();
    for (int i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, work, arguments[i]))
            exit(1);
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    return now() - start;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    static float results[THREADS_MAX];
    static Vector *memory[THREADS_MAX];
    void *arguments[THREADS_MAX];
    if (threads < 1 || threads > THREADS_MAX)
        return 2;
    for (int i = 0; i < threads; i++) {
        arguments[i] = &results[i];
        if (!(memory[i] = aligned_alloc(64, bytes_each)))
            return 1;
        for (size_t k = 0; k < bytes_each / sizeof(Vector); k++)
            memory[i][k] = (Vector){0};
    }
    double seconds = run(threads, multiply, arguments);
    for (int i = 0; i < threads; i++)
        arguments[i] = &memory[i];
    double reading = run(threads, read_memory, arguments);
    printf("%.1f %.1f\n", 2.0 * LANES * CHAINS * ROUNDS * threads / seconds / 1e9, 4.0 * (double)bytes_each * threads / reading / 1e9);
    return 0;
}
