// The input's gradient of softmax: in0 y, in1 dy.
const int64_t rows = in0_shape0, width = in0_shape1;
#pragma omp parallel for if (in0->num > 32768)
for (int64_t r = 0; r < rows; r++) {
    const float *y = in0_p + r * width, *g = in1_p + r * width;
    float *d = out0_p + r * width, dot = 0;
    #pragma omp simd reduction(+:dot)
    for (int64_t i = 0; i < width; i++) dot += y[i] * g[i];
    #pragma omp simd
    for (int64_t i = 0; i < width; i++) d[i] = y[i] * (g[i] - dot);
}
