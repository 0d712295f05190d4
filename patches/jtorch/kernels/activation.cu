// Activations, plain and as gates of a second half, with their gradients; float32 inside. The same formulas as
// activation_math.cc: nothing is lost to cancellation far from zero.
namespace card {

__device__ inline float sigmoid(float x, float* other) {
    const float e = expf(-fabsf(x)), d = 1 / (1 + e);
    *other = x > 0 ? e * d : d;
    return x > 0 ? d : e * d;
}

struct Silu {
    __device__ float operator()(float x, float* slope) const {
        float other;
        const float s = sigmoid(x, &other);
        *slope = s * (1 + x * other);
        return x * s;
    }
};

struct Gelu {
    __device__ float operator()(float x, float* slope) const {
        const float phi = 0.5f * erfcf(-0.707106781f * x);
        *slope = phi + x * 0.398942280f * expf(-0.5f * x * x);
        return x * phi;
    }
};

// x (1 + tanh(u)) / 2 is x sigmoid(2 u)
struct GeluTanh {
    __device__ float operator()(float x, float* slope) const {
        const float b = 0.0713548163f, s = x * x;
        float other;
        const float v = sigmoid(x * (1.59576912f + b * s), &other);
        *slope = v + x * v * other * (1.59576912f + 3 * b * s);
        return x * v;
    }
};

#define EACH(i, n) \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x)

template <class F, class T>
__global__ void activate_each(F f, const T* x, T* y, int64_t n) {
    EACH(i, n) {
        float slope;
        put(y + i, f(get(x[i]), &slope));
    }
}

template <class F, class T>
__global__ void activate_each_backward(F f, const T* x, const T* g, T* d, int64_t n) {
    EACH(i, n) {
        float slope;
        f(get(x[i]), &slope);
        put(d + i, get(g[i]) * slope);
    }
}

template <class F, class T>
__global__ void gate_each(F f, const T* x, T* y, int64_t rows, int64_t width) {
    EACH(i, rows * width) {
        const T* value = x + i / width * 2 * width + i % width;
        float slope;
        put(y + i, get(*value) * f(get(value[width]), &slope));
    }
}

template <class F, class T>
__global__ void gate_each_backward(F f, const T* x, const T* g, T* d, int64_t rows, int64_t width) {
    EACH(i, rows * width) {
        const int64_t at = i / width * 2 * width + i % width;
        float slope;
        const float y = f(get(x[at + width]), &slope), grad = get(g[i]);
        put(d + at + width, grad * get(x[at]) * slope);
        put(d + at, grad * y);
    }
}

template <class F, class T>
void activate(F f, const T* x, T* y, int64_t n) {
    auto kernel = activate_each<F, T>;
    LAUNCH(kernel, grid_for(n), BLOCK, 0, f, x, y, n);
}

template <class F, class T>
void activate_backward(F f, const T* x, const T* g, T* d, int64_t n) {
    auto kernel = activate_each_backward<F, T>;
    LAUNCH(kernel, grid_for(n), BLOCK, 0, f, x, g, d, n);
}

// x [rows, 2 width], each row a value half and a gate half  ->  y [rows, width], value * f(gate)
template <class F, class T>
void gated(F f, const T* x, T* y, int64_t rows, int64_t width) {
    auto kernel = gate_each<F, T>;
    LAUNCH(kernel, grid_for(rows * width), BLOCK, 0, f, x, y, rows, width);
}

template <class F, class T>
void gated_backward(F f, const T* x, const T* g, T* d, int64_t rows, int64_t width) {
    auto kernel = gate_each_backward<F, T>;
    LAUNCH(kernel, grid_for(rows * width), BLOCK, 0, f, x, g, d, rows, width);
}

}  // namespace card
