// Rows of in0 [rows, width] to mean 0 and variance 1, then * weight + bias by channel, then FINISH (nothing or
// SiLU); the statistics come out too.
// A row holds width / inner channels of `inner` values each; row r starts at channel (r % groups) * width / inner.
// Layer norm: inner = groups = 1. Two passes over the row; partial sums of 512 values go into a double.
const int64_t rows = data["rows"], width = data["width"];
const int64_t inner = data["inner"], groups = data["groups"], channels = width / inner;
const double eps = data["eps"];
#pragma omp parallel for if (in0->num > 32768)
for (int64_t r = 0; r < rows; r++) {
    const float* x = in0_p + r * width;
    float* y = out0_p + r * width;
    double total = 0;
    for (int64_t a = 0; a < width; a += 512) {
        const int64_t z = std::min(width, a + 512);
        float part = 0;
        #pragma omp simd reduction(+:part)
        for (int64_t i = a; i < z; i++) part += x[i];
        total += part;
    }
    // the second pass also sums what rounding left of the mean
    const float near = total / width;
    double rest = 0, square = 0;
    for (int64_t a = 0; a < width; a += 512) {
        const int64_t z = std::min(width, a + 512);
        float s = 0, t = 0;
        #pragma omp simd reduction(+:s,t)
        for (int64_t i = a; i < z; i++) {
            const float d = x[i] - near;
            s += d;
            t += d * d;
        }
        rest += s;
        square += t;
    }
    rest /= width;
    const float mean = near + rest;
    const float scale = 1 / sqrt(std::max(square / width - rest * rest, 0.0) + eps);
    out1_p[r] = mean;
    out2_p[r] = scale;
    const int64_t first = r % groups * channels;
    if (inner == 1) {
        #pragma omp simd
        for (int64_t i = 0; i < width; i++) y[i] = FINISH((x[i] - mean) * scale * WEIGHT(first + i) + BIAS(first + i));
    } else for (int64_t c = 0; c < channels; c++) {
        const float w = scale * WEIGHT(first + c), b = BIAS(first + c);
        #pragma omp simd
        for (int64_t i = c * inner; i < (c + 1) * inner; i++) y[i] = FINISH((x[i] - mean) * w + b);
    }
}
