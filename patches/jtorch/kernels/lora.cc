// A frozen linear map with a low-rank one beside it: y = x W^T + bias + scale (z A^T) B^T by matrix products that
// add into y. z is x after dropout, or x itself.
// in0 x [..., k], m rows  in1 W [n,k]  in2 A [r,k]  in3 B [n,r]  Z z like x  BIAS [n] or null  ->  out0 y [..., n]
// out1 z A^T [m,r]
const int64_t k = in1_shape1, m = in0->num / k, n = in1_shape0, r = in2_shape0;
const float scale = data["scale"];
gemm('N', 'T', m, r, k, 1.f, Z, k, in2_p, k, 0.f, out1_p, r);
gemm('N', 'T', m, n, k, 1.f, in0_p, k, in1_p, k, 0.f, out0_p, n, BIAS);
gemm('N', 'T', m, n, r, scale, out1_p, r, in3_p, r, 1.f, out0_p, n);
