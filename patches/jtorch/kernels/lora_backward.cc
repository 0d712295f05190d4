// The gradients of lora.cc; W is frozen and has none.
// in0 g [..., n], m rows  in1 W [n,k]  in2 A [r,k]  in3 B [n,r]  in4 z A^T [m,r]  in5 x [..., k]  KEEP like x or null
// ->  out0 dA [r,k]  out1 dB [n,r]  DX like x or null
const int64_t n = in1_shape0, m = in0->num / n, r = in2_shape0, k = in2_shape1;
const float scale = data["scale"], factor = data["factor"];
const auto* keep = KEEP;
float* dx = DX;
std::unique_ptr<float[]> thin(new float[m * r]), dropped(keep ? new float[m * k] : nullptr);
float *h = thin.get(), *z = dropped.get();
if (keep) {
    #pragma omp parallel for simd if (m * k > 65536)
    for (int64_t i = 0; i < m * k; i++) z[i] = in5_p[i] * (keep[i] ? factor : 0.f);
}
gemm('N', 'N', m, r, n, scale, in0_p, n, in3_p, r, 0.f, h, r);
gemm('T', 'N', r, k, m, 1.f, h, r, keep ? z : in5_p, k, 0.f, out0_p, k);
gemm('T', 'N', n, r, m, scale, in0_p, n, in4_p, r, 0.f, out1_p, r);
if (dx) {
    gemm('N', 'N', m, k, n, 1.f, in0_p, n, in1_p, k, 0.f, dx, k);
    if (keep) {
        gemm('N', 'N', m, k, r, 1.f, h, r, in2_p, k, 0.f, z, k);
        #pragma omp parallel for simd if (m * k > 65536)
        for (int64_t i = 0; i < m * k; i++) dx[i] += z[i] * (keep[i] ? factor : 0.f);
    } else gemm('N', 'N', m, k, r, 1.f, h, r, in2_p, k, 1.f, dx, k);
}
