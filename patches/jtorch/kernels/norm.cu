// Rows of x [rows, width] to mean 0 and variance 1, * weight + bias by channel, then nothing or SiLU; and the gradients. A
// block a row, statistics in float32 from two passes. A row holds width / inner channels of `inner` values each; row r starts
// at channel (r % groups) * width / inner. Layer norm: inner = groups = 1. Weight and bias may be missing.
namespace card {

// Uses sigmoid of activation.cu.
__device__ inline float silu_slope(float x) {
    float other;
    const float s = sigmoid(x, &other);
    return s * (1 + x * other);
}

__device__ inline float silu_value(float x) {
    float other;
    return x * sigmoid(x, &other);
}

template <bool SILU, class T, class W>
__global__ void norm_rows(const T* in, const W* weight, const W* bias, T* out, float* means, float* scales, int64_t width,
                          int64_t inner, int64_t groups, float eps) {
    const int64_t r = blockIdx.x, first = r % groups * (width / inner);
    const T* x = in + r * width;
    T* y = out + r * width;
    float sum = 0;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) sum += get(x[i]);
    const float near = block_sum(sum) / width;
    // the second pass also sums what rounding left of the mean
    float rest = 0, square = 0;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
        const float d = get(x[i]) - near;
        rest += d;
        square += d * d;
    }
    rest = block_sum(rest) / width;
    square = block_sum(square) / width;
    const float mean = near + rest, scale = 1 / sqrtf(fmaxf(square - rest * rest, 0.f) + eps);
    if (threadIdx.x == 0) {
        means[r] = mean;
        scales[r] = scale;
    }
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
        const int64_t c = first + i / inner;
        const float v = (get(x[i]) - mean) * (scale * get_or(weight, c, 1.f)) + get_or(bias, c, 0.f);
        put(y + i, SILU ? silu_value(v) : v);
    }
}

// The gradient of x; with SILU also, where asked, that of what SiLU got.
template <bool SILU, class T, class W>
__global__ void norm_rows_backward(const T* in, const T* grad, const float* means, const float* scales, const W* weight,
                                   const W* bias, T* out, T* inside, int64_t width, int64_t inner, int64_t groups) {
    const int64_t r = blockIdx.x, first = r % groups * (width / inner);
    const T *x = in + r * width, *g = grad + r * width;
    const float mean = means[r], scale = scales[r];
    const auto through = [&](int64_t i, float e, float w) {
        const float h = get(g[i]);
        return SILU ? h * silu_slope(e * scale * w + get_or(bias, first + i / inner, 0.f)) : h;
    };
    float sum = 0, dot = 0;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
        const float e = get(x[i]) - mean, w = get_or(weight, first + i / inner, 1.f), h = through(i, e, w) * w;
        sum += h;
        dot += h * e;
    }
    const float shift = block_sum(sum) / width, slope = block_sum(dot) / width * scale * scale;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
        const float e = get(x[i]) - mean, w = get_or(weight, first + i / inner, 1.f), h = through(i, e, w);
        if (inside) put(inside + r * width + i, h);
        put(out + r * width + i, scale * (h * w - shift - e * slope));
    }
}

// The gradients of weight and bias where a channel's values lie together: a block a channel.
template <class T>
__global__ void norm_channels(const T* x, const T* g, const float* means, const float* scales, float* dw, float* db,
                              int64_t rows, int64_t width, int64_t inner, int64_t groups) {
    const int64_t channels = width / inner, c = blockIdx.x;
    float w = 0, b = 0;
    for (int64_t r = c / channels; r < rows; r += groups) {
        const int64_t at = r * width + c % channels * inner;
        float part = 0;
        for (int64_t i = threadIdx.x; i < inner; i += blockDim.x) {
            const float h = get(g[at + i]);
            b += h;
            part += h * (get(x[at + i]) - means[r]);
        }
        w += part * scales[r];
    }
    w = block_sum(w);
    b = block_sum(b);
    if (threadIdx.x == 0) {
        dw[c] = w;
        db[c] = b;
    }
}

// The same for layer norm: a warp reads neighbouring columns, the warps of a block share the rows.
template <class T>
__global__ void norm_columns(const T* x, const T* g, const float* means, const float* scales, float* dw, float* db,
                             int64_t rows, int64_t width) {
    __shared__ float ws[WARP][WARP], bs[WARP][WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    const int64_t c = (int64_t)blockIdx.x * WARP + lane;
    float w = 0, b = 0;
    if (c < width)
        for (int64_t r = warp; r < rows; r += warps) {
            const float h = get(g[r * width + c]);
            b += h;
            w += h * (get(x[r * width + c]) - means[r]) * scales[r];
        }
    ws[warp][lane] = w;
    bs[warp][lane] = b;
    __syncthreads();
    if (warp == 0 && c < width) {
        for (int i = 1; i < warps; i++) {
            w += ws[i][lane];
            b += bs[i][lane];
        }
        dw[c] = w;
        db[c] = b;
    }
}

template <bool SILU, class T, class W>
void norm(const T* x, const W* weight, const W* bias, T* y, float* mean, float* scale, int64_t rows, int64_t width,
          int64_t inner, int64_t groups, double eps) {
    auto kernel = norm_rows<SILU, T, W>;
    if (rows * width)
        LAUNCH(kernel, rows, threads_for(width), 0, x, weight, bias, y, mean, scale, width, inner, groups, (float)eps);
}

template <bool SILU, class T, class W>
void norm_backward(const T* x, const T* g, const float* mean, const float* scale, const W* weight, const W* bias, T* d,
                   T* inside, int64_t rows, int64_t width, int64_t inner, int64_t groups) {
    auto kernel = norm_rows_backward<SILU, T, W>;
    if (rows * width)
        LAUNCH(kernel, rows, threads_for(width), 0, x, g, mean, scale, weight, bias, d, inside, width, inner, groups);
}

template <class T>
void norm_weights(const T* x, const T* g, const float* mean, const float* scale, float* dw, float* db, int64_t rows,
                  int64_t width, int64_t inner, int64_t groups) {
    if (inner == 1 && groups == 1)
        LAUNCH(norm_columns<T>, (width + WARP - 1) / WARP, 1024, 0, x, g, mean, scale, dw, db, rows, width);
    else
        LAUNCH(norm_channels<T>, width / inner * groups, threads_for(inner), 0, x, g, mean, scale, dw, db, rows, width,
               inner, groups);
}

}  // namespace card
