// y = x W^T (+ bias).  in0 x [..., k]  in1 W [n, k]  BIAS [n] or null  ->  out0 y [..., n]
const int64_t n = in1_shape0, k = in1_shape1;
gemm('N', 'T', in0->num / k, n, k, 1.f, in0_p, k, in1_p, k, 0.f, out0_p, n, BIAS);
