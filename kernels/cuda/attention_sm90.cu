// attention_sm90.cu: the kernels of Attention for Hopper (sm_90a alone), one for each padded head size.
#include "attention_sm90.cuh"

#define WGMMA(name, T, D, keys)                                                 \
  TMA_KERNEL(attention_wgmma_##name##_##D, 384, HopperAttention, p) {           \
    SHARED(char, shared);                                                       \
    attention_wgmma<T, HopperFlash<D, keys>>(p, shared);                        \
  }
#define ALL(name, T)                                                            \
  WGMMA(name, T, 40, 128)                                                       \
  WGMMA(name, T, 64, 128)                                                       \
  WGMMA(name, T, 80, 128)                                                       \
  WGMMA(name, T, 128, 128)                                                      \
  WGMMA(name, T, 160, 64)
ALL(f16, half_t)
#ifndef OLD_GPU // the checker's build, which takes long
ALL(bf16, bfloat_t)
#endif
