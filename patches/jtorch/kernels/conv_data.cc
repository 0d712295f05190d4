// in0 w [O,C/groups,kh,kw]  in1 y [N,O,oh,ow]  ->  out0 x [N,C,H,W], what `convolve` carries y's gradient to.
// With stride 1 that is a convolution of y with the kernels turned by half a circle, inputs and outputs exchanged.
SHAPE(DATA, out0, in0, in1)
const int64_t O = s.co, C = s.ci, area = s.kh * s.kw;
const int64_t top = s.dh * (s.kh - 1) - s.top, left = s.dw * (s.kw - 1) - s.left;
if (s.groups == 1 && s.sh == 1 && s.sw == 1 && top >= 0 && left >= 0) {
    Shape t = s;
    t.kind = FORWARD;
    t.ci = O; t.h = s.oh; t.w = s.ow; t.xn = s.yn; t.xc = s.yc;
    t.co = C; t.oh = s.h; t.ow = s.w; t.yn = s.xn; t.yc = s.xc;
    t.top = top;
    t.left = left;
    t.right = t.ow - 1 + s.dw * (s.kw - 1) + 1 - t.w - left;
    // `fixed`: the number of places in a kernel where the compiler shall know it, else 0
    auto turn = [&](float* to, int64_t c0, int64_t count, auto fixed) {
        const int64_t n = fixed ? int64_t(fixed) : area, outer = O, all = C;
        const float* from = in0_p;
        #pragma omp parallel for if (count * outer * n > 65536)
        for (int64_t block = 0; block < count; block += 16) {  // 16 channels share cache lines
            const int64_t end = std::min(block + 16, count);
            for (int64_t o = 0; o < outer; o++)
                for (int64_t c = block; c < end; c++) {
                    const float* a = from + (o * all + c0 + c) * n;
                    float* b = to + (c * outer + o) * n;
                    for (int64_t i = 0; i < n; i++) b[i] = a[n - 1 - i];
                }
        }
    };
    std::unique_ptr<Temporary> turned;
    convolve(t, in1_p, [&](int64_t c0, int64_t count) -> const float* {
        turned.reset();
        turned.reset(new Temporary(count * O * area * 4));
        float* to = (float*)turned->p;
        if (area == 9) turn(to, c0, count, std::integral_constant<int64_t, 9>());
        else turn(to, c0, count, std::integral_constant<int64_t, 0>());
        return to;
    }, nullptr, out0_p);
} else {
    find(s)->run(DATA, out0_p, in0_p, nullptr, in1_p);
}
