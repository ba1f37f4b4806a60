// int8 and bfloat16 for processors with AVX2 alone: bytes are multiplied in 16 bits, bfloat16 as float32 with FMA, both to the
// bits of AVX-512. A tile of 6 × 16 sums takes 12 registers, its columns 2.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include "jobs.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define NAME avx2bf16
#define W 8
#define MR 6
#define NV 2
#define FMA_NATIVE
#define HALF
#define HALF_AVX2
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
