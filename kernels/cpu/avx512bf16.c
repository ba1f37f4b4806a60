// AVX512-BF16: products of bfloat16 pairs, 32 to an instruction. A tile of 8 × 48 sums takes 24 registers, its
// columns 3.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include "jobs.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx512vnni,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx512vnni,avx2,fma")
#endif

#define NAME avx512bf16
#define W 16
#define MR 8
#define NV 3
#define FMA_NATIVE
#define HALF
#define HALF_NATIVE
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
