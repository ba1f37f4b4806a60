// AVX2 with FMA: 16 registers of 8 floats. A tile of 6 × 16 takes 12 of them, its columns 2.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include "jobs.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define NAME avx2
#define W 8
#define MR 6
#define NV 2
#define FMA_NATIVE
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
