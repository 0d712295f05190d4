// Runs the project's CUDA kernels on a CPU, thread by thread: a block's threads are fibers that switch at __syncthreads and
// at shuffles. A thread that a barrier waits for in vain, and shared memory that is read before it is written (it holds NaN),
// are found. Every other block runs its threads in reverse, so that a missing barrier cannot hide behind the order.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define LAUNCH(kernel, grid, block, shared, ...) host_cuda::launch(grid, block, shared, [&] { (kernel)(__VA_ARGS__); })
#define SHARED(name) float* name = host_cuda::shared_memory.data()

struct Index3 { unsigned x, y, z; };
static Index3 threadIdx, blockIdx, blockDim, gridDim;

struct __nv_bfloat16 { uint16_t bits; };
struct __half { uint16_t bits; };

static inline float __bfloat162float(__nv_bfloat16 x) {
    const uint32_t u = (uint32_t)x.bits << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline __nv_bfloat16 __float2bfloat16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return {(uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16)};
}

static inline float __half2float(__half x) {
    const uint32_t sign = (uint32_t)(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
    if (rest < 0x400) return (sign ? -1.f : 1.f) * (float)rest / (1 << 24);  // below the smallest normal number
    const uint32_t u = sign | (rest << 13) + ((rest < 0x7c00 ? 112u : 224u) << 23);
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline __half __float2half(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    const uint32_t sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000) return {(uint16_t)(sign | 0x7e00)};
    if (u >= 0x477ff000) return {(uint16_t)(sign | 0x7c00)};  // rounds to beyond the largest number
    if (u < 0x38800000) return {(uint16_t)(sign | (uint32_t)nearbyintf(std::fabs(f) * (1 << 24)))};
    u += 0xfff + (u >> 13 & 1);
    return {(uint16_t)(sign | (u - (112u << 23)) >> 13)};
}

namespace host_cuda {

static inline float value_of(__nv_bfloat16 x) { return __bfloat162float(x); }
static inline float value_of(__half x) { return __half2float(x); }

struct Group { int size = 0, waiting = 0, generation = 0; };
struct Fiber {
    ucontext_t context;  // to begin with; then jumps, which leave the signal mask alone, a system call each
    jmp_buf place;
    std::unique_ptr<char[]> stack;
    unsigned thread = 0;
    int turn = 0;  // of the warp's two exchange buffers
    bool begun = false, done = false;
};

static std::vector<float> shared_memory;
static std::vector<Fiber> fibers;
static std::vector<Group> warps;
static Group whole;
static jmp_buf scheduler;
static Fiber* current;
static std::function<void()> body;
static float exchange[2][1024];
static uint32_t operands[2][1024][6];

static void pause() {
    if (!_setjmp(current->place)) _longjmp(scheduler, 1);
}

static void resume(Fiber& fiber) {
    current = &fiber;
    threadIdx = {fiber.thread, 0, 0};
    if (_setjmp(scheduler)) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
}

static void meet(Group& group) {
    const int generation = group.generation;
    if (++group.waiting == group.size) {
        group.waiting = 0;
        group.generation++;
    } else {
        while (group.generation == generation) pause();
    }
}

static void run_fiber() {
    body();
    current->done = true;
    pause();
}

static float swap_in_warp(float x, int lane) {
    Fiber* me = current;
    const int turn = me->turn ^= 1, warp = me->thread / 32;
    exchange[turn][me->thread] = x;
    meet(warps[warp]);
    return exchange[turn][warp * 32 + lane];
}

template <class T>
static float half_of(uint32_t packed, int upper) { return value_of(T{(uint16_t)(packed >> 16 * upper)}); }

// mma.m16n8k16, each lane's share: who holds what is in the PTX ISA, "Matrix Fragments for mma.m16n8k16".
template <class T>
static void mma_in_warp(float* d, const uint32_t* a, const uint32_t* b) {
    Fiber* me = current;
    const int turn = me->turn ^= 1, warp = me->thread / 32, lane = me->thread % 32;
    memcpy(operands[turn][me->thread], a, 16);
    memcpy(operands[turn][me->thread] + 4, b, 8);
    meet(warps[warp]);
    const auto* all = operands[turn] + warp * 32;
    for (int i = 0; i < 4; i++) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++)
            d[i] += half_of<T>(all[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k % 2)
                  * half_of<T>(all[column * 4 + k % 8 / 2][4 + k / 8], k % 2);
    }
}

static void run_block(unsigned threads, bool backwards) {
    for (unsigned t = 0; t < threads; t++) {
        Fiber& fiber = fibers[t];
        fiber.thread = t;
        fiber.turn = 0;
        fiber.begun = fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = 1 << 16;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, run_fiber, 0);
    }
    whole = Group{(int)threads};
    warps.assign((threads + 31) / 32, Group{32});
    for (unsigned left = threads; left;) {
        int before = whole.generation, done = 0;
        for (auto& warp : warps) before += warp.generation;
        for (unsigned i = 0; i < threads; i++) {
            Fiber& fiber = fibers[backwards ? threads - 1 - i : i];
            if (fiber.done) continue;
            resume(fiber);
            done += fiber.done;
        }
        left -= done;
        int after = whole.generation;
        for (auto& warp : warps) after += warp.generation;
        if (left && !done && after == before) {
            fprintf(stderr, "host_cuda: %u of %u threads wait at a barrier that the others never reach\n", left, threads);
            abort();
        }
    }
}

static void launch(int64_t grid, unsigned threads, size_t shared, const std::function<void()>& kernel) {
    if (threads % 32 || threads > 1024 || shared > 64 << 10 || grid < 1) {
        fprintf(stderr, "host_cuda: no card runs %lld blocks of %u threads with %zu bytes\n", (long long)grid, threads, shared);
        abort();
    }
    while (fibers.size() < threads) {
        fibers.emplace_back();
        fibers.back().stack.reset(new char[1 << 16]);
    }
    body = kernel;
    blockDim = {threads, 1, 1};
    gridDim = {(unsigned)grid, 1, 1};
    for (int64_t b = 0; b < grid; b++) {
        blockIdx = {(unsigned)b, 0, 0};
        shared_memory.assign(shared / sizeof(float) + 1, std::numeric_limits<float>::quiet_NaN());
        run_block(threads, b % 2);
    }
}

}  // namespace host_cuda

static inline void __syncthreads() { host_cuda::meet(host_cuda::whole); }

static inline float __shfl_sync(unsigned, float x, int lane) {
    return host_cuda::swap_in_warp(x, lane);
}

static inline float __shfl_xor_sync(unsigned, float x, int bits) {
    return host_cuda::swap_in_warp(x, (int)(threadIdx.x % 32) ^ bits);
}

namespace card {
template <class T>
void mma(float* d, const uint32_t* a, const uint32_t* b) { host_cuda::mma_in_warp<T>(d, a, b); }
}  // namespace card
