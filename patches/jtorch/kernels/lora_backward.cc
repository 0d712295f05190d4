// The gradients of lora.cc; W is frozen and has none.
// in0 g [..., n], m rows  in1 W [n,k]  in2 A [r,k]  in3 B [n,r]  in4 z A^T [m,r]  in5 z [..., k]
// ->  out0 dA [r,k]  out1 dB [n,r]  DX like z or null  DZ like z or null (null: z is x, and its part goes into DX)
const int64_t n = in1_shape0, m = in0->num / n, r = in2_shape0, k = in2_shape1;
const float scale = data["scale"];
std::vector<float> thin(m * r);
float *h = thin.data(), *dx = DX, *dz = DZ;
gemm('N', 'N', m, r, n, scale, in0_p, n, in3_p, r, 0.f, h, r);
gemm('T', 'N', r, k, m, 1.f, h, r, in5_p, k, 0.f, out0_p, k);
gemm('T', 'N', n, r, m, scale, in0_p, n, in4_p, r, 0.f, out1_p, r);
if (dx) gemm('N', 'N', m, k, n, 1.f, in0_p, n, in1_p, k, 0.f, dx, k);
if (dz) gemm('N', 'N', m, k, r, 1.f, h, r, in2_p, k, 0.f, dz, k);
else if (dx) gemm('N', 'N', m, k, r, 1.f, h, r, in2_p, k, 1.f, dx, k);
