// What the CUDA attention kernels share: places, the rules for scores, and tiles in shared memory.
#pragma once
namespace card {

constexpr int WARPS = 4, TILE = 32;  // warps of a block; rows of the side that lies along the lanes
constexpr float LOG2E = 1.44269504f, LN2 = 0.693147181f;
constexpr int WIDEST = 160;  // of a head: beyond it the tiles do not fit every card's shared memory

// How far apart, in numbers, batch entries, heads and rows are; the numbers of a row lie side by side.
struct Place { int64_t batch, head, row; };

// Batch entries, heads, queries, keys; numbers in a row of queries and keys, and of values.
struct Sizes {
    int64_t batch, heads, rows, keys;
    int width, wide;
};

// mask [mask_batch, mask_rows or 1, keys] or null; keep: a bit for each weight that dropout keeps (NumPy's packbits order),
// or null, and the factor on those kept.
struct Rules {
    const float* mask;
    const uint8_t* keep;
    int64_t mask_batch, mask_rows;
    float factor;
    bool causal;
};

// The score of a query and a key in base 2, -infinity where the key is left out.
__device__ inline float restricted(float score, const Rules& rules, const Sizes& z, int64_t m, int64_t row, int64_t key) {
    if (row >= z.rows || key >= z.keys || (rules.causal && key > row)) return -INFINITY;
    if (!rules.mask) return score;
    const int64_t line = m * rules.mask_batch / (z.batch * z.heads) * rules.mask_rows + (rules.mask_rows == 1 ? 0 : row);
    return score + rules.mask[line * z.keys + key] * LOG2E;
}

// What dropout multiplies a weight with.
__device__ inline float kept(const Rules& rules, const Sizes& z, int64_t m, int64_t row, int64_t key) {
    if (!rules.keep) return 1;
    if (row >= z.rows || key >= z.keys) return 0;
    const int64_t bit = (m * z.rows + row) * z.keys + key;
    return rules.keep[bit >> 3] >> (7 - (bit & 7)) & 1 ? rules.factor : 0.f;
}

template <class T>
__device__ const T* matrix(const T* data, const Place& place, const Sizes& z, int64_t m) {
    return data + m / z.heads * place.batch + m % z.heads * place.head;
}

// `count` rows from `first` on, of `n` in all, `width` numbers each, times `scale`, into rows of `step` floats; zeros beyond.
template <class T>
__device__ void load_rows(const T* from, int64_t stride, int64_t first, int64_t n, int count, int width, float* to, int step,
                          float scale = 1.f) {
    for (int i = threadIdx.x; i < count * step; i += blockDim.x) {
        const int r = i / step, c = i % step;
        to[i] = first + r < n && c < width ? get(from[(first + r) * stride + c]) * scale : 0.f;
    }
}

// dots[i] = row i of `mine` (N rows of `width`, the same for the whole warp) . the lane's row of `tile`
template <int N>
__device__ void products(const float* mine, const float* tile, int step, int width, float* dots) {
    const float* row = tile + threadIdx.x % WARP * step;
    for (int i = 0; i < N; i++) dots[i] = 0;
    for (int c = 0; c < width; c++) {
        const float x = row[c];
        for (int i = 0; i < N; i++) dots[i] += mine[i * width + c] * x;
    }
}

// sums[i][j] += sum over the lanes t of weights[i] * number (lane + 32 j) of row t of `tile`
template <int N, int COLUMNS>
__device__ void accumulate(const float* weights, const float* tile, int step, float (*sums)[COLUMNS]) {
    for (int t = 0; t < WARP; t++) {
        const float* row = tile + t * step + threadIdx.x % WARP;
        float x[COLUMNS];
        for (int j = 0; j < COLUMNS; j++) x[j] = row[j * WARP];
        for (int i = 0; i < N; i++) {
            const float weight = __shfl_sync(0xffffffffu, weights[i], t);
            for (int j = 0; j < COLUMNS; j++) sums[i][j] += weight * x[j];
        }
    }
}

template <int N, int COLUMNS, class T>
__device__ void store_rows(const float (*sums)[COLUMNS], const float* scales, T* to, int64_t stride, int64_t first, int64_t n,
                           int width) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < COLUMNS; j++) {
            const int c = threadIdx.x % WARP + j * WARP;
            if (first + i < n && c < width) put(to + (first + i) * stride + c, sums[i][j] * scales[i]);
        }
}

__host__ __device__ inline int64_t tiles_of(int64_t rows, int tile) { return (rows + tile - 1) / tile; }

}  // namespace card
