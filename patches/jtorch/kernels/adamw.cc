// One step of Adam or AdamW over a list of float32 tensors, given by address; old and new place may be the same.
// in0 int64 [rows, 10]: count, gradient, then old and new place of the parameter, exp_avg, exp_avg_sq, max_exp_avg_sq
// (0 without amsgrad).  in1 float64 [rows, 8]: 1 - beta1, beta2, eps, step size, root of the second bias correction,
// factor on the parameter, coupled decay, sign of the gradient.  out0 [1]: rows.
const auto work = blocks(in0_p, in0_shape0, 10);
#pragma omp parallel for schedule(dynamic, 2)
for (int64_t k = 0; k < (int64_t)work.size(); k++) {
    const auto* at = work[k].row;
    const double* o = in1_p + (at - in0_p) / 10 * 8;
    const int64_t from = work[k].from, n = work[k].count;
    const auto place = [&](int i) { return (float*)at[i] + from; };
    const float *g = place(1), *p = place(2), *m = place(4), *v = place(6), *x = place(8);
    float *new_p = place(3), *new_m = place(5), *new_v = place(7), *new_x = place(9);
    const float weight = o[0], rest = 1 - o[0], beta2 = o[1], weight2 = 1 - o[1], eps = o[2], rate = -o[3], root = o[4];
    const float factor = o[5], decay = o[6], sign = o[7];
    // The flags are constants in each of the copies below: no test is left inside the loop, and without coupled decay
    // an infinite parameter stays out of the averages.
    const auto run = [&](auto coupled, auto amsgrad, auto light) {
        #pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float grad = sign * g[i];
            if (coupled) grad += decay * p[i];
            const float mean = light ? m[i] + weight * (grad - m[i]) : grad - (grad - m[i]) * rest;
            float square = beta2 * v[i] + weight2 * grad * grad;
            new_m[i] = mean;
            new_v[i] = square;
            if (amsgrad) new_x[i] = square = x[i] > square || x[i] != x[i] ? x[i] : square;
            new_p[i] = factor * p[i] + rate * mean / (sqrtf(square) / root + eps);
        }
    };
    const std::true_type yes{};
    const std::false_type no{};
    const auto choose = [&](auto coupled, auto amsgrad) {
        if (o[0] < 0.5) run(coupled, amsgrad, yes);
        else run(coupled, amsgrad, no);
    };
    if (at[8] && o[6] != 0) choose(yes, yes);
    else if (at[8]) choose(no, yes);
    else if (o[6] != 0) choose(yes, no);
    else choose(no, no);
}
out0_p[0] = in0_shape0;
