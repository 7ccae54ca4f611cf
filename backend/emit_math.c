/* emit_math.c - see emit_math.h.
 *
 * Sources of the polynomials: Cephes (Moshier, netlib) expf, logf, tanhf; erf by Abramowitz-Stegun is too coarse for f32, so
 * erf uses the rational minimax of Eigen/XLA's kind on [-4, 4] (odd numerator over even denominator). */
#include "backend/emit_math.h"

static Val poly(Emit *e, Val x, const double *coefficients, int count)
{
    Val p = ll_vec(e, coefficients[0]);
    for (int i = 1; i < count; i++)
        p = ll_fma(e, p, x, ll_vec(e, coefficients[i]));
    return p;
}

static Val compare(Emit *e, LLVMRealPredicate predicate, Val a, double b)
{
    return LLVMBuildFCmp(e->builder, predicate, a, ll_vec(e, b), "");
}

/* NaN passes through: the comparison is false for it. */
static Val clamp(Emit *e, Val x, double low, double high)
{
    x = ll_select(e, compare(e, LLVMRealOLT, x, low), ll_vec(e, low), x);
    return ll_select(e, compare(e, LLVMRealOGT, x, high), ll_vec(e, high), x);
}

/* e^x = 2^n e^r, r = x - n ln 2 in two steps; e^r = 1 + r + r^2 P(r).  2^n is made in the exponent's bits in two factors, so that
 * n = 128 and n = -126 are right; below -87.3 the result is 0 rather than a denormal, above 88.7 infinity. */
Val math_exp(Emit *e, Val x)
{
    static const double c[] = {1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3,
                               4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1};
    Val safe = clamp(e, x, -87.3, 88.7);
    Val scaled = ll_fmul(e, safe, ll_vec(e, 1.44269504088896341));
    Val n = ll_intrinsic(e, "llvm.roundeven", &e->t_vec, 1, &scaled, 1);
    Val r = ll_fma(e, n, ll_vec(e, -0.693359375), safe);
    r = ll_fma(e, n, ll_vec(e, 2.12194440e-4), r);
    Val p = ll_fma(e, poly(e, r, c, 6), ll_fmul(e, r, r), r);
    p = ll_fadd(e, p, ll_vec(e, 1));
    /* NaN has no integer: any will do, p is NaN already. */
    Val ordered = LLVMBuildFCmp(e->builder, LLVMRealORD, n, n, "");
    Val k = LLVMBuildFPToSI(e->builder, ll_select(e, ordered, n, ll_vec(e, 0)), e->t_ivec, "");
    Val half = LLVMBuildAShr(e->builder, k, ll_ivec(e, 1), "");
    Val rest = ll_sub(e, k, half);
    Val bias = ll_ivec(e, 127), shift = ll_ivec(e, 23);
    Val f1 = LLVMBuildBitCast(e->builder, LLVMBuildShl(e->builder, ll_add(e, half, bias), shift, ""), e->t_vec, "");
    Val f2 = LLVMBuildBitCast(e->builder, LLVMBuildShl(e->builder, ll_add(e, rest, bias), shift, ""), e->t_vec, "");
    p = ll_fmul(e, ll_fmul(e, p, f1), f2);
    p = ll_select(e, compare(e, LLVMRealOLT, x, -87.3), ll_vec(e, 0), p);
    Val inf = LLVMBuildBitCast(e->builder, ll_ivec(e, 0x7f800000), e->t_vec, "");
    return ll_select(e, compare(e, LLVMRealOGT, x, 88.72283), inf, p);
}

/* x = 2^n m, m in [sqrt(1/2), sqrt(2)); log x = n ln 2 + log m. */
Val math_log(Emit *e, Val x)
{
    static const double c[] = {7.0376836292e-2,  -1.1514610310e-1, 1.1676998740e-1,  -1.2420140846e-1, 1.4249322787e-1,
                               -1.6668057665e-1, 2.0000714765e-1,  -2.4999993993e-1, 3.3333331174e-1};
    Val bits = LLVMBuildBitCast(e->builder, x, e->t_ivec, "");
    Val n = ll_sub(e, LLVMBuildLShr(e->builder, bits, ll_ivec(e, 23), ""), ll_ivec(e, 126));
    Val m = LLVMBuildOr(e->builder, LLVMBuildAnd(e->builder, bits, ll_ivec(e, 0x007fffff), ""), ll_ivec(e, 0x3f000000), "");
    m = LLVMBuildBitCast(e->builder, m, e->t_vec, ""); /* in [0.5, 1) */
    Val small = compare(e, LLVMRealOLT, m, 0.707106781186547524);
    Val nf = LLVMBuildSIToFP(e->builder, n, e->t_vec, "");
    nf = ll_select(e, small, ll_fsub(e, nf, ll_vec(e, 1)), nf);
    m = ll_fsub(e, ll_select(e, small, ll_fadd(e, m, m), m), ll_vec(e, 1));
    Val z = ll_fmul(e, m, m);
    Val y = ll_fmul(e, ll_fmul(e, poly(e, m, c, 9), m), z);
    y = ll_fma(e, nf, ll_vec(e, -2.12194440e-4), y);
    y = ll_fma(e, z, ll_vec(e, -0.5), y);
    return ll_fma(e, nf, ll_vec(e, 0.693359375), ll_fadd(e, m, y));
}

Val math_sigmoid(Emit *e, Val x)
{
    Val one = ll_vec(e, 1);
    return ll_fdiv(e, one, ll_fadd(e, one, math_exp(e, LLVMBuildFNeg(e->builder, x, ""))));
}

/* Cephes tanhf: an odd polynomial below 0.625, 1 - 2 / (e^2x + 1) above. */
Val math_tanh(Emit *e, Val x)
{
    static const double c[] = {-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1,
                               -3.33332819422e-1};
    Val magnitude = ll_intrinsic(e, "llvm.fabs", &e->t_vec, 1, &x, 1);
    Val z = ll_fmul(e, x, x);
    Val near = ll_fma(e, ll_fmul(e, poly(e, z, c, 5), z), x, x);
    Val t = math_exp(e, ll_fadd(e, magnitude, magnitude));
    Val far = ll_fsub(e, ll_vec(e, 1), ll_fdiv(e, ll_vec(e, 2), ll_fadd(e, t, ll_vec(e, 1))));
    far = ll_intrinsic(e, "llvm.copysign", &e->t_vec, 1, (Val[]){far, x}, 2);
    return ll_select(e, compare(e, LLVMRealOLT, magnitude, 0.625), near, far);
}

/* erf x = x P(x^2) / Q(x^2) on [-4, 4], clamped outside, where it is 1 to f32. */
Val math_erf(Emit *e, Val x)
{
    static const double p[] = {-2.72614225801306e-10, 2.77068142495902e-08,  -2.10102402082508e-06, -5.69250639462346e-05,
                               -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02};
    static const double q[] = {-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03,
                               -7.37332916720468e-03, -1.42647390514189e-02};
    Val c = clamp(e, x, -4, 4);
    Val z = ll_fmul(e, c, c);
    return ll_fdiv(e, ll_fmul(e, c, poly(e, z, p, 7)), poly(e, z, q, 5));
}

Val math_sqrt(Emit *e, Val x)
{
    return ll_intrinsic(e, "llvm.sqrt", &e->t_vec, 1, &x, 1);
}

Val math_rsqrt(Emit *e, Val x)
{
    return ll_fdiv(e, ll_vec(e, 1), math_sqrt(e, x));
}
