// Gradients of attention.cc. The weights of a block of rows are made again from the scores and in4 = log(sum(exp)).
// in0 Q  in1 K  in2 V  in3 O  in4 [B,L]  in5 dO  MASK or none  ->  out0 dQ  out1 dK  out2 dV
const int64_t B = in0_shape0, L = in0_shape1, E = in0_shape2, S = in1_shape1, W = in2_shape2;
const float scale = data["scale"];
const bool causal = data["causal"] != 0;
const int64_t step = std::max<int64_t>(16, std::min<int64_t>(L, (1 << 17) / std::max<int64_t>(S, 1)));
// One thread owns one matrix of the batch, for dK and dV sum over its rows; fewer matrices than threads are worked off in
// turn by all threads together.
const bool many = B >= omp_get_max_threads();
#pragma omp parallel if (many)
{
    std::vector<float> weights(step * S), slopes(step * S);
    #pragma omp for schedule(dynamic)
    for (int64_t b = 0; b < B; b++) {
        const float *k = in1_p + b * S * E, *v = in2_p + b * S * W;
        float *dk = out1_p + b * S * E, *dv = out2_p + b * S * W;
        for (int64_t first = 0; first < L; first += step) {
            const int64_t n = std::min(step, L - first), at = b * L + first;
            const float *q = in0_p + at * E, *o = in3_p + at * W, *g = in5_p + at * W;
            const float beta = first ? 1.f : 0.f;
            float *p = weights.data(), *d = slopes.data();
            dnnl_sgemm('N', 'T', n, S, E, scale, q, E, k, E, 0.f, p, S);
            dnnl_sgemm('N', 'T', n, S, W, 1.f, g, W, v, W, 0.f, d, S);
            #pragma omp parallel for if (!many)
            for (int64_t r = 0; r < n; r++) {
                float *pr = p + r * S, *dr = d + r * S, mean = 0;
                const int64_t row = first + r, m = causal ? std::min(S, row + 1) : S;
                const float* a = MASK ? MASK + ((b * MASK_BATCH / B) * MASK_ROWS + (MASK_ROWS == 1 ? 0 : row)) * S : nullptr;
                const float low = in4_p[at + r];
                for (int64_t c = 0; c < W; c++) mean += g[r * W + c] * o[r * W + c];
                if (a) {
                    #pragma omp simd
                    for (int64_t c = 0; c < m; c++) pr[c] += a[c];
                }
                #pragma omp simd
                for (int64_t c = 0; c < m; c++) {
                    pr[c] = expf(pr[c] - low);
                    dr[c] = pr[c] * (dr[c] - mean);
                }
                for (int64_t c = m; c < S; c++) pr[c] = dr[c] = 0;
            }
            dnnl_sgemm('T', 'N', S, W, n, 1.f, p, S, g, W, beta, dv, W);
            dnnl_sgemm('N', 'N', n, E, S, scale, d, S, k, E, 0.f, out0_p + at * E, E);
            dnnl_sgemm('T', 'N', S, E, n, scale, d, S, q, E, beta, dk, E);
        }
    }
}
