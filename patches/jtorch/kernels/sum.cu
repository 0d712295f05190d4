// Sum over the middle axis of x [outer, count, inner] -> y [outer, inner]; added up in double.
namespace card {

// A block a result: the values of one lie together.
template <class T>
__global__ void sum_row(const T* x, T* y, int64_t count) {
    __shared__ double sums[BLOCK];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += BLOCK) sum += get(x[blockIdx.x * count + i]);
    sums[threadIdx.x] = sum;
    for (int half = BLOCK / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) put(y + blockIdx.x, (float)sums[0]);
}

// A warp reads neighbouring columns, the warps of a block share the middle axis.
template <class T>
__global__ void sum_columns(const T* x, T* y, int64_t count, int64_t inner) {
    __shared__ double sums[BLOCK / WARP][WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int64_t strips = (inner + WARP - 1) / WARP, a = blockIdx.x / strips, c = blockIdx.x % strips * WARP + lane;
    double sum = 0;
    if (c < inner)
        for (int64_t i = warp; i < count; i += BLOCK / WARP) sum += get(x[(a * count + i) * inner + c]);
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && c < inner) {
        for (int i = 1; i < BLOCK / WARP; i++) sum += sums[i][lane];
        put(y + a * inner + c, (float)sum);
    }
}

template <class T>
void sum_middle(const T* x, T* y, int64_t outer, int64_t count, int64_t inner) {
    if (!outer || !inner) return;
    if (inner == 1) LAUNCH(sum_row<T>, outer, BLOCK, 0, x, y, count);
    else LAUNCH(sum_columns<T>, outer * ((inner + WARP - 1) / WARP), BLOCK, 0, x, y, count, inner);
}

}  // namespace card
