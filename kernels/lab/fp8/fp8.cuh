// fp8.cuh: products in float8: D[M,N] = act((A8[M,K] · B8[N,K]ᵀ)·scaleA[m]·scaleB[n] + bias) + residual, for linear layers and
// 1×1 convolutions.
//
// Rows of A, and of the weight B, are e4m3 and have a scale each: the row's maximum divided by 448, e4m3's largest value. B
// is rounded on the host, once; A by round_rows before the product. Rows are padded with zeros to a multiple of 64, the depth
// of a stage, so that no stage ends within a row: what follows a row would count, and might be NaN.
//
// gemm_e4m3 is gemm.cuh's gemm_mma on bytes: the same stages of 64 bytes a row, which hold 64 columns of K instead of 32, the
// same loader, fragments, sums and epilogue. Only the multiplication is another, and the results are scaled. It does without
// split sums and norms.
#pragma once
#include "gemm.cuh"
#include "ptx_fp8.cuh"

// ---- round_rows: a warp a row, 8 neighbouring columns a lane ----

struct Rows {
  const void *a, *a2; // one input or two side by side in the channels
  E4M3* d;            // [rows, pitch]
  float* scales;      // [rows], or null: the values are converted as they are
  int rows, c1, c2, pitch;
};

// columns reads 8 values of a row from column k on, with zeros behind the last.
template <class T>
__device__ __forceinline__ void columns(const Rows& r, int row, int k, float (&v)[8]) {
  const T* a = static_cast<const T*>(r.a) + int64_t(row) * r.c1;
  const T* a2 = static_cast<const T*>(r.a2) + int64_t(row) * r.c2;
  if (r.c1 % 8 == 0 && r.c2 % 8 == 0 && k < r.c1 + r.c2) {
    load(v, k < r.c1 ? a + k : a2 + (k - r.c1));
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; i++) v[i] = k + i < r.c1 ? to_float(a[k + i]) : k + i < r.c1 + r.c2 ? to_float(a2[k + i - r.c1]) : 0;
}

template <class T>
__device__ __forceinline__ void round_rows(const Rows& r) {
  int lane = threadIdx.x % 32, row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= r.rows) return;
  float factor = 1, v[8];
  if (r.scales) {
    float most = 0; // NaN is passed over here, and becomes NaN below
    for (int k = 8 * lane; k < r.c1 + r.c2; k += 8 * 32) {
      columns<T>(r, row, k, v);
#pragma unroll
      for (int i = 0; i < 8; i++) most = fmaxf(most, fabsf(v[i]));
    }
    for (int i = 16; i; i >>= 1) most = fmaxf(most, __shfl_xor_sync(~0u, most, i));
    most = fmaxf(most, 1e-30f); // of rows of zeros
    factor = kMostE4M3 / most;
    if (lane == 0) r.scales[row] = most / kMostE4M3;
  }
  for (int k = 8 * lane; k < r.pitch; k += 8 * 32) { // the row comes from the cache now
    columns<T>(r, row, k, v);
    uint32_t codes[2];
#pragma unroll
    for (int i = 0; i < 2; i++)
      codes[i] = to_e4m3(v[4 * i] * factor, v[4 * i + 1] * factor) | uint32_t(to_e4m3(v[4 * i + 2] * factor, v[4 * i + 3] * factor)) << 16;
    *reinterpret_cast<uint2*>(r.d + int64_t(row) * r.pitch + k) = make_uint2(codes[0], codes[1]);
  }
}

// ---- gemm_e4m3 ----

// Float8 is a product. Of g: a and b hold e4m3, k, c1 and ldb are the padded depth, and a2, splits and moments are not used.
struct Float8 {
  Gemm g;
  const float *scale_a, *scale_b; // [M], [N]
};

template <class Tile>
struct Float8Sums : Accumulators<E4M3, Tile> {
  using Accumulators<E4M3, Tile>::kI, Accumulators<E4M3, Tile>::kJ, Accumulators<E4M3, Tile>::acc;

