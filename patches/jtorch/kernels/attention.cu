// softmax(scale * Q K^T + mask) V without the [rows, keys] matrix (FlashAttention's online softmax, Dao et al. 2022,
// algorithm 1), float32 inside. A warp has N queries, its lanes a key each, and then a column of the result each.
// lse: log2 of the sum of 2^(score * log2(e)), infinity for a row without keys: its result is 0.
namespace card {

template <int COLUMNS, int N, class T>
__global__ void attend(const T* q, Place qs, const T* k, Place ks, const T* v, Place vs, T* o, Place os, float* lse, Sizes z,
                       Rules rules, float scale) {
    SHARED(memory);
    const int mine = WARPS * N, step = z.width | 1;  // an odd step: the lanes' rows begin in different banks
    float *queries = memory, *tile = memory + mine * z.width;
    const int64_t tiles = tiles_of(z.rows, mine), m = blockIdx.x / tiles, start = blockIdx.x % tiles * mine;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int64_t first = start + warp * N;
    load_rows(matrix(q, qs, z, m), qs.row, start, z.rows, mine, z.width, queries, z.width, scale * LOG2E);
    float top[N], total[N], out[N][COLUMNS];
    for (int i = 0; i < N; i++) {
        top[i] = -INFINITY;
        total[i] = 0;
        for (int j = 0; j < COLUMNS; j++) out[i][j] = 0;
    }
    const int64_t last = rules.causal && start + mine < z.keys ? start + mine : z.keys;
    for (int64_t key = 0; key < last; key += TILE) {
        __syncthreads();
        load_rows(matrix(k, ks, z, m), ks.row, key, z.keys, TILE, z.width, tile, step);
        __syncthreads();
        float weights[N];
        products<N>(queries + warp * N * z.width, tile, step, z.width, weights);
        __syncthreads();
        load_rows(matrix(v, vs, z, m), vs.row, key, z.keys, TILE, z.wide, tile, COLUMNS * WARP);
        __syncthreads();
        for (int i = 0; i < N; i++) {
            const float s = restricted(weights[i], rules, z, m, first + i, key + lane);
            const float high = fmaxf(top[i], warp_max(s)), shift = high == -INFINITY ? 0.f : high;
            const float fade = exp2f(top[i] - shift), p = exp2f(s - shift);
            total[i] = total[i] * fade + warp_sum(p);
            top[i] = high;
            weights[i] = p * kept(rules, z, m, first + i, key + lane);
            for (int j = 0; j < COLUMNS; j++) out[i][j] *= fade;
        }
        accumulate<N, COLUMNS>(weights, tile, COLUMNS * WARP, out);
    }
    float part[N];
    for (int i = 0; i < N; i++) {
        part[i] = total[i] == 0 ? 0.f : 1 / total[i];
        if (lane == 0 && first + i < z.rows)
            lse[m * z.rows + first + i] = total[i] == 0 ? INFINITY : top[i] + log2f(total[i]);
    }
    T* to = o + m / z.heads * os.batch + m % z.heads * os.head;
    store_rows<N, COLUMNS>(out, part, to, os.row, first, z.rows, z.wide);
}

template <int COLUMNS, int N, class T>
void attention_sized(const T* q, Place qs, const T* k, Place ks, const T* v, Place vs, T* o, Place os, float* lse, Sizes z,
                     Rules rules, float scale) {
    const int step = z.width | 1;
    const size_t floats = WARPS * N * z.width + TILE * (step > COLUMNS * WARP ? step : COLUMNS * WARP);
    auto kernel = attend<COLUMNS, N, T>;
    LAUNCH(kernel, z.batch * z.heads * tiles_of(z.rows, WARPS * N), WARPS * WARP, floats * sizeof(float), q, qs, k, ks, v, vs,
           o, os, lse, z, rules, scale);
}

// Heads no wider than WIDEST, nothing empty.
template <class T>
void attention(const T* q, Place qs, const T* k, Place ks, const T* v, Place vs, T* o, Place os, float* lse, Sizes z,
               Rules rules, float scale) {
    switch ((z.wide + WARP - 1) / WARP) {
    case 1: return attention_sized<1, 8>(q, qs, k, ks, v, vs, o, os, lse, z, rules, scale);
    case 2: return attention_sized<2, 8>(q, qs, k, ks, v, vs, o, os, lse, z, rules, scale);
    case 3: return attention_sized<3, 8>(q, qs, k, ks, v, vs, o, os, lse, z, rules, scale);
    case 4: return attention_sized<4, 4>(q, qs, k, ks, v, vs, o, os, lse, z, rules, scale);
    default: return attention_sized<5, 4>(q, qs, k, ks, v, vs, o, os, lse, z, rules, scale);
    }
}

}  // namespace card
