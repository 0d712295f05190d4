// One step of Adam or AdamW, the joint norm, and scaling, over lists of float32 tensors given by the addresses of their data
// on the card. The tables are those of adamw.cc, gradnorm.cc and gradnorm_scale.cc: a row a tensor. SHARE blocks share a row.
namespace card {

constexpr int SHARE = 32;

#define VALUES(i, n) \
    for (int64_t i = (int64_t)(blockIdx.x % SHARE) * blockDim.x + threadIdx.x; i < n; i += (int64_t)SHARE * blockDim.x)

// Old and new place of a value may be the same.
static __global__ void adam_rows(const int64_t* table, const double* options) {
    const int64_t* at = table + blockIdx.x / SHARE * 10;
    const double* o = options + blockIdx.x / SHARE * 8;
    const float *g = (const float*)at[1], *p = (const float*)at[2], *m = (const float*)at[4], *v = (const float*)at[6];
    const float* x = (const float*)at[8];
    float *new_p = (float*)at[3], *new_m = (float*)at[5], *new_v = (float*)at[7], *new_x = (float*)at[9];
    const float weight = o[0], rest = 1 - o[0], beta2 = o[1], weight2 = 1 - o[1], eps = o[2], rate = -o[3], root = o[4];
    const float factor = o[5], decay = o[6], sign = o[7];
    const bool light = o[0] < 0.5;
    VALUES(i, at[0]) {
        float grad = sign * g[i];
        if (decay != 0) grad += decay * p[i];
        const float mean = light ? m[i] + weight * (grad - m[i]) : grad - (grad - m[i]) * rest;
        float square = beta2 * v[i] + weight2 * grad * grad;
        new_m[i] = mean;
        new_v[i] = square;
        if (x) new_x[i] = square = x[i] > square || x[i] != x[i] ? x[i] : square;
        new_p[i] = factor * p[i] + rate * mean / (sqrtf(square) / root + eps);
    }
}

// parts [blocks]: a block's sum of squares, in double: a float32 square overflows from 2e19 on.
static __global__ void square_rows(const int64_t* table, double* parts) {
    __shared__ double sums[BLOCK];
    const int64_t* at = table + blockIdx.x / SHARE * 2;
    const float* x = (const float*)at[1];
    double sum = 0;
    VALUES(i, at[0]) sum += (double)x[i] * x[i];
    sums[threadIdx.x] = sum;
    for (int half = BLOCK / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) parts[blockIdx.x] = sums[0];
}

static __global__ void sum_parts(const double* parts, double* total, int64_t n) {
    __shared__ double sums[BLOCK];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += BLOCK) sum += parts[i];
    sums[threadIdx.x] = sum;
    for (int half = BLOCK / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) *total = sums[0];
}

static __global__ void scale_rows(const int64_t* table, float factor) {
    const int64_t* at = table + blockIdx.x / SHARE * 3;
    const float* x = (const float*)at[1];
    float* y = (float*)at[2];
    VALUES(i, at[0]) y[i] = x[i] * factor;
}

inline void adam(const int64_t* table, const double* options, int64_t rows) {
    if (rows) LAUNCH(adam_rows, rows * SHARE, BLOCK, 0, table, options);
}

// total [1]; parts: scratch memory of 32 numbers a row
inline void square_sum(const int64_t* table, int64_t rows, double* total, double* parts) {
    if (rows) LAUNCH(square_rows, rows * SHARE, BLOCK, 0, table, parts);
    LAUNCH(sum_parts, 1, BLOCK, 0, parts, total, rows * SHARE);
}

inline void scale(const int64_t* table, int64_t rows, float factor) {
    if (rows) LAUNCH(scale_rows, rows * SHARE, BLOCK, 0, table, factor);
}

}  // namespace card
