// gemm_sm90.cu: the kernels of Conv2D and Linear for Hopper (sm_90a alone).
#include "gemm_sm90.cuh"

KERNEL(enlarge_16, 256, Enlarge, e) { enlarge(e); }

#define WGMMA(name, T, N, stages)                                               \
  TMA_KERNEL(gemm_wgmma_##name##_128x##N, 384, HopperGemm, p) {                 \
    SHARED(char, shared);                                                       \
    gemm_wgmma<T, HopperTile<N, stages>>(p, shared);                            \
  }
#define ALL(name, T)                                                            \
  WGMMA(name, T, 64, 6)                                                         \
  WGMMA(name, T, 80, 6)                                                         \
  WGMMA(name, T, 128, 6)                                                        \
  WGMMA(name, T, 160, 5)                                                        \
  WGMMA(name, T, 256, 4)
ALL(f16, half_t)
#ifndef OLD_GPU // the checker's build, which takes long
ALL(bf16, bfloat_t)
#endif
