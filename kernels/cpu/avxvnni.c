// Products of bytes by AVX-VNNI, 32 to an instruction, on processors without AVX-512. What stays bfloat16 is multiplied as
// float32 with FMA, to the bits of AVX512-BF16. A tile of 6 × 16 sums takes 12 registers, its columns 2.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include "jobs.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,avxvnni")
#endif

#define NAME avxvnni
#define W 8
#define MR 6
#define NV 2
#define FMA_NATIVE
#define HALF
#define HALF_AVX2
#define BYTES_NATIVE
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
