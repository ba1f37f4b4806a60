// The AVX512-BF16 kernels: dot2 and its kin of half.h in plain C.
#include <immintrin.h>
#include <math.h>
#include "jobs.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define NAME lowered_avx512bf16
#define W 16
#define MR 8
#define NV 3
#define HALF
#define FMA_BY_HALVES
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
