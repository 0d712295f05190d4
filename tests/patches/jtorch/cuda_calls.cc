// The CUDA kernels as C functions: for the host (host_cuda.h) with NumPy's arrays, and for nvcc to compile.
// `type`: 0 float32, 1 bfloat16, 2 float16 (nvcc only).
#ifndef __CUDACC__
#include "host_cuda.h"
#endif
#define code  // Jittor makes the name of an operation a macro where it includes that operation's sources
#include "device.cuh"
#include "attention_tiles.cuh"
#include "activation.cu"
#include "softmax.cu"
#include "norm.cu"
#include "attention.cu"
#include "attention_backward.cu"
#include "attention_mma.cu"
#include "lists.cu"
#include "sum.cu"
#include "rows.cu"
#include "pool.cu"
#include "lora.cu"
#undef code

#ifdef __CUDACC__
#define TYPED(call) \
    if (type == 0) { using T = float; call; } else if (type == 1) { using T = __nv_bfloat16; call; } \
    else { using T = __half; call; }
#else
#define TYPED(call) if (type == 0) { using T = float; call; } else { using T = __nv_bfloat16; call; }
#endif

using namespace card;

// places: three distances for each of q, k, v, o (and the gradient of o); sizes: B, H, L, S, E, V
static Place place(const int64_t* p) { return {p[0], p[1], p[2]}; }
static Sizes sizes_of(const int64_t* z) { return {z[0], z[1], z[2], z[3], (int)z[4], (int)z[5]}; }

// On tensor cores: bfloat16 here, float16 too with nvcc.
template <class T>
static void on_tensor_cores(const void* q, const void* k, const void* v, void* o, float* lse, const int64_t* p,
                            const Sizes& z, const Rules& rules, float scale) {
    const auto run = [&](auto function) {
        function((const T*)q, place(p), (const T*)k, place(p + 3), (const T*)v, place(p + 6), (T*)o, place(p + 9), lse, z,
                 rules, scale);
    };
    switch (((z.width > z.wide ? z.width : z.wide) + 15) / 16) {
    case 1: return run(attention_mma<1, T>);
    case 2: return run(attention_mma<2, T>);
    case 3: return run(attention_mma<3, T>);
    case 4: return run(attention_mma<4, T>);
    case 5: return run(attention_mma<5, T>);
    case 8: return run(attention_mma<8, T>);
    default: return run(attention_mma<10, T>);
    }
}

