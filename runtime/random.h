/* random.h - numbers that depend on (seed, stream, index) and on nothing else. */
#pragma once
#include <stdint.h>

/* A stream's name as a number: FNV-1a 64. */
uint64_t lrt_stream(const char *name);
/* 64 random bits (SplitMix64's finaliser over the three). */
uint64_t lrt_random(uint64_t seed, uint64_t stream, uint64_t index);
/* In [0, 1), 53 bits. */
double lrt_uniform(uint64_t seed, uint64_t stream, uint64_t index);
/* Standard normal (Box-Muller). */
double lrt_normal(uint64_t seed, uint64_t stream, uint64_t index);
