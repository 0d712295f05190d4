// Sum of squares of a list of float32 tensors given by address: in0 int64 [rows, 2]: count, place -> out0 float64 [1].
// Squares are taken and summed in double: a float32 square overflows from 2e19 on.
const auto work = blocks(in0_p, in0_shape0, 2);
std::vector<double> part(work.size());
#pragma omp parallel for schedule(dynamic, 2)
for (int64_t k = 0; k < (int64_t)work.size(); k++) {
    const float* x = (const float*)work[k].row[1] + work[k].from;
    const int64_t n = work[k].count;
    double s = 0;
    #pragma omp simd reduction(+:s)
    for (int64_t i = 0; i < n; i++) s += (double)x[i] * x[i];
    part[k] = s;
}
double total = 0;
for (const double s : part) total += s;
out0_p[0] = total;
