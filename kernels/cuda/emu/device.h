// device.h is the CUDA device language for g++: what a kernel sees when it is compiled for the emulated
// device instead of by nvcc. A thread is a fiber; threadIdx and the rest read the fiber that runs.
// The twins of the PTX wrappers are in ptx_emu.h.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emu.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __restrict__ __restrict
// Fixed-size shared memory lies in a section of its own, which each block finds poisoned. It works at
// the top of a kernel, not in templates: gcc ignores the section there.
#define __shared__ static __attribute__((section("emu_shared")))

struct uint3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

#define threadIdx (emu::thread->index)
#define blockIdx emu::block_index
#define blockDim emu::block_size
#define gridDim emu::grid_size
#define warpSize 32

using std::max;
using std::min;

inline void __syncthreads() { emu::barrier(); }
inline void __syncwarp(uint32_t mask = ~0u) { emu::collective(emu::kSyncWarp, mask); }

template <class T>
T emu_shuffle(uint32_t mask, T v, int from) {
  static_assert(sizeof(T) == 4, "shuffles move 32 bits");
  emu::Thread* t = emu::thread;
  memcpy(&t->in, &v, 4);
  t->from = from;
  emu::collective(emu::kShuffle, mask);
  memcpy(&v, &t->out, 4);
  return v;
}
template <class T>
T __shfl_sync(uint32_t mask, T v, int from) { return emu_shuffle(mask, v, from & 31); }
template <class T>
T __shfl_xor_sync(uint32_t mask, T v, int bits) { return emu_shuffle(mask, v, emu::thread->lane ^ bits); }
template <class T>
T __shfl_down_sync(uint32_t mask, T v, int by) {
  int lane = emu::thread->lane;
  return emu_shuffle(mask, v, lane + by < 32 ? lane + by : lane);
}

inline bool __any_sync(uint32_t mask, bool v) {
  unsigned any = v;
  for (int i = 16; i; i >>= 1) any |= __shfl_xor_sync(mask, any, i);
  return any;
}

inline float __expf(float x) { return expf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
template <class T>
T __ldg(const T* p) { return *p; }
template <class T>
T __ldcg(const T* p) { return *p; }

// Blocks run one after the other, so an addition is atomic and nothing needs a fence.
inline unsigned atomicAdd(unsigned* at, unsigned by) {
  unsigned was = *at;
  *at += by;
  return was;
}
inline void __threadfence() {}

// ---- half and bfloat16, rounded to nearest, ties to even ----

struct __half {
  uint16_t bits;
  __half() = default;
  __half(float f) : bits(float_to_half(f)) {}
  operator float() const { return half_to_float(bits); }
};
struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  __nv_bfloat16(float f) {
    uint32_t i;
    memcpy(&i, &f, 4);
    bits = f != f ? 0x7fff : (i + 0x7fff + (i >> 16 & 1)) >> 16;
  }
  operator float() const {
    uint32_t i = uint32_t(bits) << 16;
    float f;
    memcpy(&f, &i, 4);
    return f;
  }
};
struct alignas(4) __half2 { __half x, y; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
inline __half __float2half_rn(float f) { return f; }
inline float __half2float(__half h) { return h; }
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return f; }
inline float __bfloat162float(__nv_bfloat16 h) { return h; }
inline __half2 __floats2half2_rn(float a, float b) { return {a, b}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return {a, b}; }
inline float2 __half22float2(__half2 h) { return {h.x, h.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 h) { return {h.x, h.y}; }

// ---- kernels: KERNEL(name, threads, Type, p) { body } ----

#define KERNEL(name, threads, Type, p)                                                                          \
  extern "C" void name(const Type&);                                                                            \
  static emu::Register name##_registered(                                                                       \
      #name, [](const void* parameter) { name(*static_cast<const Type*>(parameter)); }, sizeof(Type), threads); \
  extern "C" void name(const Type& p)
#define BOUND_KERNEL(name, threads, blocks, Type, p) KERNEL(name, threads, Type, p)
#define WIDE_KERNEL KERNEL
#define SHARED(T, name) T* name = reinterpret_cast<T*>(emu::dynamic_shared)
