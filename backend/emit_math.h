/* emit_math.h - elementary functions on <16 x float>, the same polynomial on every tier. */
#pragma once
#include "backend/ll.h"

Val math_exp(Emit *e, Val x);     /* <= 1 ulp (Cephes expf); 0 below -87.3, inf above 88.7 */
Val math_log(Emit *e, Val x);     /* natural, <= 1 ulp (Cephes logf); x > 0 */
Val math_tanh(Emit *e, Val x);
Val math_sigmoid(Emit *e, Val x);
Val math_erf(Emit *e, Val x);
Val math_sqrt(Emit *e, Val x);
Val math_rsqrt(Emit *e, Val x);   /* 1 / sqrt(x), two correctly rounded steps */
