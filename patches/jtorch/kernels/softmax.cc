// Softmax of each row of in0 [rows, width].
const int64_t rows = in0_shape0, width = in0_shape1;
#pragma omp parallel for if (in0->num > 32768)
for (int64_t r = 0; r < rows; r++) {
    const float* x = in0_p + r * width;
    float *y = out0_p + r * width, top = -std::numeric_limits<float>::infinity(), total = 0;
    #pragma omp simd reduction(max:top)
    for (int64_t i = 0; i < width; i++) top = std::max(top, x[i]);
    #pragma omp simd reduction(+:total)
    for (int64_t i = 0; i < width; i++) { y[i] = expf(x[i] - top); total += y[i]; }
    const float scale = 1 / total;
    #pragma omp simd
    for (int64_t i = 0; i < width; i++) y[i] *= scale;
}
