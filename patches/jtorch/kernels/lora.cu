// What stands between the matrix products of a layer with a low-rank adapter, a pass over memory each. As lora.cc.
namespace card {

// out = (a + bias along the last axis) + scale * low, where keep is 1; where it is 0 the last part is left out.
template <class T>
__global__ void add_low_each(const T* a, const T* bias, const T* low, const uint8_t* keep, float scale, T* out, int64_t count,
                             int64_t width) {
    for (int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; k < count; k += (int64_t)gridDim.x * blockDim.x) {
        const float more = keep && !keep[k] ? 0.f : scale * get(low[k]);
        put(out + k, get(a[k]) + get_or(bias, k % width, 0.f) + more);
    }
}

template <class T>
void add_low(const T* a, const T* bias, const T* low, const uint8_t* keep, double scale, T* out, int64_t count, int64_t width) {
    if (count) LAUNCH(add_low_each<T>, grid_for(count), BLOCK, 0, a, bias, low, keep, (float)scale, out, count, width);
}

// out = factor * x where keep is 1, 0 elsewhere.
template <class T>
__global__ void masked_each(const T* x, const uint8_t* keep, float factor, T* out, int64_t count) {
    for (int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; k < count; k += (int64_t)gridDim.x * blockDim.x)
        put(out + k, keep[k] ? factor * get(x[k]) : 0.f);
}

template <class T>
void masked(const T* x, const uint8_t* keep, double factor, T* out, int64_t count) {
    if (count) LAUNCH(masked_each<T>, grid_for(count), BLOCK, 0, x, keep, (float)factor, out, count);
}

}  // namespace card
