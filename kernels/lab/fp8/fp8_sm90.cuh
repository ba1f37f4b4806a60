// fp8_sm90.cuh: products in float8 on Hopper, by wgmma. What is computed is fp8.cuh's D, of the rows that round_rows made; how
// it is computed is gemm_sm90.cuh's gemm_wgmma, whose stages of 128 bytes a row hold 128 columns of K instead of 64, and whose
// instructions take 32 columns instead of 16. TMA fills what is past the last column with zeros.
//
// Hopper adds products of e4m3 with 13 bits of fraction below the largest of them and of the sum so far, and keeps no more of
// the sum (DeepSeek-V3, arXiv 2412.19437, section 3.3.2; MMA-Sim, arXiv 2511.10909). Promoted therefore has a stage's 128
// columns summed up by themselves, and adds these to a sum in float32, as DeepSeek does. That takes twice the registers, and
// a warpgroup's tensor cores wait while it adds: the other warpgroup's work meanwhile. Unpromoted does without.
#pragma once
#include "fp8.cuh"
#include "gemm_sm90.cuh"

// HopperFloat8 is a product. Of h.g: a and b hold e4m3, k, c1 and ldb are the padded depth, and a2, splits and moments are not
// used. h's boxes have 128 columns.
struct HopperFloat8 {
  HopperGemm h;
  const float *scale_a, *scale_b; // [M], [N]
};

// Unpromoted multiplies bytes, and scales the sums by row and column.
struct Unpromoted {
  using Operand = E4M3;
  static constexpr bool kPromotes = false;
  const float *scale_a, *scale_b;

  struct Scale {
    const float* scale_a;
    int rows;
    float scale_b[4];
    __device__ __forceinline__ void apply(int m, float (&v)[4]) const {
      float a = m < rows ? scale_a[m] : 0;
      for (int e = 0; e < 4; e++) v[e] *= a * scale_b[e];
    }
  };
  __device__ __forceinline__ Scale scale(const Gemm& g, int n) const {
    Scale s = {scale_a, g.m, {}};
    for (int e = 0; e < 4; e++) s.scale_b[e] = n + e < g.n ? scale_b[n + e] : 0;
    return s;
  }
};

struct Promoted : Unpromoted {
  static constexpr bool kPromotes = true;

  template <int N>
  static __device__ __forceinline__ void clear(WgAcc<N>& sums) {
#pragma unroll
    for (int i = 0; i < N / 2; i++) sums.v[i] = 0;
  }

  // promote waits for a stage's products, gives the stage back, and adds their sum to those before.
  template <int N>
  static __device__ __forceinline__ void promote(WgAcc<N>& sums, WgAcc<N>& stage_sums, Shared empty) {
    wgmma_wait<0>();
    settled(stage_sums);
    if (threadIdx.x % 32 == 0) barrier_arrive(empty);
#pragma unroll
    for (int i = 0; i < N / 2; i++) sums.v[i] += stage_sums.v[i];
  }
};
