// All kernels for one instruction set. A file such as avx2.c turns the instructions on, defines
//
//	NAME        what the set is called
//	W           floats in a vector
//	MR, NV      rows and vectors of the micro-kernel's tile: MR·NV sums, NV columns and one
//	            broadcast value must fit the registers
//	FMA_NATIVE  if multiply-add is one instruction
//
// and includes this one.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF // GCC: the build's -std=c11 means the same
#endif

#include "polynomials.h"
#include "vec.h"

#define NR (NV * W) // columns of a packed panel

#include "gemm.h"
#include "attention.h"
#include "norm.h"
#include "pack.h"

// fma_peak runs as many independent chains of multiply-adds as hide their latency, and nothing else.
static double fma_peak(int64_t rounds) {
	vec a = splat(0), b = splat(1), c = splat(2), d = splat(3), e = splat(4), f = splat(5), g = splat(6), h = splat(7), i = splat(8), j = splat(9);
	vec x = splat(0.999f), y = splat(0.001f);
	for (int64_t n = 0; n < rounds; n++) {
		a = fma_(a, x, y), b = fma_(b, x, y), c = fma_(c, x, y), d = fma_(d, x, y), e = fma_(e, x, y);
		f = fma_(f, x, y), g = fma_(g, x, y), h = fma_(h, x, y), i = fma_(i, x, y), j = fma_(j, x, y);
	}
	vec sum = a + b + c + d + e + f + g + h + i + j;
	return sum[0];
}

#define GLUE_(a, b) a##b
#define GLUE(a, b) GLUE_(a, b)
#define STRING_(a) #a
#define STRING(a) STRING_(a)

const isa GLUE(isa_, NAME) = {
	.name = STRING(NAME), .nr = NR, .rows = MR, .gemm = gemm, .attention = attention, .groupnorm_sums = groupnorm_sums, .groupnorm = groupnorm,
	.layernorm = layernorm, .pack = pack, .fma_peak = fma_peak, .fma_flops = 10 * 2 * W,
};
