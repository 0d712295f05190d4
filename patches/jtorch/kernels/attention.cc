// softmax(scale * Q K^T + mask) V in float32, a block of query rows at a time, so that the scores of one block fit into
// the cache and are never written out. Also gives log(sum(exp(scores))) of each row, from which the backward kernel
// makes the weights again.
// in0 Q [B,L,E]  in1 K [B,S,E]  in2 V [B,S,V]  MASK [MB,MR,S] or none  ->  out0 [B,L,V]  out1 [B,L]
const int64_t B = in0_shape0, L = in0_shape1, E = in0_shape2, S = in1_shape1, W = in2_shape2;
const float scale = data["scale"];
const bool causal = data["causal"] != 0;
const int64_t step = std::max<int64_t>(16, std::min<int64_t>(L, (1 << 17) / std::max<int64_t>(S, 1)));
const int64_t blocks = (L + step - 1) / step;
#pragma omp parallel
{
    std::vector<float> scores(step * S), inverse(step);
    #pragma omp for schedule(dynamic)
    for (int64_t t = 0; t < B * blocks; t++) {
        const int64_t b = t / blocks, first = t % blocks * step, n = std::min(step, L - first);
        dnnl_sgemm('N', 'T', n, S, E, scale, in0_p + (b * L + first) * E, E, in1_p + b * S * E, E, 0.f, scores.data(), S);
        for (int64_t r = 0; r < n; r++) {
            float* p = scores.data() + r * S;
            const int64_t row = first + r, m = causal ? std::min(S, row + 1) : S;
            if (MASK) {
                const float* a = MASK + ((b * MASK_BATCH / B) * MASK_ROWS + (MASK_ROWS == 1 ? 0 : row)) * S;
                #pragma omp simd
                for (int64_t c = 0; c < m; c++) p[c] += a[c];
            }
            float top = -std::numeric_limits<float>::infinity(), total = 0;
            #pragma omp simd reduction(max:top)
            for (int64_t c = 0; c < m; c++) top = std::max(top, p[c]);
            #pragma omp simd reduction(+:total)
            for (int64_t c = 0; c < m; c++) { p[c] = expf(p[c] - top); total += p[c]; }
            for (int64_t c = m; c < S; c++) p[c] = 0;
            inverse[r] = 1 / total;
            out1_p[b * L + row] = top + logf(total);
        }
        float* o = out0_p + (b * L + first) * W;
        dnnl_sgemm('N', 'N', n, W, S, 1.f, scores.data(), S, in2_p + b * S * W, W, 0.f, o, W);
        for (int64_t r = 0; r < n; r++)
            for (int64_t c = 0; c < W; c++) o[r * W + c] *= inverse[r];
    }
}
