// in0 x, in1 the gradient of ACTIVATE(x)  ->  the gradient of x.
const int64_t n = in0->num;
#pragma omp parallel for simd if (n > 16384)
for (int64_t i = 0; i < n; i++) {
    float slope;
    ACTIVATE(in0_p[i], &slope);
    out0_p[i] = in1_p[i] * slope;
}
