// attention.cu on tensor cores, for float16 and bfloat16 data and cards of compute capability 8.0 and up: the products of a
// tile are mma.m16n8k16 with sums in float32, the weights are rounded to the data's type in between (as FlashAttention 2
// does; Dao 2023). A warp has 16 queries; a lane holds numbers of two of them, g and g + 8, in the layout of the PTX ISA,
// in which the scores that one product leaves are already what the next one takes.
namespace card {

constexpr int MMA_ROWS = 16, MMA_KEYS = 64;

#ifdef __CUDACC__
// d [16, 8] += a [16, 16] b [16, 8]
template <class T>
__device__ void mma(float* d, const uint32_t* a, const uint32_t* b);

#if __CUDA_ARCH__ >= 800
#define MMA(type) \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, " \
                 "{%0,%1,%2,%3};" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#else
#define MMA(type) __trap()
#endif
template <>
__device__ inline void mma<__half>(float* d, const uint32_t* a, const uint32_t* b) { MMA("f16"); }
template <>
__device__ inline void mma<__nv_bfloat16>(float* d, const uint32_t* a, const uint32_t* b) { MMA("bf16"); }
#endif

// Two numbers side by side in a register, the first in its lower half.
template <class T>
__device__ uint32_t pair(T first, T second) {
    T both[2] = {first, second};
    uint32_t packed;
    memcpy(&packed, both, 4);
    return packed;
}

template <class T>
__device__ uint32_t rounded_pair(float first, float second) {
    T both[2];
    put(both, first);
    put(both + 1, second);
    return pair(both[0], both[1]);
}

template <class T>
__device__ uint32_t pair_at(const T* from) {
    uint32_t packed;
    memcpy(&packed, from, 4);
    return packed;
}

// Eight numbers that are moved at once.
template <class T>
struct alignas(16) Eight { T x[8]; };

// Whether all rows of a matrix begin where eight numbers can be read at once, and hold a multiple of eight.
template <class T>
__device__ bool in_eights(const T* data, int64_t row, int width) {
    return ((uintptr_t)data | (uintptr_t)(row * sizeof(T))) % 16 == 0 && width % 8 == 0;
}

// Numbers c to c + 8 of row r of `from`; zeros beyond `rows` and `width`.
template <class T>
__device__ Eight<T> eight_of(const T* from, int64_t stride, int64_t r, int64_t rows, int c, int width, bool together) {
    Eight<T> e;
    if (together && r < rows && c < width) return *(const Eight<T>*)(from + r * stride + c);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        if (r < rows && c + j < width) e.x[j] = from[r * stride + c + j];
        else put(e.x + j, 0.f);
    }
    return e;
}

// Rows of a tile; every row begins in another bank for the eight rows that are read together.
__host__ __device__ constexpr int mma_step(int numbers) { return numbers + 8; }

// DEPTH slices of 16 numbers of a key, WIDE slices of 8 numbers of a value.
template <int DEPTH, int WIDE, class T>
__global__ void attend_mma(const T* q, Place qs, const T* k, Place ks, const T* v, Place vs, T* o, Place os, float* lse,
                           Sizes z, Rules rules, float scale) {
    SHARED(memory);
    constexpr int key_step = mma_step(DEPTH * 16), value_step = mma_step(MMA_KEYS), mine = WARPS * MMA_ROWS;
    T *keys = (T*)memory, *values = keys + MMA_KEYS * key_step;  // [key][number] and, turned, [number][key]
    T nothing;
    put(&nothing, 0.f);
    const int64_t tiles = tiles_of(z.rows, mine), m = blockIdx.x / tiles, start = blockIdx.x % tiles * mine;
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const int64_t first = start + threadIdx.x / WARP * MMA_ROWS + g;
    const T *my_q = matrix(q, qs, z, m), *my_k = matrix(k, ks, z, m), *my_v = matrix(v, vs, z, m);
    const bool keys_together = in_eights(my_k, ks.row, z.width), values_together = in_eights(my_v, vs.row, z.wide);
    uint32_t a[DEPTH][4];
#pragma unroll
    for (int slice = 0; slice < DEPTH; slice++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int64_t row = first + i % 2 * 8;
            const int c = slice * 16 + 2 * t + i / 2 * 8;
            const T* from = my_q + row * qs.row + c;
            a[slice][i] = pair(row < z.rows && c < z.width ? from[0] : nothing,
                               row < z.rows && c + 1 < z.width ? from[1] : nothing);
        }
    float top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0}, out[WIDE][4];
#pragma unroll
    for (int w = 0; w < WIDE; w++)
