// A frozen linear map with a low-rank one beside it: y = x W^T + bias + scale (z A^T) B^T by matrix products that
// add into y. z is x after dropout: x * factor where KEEP is 1, else 0; x itself without KEEP.
// in0 x [..., k], m rows  in1 W [n,k]  in2 A [r,k]  in3 B [n,r]  BIAS [n] or null  KEEP like x or null
// ->  out0 y [..., n]  out1 z A^T [m,r]
const int64_t k = in1_shape1, m = in0->num / k, n = in1_shape0, r = in2_shape0;
const float scale = data["scale"], factor = data["factor"];
const auto* keep = KEEP;
std::unique_ptr<float[]> dropped(keep ? new float[m * k] : nullptr);
if (keep) {
    float* z = dropped.get();
    #pragma omp parallel for simd if (m * k > 65536)
    for (int64_t i = 0; i < m * k; i++) z[i] = in0_p[i] * (keep[i] ? factor : 0.f);
}
gemm('N', 'T', m, r, k, 1.f, keep ? dropped.get() : in0_p, k, in2_p, k, 0.f, out1_p, r);
gemm('N', 'T', m, n, k, 1.f, in0_p, k, in1_p, k, 0.f, out0_p, n, BIAS);
gemm('N', 'T', m, n, r, scale, out1_p, r, in3_p, r, 1.f, out0_p, n);
