// AMX: squares of 16 × 32 bfloat16 by 32 × 16, 8,192 products to an instruction; four squares of sums, two of
// rows and two of columns are the eight tiles that there are.
// Not for Windows, which lends no tiles to those who do not ask it in its own way.
#if defined(__x86_64__) && !defined(_WIN32)
#include <immintrin.h>
#include <math.h>
#include "jobs.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx512vnni,avx2,fma,amx-tile,amx-bf16,amx-int8"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx512vnni,avx2,fma,amx-tile,amx-bf16,amx-int8")
#endif

#define NAME amx
#define W 16
#define MR 32
#define NV 2
#define FMA_NATIVE
#define HALF
#define HALF_NATIVE
#define AMX
#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
