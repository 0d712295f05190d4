// The input's gradient of activation_gated.cc: in0 [rows, 2 width], in1 [rows, width]  ->  out0 [rows, 2 width].
const int64_t rows = in1_shape0, width = in1_shape1;
#pragma omp parallel for if (rows * width > 16384)
for (int64_t r = 0; r < rows; r++) {
    const float *value = in0_p + r * 2 * width, *gate = value + width, *g = in1_p + r * width;
    float *dvalue = out0_p + r * 2 * width, *dgate = dvalue + width;
    #pragma omp simd
    for (int64_t i = 0; i < width; i++) {
        float slope;
        const float y = ACTIVATE(gate[i], &slope);
        dgate[i] = g[i] * value[i] * slope;
        dvalue[i] = g[i] * y;
    }
}
