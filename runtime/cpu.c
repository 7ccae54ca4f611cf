/* cpu.c - see cpu.h.  cpuid says what the CPU has, XCR0 what the operating system saves. */
#include "runtime/cpu.h"

#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const names[LRT_TIER_COUNT] = {"generic", "avx2", "avx512"};

const char *lrt_tier_name(int tier)
{
    return names[tier];
}

/* Only programs whose code calls OpenBLAS are linked with it. */
extern char *openblas_get_corename(void) __attribute__((weak));

const char *lrt_openblas_core(void)
{
    return openblas_get_corename ? openblas_get_corename() : NULL;
}

#if defined(__x86_64__)
static unsigned long long enabled_state(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (unsigned long long)high << 32 | low;
}

_Bool lrt_tier_runs(int tier)
{
    unsigned a, b, c, d, a7, b7, c7, d7;
    if (tier == LRT_TIER_GENERIC)
        return 1;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !__get_cpuid_count(7, 0, &a7, &b7, &c7, &d7))
        return 0;
    unsigned long long state = enabled_state();
    _Bool avx2 = (c & bit_FMA) && (c & bit_AVX) && (b7 & bit_AVX2) && (b7 & bit_BMI) && (b7 & bit_BMI2) && (state & 6) == 6;
    if (tier == LRT_TIER_AVX2)
        return avx2;
    return avx2 && (b7 & bit_AVX512F) && (b7 & bit_AVX512BW) && (b7 & bit_AVX512DQ) && (b7 & bit_AVX512VL) &&
           (b7 & bit_AVX512CD) && (state & 0xe6) == 0xe6;
}
#else
_Bool lrt_tier_runs(int tier)
{
    return tier == LRT_TIER_GENERIC;
}
#endif

int lrt_choose_tier(const LrtProgram *program, const char *name, LrtError *error)
{
    for (int tier = LRT_TIER_COUNT - 1; tier >= 0; tier--) {
        if (name && strcmp(name, names[tier]) != 0)
            continue;
        if (program->tiers[tier].forward && lrt_tier_runs(tier))
            return tier;
        if (name) {
            lrt_report(error, LRT_INVALID, "--tier %s: %s", name,
                     program->tiers[tier].forward ? "this machine does not support it" : "this program has no code for it");
            return -1;
        }
    }
    if (name)
        lrt_report(error, LRT_INVALID, "--tier: unknown tier '%s'; there are generic, avx2, avx512", name);
    else
        lrt_report(error, LRT_INVALID, "this program has no code that this machine runs");
    return -1;
}
