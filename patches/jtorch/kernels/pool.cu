// Maxima of windows of x [planes, h, w] and where they stand in the plane; a thread a window. As pool.cc.
namespace card {

struct Windows { int64_t h, w, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw; };

template <class T>
__global__ void pool_each(const T* in, T* top, int* place, int64_t count, Windows z) {
    for (int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; k < count; k += (int64_t)gridDim.x * blockDim.x) {
        const T* x = in + k / (z.oh * z.ow) * z.h * z.w;
        const int64_t i = k / z.ow % z.oh * z.sh - z.ph, j = k % z.ow * z.sw - z.pw;
        int64_t best = -1;
        float most = 0;
        for (int64_t a = 0; a < z.kh; a++) {
            const int64_t r = i + a * z.dh;
            if (r < 0 || r >= z.h) continue;
            for (int64_t b = 0; b < z.kw; b++) {
                const int64_t c = j + b * z.dw;
                if (c < 0 || c >= z.w) continue;
                const float value = get(x[r * z.w + c]);
                if (best < 0 || value > most || value != value) {
                    most = value;
                    best = r * z.w + c;
                }
            }
        }
        put(top + k, most);
        place[k] = (int)best;
    }
}

template <class T>
void max_pool(const T* x, T* top, int* place, int64_t planes, Windows z) {
    const int64_t count = planes * z.oh * z.ow;
    if (count) LAUNCH(pool_each<T>, grid_for(count), BLOCK, 0, x, top, place, count, z);
}

}  // namespace card
