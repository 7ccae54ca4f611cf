/* random.c - see random.h. */
#include "runtime/random.h"

#include <math.h>

uint64_t lrt_stream(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return hash;
}

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t lrt_random(uint64_t seed, uint64_t stream, uint64_t index)
{
    return mix(mix(mix(seed) ^ stream) ^ index);
}

double lrt_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (double)(lrt_random(seed, stream, index) >> 11) * 0x1p-53;
}

double lrt_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    double u = 1 - lrt_uniform(seed, stream, 2 * index), v = lrt_uniform(seed, stream, 2 * index + 1);
    return sqrt(-2 * log(u)) * cos(6.283185307179586477 * v);
}