  __device__ __forceinline__ void multiply(const Fragments<E4M3, Tile>& f) {
#pragma unroll
    for (int i = 0; i < kI; i++)
#pragma unroll
      for (int j = 0; j < kJ; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) mma_m16n8k32(acc[i][j][h], f.a[i], f.b[j][2 * h], f.b[j][2 * h + 1]);
  }
};

// gemm_e4m3 makes the tile (blockIdx.x, blockIdx.y) of the result, which is of type T. See gemm_mma for its steps.
template <class T, class Tile>
__device__ __forceinline__ void gemm_e4m3(const Float8& p, char* stages) {
  using L = Loader<E4M3, Tile, true>;
  constexpr int kStages = Tile::kStages, kBytes = Tile::kStageBytes;
  const Gemm& g = p.g;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int m0 = blockIdx.x * Tile::kM, n0 = blockIdx.y * Tile::kN;
  int wm = warp % Tile::kWarpsM * Tile::kWarpM, wn = warp / Tile::kWarpsM * Tile::kWarpN;

  int count = g.k / L::kDepth;
  L loader(g, stages, m0, n0, 0);
#pragma unroll 1
  for (int i = 0; i < kStages - 1; i++) {
    loader.next(i * kBytes, i < count);
    loader.step();
    cp_async_commit();
  }

  Shared base = shared_address(stages);
  int row_a = wm + lane % 16, row_b = Tile::kM + wn + lane % 8 + lane / 16 * 8;
  const int a_at[2] = {kept(chunk_at(row_a, lane / 16)), kept(chunk_at(row_a, 2 + lane / 16))};
  const int b_at[2] = {kept(chunk_at(row_b, lane / 8 % 2)), kept(chunk_at(row_b, 2 + lane / 8 % 2))};

  Float8Sums<Tile> sums;
  Fragments<E4M3, Tile> even, odd;
  int read = 0, write = (kStages - 1) * kBytes;
  cp_async_wait<kStages - 2>();
  __syncthreads();
  even.load(base + a_at[0], base + b_at[0]);
#pragma unroll 1
  for (int i = 0; i < count; i++) {
    odd.load(base + read + a_at[1], base + read + b_at[1]);
    loader.next(write, i + kStages - 1 < count);
    cp_async_commit();
    sums.multiply(even);
    loader.step();
    write = read;
    read = read == (kStages - 1) * kBytes ? 0 : read + kBytes;
    cp_async_wait<kStages - 2>();
    __syncthreads(); // the next stage has come, and all have done with the one before it
    even.load(base + read + a_at[0], base + read + b_at[0]);
    sums.multiply(odd);
  }

  cp_async_wait<0>();
  __syncthreads();
  constexpr int kQuads = Tile::kWarpN / 4, kParts = Tile::kWarpM / 32;
  static_assert(kBytes * kStages >= 4 * 32 * Tile::kWarpN * Tile::kThreads / 32, "the results must fit the stages");
  static_assert(kParts <= 2, "spread is called for two parts");
  float* mine = reinterpret_cast<float*>(stages) + warp * 32 * Tile::kWarpN;
  int column = lane % kQuads * 4, n = n0 + wn + column;
  float scale_b[4];
  for (int e = 0; e < 4; e++) scale_b[e] = n + e < g.n ? p.scale_b[n + e] : 0;
  Epilogue<T> epilogue(g, n);
#pragma unroll 1
  for (int part = 0; part < kParts; part++) {
    if (part == 0) sums.template spread<0>(mine);
    else sums.template spread<kParts - 1>(mine);
    __syncwarp();
#pragma unroll 1
    for (int row = lane / kQuads; row < 32; row += 32 / kQuads) {
      int m = m0 + wm + 32 * part + row;
      float v[4], scale_a = m < g.m ? p.scale_a[m] : 0;
      load(v, mine + spread_at<Tile>(row, column));
      for (int e = 0; e < 4; e++) v[e] *= scale_a * scale_b[e];
      epilogue.store(m, v, make_float2(0, 1));
    }
    __syncwarp();
  }
}
