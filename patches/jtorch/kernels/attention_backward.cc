// Gradients of attention.cc. The weights of a tile are made again from the scores and in4 (Dao et al. 2022, algorithm 4).
// in0 Q  in1 K  in2 V  in3 O  in4 [B*H*L]  in5 dO  MASK, KEEP or none  ->  out0 dQ  out1 dK  out2 dV, stored like Q, K, V
using namespace tiles;
const int64_t B = data["B"], H = data["H"], L = data["L"], S = data["S"], E = data["E"], W = data["W"];
const int64_t qb = data["qb"], qh = data["qh"], qr = data["qr"], kb = data["kb"], kh = data["kh"], kr = data["kr"];
const int64_t vb = data["vb"], vh = data["vh"], vr = data["vr"], ob = data["ob"], oh = data["oh"], orow = data["or"];
const int64_t gb = data["gb"], gh = data["gh"], gr = data["gr"];
const float scale = data["scale"], scale2 = data["scale"] * 1.44269504088896340736;
const bool causal = data["causal"] != 0;
const int64_t mask_batch = data["mask_batch"], mask_rows = data["mask_rows"];
const int64_t groups = (L + QUERIES - 1) / QUERIES, units = B * H * groups, pe = padded(E), pw = padded(W);
// dK and dV sum over all queries. A part is a run of query tiles worked off by one thread, which sums into `sums`
// [S, pe + pw]; with many matrices a part is a matrix, with few of them a thread's share of all tiles. A part that
// begins inside a matrix leaves its first sum in `pieces`, which are added at the end.
const int threads = omp_get_max_threads();
const int64_t parts = B * H % threads == 0 || B * H >= 4 * threads ? B * H : std::min<int64_t>(threads, units);
std::vector<std::vector<float>> pieces(parts);
#pragma omp parallel if (B * H * L * S > 16384)
{
    Scratch scratch(QUERIES * (2 * (E + pe + W + pw) + 3 * KEYS + 2) + S * (pe + pw));
    float *q = scratch.take(QUERIES * E), *dq = scratch.take(QUERIES * E), *g = scratch.take(QUERIES * W);
    float *qn = scratch.take(QUERIES * pe), *gn = scratch.take(QUERIES * pw), *p = scratch.take(QUERIES * KEYS);
    float *d = scratch.take(QUERIES * KEYS), *turned = scratch.take(QUERIES * KEYS), *low = scratch.take(QUERIES);
    float *mean = scratch.take(QUERIES), *dk = scratch.take(S * pe), *dv = scratch.take(S * pw);
    #pragma omp for schedule(dynamic)
    for (int64_t part = 0; part < parts; part++) {
        const int64_t begin = part * units / parts, end = (part + 1) * units / parts;
        for (int64_t t = begin; t < end; t++) {
            const int64_t m = t / groups, b = m / H, h = m % H, first = t % groups * QUERIES;
            const int64_t n = std::min<int64_t>(QUERIES, L - first), width = padded(n);
            const float *k = in1_p + b * kb + h * kh, *v = in2_p + b * vb + h * vh;
            const float *qs = in0_p + b * qb + h * qh + first * qr, *gs = in5_p + b * gb + h * gh + first * gr;
            const float* os = in3_p + b * ob + h * oh + first * orow;
            const int64_t mask_row = m * mask_batch / (B * H) * mask_rows + (mask_rows == 1 ? 0 : first);
            const float* mask = MASK ? MASK + mask_row * S : nullptr;
            if (t == begin || first == 0) {
                std::fill_n(dk, S * pe, 0.f);
                std::fill_n(dv, S * pw, 0.f);
            }
            transpose(n, E, qs, qr, q, width, scale2);
            transpose(n, W, gs, gr, g, width);
            for (int64_t i = 0; i < n; i++) {
                float sum = 0;
                #pragma omp simd reduction(+:sum)
                for (int64_t c = 0; c < W; c++) sum += gs[i * gr + c] * os[i * orow + c];
                mean[i] = sum;
                low[i] = in4_p[m * L + first + i];
                std::copy_n(qs + i * qr, E, qn + i * pe);
                std::copy_n(gs + i * gr, W, gn + i * pw);
            }
            std::fill_n(dq, E * width, 0.f);
            const int64_t last = causal ? std::min(S, first + n) : S;
            for (int64_t key = 0; key < last; key += KEYS) {
                const int64_t keys = std::min<int64_t>(KEYS, last - key);
                product<SET>(keys, width / LANES, E, k + key * kr, kr, 1, q, width, p, width);
                product<SET>(keys, width / LANES, W, v + key * vr, vr, 1, g, width, d, width);
                restrict_scores(p, turned, width, n, keys, mask, mask_rows == 1 ? 0 : S, causal, first, key);
                const int64_t bit = (m * L + first) * S + key;
                if (KEEP) drop(d, width, n, keys, KEEP, bit, S, data["keep"]);
                for (int64_t i = 0; i < width; i += LANES) {
                    const vec shift = at(low + i), middle = at(mean + i);
                    for (int64_t j = 0; j < keys; j++) {
                        vec &x = at(p + j * width + i), &y = at(d + j * width + i);
                        x = power2(x - shift);
                        y = x * (y - middle);
                    }
                }
                if (KEEP) drop(p, width, n, keys, KEEP, bit, S, data["keep"]);
                product<ADD>(E, width / LANES, keys, k + key * kr, 1, kr, d, width, dq, width);
                product<ADD>(keys, pe / LANES, n, d, width, 1, qn, pe, dk + key * pe, pe);
                product<ADD>(keys, pw / LANES, n, p, width, 1, gn, pw, dv + key * pw, pw);
            }
            transpose(E, n, dq, width, out0_p + b * qb + h * qh + first * qr, qr, scale);
            if (t + 1 < end && t + 1 < (m + 1) * groups) continue;
            if (begin > m * groups) {  // another part has the beginning of this matrix
                pieces[part].assign(dk, dk + S * pe);
                pieces[part].insert(pieces[part].end(), dv, dv + S * pw);
                continue;
            }
            for (int64_t j = 0; j < S; j++) {
                float *to = out1_p + b * kb + h * kh + j * kr;
                for (int64_t c = 0; c < E; c++) to[c] = dk[j * pe + c] * scale;
                std::copy_n(dv + j * pw, W, out2_p + b * vb + h * vh + j * vr);
            }
        }
    }
    for (int64_t part = 0; part < parts; part++) {
        if (pieces[part].empty()) continue;
        const int64_t m = part * units / parts / groups, b = m / H, h = m % H;
        const float *more_k = pieces[part].data(), *more_v = more_k + S * pe;
        #pragma omp for
        for (int64_t j = 0; j < S; j++) {
            float *to_k = out1_p + b * kb + h * kh + j * kr, *to_v = out2_p + b * vb + h * vh + j * vr;
            for (int64_t c = 0; c < E; c++) to_k[c] += more_k[j * pe + c] * scale;
            for (int64_t c = 0; c < W; c++) to_v[c] += more_v[j * pw + c];
        }
    }
}
