// The gradients of norm.cc's weight and bias, summed in double.
// in0 x [rows, width]  in1 g [rows, width]  in2 mean [rows]  in3 1 / deviation [rows]  ->  out0, out1 [channels in all]
const int64_t rows = data["rows"], width = data["width"];
const int64_t inner = data["inner"], groups = data["groups"], channels = width / inner;
if (inner == 1 && groups == 1) {
    // whole lines of neighbouring channels at a time: single columns would read memory badly
    #pragma omp parallel for
    for (int64_t a = 0; a < width; a += 128) {
        const int64_t n = std::min<int64_t>(128, width - a);
        double w[128] = {0}, b[128] = {0};
        for (int64_t r = 0; r < rows; r++) {
            const float *x = in0_p + r * width + a, *g = in1_p + r * width + a, mean = in2_p[r], scale = in3_p[r];
            #pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                w[i] += g[i] * (x[i] - mean) * scale;
                b[i] += g[i];
            }
        }
        for (int64_t i = 0; i < n; i++) {
            out0_p[a + i] = w[i];
            out1_p[a + i] = b[i];
        }
    }
} else {
    #pragma omp parallel for
    for (int64_t c = 0; c < groups * channels; c++) {
        double w = 0, b = 0;
        for (int64_t r = c / channels; r < rows; r += groups) {
            const int64_t at = r * width + c % channels * inner;
            const float *x = in0_p + at, *g = in1_p + at, mean = in2_p[r];
            double dot = 0;
            for (int64_t a = 0; a < inner; a += 512) {
                const int64_t z = std::min(inner, a + 512);
                float s = 0, t = 0;
                #pragma omp simd reduction(+:s,t)
                for (int64_t i = a; i < z; i++) {
                    s += g[i];
                    t += g[i] * (x[i] - mean);
                }
                b += s;
                dot += t;
            }
            w += dot * in3_p[r];
        }
        out0_p[c] = w;
        out1_p[c] = b;
    }
}
