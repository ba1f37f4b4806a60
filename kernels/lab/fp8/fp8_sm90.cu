// fp8_sm90.cu: the kernels of fp8_sm90.cuh (sm_90a alone), on gemm_sm90.cu's tiles. One of 256 columns has no registers for two
// sets of sums.
#include "fp8_sm90.cuh"

#define E4M3_WGMMA(name, T, N, stages, How)                                                    \
  TMA_KERNEL(gemm_wgmma_e4m3_##name##_128x##N, 384, HopperFloat8, p) {                         \
    SHARED(char, shared);                                                                      \
    gemm_wgmma<T, HopperTile<N, stages>>(p.h, shared, How{p.scale_a, p.scale_b});              \
  }
#define PROMOTED(name, T, N, stages) E4M3_WGMMA(name, T, N, stages, Promoted)
#define UNPROMOTED(name, T, N, stages) E4M3_WGMMA(unpromoted_##name, T, N, stages, Unpromoted)
#define E4M3_WGMMA_ALL(name, T)                                                 \
  PROMOTED(name, T, 64, 6)                                                      \
  PROMOTED(name, T, 80, 6)                                                      \
  PROMOTED(name, T, 128, 6)                                                     \
  PROMOTED(name, T, 160, 5)                                                     \
  UNPROMOTED(name, T, 64, 6)                                                    \
  UNPROMOTED(name, T, 80, 6)                                                    \
  UNPROMOTED(name, T, 128, 6)                                                   \
  UNPROMOTED(name, T, 160, 5)                                                   \
  UNPROMOTED(name, T, 256, 4)
E4M3_WGMMA_ALL(f16, half_t)
E4M3_WGMMA_ALL(bf16, bfloat_t)
