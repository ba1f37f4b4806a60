// fp8.cu: the kernels of fp8.cuh, for activations in float16 and bfloat16, on gemm.cu's tiles.
#include "fp8.cuh"

#define ROUND(name, T)                                                          \
  KERNEL(round_rows_##name, 256, Rows, r) { round_rows<T>(r); }
ROUND(f16, half_t)
ROUND(bf16, bfloat_t)

using Large = Tile<128, 128, 2, 2, 3>;
using Medium = Tile<128, 64, 2, 2, 4>;
using Small = Tile<64, 64, 2, 2, 4>;

#define E4M3_MMA(name, T, Tile)                                                 \
  WIDE_KERNEL(gemm_mma_e4m3_##name, Tile::kThreads, Float8, p) {                \
    SHARED(char, stages);                                                       \
    gemm_e4m3<T, Tile>(p, stages);                                              \
  }
#define E4M3_ALL(name, T)                                                       \
  E4M3_MMA(name##_128x128, T, Large)                                            \
  E4M3_MMA(name##_128x64, T, Medium)                                            \
  E4M3_MMA(name##_64x64, T, Small)
E4M3_ALL(f16, half_t)
E4M3_ALL(bf16, bfloat_t)
