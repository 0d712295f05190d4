// Maxima of windows: in0 [planes, h, w] -> out0 [planes, oh, ow], out1 int32 their places. A thread owns planes.
const int64_t planes = in0_shape0, h = in0_shape1, w = in0_shape2, oh = out0_shape1, ow = out0_shape2;
const int64_t kh = data["kh"], kw = data["kw"], sh = data["sh"], sw = data["sw"];
const int64_t ph = data["ph"], pw = data["pw"], dh = data["dh"], dw = data["dw"];
#pragma omp parallel for
for (int64_t c = 0; c < planes; c++) {
    auto* x = in0_p + c * h * w;
    for (int64_t i = 0; i < oh; i++) for (int64_t j = 0; j < ow; j++) {
        int64_t best = -1;
        float top = 0;
        for (int64_t a = 0; a < kh; a++) {
            const int64_t y = i * sh - ph + a * dh;
            if (y < 0 || y >= h) continue;
            for (int64_t b = 0; b < kw; b++) {
                const int64_t z = j * sw - pw + b * dw;
                if (z < 0 || z >= w) continue;
                const float v = x[y * w + z];
                if (best < 0 || v > top || v != v) { top = v; best = y * w + z; }
            }
        }
        out0_p[(c * oh + i) * ow + j] = top;
        out1_p[(c * oh + i) * ow + j] = (int)best;
    }
}
