// Sum of squares of a list of float32 tensors given by address: in0 int64 [rows, 2]: count, place -> out0 float64 [1].
// Squares are taken and summed in double (a float32 square overflows from 2e19 on) in 8 lanes, in blocks whose order
// does not depend on the number of threads.
const int64_t rows = in0_shape0, block = 16384;
std::vector<std::pair<const float*, int64_t>> work;
for (int64_t r = 0; r < rows; r++)
    for (int64_t a = 0; a < in0_p[r * 2]; a += block)
        work.emplace_back((const float*)in0_p[r * 2 + 1] + a, std::min<int64_t>(block, in0_p[r * 2] - a));
std::vector<double> part(work.size());
#pragma omp parallel for schedule(dynamic, 2)
for (int64_t k = 0; k < (int64_t)work.size(); k++) {
    const float* x = work[k].first;
    const int64_t n = work[k].second;
    double s = 0;
    #pragma omp simd reduction(+:s)
    for (int64_t i = 0; i < n; i++) s += (double)x[i] * x[i];
    part[k] = s;
}
double total = 0;
for (const double s : part) total += s;
out0_p[0] = total;
