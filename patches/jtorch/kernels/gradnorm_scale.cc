// Multiply a list of float32 tensors by one number. in0 int64 [rows, 3]: count, old place, new place (may be the same).
const int64_t rows = in0_shape0, block = 16384;
const float factor = data["factor"];
std::vector<std::pair<int64_t, int64_t>> work;  // (row, first value)
for (int64_t r = 0; r < rows; r++)
    for (int64_t a = 0; a < in0_p[r * 3]; a += block) work.emplace_back(r, a);
#pragma omp parallel for schedule(dynamic, 2)
for (int64_t k = 0; k < (int64_t)work.size(); k++) {
    const auto* at = in0_p + work[k].first * 3;
    const int64_t from = work[k].second, n = std::min<int64_t>(block, at[0] - from);
    const float* x = (const float*)at[1] + from;
    float* y = (float*)at[2] + from;
    #pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * factor;
}
out0_p[0] = rows;
