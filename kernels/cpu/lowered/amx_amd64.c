// The AMX kernels: the tiles of tiles.h in memory.
#include <immintrin.h>
#include <math.h>
#include "jobs.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define NAME lowered_amx
#define W 16
#define MR 32
#define NV 2
#define HALF
#define AMX
#define FMA_BY_HALVES
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
