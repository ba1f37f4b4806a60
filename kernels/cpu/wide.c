// The AVX-512 kernels, compiled for AVX2: the compiler makes two instructions of each that works on 16
// floats. Slow; for tests, so that their logic is proven on machines that lack AVX-512.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include "jobs.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define NAME wide
#define W 16
#define MR 8
#define NV 3
#define FMA_BY_LANE
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
