// The AVX-512 kernels: the compiler makes two instructions of each that works on 16 floats.
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
#define FMA_BY_HALVES
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
