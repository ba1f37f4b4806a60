// device.cuh: what every kernel needs: element types, 16-byte loads and stores, activations.
//
// The same sources are compiled by nvcc for GPUs and by g++ for the emulated device (CUDA_EMU). A kernel
// is written KERNEL(name, threads a block, Type, p) { … } and its dynamic shared memory SHARED(type, name).
// WIDE_KERNEL may use as many registers as leave room for two blocks, BOUND_KERNEL for so many. The one parameter p is a
// struct by value, which a Go struct of the same layout fills (layout_test.go compares the two). It is not a
// __grid_constant__: nvcc then reads fields again where they are used, and seven kernels spill registers.
#pragma once
#ifdef CUDA_EMU
#include "device.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>
// OLD_GPU: sm_75, which lacks bfloat16 and TF32 on tensor cores, and cp.async.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define OLD_GPU
#endif
#define KERNEL(name, threads, Type, p) \
  extern "C" __global__ void __launch_bounds__(threads) name(const Type p)
#define BOUND_KERNEL(name, threads, blocks, Type, p) \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(const Type p)
#define WIDE_KERNEL(name, threads, Type, p) BOUND_KERNEL(name, threads, 2, Type, p)
#define SHARED(T, name)                                            \
  extern __shared__ __align__(128) unsigned char name##_bytes[];   \
  T* name = reinterpret_cast<T*>(name##_bytes)
#endif

using half_t = __half;
using bfloat_t = __nv_bfloat16;

// E4M3 is a float8 of 4 bits of exponent and 3 of fraction. The largest is kMostE4M3. Only kernels/lab/fp8 multiplies it.
struct E4M3 {
  uint8_t code;
};
constexpr float kMostE4M3 = 448;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(half_t x) { return __half2float(x); }
__device__ __forceinline__ float to_float(bfloat_t x) { return __bfloat162float(x); }

// from_float rounds to nearest, ties to even.
template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) { return x; }
template <>
__device__ __forceinline__ half_t from_float<half_t>(float x) { return __float2half_rn(x); }
template <>
__device__ __forceinline__ bfloat_t from_float<bfloat_t>(float x) { return __float2bfloat16_rn(x); }

// pack rounds two values into one register, x in the low half.
__device__ __forceinline__ uint32_t bits(half_t h) {
  uint16_t u;
  memcpy(&u, &h, 2);
  return u;
}
__device__ __forceinline__ uint32_t bits(bfloat_t h) {
  uint16_t u;
  memcpy(&u, &h, 2);
  return u;
}
template <class T>
__device__ __forceinline__ uint32_t pack(float x, float y) {
  return bits(from_float<T>(x)) | bits(from_float<T>(y)) << 16;
}
template <>
__device__ __forceinline__ uint32_t pack<half_t>(float x, float y) {
  __half2 h = __floats2half2_rn(x, y);
  uint32_t u;
  memcpy(&u, &h, 4);
  return u;
}
template <>
__device__ __forceinline__ uint32_t pack<bfloat_t>(float x, float y) {
  __nv_bfloat162 h = __floats2bfloat162_rn(x, y);
  uint32_t u;
  memcpy(&u, &h, 4);
  return u;
}

// Raw<bytes> is moved by one instruction, as long as the address is a multiple of its size.
template <int bytes>
struct Raw;
template <>
struct Raw<2> { using Type = uint16_t; };
template <>
struct Raw<4> { using Type = uint32_t; };
template <>
struct Raw<8> { using Type = uint2; };
template <>
struct Raw<16> { using Type = uint4; };

// load and store move n neighbouring elements as float32, 16 bytes at once at most.
template <int n, class T>
__device__ __forceinline__ void load(float (&v)[n], const T* p) {
  if constexpr (n * sizeof(T) > 16) {
    constexpr int half = n / 2;
    float lo[half], hi[half];
    load(lo, p);
    load(hi, p + half);
    for (int i = 0; i < half; i++) v[i] = lo[i], v[half + i] = hi[i];
  } else {
    using R = typename Raw<n * sizeof(T)>::Type;
    R raw = *reinterpret_cast<const R*>(p);
    T s[n];
    memcpy(s, &raw, sizeof s);
    for (int i = 0; i < n; i++) v[i] = to_float(s[i]);
  }
}
template <int n, class T>
__device__ __forceinline__ void store(T* p, const float (&v)[n]) {
  if constexpr (n * sizeof(T) > 16) {
    constexpr int half = n / 2;
    float lo[half], hi[half];
    for (int i = 0; i < half; i++) lo[i] = v[i], hi[i] = v[half + i];
    store(p, lo);
    store(p + half, hi);
  } else {
    using R = typename Raw<n * sizeof(T)>::Type;
    T s[n];
    for (int i = 0; i < n; i++) s[i] = from_float<T>(v[i]);
    R raw;
    memcpy(&raw, s, sizeof s);
    *reinterpret_cast<R*>(p) = raw;
  }
}

// load_fresh reads what another block may have written during this kernel: past the L1 cache, which does not see it.
__device__ __forceinline__ float load_fresh(const float* p) { return __ldcg(p); }
__device__ __forceinline__ void load_fresh(float (&v)[4], const float* p) {
  float4 f = __ldcg(reinterpret_cast<const float4*>(p));
  v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
}
__device__ __forceinline__ float2 load_fresh(const float2* p) { return __ldcg(p); }

// kernels.Activation
enum Activation { kIdentity, kSiLU, kGELU, kQuickGELU, kTanhGELU, kGEGLU, kSwiGLU, kTanhGEGLU };
__device__ __forceinline__ bool gated(int act) { return act >= kGEGLU; }

__device__ __forceinline__ float silu(float x) { return x / (1 + expf(-x)); }
__device__ __forceinline__ float gelu(float x) { return 0.5f * x * erfcf(-0.70710678118654752f * x); }
// x·½(1 + tanh y) = x·σ(2y) with y = √(2/π)·(x + 0.044715·x³)
__device__ __forceinline__ float tanh_gelu(float x) { return x / (1 + expf(-1.5957691216f * (x + 0.044715f * x * x * x))); }
// gate is what a gated activation makes of a gate.
__device__ __forceinline__ float gate(float x, int act) { return act == kGEGLU ? gelu(x) : act == kSwiGLU ? silu(x) : tanh_gelu(x); }
__device__ __forceinline__ float activate(float x, int act) {
  switch (act) {
  case kSiLU: return silu(x);
  case kGELU: return gelu(x);
  case kQuickGELU: return x / (1 + expf(-1.702f * x));
  case kTanhGELU: return tanh_gelu(x);
  }
  return x;
}

// Divisor divides by a number d that the host knows, with a multiplication in place of some 25 instructions:
// factor = ⌈2^shift / d⌉ with shift = 31 + ⌈log₂ d⌉ is exact for 0 ≤ n < 2^31 (Granlund and Montgomery 1994).
struct Divisor {
  unsigned factor;
  int shift;
  __device__ __forceinline__ int under(int n) const { return int(uint64_t(unsigned(n)) * factor >> shift); }
};

__device__ __forceinline__ int ceil_div(int a, int b) { return (a + b - 1) / b; }

// The sum over a warp, in every lane, in a fixed order.
__device__ __forceinline__ float warp_sum(float x) {
  for (int i = 16; i; i >>= 1) x += __shfl_xor_sync(~0u, x, i);
  return x;
}