#pragma unroll
        for (int i = 0; i < 4; i++) out[w][i] = 0;
    const int64_t last = rules.causal && start + mine < z.keys ? start + mine : z.keys;
    for (int64_t key = 0; key < last; key += MMA_KEYS) {
        __syncthreads();
        for (int i = threadIdx.x; i < MMA_KEYS * DEPTH * 2; i += blockDim.x) {
            const int r = i / (DEPTH * 2), c = i % (DEPTH * 2) * 8;
            *(Eight<T>*)(keys + r * key_step + c) = eight_of(my_k, ks.row, key + r, z.keys, c, z.width, keys_together);
        }
        // neighbouring threads take neighbouring keys here, so that turning them meets no bank twice
        for (int i = threadIdx.x; i < MMA_KEYS * WIDE; i += blockDim.x) {
            const int r = i % MMA_KEYS, c = i / MMA_KEYS * 8;
            const Eight<T> e = eight_of(my_v, vs.row, key + r, z.keys, c, z.wide, values_together);
#pragma unroll
            for (int j = 0; j < 8; j++) values[(c + j) * value_step + r] = e.x[j];
        }
        __syncthreads();
        const bool open = !rules.mask && !rules.causal && key + MMA_KEYS <= z.keys;  // every score of the tile counts
        float s[MMA_KEYS / 8][4], high[2] = {top[0], top[1]};
#pragma unroll
        for (int n = 0; n < MMA_KEYS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) s[n][i] = 0;
#pragma unroll
            for (int slice = 0; slice < DEPTH; slice++) {
                const T* from = keys + (n * 8 + g) * key_step + slice * 16 + 2 * t;
                const uint32_t b[2] = {pair_at(from), pair_at(from + 8)};
                mma<T>(s[n], a[slice], b);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[n][i] *= scale * LOG2E;
                if (!open) s[n][i] = restricted(s[n][i], rules, z, m, first + i / 2 * 8, key + n * 8 + 2 * t + i % 2);
                high[i / 2] = fmaxf(high[i / 2], s[n][i]);
            }
        }
        float shift[2], fade[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            high[h] = fmaxf(high[h], __shfl_xor_sync(0xffffffffu, high[h], 1));  // the four lanes of a row
            high[h] = fmaxf(high[h], __shfl_xor_sync(0xffffffffu, high[h], 2));
            shift[h] = high[h] == -INFINITY ? 0.f : high[h];
            fade[h] = exp2f(top[h] - shift[h]);
            top[h] = high[h];
            total[h] *= fade[h];
        }
#pragma unroll
        for (int n = 0; n < MMA_KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float p = exp2f(s[n][i] - shift[i / 2]);
                total[i / 2] += p;
                s[n][i] = p;
                if (rules.keep) s[n][i] *= kept(rules, z, m, first + i / 2 * 8, key + n * 8 + 2 * t + i % 2);
            }
#pragma unroll
        for (int w = 0; w < WIDE; w++)
#pragma unroll
            for (int i = 0; i < 4; i++) out[w][i] *= fade[i / 2];
#pragma unroll
        for (int slice = 0; slice < MMA_KEYS / 16; slice++) {
            const float *x = s[2 * slice], *y = s[2 * slice + 1];
            const uint32_t p[4] = {rounded_pair<T>(x[0], x[1]), rounded_pair<T>(x[2], x[3]), rounded_pair<T>(y[0], y[1]),
                                   rounded_pair<T>(y[2], y[3])};
#pragma unroll
            for (int w = 0; w < WIDE; w++) {
                const T* from = values + (w * 8 + g) * value_step + slice * 16 + 2 * t;
                const uint32_t b[2] = {pair_at(from), pair_at(from + 8)};
                mma<T>(out[w], p, b);
            }
        }
    }
    T* to = o + m / z.heads * os.batch + m % z.heads * os.head;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        total[h] += __shfl_xor_sync(0xffffffffu, total[h], 1);
        total[h] += __shfl_xor_sync(0xffffffffu, total[h], 2);
        const int64_t row = first + h * 8;
        if (row < z.rows) {
            const float part = total[h] == 0 ? 0.f : 1 / total[h];
            if (t == 0) lse[m * z.rows + row] = total[h] == 0 ? INFINITY : top[h] + log2f(total[h]);
#pragma unroll
            for (int w = 0; w < WIDE; w++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int c = w * 8 + 2 * t + i;
                    if (c < z.wide) put(to + row * os.row + c, out[w][2 * h + i] * part);
                }
        }
    }
}

// Keys and values up to 16 DEPTH numbers wide; nothing empty.
template <int DEPTH, class T>
void attention_mma(const T* q, Place qs, const T* k, Place ks, const T* v, Place vs, T* o, Place os, float* lse, Sizes z,
                   Rules rules, float scale) {
    constexpr int wide = 2 * DEPTH;
    constexpr size_t bytes = sizeof(T) * (MMA_KEYS * mma_step(DEPTH * 16) + wide * 8 * mma_step(MMA_KEYS));
    auto kernel = attend_mma<DEPTH, wide, T>;
    LAUNCH(kernel, z.batch * z.heads * tiles_of(z.rows, WARPS * MMA_ROWS), WARPS * WARP, bytes, q, qs, k, ks, v, vs, o, os,
           lse, z, rules, scale);
}

}  // namespace card
