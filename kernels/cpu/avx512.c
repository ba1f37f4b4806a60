// AVX-512F: 32 registers of 16 floats. A tile of 8 × 48 takes 24 of them, its columns 3.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include "jobs.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx2,fma")
#endif

#define NAME avx512
#define W 16
#define MR 8
#define NV 3
#define FMA_NATIVE
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
