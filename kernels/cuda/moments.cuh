// moments.cuh: the moments of a matrix's rows, from which their layer norm follows.
//
// A row is cut into granules of 32 columns, each with its mean and the sum of squared deviations from it. The kernel that
// makes a row stores them beside it, and the one that normalises the row joins them (Chan et al. 1979): nobody reads
// the row for their sake. Eight lanes make a granule in one order, whatever the tile, so the bits do not depend on it.
#pragma once
#include "device.cuh"

constexpr int kGranule = 32;

// store_moments stores those of a warp's values, which are rounded as the matrix holds them: four of row m from column n on a
// lane, with lane % 8 = n / 4 % 8. All lanes call it; `there` is false for one whose values are not in the matrix.
template <class T>
__device__ __forceinline__ void store_moments(float2* to, int rows, int m, int n, const float (&v)[4], bool there) {
  float x[4], sum = 0, squares = 0;
  for (int i = 0; i < 4; i++) x[i] = to_float(from_float<T>(v[i])), sum += x[i];
  for (int i = 1; i < 8; i <<= 1) sum += __shfl_xor_sync(~0u, sum, i);
  float mean = sum * (1.0f / kGranule);
  for (int i = 0; i < 4; i++) squares = fmaf(x[i] - mean, x[i] - mean, squares);
  for (int i = 1; i < 8; i <<= 1) squares += __shfl_xor_sync(~0u, squares, i);
  if (there && n % kGranule == 0) to[int64_t(n / kGranule) * rows + m] = make_float2(mean, squares);
}

// row_norm is mean and reciprocal deviation of row m.
__device__ __forceinline__ float2 row_norm(const float2* moments, int rows, int columns, int m, float eps) {
  int count = columns / kGranule;
  float2 first = moments[m];
  float sum = 0, apart = 0, squares = first.y; // sum and apart: of the means, from the first one
#pragma unroll 4
  for (int j = 1; j < count; j++) {
    float2 g = moments[int64_t(j) * rows + m];
    float d = g.x - first.x;
    sum += d;
    apart = fmaf(d, d, apart);
    squares += g.y;
  }
  float each = 1.0f / count;
  sum *= each;
  float variance = fmaf(squares, 1.0f / kGranule, apart) * each - sum * sum;
  return make_float2(first.x + sum, 1 / sqrtf(fmaxf(variance, 0) + eps));
}
