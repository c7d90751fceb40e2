// The normal distribution as GELU needs it: its function and its density by one exponential.
#pragma once
#include "vector_math.h"

struct Normal {
    float below;    // how likely a normal number is below z
    float density;  // at z, times sqrt(2 pi)
};

// With a = |z| and e = exp(-a^2 / 2), what is beyond a is e times a polynomial of
// 1 / (1 + 0.225 a): so the tail keeps its digits. The polynomial is fitted like those of
// vector_math.h, for a < 6.5; its relative error is 1.1e-8.
inline Normal normal_at(float z) {
    float square = -0.5f * z * z;
    auto [r, n] = reduce_by_ln2(limited(square, -80.0f, 0.0f));
    float p = mad(0.0013940529897809029f, r, 0.008368822745978832f);
    p = mad(p, r, 0.04166640341281891f);
    p = mad(p, r, 0.1666651964187622f);
    p = mad(p, r, 0.5f);
    float e = (mad(r * r, p, r) + 1.0f) * power_of_two(n);
    e = square < -80.0f ? 0.0f : e;  // z times the density is nothing there, however large z is
    float t = 1.0f / mad(0.225f, from_bits(bits_of(z) & 0x7fffffff), 1.0f);
    float q = mad(-0.0928523987531662f, t, 0.3786725401878357f);
    q = mad(q, t, -0.43060868978500366f);
    q = mad(q, t, 0.44245269894599915f);
    q = mad(q, t, -0.10908721387386322f);
    q = mad(q, t, 0.1405150443315506f);
    q = mad(q, t, 0.08047134429216385f);
    q = mad(q, t, 0.0904366672039032f);
    float beyond = e * (q * t);
    return {z > 0.0f ? 1.0f - beyond : beyond, e};
}