extern "C" {

void activate(int type, int kind, const void* x, void* y, int64_t n) {
    TYPED(kind == 0 ? activate(Gelu(), (const T*)x, (T*)y, n) : kind == 1 ? activate(GeluTanh(), (const T*)x, (T*)y, n)
                                                              : activate(Silu(), (const T*)x, (T*)y, n))
}

void activate_backward(int type, int kind, const void* x, const void* g, void* d, int64_t n) {
    TYPED(kind == 0   ? activate_backward(Gelu(), (const T*)x, (const T*)g, (T*)d, n)
          : kind == 1 ? activate_backward(GeluTanh(), (const T*)x, (const T*)g, (T*)d, n)
                      : activate_backward(Silu(), (const T*)x, (const T*)g, (T*)d, n))
}

void gated(int type, const void* x, void* y, int64_t rows, int64_t width) {
    TYPED(gated(Gelu(), (const T*)x, (T*)y, rows, width))
}

void gated_backward(int type, const void* x, const void* g, void* d, int64_t rows, int64_t width) {
    TYPED(gated_backward(Gelu(), (const T*)x, (const T*)g, (T*)d, rows, width))
}

void softmax(int type, const void* x, void* y, int64_t rows, int64_t width) {
    TYPED(softmax((const T*)x, (T*)y, rows, width))
}

void softmax_backward(int type, const void* y, const void* g, void* d, int64_t rows, int64_t width) {
    TYPED(softmax_backward((const T*)y, (const T*)g, (T*)d, rows, width))
}

void norm_forward(int type, int silu, const void* x, const float* w, const float* b, void* y, float* mean, float* scale,
          int64_t rows, int64_t width, int64_t inner, int64_t groups, double eps) {
    TYPED(silu ? card::norm<true>((const T*)x, w, b, (T*)y, mean, scale, rows, width, inner, groups, eps)
               : card::norm<false>((const T*)x, w, b, (T*)y, mean, scale, rows, width, inner, groups, eps))
}

void norm_backward(int type, int silu, const void* x, const void* g, const float* mean, const float* scale, const float* w,
                   const float* b, void* d, void* inside, int64_t rows, int64_t width, int64_t inner, int64_t groups) {
    TYPED(silu ? norm_backward<true>((const T*)x, (const T*)g, mean, scale, w, b, (T*)d, (T*)inside, rows, width, inner, groups)
               : norm_backward<false>((const T*)x, (const T*)g, mean, scale, w, b, (T*)d, (T*)inside, rows, width, inner,
                                      groups))
}

void norm_weights(int type, const void* x, const void* g, const float* mean, const float* scale, float* dw, float* db,
                  int64_t rows, int64_t width, int64_t inner, int64_t groups) {
    TYPED(norm_weights((const T*)x, (const T*)g, mean, scale, dw, db, rows, width, inner, groups))
}

void attention(int type, const void* q, const void* k, const void* v, void* o, float* lse, const int64_t* places,
               const int64_t* sizes, const float* mask, int64_t mask_batch, int64_t mask_rows, const uint8_t* keep,
               float factor, int causal, float scale) {
    const Rules rules = {mask, keep, mask_batch, mask_rows, factor, causal != 0};
    TYPED(attention((const T*)q, place(places), (const T*)k, place(places + 3), (const T*)v, place(places + 6), (T*)o,
                    place(places + 9), lse, sizes_of(sizes), rules, scale))
}

void attention_mma(int type, const void* q, const void* k, const void* v, void* o, float* lse, const int64_t* places,
                   const int64_t* sizes, const float* mask, int64_t mask_batch, int64_t mask_rows, const uint8_t* keep,
                   float factor, int causal, float scale) {
    const Rules rules = {mask, keep, mask_batch, mask_rows, factor, causal != 0};
#ifdef __CUDACC__
    if (type == 2) return on_tensor_cores<__half>(q, k, v, o, lse, places, sizes_of(sizes), rules, scale);
#endif
    on_tensor_cores<__nv_bfloat16>(q, k, v, o, lse, places, sizes_of(sizes), rules, scale);
}

void attention_backward(int type, const void* q, const void* k, const void* v, const void* o, const float* lse, const void* g,
                        float* delta, void* dq, void* dk, void* dv, const int64_t* places, const int64_t* sizes,
                        const float* mask, int64_t mask_batch, int64_t mask_rows, const uint8_t* keep, float factor,
                        int causal, float scale) {
    const Rules rules = {mask, keep, mask_batch, mask_rows, factor, causal != 0};
    TYPED(attention_backward((const T*)q, place(places), (const T*)k, place(places + 3), (const T*)v, place(places + 6),
                             (const T*)o, place(places + 9), lse, (const T*)g, place(places + 12), delta, (T*)dq, (T*)dk,
                             (T*)dv, sizes_of(sizes), rules, scale))
}

void adam_step(const int64_t* table, const double* options, int64_t rows) { adam(table, options, rows); }

void norm_of_list(const int64_t* table, int64_t rows, double* total, double* parts) { square_sum(table, rows, total, parts); }

void scale_list(const int64_t* table, int64_t rows, float factor) { scale(table, rows, factor); }

void sum_middle(int type, const void* x, void* y, int64_t outer, int64_t count, int64_t inner) {
    TYPED(sum_middle((const T*)x, (T*)y, outer, count, inner))
}

void add_low(int type, const void* a, const void* bias, const void* low, const uint8_t* keep, double scale, void* out,
             int64_t count, int64_t width) {
    TYPED(add_low((const T*)a, (const T*)bias, (const T*)low, keep, scale, (T*)out, count, width))
}

void masked(int type, const void* x, const uint8_t* keep, double factor, void* out, int64_t count) {
    TYPED(masked((const T*)x, keep, factor, (T*)out, count))
}

// windows: h, w, oh, ow, then height and width of kernel, stride, padding and dilation
void max_pool(int type, const void* x, void* top, int* place, int64_t planes, const int64_t* windows) {
    Windows z;
    memcpy(&z, windows, sizeof z);
    TYPED(max_pool((const T*)x, (T*)top, place, planes, z))
}

void take_rows(int type, const void* x, const int64_t* index, void* y, int64_t rows, int64_t n, int64_t width) {
    TYPED(take_rows((const T*)x, index, (T*)y, rows, n, width))
}

void give_rows(int type, int add, const void* x, const int64_t* index, const void* values, void* y, int64_t rows, int64_t n,
               int64_t width) {
    TYPED(add ? give_rows<true>((const T*)x, index, (const T*)values, (T*)y, rows, n, width)
              : give_rows<false>((const T*)x, index, (const T*)values, (T*)y, rows, n, width))
}

}  // extern "C"
