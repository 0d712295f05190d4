// in0 [n, width], in1 integers [rows]  ->  out0 [rows, width]
const int64_t rows = in1->num, width = in0->num / (in0_shape0 ? in0_shape0 : 1), n = in0_shape0;
#pragma omp parallel for
for (int64_t r = 0; r < rows; r++) {
    int64_t i = in1_p[r]; if (i < 0) i += n;
    if (i < 0 || i >= n) continue;
    for (int64_t c = 0; c < width; c++) out0_p[r * width + c] = in0_p[i * width + c];
}
