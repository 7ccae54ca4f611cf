/* dropout.c - see dropout.h. */
#include "ir/dropout.h"

uint64_t dropout_site(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return hash;
}

static uint32_t mix32(uint32_t x)
{
    x ^= x >> DROPOUT_SHIFT_1;
    x *= DROPOUT_MUL_1;
    x ^= x >> DROPOUT_SHIFT_2;
    x *= DROPOUT_MUL_2;
    return x ^ (x >> DROPOUT_SHIFT_3);
}

/* SplitMix64's finaliser (Steele, Lea, Flood, 2014). */
static uint64_t mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t dropout_key(uint64_t seed, uint64_t step, uint64_t sequence, uint64_t site,
                     int64_t position)
{
    uint64_t key = mix64(seed + 0x9e3779b97f4a7c15u);
    key = mix64(key ^ step);
    key = mix64(key ^ sequence);
    key = mix64(key ^ site);
    return mix64(key ^ (uint64_t)position);
}

bool dropout_keep_at(uint64_t key, int64_t feature, double rate)
{
    uint32_t number = mix32(mix32((uint32_t)feature ^ (uint32_t)key) ^ (uint32_t)(key >> 32));
    return (double)number >= rate * 4294967296.0;
}

bool dropout_keep(uint64_t seed, uint64_t step, uint64_t sequence, uint64_t site,
                  int64_t position, int64_t feature, double rate)
{
    return dropout_keep_at(dropout_key(seed, step, sequence, site, position), feature, rate);
}
