// All kernels for one instruction set. A file such as avx2.c turns the instructions on, defines
//
//	NAME        what the set is called
//	W           floats in a vector
//	MR, NV      rows and vectors of the micro-kernel's tile: MR·NV sums, NV columns and one
//	            broadcast value must fit the registers
//	FMA_NATIVE  if multiply-add is one instruction
//	HALF        if activations and weights are bfloat16; with HALF_NATIVE where the processor computes
//	            with them, and AMX where that is done in tiles (tiles.h); with HALF_AVX2 where it has AVX2
//	            alone, and BYTES_NATIVE where that multiplies bytes (AVX-VNNI); with HALF_NEON on arm64, where
//	            it has MATRICES (matrices.h) or multiplies signed bytes alone (BYTES_SIGNED)
//
// and includes this one.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF // GCC: the build's -std=c11 means the same
#endif

#include "polynomials.h"
#include "vec.h"

#define NR (NV * W) // columns of a packed panel
#ifdef HALF
#define CHUNK (2 * W) // K is packed in multiples of it
#ifdef AMX
#define MOST_ROWS 256     // of an item: with 320 columns its sums are 320 KiB of the L2 cache
#define CACHE 1700000     // bytes of it
#define WHOLE (20 * CHUNK) // MOST_CHUNKS of gemm_tiles.h
#define MOST_COLUMNS 320
#include "tiles.h"
#else
#define BLOCK_CHUNKS (192 / W)
#define MOST_ROWS 144
#define MOST_COLUMNS 320
#define BEGIN_TILES
#define END_TILES
#endif
#ifdef MATRICES
#include "matrices.h"
#endif
#else
#define CHUNK 1
#define MOST_ROWS 144
#define MOST_COLUMNS 320
#endif
// In bfloat16 too it is computed in float32, which pays where instructions for pairs are about twice as fast, not many times.
#if !defined(AMX) && !defined(MATRICES)
#define WINOGRAD
#define WINOGRAD_TILES 80     // of an item
#define WINOGRAD_DEPTH 80     // channels of transformed weights that are there at once
#define WINOGRAD_CHANNELS 320 // of transformed pixels; a multiple of that
#endif

#include "windows.h"
#include "finish.h"
#include "pack.h"
#ifdef HALF
#include "gemm_half.h"
#include "attention_half.h"
#else
#include "gemm.h"
#include "attention.h"
#endif
#ifdef WINOGRAD
#include "winograd.h"
#endif
#include "norm.h"
#include "rotary.h"
#include "merge.h"
#ifdef HALF
#include "quantise.h"
#endif

// peak runs as many independent chains of multiply-adds as hide their latency, and nothing else: of bytes where int8 says so,
// else of the set's type.
#ifdef AMX
#define PEAK_FLOPS (4 * 2 * 16 * 16 * CHUNK)
#define PEAK_ROUNDS(DOT)                     \
	for (int64_t n = 0; n < rounds; n++) { \
		DOT(0, 4, 6);                        \
		DOT(1, 4, 7);                        \
		DOT(2, 5, 6);                        \
		DOT(3, 5, 7);                        \
	}
static double peak(int64_t rounds, int int8) {
	// Ordinary numbers: of zeros the processor makes a fifth more products, because they take less power.
	elem numbers[2 * SQUARE];
	uint32_t random = 1;
	for (int i = 0; i < 2 * SQUARE; i++) random = random * 1664525 + 1013904223, numbers[i] = (elem)(0x3f00 | (random >> 16 & 0x80ff));
	float sum[16 * 16];
	BEGIN_TILES;
	TILE_ZERO(0);
	TILE_ZERO(1);
	TILE_ZERO(2);
	TILE_ZERO(3);
	TILE_LOAD(4, numbers, 64);
	TILE_LOAD(5, numbers + SQUARE, 64);
	TILE_LOAD(6, numbers, 64);
	TILE_LOAD(7, numbers + SQUARE, 64);
	if (int8) {
		PEAK_ROUNDS(TILE_DOT8)
	} else {
		PEAK_ROUNDS(TILE_DOT)
	}
	TILE_STORE(0, sum, 64);
	END_TILES;
	return sum[0];
}
#else
#define PEAK_ROUNDS(STEP)                                                  \
	for (int64_t n = 0; n < rounds; n++) {                                 \
		a = STEP(a), b = STEP(b), c = STEP(c), d = STEP(d), e = STEP(e); \
		f = STEP(f), g = STEP(g), h = STEP(h), i = STEP(i), j = STEP(j); \
	}
#if defined(MATRICES)
#define PEAK_STEP(sum) mmla(sum, (vecu)x, (vecu)y)
#define PEAK_STEP8(sum) mmla8(sum, (vecu)x, (vecu)y)
#define PEAK_FLOPS (10 * 8 * W)
#elif defined(HALF)
#define PEAK_STEP(sum) dot2(sum, (vecu)x, (vecu)y)
#define PEAK_STEP8(sum) (vec)dot4((veci)(sum), (vecu)x, (vecu)y)
#define PEAK_FLOPS (10 * 4 * W)
#else
#define PEAK_STEP(sum) fma_(sum, x, y)
#define PEAK_STEP8 PEAK_STEP // there is no int8 in these sets
#define PEAK_FLOPS (10 * 2 * W)
#endif
// Each loop is a function of its own: in one, the compiler moves sums about between rounds.
#define PEAK_LOOP(NAME_, STEP)                                                                                            \
	static __attribute__((noinline)) double NAME_(int64_t rounds) {                                                      \
		vec a = splat(0), b = splat(1), c = splat(2), d = splat(3), e = splat(4), f = splat(5), g = splat(6), h = splat(7), \
			i = splat(8), j = splat(9);                                                                                    \
		vec x = splat(0.999f), y = splat(0.001f);                                                                         \
		PEAK_ROUNDS(STEP)                                                                                                 \
		vec sum = a + b + c + d + e + f + g + h + i + j;                                                                  \
		return sum[0];                                                                                                    \
	}
PEAK_LOOP(peak_of_type, PEAK_STEP)
PEAK_LOOP(peak_of_bytes, PEAK_STEP8)
static double peak(int64_t rounds, int int8) { return int8 ? peak_of_bytes(rounds) : peak_of_type(rounds); }
#endif

#define GLUE_(a, b) a##b
#define GLUE(a, b) GLUE_(a, b)
#define STRING_(a) #a
#define STRING(a) STRING_(a)

const isa GLUE(isa_, NAME) = {
	.name = STRING(NAME), .type = TYPE, .nr = NR, .rows = MR, .depth = CHUNK, .most_rows = MOST_ROWS, .most_columns = MOST_COLUMNS,
#ifdef AMX
	.whole = WHOLE, .cache = CACHE,
#endif
	.gemm = gemm, .attention = attention, .groupnorm_sums = groupnorm_sums, .groupnorm = groupnorm, .layernorm = layernorm, .rotary = rotary, .match_pack = match_pack, .match = match, .pack = pack,
#ifdef HALF
	.extremes = extremes, .quantise = quantise,
#endif
#ifdef WINOGRAD
	.most_tiles = WINOGRAD_TILES, .winograd = winograd, .winograd_scratch = winograd_scratch_bytes,
#endif
	.gemm_scratch = gemm_scratch_bytes, .attention_scratch = attention_scratch_bytes, .match_scratch = match_scratch_bytes, .peak = peak, .peak_flops = PEAK_FLOPS,
};
