// The gradient of linear.cc's x.  in0 g [..., n]  in1 W [n, k]  ->  out0 g W [..., k]
const int64_t n = in1_shape0, k = in1_shape1;
gemm('N', 'N', in0->num / n, k, n, 1.f, in0_p, n, in1_p, k, 0.f, out0_p, k);
