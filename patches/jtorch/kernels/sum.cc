// Sum over the middle axis of in0 [outer, count, inner] into out0 [outer, inner], float32.
// Blocks are added in float32 (vectorised) and their sums in float64, in an order that does not depend on threads.
const int64_t outer = in0_shape0, count = in0_shape1, inner = in0_shape2;
if (inner == 1) {
    const int64_t block = 256, blocks = (count + block - 1) / block;
    std::vector<double> part(outer * blocks);
    #pragma omp parallel for
    for (int64_t k = 0; k < outer * blocks; k++) {
        const int64_t from = (k % blocks) * block, to = std::min(from + block, count);
        const float* row = in0_p + (k / blocks) * count;
        float s = 0;
        for (int64_t i = from; i < to; i++) s += row[i];
        part[k] = s;
    }
    for (int64_t a = 0; a < outer; a++) {
        double s = 0;
        for (int64_t b = 0; b < blocks; b++) s += part[a * blocks + b];
        out0_p[a] = (float)s;
    }
} else {
    const int64_t width = 64, strips = (inner + width - 1) / width;
    #pragma omp parallel for
    for (int64_t k = 0; k < outer * strips; k++) {
        const int64_t a = k / strips, left = (k % strips) * width, n = std::min(width, inner - left);
        const float* base = in0_p + a * count * inner + left;
        double total[width];
        for (int64_t j = 0; j < n; j++) total[j] = 0;
        for (int64_t from = 0; from < count; from += 64) {
            float s[width];
            for (int64_t j = 0; j < n; j++) s[j] = 0;
            for (int64_t i = from; i < std::min(from + 64, count); i++)
                for (int64_t j = 0; j < n; j++) s[j] += base[i * inner + j];
            for (int64_t j = 0; j < n; j++) total[j] += s[j];
        }
        for (int64_t j = 0; j < n; j++) out0_p[a * inner + left + j] = (float)total[j];
    }
}
