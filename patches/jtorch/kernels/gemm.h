// C = alpha op(A) op(B) + beta C in float32, row-major, by oneDNN's sgemm on pieces of C, one for each thread; with
// `bias` [n] instead of beta: C = alpha op(A) op(B) + bias in each row. oneDNN's own division of the work falls to three
// quarters of its speed where k is several times n; this one does not.
#include <dnnl.h>
#include <omp.h>
#include <algorithm>
#include <cstdint>
#include <cstring>
static inline void gemm(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                        const float* b, int64_t ldb, float beta, float* c, int64_t ldc, const float* bias = nullptr) {
    if (bias) beta = 1.f;
    // Each thread lays out its rows of op(A) and columns of op(B) anew: the grid with the shortest sides copies least.
    int rows = 1, columns = 1;
    const int threads = m * n * k < (1 << 18) || omp_in_parallel() ? 1 : omp_get_max_threads();
    double least = 1e30;
    for (int t = 1; t <= threads; t++) {
        if (threads % t) continue;
        const double sides = double(m) / t + double(n) * t / threads;
        const bool thin = (t > 1 && m < 16 * t) || (threads / t > 1 && n < 16 * (threads / t));
        if (sides + (thin ? 1e15 : 0) < least) least = sides + (thin ? 1e15 : 0), rows = t, columns = threads / t;
    }
    auto piece = [&](int i, int j) {
        // Cuts at multiples of 16 keep vectors and cache lines whole.
        auto cut = [](int64_t size, int i, int of) { return i == of ? size : std::min(size, (size * i / of + 15) / 16 * 16); };
        const int64_t top = cut(m, i, rows), end = cut(m, i + 1, rows);
        const int64_t left = cut(n, j, columns), right = cut(n, j + 1, columns);
        if (top >= end || left >= right) return;
        if (bias)
            for (int64_t r = top; r < end; r++) memcpy(c + r * ldc + left, bias + left, (right - left) * sizeof(float));
        dnnl_sgemm(ta, tb, end - top, right - left, k, alpha, a + (ta == 'T' ? top : top * lda), lda,
                   b + (tb == 'T' ? left * ldb : left), ldb, beta, c + top * ldc + left, ldc);
    };
    // No region at all for one piece: libgomp starts new threads for a region inside another, even one of a single thread.
    if (rows * columns == 1) return piece(0, 0);
    #pragma omp parallel for schedule(static, 1)
    for (int p = 0; p < rows * columns; p++) piece(p / columns, p % columns);
}
