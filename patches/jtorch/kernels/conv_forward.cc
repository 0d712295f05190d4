// in0 x [N,C,H,W]  in1 w [O,C/groups,kh,kw]  BIAS [O] or null  ->  out0 y [N,O,oh,ow]
const int64_t per = in1_shape1 * in1_shape2 * in1_shape3;
SHAPE(FORWARD, in0, in1, out0)
convolve(s, in0_p, [&](int64_t o, int64_t) { return in1_p + o * per; }, BIAS, out0_p);
