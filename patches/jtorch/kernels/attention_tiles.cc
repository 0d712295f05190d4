// What the attention kernels share: products of small tiles, 2^x and transposition, on vectors of the widest registers.
// GCC's vector extensions; without AVX-512 the same code runs on narrower vectors.
#include <omp.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace tiles {

#if defined(__AVX512F__)
constexpr int LANES = 16, VECTORS = 4, TALL = 8, LARGE = 6;  // 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8, VECTORS = 2, TALL = 4, LARGE = 4;  // 16 registers
#else
constexpr int LANES = 4, VECTORS = 2, TALL = 4, LARGE = 4;
#endif
constexpr int QUERIES = LANES * VECTORS, KEYS = 64;  // scores of one tile: 16 KiB, so that they stay in the L1 cache
typedef float vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t ifour __attribute__((vector_size(16)));
constexpr float LOG2E = 1.44269504088896340736f, INF = std::numeric_limits<float>::infinity();

static inline vec& at(float* p) { return *(vec*)p; }
static inline const vec& at(const float* p) { return *(const vec*)p; }
static inline vec all(float x) { return x - vec{}; }
static inline int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

// 2^x for x <= 0: relative error below 2e-7, 0 for -inf, NaN for NaN. Minimax polynomials for what is left of x.
static inline vec power2(vec x) {
#ifdef __AVX512DQ__
    const vec f = _mm512_reduce_ps(x, 1);  // x - floor(x); 0 for -inf
    vec p = f * 0.001867123181000352f + 0.009017044678330421f;
    p = p * f + 0.055799901485443115f;
    p = p * f + 0.24016445875167847f;
    p = p * f + 0.6931512951850891f;
    return _mm512_scalef_ps(p * f + 1.f, x);  // times 2^floor(x)
#else
    const ivec i = __builtin_convertvector(x < -126.f ? all(-126.f) : x - 0.5f, ivec);
    const vec f = x - __builtin_convertvector(i, vec);
    vec p = f * 0.001326472731307149f + 0.009671512991189957f;
    p = p * f + 0.05550733581185341f;
    p = p * f + 0.24022242426872253f;
    p = p * f + 0.6931470036506653f;
    const ivec bits = (i + 127) << 23;
    return x < -126.f ? vec{} : (p * f + 1.f) * (vec)bits;
#endif
}

enum { SET, ADD, SCALED };

// c[r][n] = sum over k of a[r*ar + k*ak] * b[k*ldb + n], for R rows and N vectors; ADD: + c, SCALED: + c * alpha[n].
template <int R, int N, int HOW>
static inline void block(int64_t depth, const float* a, int64_t ar, int64_t ak, const float* b, int64_t ldb, float* c,
                         int64_t ldc, const float* alpha) {
    vec s[R][N] = {};
    for (int64_t k = 0; k < depth; k++, a += ak, b += ldb) {
        vec y[N];
        for (int n = 0; n < N; n++) y[n] = at(b + n * LANES);
        for (int r = 0; r < R; r++)
            for (int n = 0; n < N; n++) s[r][n] += a[r * ar] * y[n];
    }
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) {
            vec& o = at(c + r * ldc + n * LANES);
            o = HOW == SET ? s[r][n] : HOW == ADD ? o + s[r][n] : o * at(alpha + n * LANES) + s[r][n];
        }
}

template <int R, int N, int HOW>
static inline void rows(int64_t m, int64_t depth, const float* a, int64_t ar, int64_t ak, const float* b, int64_t ldb,
                        float* c, int64_t ldc, const float* alpha) {
    int64_t r = 0;
    // Blocks of R and R - 1 rows where they come out even: a last one of few rows would read as much for less work.
    const int64_t blocks = (m + R - 1) / R;
    int64_t large = m - blocks * (R - 1);
    if (R > 4 && large >= 0) {
        for (; large > 0; large--, r += R) block<R, N, HOW>(depth, a + r * ar, ar, ak, b, ldb, c + r * ldc, ldc, alpha);
        for (; r < m; r += R - 1)
            block<(R > 4 ? R - 1 : 1), N, HOW>(depth, a + r * ar, ar, ak, b, ldb, c + r * ldc, ldc, alpha);
        return;
    }
    for (; r + R <= m; r += R) block<R, N, HOW>(depth, a + r * ar, ar, ak, b, ldb, c + r * ldc, ldc, alpha);
    if (R > 1 && r < m)
        rows<(R > 1 ? R / 2 : 1), N, HOW>(m - r, depth, a + r * ar, ar, ak, b, ldb, c + r * ldc, ldc, alpha);
}

