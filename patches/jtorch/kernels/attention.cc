// softmax(scale * Q K^T + mask) V in float32, one tile of queries and keys at a time (FlashAttention's online softmax,
// Dao et al. 2022, algorithm 1). Queries lie along the vector's lanes, so that maxima, sums and powers need no
// reduction across lanes; the scores of a tile stay in the L1 cache and no [L, S] matrix exists.
// in0 Q  in1 K  in2 V  MASK [MB,MR,S] or none  KEEP a bit for each weight that dropout keeps, or none  ->  out0 O  out1 [B*H*L], log2 of the sum of 2^(score * log2(e)), from
// which the backward kernel makes the weights again; infinity for a row whose keys are all left out: its result is 0.
using namespace tiles;
const int64_t B = data["B"], H = data["H"], L = data["L"], S = data["S"], E = data["E"], W = data["W"];
const int64_t qb = data["qb"], qh = data["qh"], qr = data["qr"], kb = data["kb"], kh = data["kh"], kr = data["kr"];
const int64_t vb = data["vb"], vh = data["vh"], vr = data["vr"], ob = data["ob"], oh = data["oh"], orow = data["or"];
const float scale = data["scale"] * 1.44269504088896340736;
const bool causal = data["causal"] != 0;
const int64_t mask_batch = data["mask_batch"], mask_rows = data["mask_rows"];
const int64_t groups = (L + QUERIES - 1) / QUERIES;
#pragma omp parallel if (B * H * L * S > 16384)
{
    Scratch scratch(QUERIES * (E + W + 2 * KEYS + 3));
    float *q = scratch.take(QUERIES * E), *o = scratch.take(QUERIES * W), *p = scratch.take(QUERIES * KEYS);
    float *turned = scratch.take(QUERIES * KEYS), *top = scratch.take(QUERIES), *total = scratch.take(QUERIES);
    float* alpha = scratch.take(QUERIES);
    #pragma omp for schedule(dynamic)
    for (int64_t t = 0; t < B * H * groups; t++) {
        const int64_t m = t / groups, b = m / H, h = m % H, first = t % groups * QUERIES;
        const int64_t n = std::min<int64_t>(QUERIES, L - first), width = padded(n);
        const float *k = in1_p + b * kb + h * kh, *v = in2_p + b * vb + h * vh;
        const int64_t mask_row = m * mask_batch / (B * H) * mask_rows + (mask_rows == 1 ? 0 : first);
        const float* mask = MASK ? MASK + mask_row * S : nullptr;
        transpose(n, E, in0_p + b * qb + h * qh + first * qr, qr, q, width, scale);
        std::fill_n(top, width, -INF);
        std::fill_n(total, width, 0.f);
        const int64_t last = causal ? std::min(S, first + n) : S;
        for (int64_t key = 0; key < last; key += KEYS) {
            const int64_t keys = std::min<int64_t>(KEYS, last - key);
            product<SET>(keys, width / LANES, E, k + key * kr, kr, 1, q, width, p, width);
            restrict_scores(p, turned, width, n, keys, mask, mask_rows == 1 ? 0 : S, causal, first, key);
            for (int64_t i = 0; i < width; i += LANES) {
                vec high = at(top + i), sum = {};
                for (int64_t j = 0; j < keys; j++) {
                    const vec x = at(p + j * width + i);
                    high = x > high ? x : high;
                }
                const vec shift = high == -INF ? vec{} : high;
                const vec factor = power2(at(top + i) - shift);
                at(top + i) = high;
                at(alpha + i) = factor;
                for (int64_t j = 0; j < keys; j++) {
                    vec& x = at(p + j * width + i);
                    x = power2(x - shift);
                    sum += x;
                }
                at(total + i) = at(total + i) * factor + sum;
            }
            if (KEEP) drop(p, width, n, keys, KEEP, (m * L + first) * S + key, S, data["keep"]);
            if (key) product<SCALED>(W, width / LANES, keys, v + key * vr, 1, vr, p, width, o, width, alpha);
            else product<SET>(W, width / LANES, keys, v, 1, vr, p, width, o, width);
        }
        for (int64_t i = 0; i < n; i++) {
            out1_p[m * L + first + i] = total[i] == 0 ? INF : top[i] + std::log2(total[i]);
            alpha[i] = total[i] == 0 ? 0 : 1 / total[i];
        }
        for (int64_t c = 0; c < W; c++)
            for (int64_t i = 0; i < width; i += LANES) at(o + c * width + i) *= at(alpha + i);
        transpose(W, n, o, width, out0_p + b * ob + h * oh + first * orow, orow);
    }
}
