// The input's gradient of norm.cc with SiLU behind it, for inner > 1; what SiLU passes on is kept in DN meanwhile, which
// is out1 where the weights' gradient needs it too, else out0.
// in0 x [rows, width]  in1 g [rows, width]  in2 mean [rows]  in3 1 / deviation [rows]  ->  out0 (and out1) [rows, width]
const int64_t rows = data["rows"], width = data["width"];
const int64_t inner = data["inner"], groups = data["groups"], channels = width / inner;
#pragma omp parallel for if (in0->num > 32768)
for (int64_t r = 0; r < rows; r++) {
    const float *x = in0_p + r * width, *g = in1_p + r * width;
    float *d = out0_p + r * width, *n = DN + r * width;
    const float mean = in2_p[r], scale = in3_p[r];
    const int64_t first = r % groups * channels;
    double sum = 0, dot = 0;
    for (int64_t c = 0; c < channels; c++) {
        const float w = WEIGHT(first + c), b = BIAS(first + c), slope = scale * w;
        for (int64_t a = c * inner; a < (c + 1) * inner; a += 512) {
            const int64_t z = std::min((c + 1) * inner, a + 512);
            float s = 0, t = 0;
            #pragma omp simd reduction(+:s,t)
            for (int64_t i = a; i < z; i++) {
                const float e = x[i] - mean, h = g[i] * silu_slope(e * slope + b);
                n[i] = h;
                s += h;
                t += h * e;
            }
            sum += (double)w * s;
            dot += (double)w * t;
        }
    }
    const float shift = sum / width, tilt = dot / width * scale * scale;
    for (int64_t c = 0; c < channels; c++) {
        const float w = WEIGHT(first + c);
        #pragma omp simd
        for (int64_t i = c * inner; i < (c + 1) * inner; i++)
            d[i] = scale * (n[i] * w - shift - (x[i] - mean) * tilt);
    }
}
