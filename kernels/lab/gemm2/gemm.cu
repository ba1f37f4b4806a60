// gemm2: the present gemm_mma, but for kept(): the compiler may compute the addresses anew in each round of the loop.
#include "ptx.cuh"
#define kept(x) (x)
#include "gemm.cuh"

#define REDUCE(name, T)                                                         \
  KERNEL(gemm_reduce_##name, 256, Gemm, g) { gemm_reduce<T>(g); }
REDUCE(f16, half_t)

using Large = Tile<128, 128, 2, 2, 3>;
using Medium = Tile<128, 64, 2, 2, 4>;
using Small = Tile<64, 64, 2, 2, 4>;

#define MMA(name, T, Tile, wide)                                                \
  WIDE_KERNEL(gemm_mma_##name, Tile::kThreads, Gemm, g) {                       \
    SHARED(char, stages);                                                       \
    gemm_mma<T, Tile, wide>(g, stages);                                         \
  }
MMA(f16_128x128, half_t, Large, true)
MMA(f16_128x64, half_t, Medium, true)
MMA(f16_64x64, half_t, Small, true)
MMA(f16_64x64_narrow, half_t, Small, false)
