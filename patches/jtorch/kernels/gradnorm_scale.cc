// Multiply a list of float32 tensors by one number. in0 int64 [rows, 3]: count, old place, new place (may be the same).
const float factor = data["factor"];
const auto work = blocks(in0_p, in0_shape0, 3);
#pragma omp parallel for schedule(dynamic, 2)
for (int64_t k = 0; k < (int64_t)work.size(); k++) {
    const auto [at, from, n] = work[k];
    const float* x = (const float*)at[1] + from;
    float* y = (float*)at[2] + from;
    #pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * factor;
}
out0_p[0] = in0_shape0;
