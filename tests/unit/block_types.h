/* block_types.h - ggml's block types by their definition. */
#pragma once
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "runtime/checkpoint.h"

__extension__ typedef _Float16 Half;

static inline float half_at(const uint8_t *bytes)
{
    Half half;
    memcpy(&half, bytes, 2);
    return (float)half;
}

/* The block types by their definition: a half d, for some a half m, a bit of each number, and
 * the other four bits: those of element e < 16 below those of e + 16.  `first` and RMSE: ggml's
 * bytes for the first 32 of `wave`, and what it loses over 256. */
static const struct Quantised {
    LrtDtype dtype;
    int bytes, bits;
    bool has_m;
    const char *first;
    double rmse;
    const char *ramp; /* (e - 15.5) / 8 */
} block_types[] = {
    {LRT_Q4_0, 18, 4, false, "bc2fe456b89b31161d5920ba94674acef43f", .0395392552,
     "c033809191a2a2b3b3c4c4d5d5e6e6f7f7f8"},
    {LRT_Q4_1, 20, 4, true, "1d30bcbbd355a88b31151c5820ba946649bde33f", .036155913,
     "2234c0bf80809191a2a2b3b3c4c4d5d5e6e6f7f7"},
    {LRT_Q5_0, 22, 5, false, "bc2bccb20d66c7ac6017713c29a2407538cd838be75f", .0180016551,
     "c02f0000ffff102132435465768798a9bacbdcedfeff"},
    {LRT_Q5_1, 24, 5, true, "f72bbcbbccb20d66b7ab5016613b28a1406428cd828ad75f", .0162475351,
     NULL},
    {LRT_Q8_0, 34, 8, false,
     "cc1fbbde01368ade480f8125beec1858ba7e5fd33008b5988fd09f3616e0c24271ab", .00225597271,
     "d0238189919aa2aab2bac3cbd3dbe3ecf4fc040c141d252d353d464e565e666f777f"},
};

static inline float by_definition(const struct Quantised *type, const uint8_t *block, int e)
{
    const float d = half_at(block);
    if (type->bits == 8)
        return (float)(int8_t)block[2 + e] * d;
    const uint8_t *numbers = block + type->bytes - 16, *bit = numbers - 4;
    int q = numbers[e % 16] / (e < 16 ? 1 : 16) % 16;
    if (type->bits == 5)
        q += 16 * (bit[e / 8] >> e % 8 & 1);
    if (type->has_m)
        return (float)q * d + half_at(block + 2);
    return (float)(q - (type->bits == 5 ? 16 : 8)) * d;
}

static inline void expect_same_number(float got, float want)
{
    ck_assert_msg((isnan(got) && isnan(want)) || !memcmp(&got, &want, sizeof got), "%a, not %a",
                  (double)got, (double)want);
}
