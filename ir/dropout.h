/* dropout.h - which elements a dropout keeps: a function of (seed, step, sequence, site,
 * position, feature) and of nothing else.
 *
 * A key is made of all but the feature, once a row; an element's number is two rounds of a
 * 32-bit mixer over it.  Generated code computes the same on 16 lanes.  The mixer has the form
 * of lowbias32 with constants that hash-prospector's list of low-bias 32-bit mixers gives
 * (github.com/skeeto/hash-prospector). */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* 32-bit mixer: x ^= x >> 16; x *= 0x21f0aaad; x ^= x >> 15; x *= 0x735a2d97; x ^= x >> 15. */
enum { DROPOUT_SHIFT_1 = 16, DROPOUT_SHIFT_2 = 15, DROPOUT_SHIFT_3 = 15 };
#define DROPOUT_MUL_1 0x21f0aaadu
#define DROPOUT_MUL_2 0x735a2d97u

uint64_t dropout_site(const char *name); /* FNV-1a 64 of the site's path */
/* The key of a row, two 32-bit words: mix of seed, step, sequence, site, position. */
uint64_t dropout_key(uint64_t seed, uint64_t step, uint64_t sequence, uint64_t site,
                     int64_t position);
/* An element is kept when its number is not below rate * 2^32. */
bool dropout_keep_at(uint64_t key, int64_t feature, double rate);
/* Both in one. */
bool dropout_keep(uint64_t seed, uint64_t step, uint64_t sequence, uint64_t site,
                  int64_t position, int64_t feature, double rate);
