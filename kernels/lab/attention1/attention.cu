// attention1: the kernels of Attention, one for each padded head size.
#include "attention.cuh"

#define MMA(name, T, D)                                                 \
  KERNEL(attention_mma_##name##_##D, 128, Attention, a) {               \
    using Tiles = FlashTiles<T, D>;                                     \
    SHARED(Tiles, tiles);                                               \
    attention_mma<T, D>(a, tiles);                                      \
  }
#define ALL(name, T)                                                    \
  MMA(name, T, 16)                                                      \
  MMA(name, T, 32)                                                      \
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
