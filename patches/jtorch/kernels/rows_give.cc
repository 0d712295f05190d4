// in0 [n, width], in1 integers [rows], in2 [rows, width]  ->  out0 [n, width]; GIVE is += or =
// Rows come one after the other, so that those named twice are added without races and always in the same order.
const int64_t rows = in1->num, n = in0_shape0, width = n ? in0->num / n : 0;
for (int64_t k = 0; k < in0->num; k++) out0_p[k] = in0_p[k];
for (int64_t r = 0; r < rows; r++) {
    int64_t i = in1_p[r]; if (i < 0) i += n;
    for (int64_t c = 0; c < width; c++) out0_p[i * width + c] GIVE in2_p[r * width + c];
}
