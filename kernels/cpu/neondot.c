// Products of bytes by SDOT, 16 to an instruction, on arm64 without I8MM: Apple M1, Neoverse N1, most processors since Armv8.2. What
// stays bfloat16 is multiplied as float32, in the order of AVX512-BF16. A tile of 8 × 12 sums takes 24 of the 32 registers.
#include "neon.h"
#if NEON_SETS
#include <arm_neon.h>
#include <math.h>
#include "jobs.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#pragma GCC optimize("no-schedule-insns") // which makes more values live than there are registers, before these are given out
#endif

#define NAME neondot
#define W 4
#define MR 8
#define NV 3
#define FMA_NATIVE
#define HALF
#define HALF_NEON
#define BYTES_SIGNED
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
