// gemm.cu: the kernels of Conv2D and Linear. A Linear is a 1×1 convolution of an image one pixel high.
#include "gemm.cuh"

#define SIMPLE(name, T)                                                         \
  KERNEL(gemm_simple_##name, 256, Gemm, g) {                                    \
    SHARED(SimpleTiles, tiles);                                                 \
    gemm_simple<T>(g, tiles);                                                   \
  }
SIMPLE(f32, float)
SIMPLE(f16, half_t)
SIMPLE(bf16, bfloat_t)

#define REDUCE(name, T)                                                         \
  KERNEL(gemm_reduce_##name, 256, Gemm, g) { gemm_reduce<T>(g); }
REDUCE(f32, float)
REDUCE(f16, half_t)
REDUCE(bf16, bfloat_t)

// gemm.go's tiles. Each warp of the largest has 64×64 results: 4 mma for each ldmatrix.
using Large = Tile<128, 128, 2, 2, 3>;
using Medium = Tile<128, 64, 2, 2, 4>;
using Small = Tile<64, 64, 2, 2, 4>;
// The same by eight smaller warps: as many warps on a processor as its registers allow. Ampere on.
using LargeOf8 = Tile<128, 128, 2, 4, 3>;
using MediumOf8 = Tile<128, 64, 4, 2, 4>;

#define MMA(name, T, Tile, wide) MMA_OF(name, T, Tile, wide, 2)
#define MMA_OF(name, T, Tile, wide, blocks)                                     \
  BOUND_KERNEL(gemm_mma_##name, Tile::kThreads, blocks, Gemm, g) {              \
    SHARED(char, stages);                                                       \
    gemm_mma<T, Tile, wide>(g, stages);                                         \
  }
#define ALL(name, T)                                                            \
  MMA(name##_128x128, T, Large, true)                                           \
  MMA(name##_128x64, T, Medium, true)                                           \
  MMA(name##_64x64, T, Small, true)                                             \
  MMA(name##_64x64_narrow, T, Small, false)
ALL(f16, half_t)
#define ALL_OF_8(name, T)                                                       \
  MMA(name##_128x128_8w, T, LargeOf8, true)                                     \
  MMA_OF(name##_128x64_8w, T, MediumOf8, true, 3)
#if !defined(OLD_GPU) || defined(CUDA_EMU)
ALL_OF_8(f16, half_t)
#endif
#ifndef OLD_GPU
ALL(bf16, bfloat_t)
ALL_OF_8(bf16, bfloat_t)
ALL(tf32, float)
ALL_OF_8(tf32, float)
#endif
