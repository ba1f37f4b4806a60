// attention.cu: the kernels of Attention, one for each padded head size.
#include "attention.cuh"

#define SIMPLE(name, T)                                                 \
  KERNEL(attention_simple_##name, 128, Attention, a) {                  \
    SHARED(float, rows);                                                \
    attention_simple<T>(a, rows);                                       \
  }
SIMPLE(f32, float)
SIMPLE(f16, half_t)
SIMPLE(bf16, bfloat_t)

#define MMA(name, T, D)                                                 \
  BOUND_KERNEL(attention_mma_##name##_##D, 128, Flash<D>::kResident, Attention, a) { \
    SHARED(char, tiles);                                                \
    attention_mma<T, D>(a, tiles);                                      \
  }
#define ALL(name, T)                                                    \
  MMA(name, T, 16)                                                      \
  MMA(name, T, 32)                                                      \
  MMA(name, T, 40)                                                      \
  MMA(name, T, 48)                                                      \
  MMA(name, T, 64)                                                      \
  MMA(name, T, 80)                                                      \
  MMA(name, T, 128)                                                     \
  MMA(name, T, 160)                                                     \
  KERNEL(attention_wide_##name, 256, Attention, a) {                    \
    using Tiles = WideTiles<T>;                                         \
    SHARED(Tiles, tiles);                                               \
    attention_wide<T>(a, tiles);                                        \
  }
ALL(f16, half_t)
#ifndef OLD_GPU
ALL(bf16, bfloat_t)
#endif
