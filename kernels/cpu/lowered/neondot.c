// The DotProd kernels of arm64: SDOT in plain C.
#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif
#include <math.h>
#include "jobs.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#endif

#define NAME lowered_neondot
#define W 4
#define MR 8
#define NV 3
#define FMA_NATIVE
#define HALF
#define BYTES_SIGNED
#include "isa.h"

#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute pop
#endif
