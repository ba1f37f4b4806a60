// Products of 2 × 2 matrices of bfloat16 and of bytes, on arm64 with BF16 and I8MM: Apple since M2, Neoverse V1 and N2, and every
// Armv8.6. A tile of 8 × 12 sums takes 24 of the 32 registers, rows 4, columns 2.
#include "neon.h"
#if NEON_SETS
#include <arm_neon.h>
#include <math.h>
#include "jobs.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("bf16,i8mm"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+bf16+i8mm")
#pragma GCC optimize("no-schedule-insns") // which makes more values live than there are registers, before these are given out
#endif

#define NAME neonbf16
#define W 4
#define MR 8
#define NV 3
#define FMA_NATIVE
#define HALF
#define HALF_NEON
#define MATRICES
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
