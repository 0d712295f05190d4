// in0 [rows, 2 width], each row a value half and a gate half  ->  out0 [rows, width], value * ACTIVATE(gate).
const int64_t rows = out0_shape0, width = out0_shape1;
#pragma omp parallel for if (rows * width > 16384)
for (int64_t r = 0; r < rows; r++) {
    const float *value = in0_p + r * 2 * width, *gate = value + width;
    float* y = out0_p + r * width;
    #pragma omp simd
    for (int64_t i = 0; i < width; i++) {
        float slope;
        y[i] = value[i] * ACTIVATE(gate[i], &slope);
    }
}
