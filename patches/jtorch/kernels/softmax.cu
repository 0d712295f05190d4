// Softmax of each row of x [rows, width] and its gradient; a block a row, float32 inside.
namespace card {

template <class T>
__global__ void softmax_rows(const T* in, T* out, int64_t width) {
    const T* x = in + (int64_t)blockIdx.x * width;
    T* y = out + (int64_t)blockIdx.x * width;
    float top = -INFINITY, total = 0;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) top = fmaxf(top, get(x[i]));
    top = block_max(top);
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) total += expf(get(x[i]) - top);
    const float scale = 1 / block_sum(total);
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) put(y + i, expf(get(x[i]) - top) * scale);
}

template <class T>
__global__ void softmax_rows_backward(const T* result, const T* grad, T* out, int64_t width) {
    const T *y = result + (int64_t)blockIdx.x * width, *g = grad + (int64_t)blockIdx.x * width;
    T* d = out + (int64_t)blockIdx.x * width;
    float dot = 0;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) dot += get(y[i]) * get(g[i]);
    dot = block_sum(dot);
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) put(d + i, get(y[i]) * (get(g[i]) - dot));
}

template <class T>
void softmax(const T* x, T* y, int64_t rows, int64_t width) {
    if (rows * width) LAUNCH(softmax_rows<T>, rows, threads_for(width), 0, x, y, width);
}

template <class T>
void softmax_backward(const T* y, const T* g, T* d, int64_t rows, int64_t width) {
    if (rows * width) LAUNCH(softmax_rows_backward<T>, rows, threads_for(width), 0, y, g, d, width);
}

}  // namespace card