// The same for m rows and any number of vectors. R * N independent sums hide the latency of the multiply-add.
template <int HOW>
static void product(int64_t m, int64_t vectors, int64_t depth, const float* a, int64_t ar, int64_t ak, const float* b,
                    int64_t ldb, float* c, int64_t ldc, const float* alpha = nullptr) {
    for (; vectors > 0; vectors -= VECTORS, b += QUERIES, c += QUERIES, alpha += HOW == SCALED ? QUERIES : 0) {
        if (vectors >= VECTORS) rows<LARGE, VECTORS, HOW>(m, depth, a, ar, ak, b, ldb, c, ldc, alpha);
        else if (vectors == 1) rows<8, 1, HOW>(m, depth, a, ar, ak, b, ldb, c, ldc, alpha);
        else if (vectors == 2) rows<TALL, 2, HOW>(m, depth, a, ar, ak, b, ldb, c, ldc, alpha);
        else rows<TALL, VECTORS - 1, HOW>(m, depth, a, ar, ak, b, ldb, c, ldc, alpha);
    }
}

// to[c*step + r] = from[r*stride + c] * scale
static inline void transpose(int64_t m, int64_t n, const float* from, int64_t stride, float* to, int64_t step,
                             float scale = 1.f) {
    int64_t r = 0;
    for (; r + 4 <= m; r += 4) {
        int64_t c = 0;
        for (; c + 4 <= n; c += 4) {
            const float* p = from + r * stride + c;
            const four x0 = *(const four*)p, x1 = *(const four*)(p + stride), x2 = *(const four*)(p + 2 * stride),
                       x3 = *(const four*)(p + 3 * stride);
            const four a = __builtin_shuffle(x0, x1, ifour{0, 4, 1, 5}), b = __builtin_shuffle(x0, x1, ifour{2, 6, 3, 7});
            const four d = __builtin_shuffle(x2, x3, ifour{0, 4, 1, 5}), e = __builtin_shuffle(x2, x3, ifour{2, 6, 3, 7});
            float* q = to + c * step + r;
            *(four*)q = __builtin_shuffle(a, d, ifour{0, 1, 4, 5}) * scale;
            *(four*)(q + step) = __builtin_shuffle(a, d, ifour{2, 3, 6, 7}) * scale;
            *(four*)(q + 2 * step) = __builtin_shuffle(b, e, ifour{0, 1, 4, 5}) * scale;
            *(four*)(q + 3 * step) = __builtin_shuffle(b, e, ifour{2, 3, 6, 7}) * scale;
        }
        for (; c < n; c++)
            for (int64_t i = r; i < r + 4; i++) to[c * step + i] = from[i * stride + c] * scale;
    }
    for (; r < m; r++)
        for (int64_t c = 0; c < n; c++) to[c * step + r] = from[r * stride + c] * scale;
}

// Floats of a thread, zero, on the boundary of a cache line.
struct Scratch {
    std::vector<float> memory;
    float* next;
    static constexpr int STEP = 80;
    explicit Scratch(int64_t n) : memory(n + 16 * STEP) { next = (float*)(((uintptr_t)memory.data() + 63) / 64 * 64); }
    float* take(int64_t n) {  // distances that are no powers of two, for the cache
        next += n + STEP;
        return next - n - STEP;
    }
};

// Adds a mask [n, m] (one row for all queries: stride 0) to the transposed scores and leaves out later keys.
static inline void restrict_scores(float* p, float* turned, int64_t width, int64_t n, int64_t m, const float* mask,
                                   int64_t stride, bool causal, int64_t first, int64_t key) {
    if (mask && stride) {
        transpose(n, m, mask + key, stride, turned, width, LOG2E);
        for (int64_t i = 0; i < m * width; i += LANES) at(p + i) += at(turned + i);
    } else if (mask) {
        for (int64_t j = 0; j < m; j++)
            for (int64_t i = 0; i < width; i += LANES) at(p + j * width + i) += all(mask[key + j] * LOG2E);
    }
    if (causal && key + m - 1 > first)
        for (int64_t j = 0; j < m; j++)
            for (int64_t i = 0; i < std::min(width, key + j - first); i++) p[j * width + i] = -INF;
}

// Dropout of a tile of transposed weights: times `factor` where the bit at `bit` + i * stride + j is set, else 0.
// NumPy's packbits order: the highest bit of a byte comes first.
static inline void drop(float* p, int64_t width, int64_t n, int64_t m, const uint8_t* bits, int64_t bit, int64_t stride,
                        float factor) {
    for (int64_t i = 0; i < n; i++, bit += stride)
        for (int64_t j = 0; j < m; j++) p[j * width + i] *= bits[(bit + j) >> 3] >> (7 - ((bit + j) & 7)) & 1 ? factor : 0.f;
}

}  // namespace tiles
