// The input's gradient of norm.cc.
// in0 x [rows, width]  in1 g [rows, width]  in2 mean [rows]  in3 1 / deviation [rows]  ->  out0 [rows, width]
const int64_t rows = data["rows"], width = data["width"];
const int64_t inner = data["inner"], groups = data["groups"], channels = width / inner;
#pragma omp parallel for if (in0->num > 32768)
for (int64_t r = 0; r < rows; r++) {
    const float *x = in0_p + r * width, *g = in1_p + r * width;
    float* d = out0_p + r * width;
    const float mean = in2_p[r], scale = in3_p[r];
    const int64_t first = r % groups * channels;
    double sum = 0, dot = 0;
    if (inner == 1) {
        for (int64_t a = 0; a < width; a += 512) {
            const int64_t z = std::min(width, a + 512);
            float s = 0, t = 0;
            #pragma omp simd reduction(+:s,t)
            for (int64_t i = a; i < z; i++) {
                const float h = g[i] * WEIGHT(first + i);
                s += h;
                t += h * (x[i] - mean);
            }
            sum += s;
            dot += t;
        }
    } else for (int64_t c = 0; c < channels; c++) {
        const float w = WEIGHT(first + c);
        for (int64_t a = c * inner; a < (c + 1) * inner; a += 512) {
            const int64_t z = std::min((c + 1) * inner, a + 512);
            float s = 0, t = 0;
            #pragma omp simd reduction(+:s,t)
            for (int64_t i = a; i < z; i++) {
                s += g[i];
                t += g[i] * (x[i] - mean);
            }
            sum += (double)w * s;
            dot += (double)w * t;
        }
    }
    const float shift = sum / width, slope = dot / width * scale * scale;
    if (inner == 1) {
        #pragma omp simd
        for (int64_t i = 0; i < width; i++)
            d[i] = scale * (g[i] * WEIGHT(first + i) - shift - (x[i] - mean) * slope);
    } else for (int64_t c = 0; c < channels; c++) {
        const float w = WEIGHT(first + c);
        #pragma omp simd
        for (int64_t i = c * inner; i < (c + 1) * inner; i++)
            d[i] = scale * (g[i] * w - shift - (x[i] - mean) * slope);
    }
}
