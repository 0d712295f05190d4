// Batched matrix product C[i] = op(A[i]) op(B[i]) in float32, row-major.
// A batch stride of 0 repeats one matrix. Large batches are split over threads, one matrix each; few matrices are
// computed one after the other by all threads.
const int64_t batch = out0_shape0, m = out0_shape1, n = out0_shape2;
const bool ta = data["ta"] != 0, tb = data["tb"] != 0;
const int64_t k = ta ? in0_shape1 : in0_shape2;
const int64_t sa = in0_shape0 == 1 ? 0 : in0_shape1 * in0_shape2;
const int64_t sb = in1_shape0 == 1 ? 0 : in1_shape1 * in1_shape2;
auto product = [&](int64_t i) {
    gemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1.f, in0_p + i * sa, in0_shape2, in1_p + i * sb, in1_shape2, 0.f,
         out0_p + i * m * n, n);
};
if (batch < omp_get_max_threads() || batch * m * n * k < (1 << 18)) {
    for (int64_t i = 0; i < batch; i++) product(i);
} else {
    #pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < batch; i++) product(i);
}
