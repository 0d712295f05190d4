// ACTIVATE of each value of in0.
const int64_t n = in0->num;
#pragma omp parallel for simd if (n > 16384)
for (int64_t i = 0; i < n; i++) {
    float slope;
    out0_p[i] = ACTIVATE(in0_p[i], &slope);
}
