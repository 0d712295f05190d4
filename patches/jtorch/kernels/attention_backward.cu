// Gradients of attention.cu: the weights are made again from the scores and lse (Dao et al. 2022, algorithm 4). One kernel
// goes over the queries for dQ and one over the keys for dK and dV, so that nothing is added atomically and every run gives
// the same numbers. delta [batch * heads * rows]: scratch memory for dO . O of each row.
namespace card {

template <class T>
__global__ void attend_delta(const T* o, Place os, const T* g, Place gs, float* delta, Sizes z) {
    const int64_t i = (int64_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (i >= z.batch * z.heads * z.rows) return;
    const int64_t m = i / z.rows, row = i % z.rows;
    const T *a = matrix(o, os, z, m) + row * os.row, *b = matrix(g, gs, z, m) + row * gs.row;
    float sum = 0;
    for (int c = threadIdx.x % WARP; c < z.wide; c += WARP) sum += get(a[c]) * get(b[c]);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) delta[i] = sum;
}

// A warp has N queries, its lanes a key each.
template <int COLUMNS, int N, class T>
__global__ void attend_queries(const T* q, Place qs, const T* k, Place ks, const T* v, Place vs, const T* g, Place gs,
                               const float* lse, const float* delta, T* dq, Sizes z, Rules rules, float scale) {
    SHARED(memory);
    const int mine = WARPS * N, key_step = COLUMNS * WARP + 1, value_step = z.wide | 1;
    float *queries = memory, *grads = queries + mine * z.width, *keys = grads + mine * z.wide;
    float* values = keys + TILE * key_step;
    const int64_t tiles = tiles_of(z.rows, mine), m = blockIdx.x / tiles, start = blockIdx.x % tiles * mine;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int64_t first = start + warp * N;
    load_rows(matrix(q, qs, z, m), qs.row, start, z.rows, mine, z.width, queries, z.width, scale * LOG2E);
    load_rows(matrix(g, gs, z, m), gs.row, start, z.rows, mine, z.wide, grads, z.wide);
    float sums[N][COLUMNS], scales[N], low[N], mean[N];
    for (int i = 0; i < N; i++) {
        const bool there = first + i < z.rows;
        low[i] = there ? lse[m * z.rows + first + i] : INFINITY;
        mean[i] = there ? delta[m * z.rows + first + i] : 0.f;
        scales[i] = scale;
        for (int j = 0; j < COLUMNS; j++) sums[i][j] = 0;
    }
    const int64_t last = rules.causal && start + mine < z.keys ? start + mine : z.keys;
    for (int64_t key = 0; key < last; key += TILE) {
        __syncthreads();
        load_rows(matrix(k, ks, z, m), ks.row, key, z.keys, TILE, z.width, keys, key_step);
        load_rows(matrix(v, vs, z, m), vs.row, key, z.keys, TILE, z.wide, values, value_step);
        __syncthreads();
        float weights[N], slopes[N];
        products<N>(queries + warp * N * z.width, keys, key_step, z.width, weights);
        products<N>(grads + warp * N * z.wide, values, value_step, z.wide, slopes);
        for (int i = 0; i < N; i++) {
            const float p = exp2f(restricted(weights[i], rules, z, m, first + i, key + lane) - low[i]);
            weights[i] = p * (slopes[i] * kept(rules, z, m, first + i, key + lane) - mean[i]);
        }
        accumulate<N, COLUMNS>(weights, keys, key_step, sums);
    }
    store_rows<N, COLUMNS>(sums, scales, dq + m / z.heads * qs.batch + m % z.heads * qs.head, qs.row, first, z.rows, z.width);
}

// A warp has N keys, its lanes a query each.
template <int COLUMNS, int WIDE, int N, class T>
__global__ void attend_keys(const T* q, Place qs, const T* k, Place ks, const T* v, Place vs, const T* g, Place gs,
                            const float* lse, const float* delta, T* dk, T* dv, Sizes z, Rules rules, float scale) {
    SHARED(memory);
    const int mine = WARPS * N, query_step = COLUMNS * WARP + 1, grad_step = WIDE * WARP + 1;
    float *keys = memory, *values = keys + mine * z.width, *queries = values + mine * z.wide;
    float* grads = queries + TILE * query_step;
    const int64_t tiles = tiles_of(z.keys, mine), m = blockIdx.x / tiles, start = blockIdx.x % tiles * mine;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int64_t first = start + warp * N;
    load_rows(matrix(k, ks, z, m), ks.row, start, z.keys, mine, z.width, keys, z.width);
    load_rows(matrix(v, vs, z, m), vs.row, start, z.keys, mine, z.wide, values, z.wide);
    float key_sums[N][COLUMNS], value_sums[N][WIDE], key_scales[N], value_scales[N];
    for (int i = 0; i < N; i++) {
        key_scales[i] = LN2;  // the queries in shared memory hold scale * log2(e)
        value_scales[i] = 1;
        for (int j = 0; j < COLUMNS; j++) key_sums[i][j] = 0;
        for (int j = 0; j < WIDE; j++) value_sums[i][j] = 0;
    }
    for (int64_t row = rules.causal ? start / TILE * TILE : 0; row < z.rows; row += TILE) {
        __syncthreads();
        load_rows(matrix(q, qs, z, m), qs.row, row, z.rows, TILE, z.width, queries, query_step, scale * LOG2E);
        load_rows(matrix(g, gs, z, m), gs.row, row, z.rows, TILE, z.wide, grads, grad_step);
        __syncthreads();
        const bool there = row + lane < z.rows;
        const float low = there ? lse[m * z.rows + row + lane] : INFINITY;
        const float mean = there ? delta[m * z.rows + row + lane] : 0.f;
        float weights[N], slopes[N];
        products<N>(keys + warp * N * z.width, queries, query_step, z.width, weights);
        products<N>(values + warp * N * z.wide, grads, grad_step, z.wide, slopes);
        for (int i = 0; i < N; i++) {
            const float p = exp2f(restricted(weights[i], rules, z, m, row + lane, first + i) - low);
            const float keep = kept(rules, z, m, row + lane, first + i);
            weights[i] = p * keep;
            slopes[i] = p * (slopes[i] * keep - mean);
        }
        accumulate<N, COLUMNS>(slopes, queries, query_step, key_sums);
        accumulate<N, WIDE>(weights, grads, grad_step, value_sums);
    }
    store_rows<N, COLUMNS>(key_sums, key_scales, dk + m / z.heads * ks.batch + m % z.heads * ks.head, ks.row, first, z.keys,
                           z.width);
    store_rows<N, WIDE>(value_sums, value_scales, dv + m / z.heads * vs.batch + m % z.heads * vs.head, vs.row, first, z.keys,
                        z.wide);
}

// dQ, dK, dV are stored like Q, K, V. Queries, keys and values no wider than 32 COLUMNS, nothing empty.
template <int COLUMNS, int N, class T>
void attention_backward_sized(const T* q, Place qs, const T* k, Place ks, const T* v, Place vs, const T* o, Place os,
                              const float* lse, const T* g, Place gs, float* delta, T* dq, T* dk, T* dv, Sizes z,
                              Rules rules, float scale) {
    LAUNCH(attend_delta<T>, tiles_of(z.batch * z.heads * z.rows, WARPS), WARPS * WARP, 0, o, os, g, gs, delta, z);
    const size_t rows = WARPS * N * (z.width + z.wide), matrices = z.batch * z.heads;
    const size_t for_queries = rows + TILE * (COLUMNS * WARP + 1 + (z.wide | 1));
    const size_t for_keys = rows + TILE * (2 * COLUMNS * WARP + 2);
    auto queries = attend_queries<COLUMNS, N, T>;
    LAUNCH(queries, matrices * tiles_of(z.rows, WARPS * N), WARPS * WARP, for_queries * sizeof(float), q, qs, k, ks, v, vs, g,
           gs, lse, delta, dq, z, rules, scale);
    auto keys = attend_keys<COLUMNS, COLUMNS, N, T>;
    LAUNCH(keys, matrices * tiles_of(z.keys, WARPS * N), WARPS * WARP, for_keys * sizeof(float), q, qs, k, ks, v, vs, g, gs,
           lse, delta, dk, dv, z, rules, scale);
}

// Heads no wider than WIDEST.
template <class T>
void attention_backward(const T* q, Place qs, const T* k, Place ks, const T* v, Place vs, const T* o, Place os,
                        const float* lse, const T* g, Place gs, float* delta, T* dq, T* dk, T* dv, Sizes z, Rules rules,
                        float scale) {
    const auto run = [&](auto sized) {
        sized(q, qs, k, ks, v, vs, o, os, lse, g, gs, delta, dq, dk, dv, z, rules, scale);
    };
    const int widest = z.width > z.wide ? z.width : z.wide;
    if (widest <= 32) run(attention_backward_sized<1, 8, T>);
    else if (widest <= 64) run(attention_backward_sized<2, 8, T>);
    else if (widest <= 96) run(attention_backward_sized<3, 4, T>);
    else run(attention_backward_sized<5, 4, T>);
}

}  // namespace card
