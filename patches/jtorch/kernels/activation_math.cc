#include <cmath>
// Activations of one float with their slopes, to a few parts in 1e7; loops over them become vector code. NaN stays NaN.
// Every function takes a place for the slope, which costs nothing where it is not read.
#ifdef __FMA__
// fmaf by name: the compiler may reorder plain sums, which would undo the two-part reduction and the corrections.
static inline float power_of_two(int k) { return __builtin_bit_cast(float, (unsigned)(k + 127) << 23); }

// exp(x) for -120 <= x <= 0, subnormal results included
static inline float exp_below(float x) {
    const float n = rintf(x * 1.44269504f);
    const float r = fmaf(n, 1.90465432e-9f, fmaf(n, -0.693147180f, x));
    float p = 0.00139412131f;
    p = fmaf(p, r, 0.008375210201f);
    p = fmaf(p, r, 0.04166635164f);
    p = fmaf(p, r, 0.1666641451f);
    p = fmaf(p, r, 0.5000000047f);
    p = fmaf(p, r, 1.f);
    p = fmaf(p, r, 1.f);
    const int k = (int)n, half = k >> 1;
    return p * power_of_two(half) * power_of_two(k - half);
}

// exp(-a a / 2) and Phi(-a) for 0 <= a <= 15; Phi(-a) = exp(-a a / 2) P(t) / (a + 4), t = (a - 4) / (a + 4), where P
// was fitted at Chebyshev nodes (within 2e-8)
static inline float normal_tail(float a, float* density) {
    const float s = a * a, rest = fmaf(a, a, -s);
    const float e = fmaf(exp_below(-0.5f * s), -0.5f * rest, exp_below(-0.5f * s));
    const float over = 1 / (a + 4), t = (a - 4) * over;
    float p = -1.255583856e-4f;
    p = fmaf(p, t, 1.889965194e-4f);
    p = fmaf(p, t, 0.001566881688f);
    p = fmaf(p, t, -0.003520972824f);
    p = fmaf(p, t, -0.007525402418f);
    p = fmaf(p, t, 0.06040618551f);
    p = fmaf(p, t, -0.1865233068f);
    p = fmaf(p, t, 0.3871366831f);
    p = fmaf(p, t, -0.6078965941f);
    p = fmaf(p, t, 0.7552851386f);
    *density = 0.398942280f * e;
    return p * over * e;
}
#else
static inline float exp_below(float x) { return expf(x); }
static inline float normal_tail(float a, float* density) {
    *density = 0.398942280f * expf(-0.5f * a * a);
    return 0.5f * erfcf(a * 0.707106781f);
}
#endif

// 1 / (1 + exp(-x)) and 1 minus it, neither by cancellation
static inline float sigmoid(float x, float* other) {
    const float a = fabsf(x), e = exp_below(a > 112 ? -112 : -a), d = 1 / (1 + e);
    *other = x > 0 ? e * d : d;
    return x > 0 ? d : e * d;
}

static inline float silu(float x, float* slope) {
    float other;
    const float s = sigmoid(x, &other);
    *slope = s * (1 + x * other);
    return x * s;
}

static inline float gelu(float x, float* slope) {
    float density;
    const float a = fabsf(x), tail = normal_tail(a > 15 ? 15 : a, &density);
    const float phi = x > 0 ? 1 - tail : tail;
    *slope = phi + x * density;
    return x * phi;
}

// x (1 + tanh(u)) / 2 is x sigmoid(2 u)
static inline float gelu_tanh(float x, float* slope) {
    const float b = 0.0713548163f, s = x * x;
    float other;
    const float v = sigmoid(x * (1.59576912f + b * s), &other);
    *slope = v + x * v * other * (1.59576912f + 3 * b * s);
    return x * v;
}
