// What the CUDA kernels share. LAUNCH and SHARED are all they use that is not CUDA's own: tests/patches/jtorch/host_cuda.h
// has host versions of these and of the few CUDA words below, so that every kernel here also runs, thread by thread, on a CPU.
#pragma once
#include <cmath>
#include <cstdint>
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdexcept>
#define LAUNCH(kernel, grid, block, shared, ...) card::start(kernel, grid, block, shared, __VA_ARGS__)
#define SHARED(name) extern __shared__ __align__(16) float name[]
#endif

namespace card {

constexpr int WARP = 32, BLOCK = 256;

#ifdef __CUDACC__
template <class... P, class... A>
void start(void (*kernel)(P...), int64_t grid, dim3 block, size_t shared, A... arguments) {
    // beyond 48 KB a kernel has to ask; `code` is a macro where Jittor includes this
    cudaError_t status = shared > 48 << 10
        ? cudaFuncSetAttribute((const void*)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared) : cudaSuccess;
    if (status == cudaSuccess) {
        kernel<<<(unsigned)grid, block, shared>>>(arguments...);
        status = cudaGetLastError();
    }
    if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}
#endif
__device__ inline float get(float x) { return x; }
__device__ inline void put(float* to, float x) { *to = x; }
__device__ inline float get(__half x) { return __half2float(x); }
__device__ inline void put(__half* to, float x) { *to = __float2half(x); }
__device__ inline float get(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline void put(__nv_bfloat16* to, float x) { *to = __float2bfloat16(x); }

// What a missing weight or bias stands for.
template <class T>
__device__ float get_or(const T* from, int64_t i, float otherwise) { return from ? get(from[i]) : otherwise; }

__device__ inline float warp_sum(float x) {
    for (int step = WARP / 2; step; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

__device__ inline float warp_max(float x) {
    for (int step = WARP / 2; step; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

// Of a whole block; every thread gets the result. The block's size is a multiple of 32.
template <class F>
__device__ float over_block(float x, F combine, float nothing) {
    __shared__ float part[WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    x = combine(x);
    __syncthreads();  // an earlier call's reading is over
    if (lane == 0) part[warp] = x;
    __syncthreads();
    return combine(lane < blockDim.x / WARP ? part[lane] : nothing);
}

struct Sum { __device__ float operator()(float x) const { return warp_sum(x); } };
struct Max { __device__ float operator()(float x) const { return warp_max(x); } };
__device__ inline float block_sum(float x) { return over_block(x, Sum(), 0.f); }
__device__ inline float block_max(float x) { return over_block(x, Max(), -INFINITY); }

// Blocks for a loop over n values in steps of the whole grid.
inline int64_t grid_for(int64_t n) {
    const int64_t blocks = (n + BLOCK - 1) / BLOCK;
    return blocks < 1 ? 1 : blocks > 8192 ? 8192 : blocks;
}

// Threads of a block that works on a row of this width.
inline int threads_for(int64_t width) {
    const int64_t threads = (width + WARP - 1) / WARP * WARP;
    return threads > 1024 ? 1024 : (int)threads;
}

}  // namespace card
