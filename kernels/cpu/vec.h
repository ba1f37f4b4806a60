// Vectors of W floats in the notation of the GCC and Clang extensions: arithmetic is written with
// operators, and only what they lack (a fused multiply-add) is an intrinsic. One source therefore
// serves every width.
//
// The file that includes this one defines W, and FMA_NATIVE where fma(a, b, c) below is one
// instruction of that width.

// UNROLL_ALL turns a loop with a constant count into straight code, so that what it indexes can live in
// registers.
#if defined(__clang__)
#define UNROLL_ALL _Pragma("clang loop unroll(full)")
#define UNROLL_BY_4 _Pragma("clang loop unroll_count(4)")
#else
#define UNROLL_ALL _Pragma("GCC unroll 16")
#define UNROLL_BY_4 _Pragma("GCC unroll 4")
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * W)));
typedef int32_t veci __attribute__((vector_size(4 * W)));
typedef uint32_t vecu __attribute__((vector_size(4 * W)));
typedef float vec_any __attribute__((vector_size(4 * W), aligned(4), may_alias)); // in memory

typedef uint16_t vec16 __attribute__((vector_size(2 * W)));
typedef uint16_t vec16_any __attribute__((vector_size(2 * W), aligned(1), may_alias));

INLINE vec load(const float *p) { return (vec) * (const vec_any *)p; }
INLINE void store(float *p, vec v) { *(vec_any *)p = (vec_any)v; }

INLINE vec splat(float x) {
#if W == 4
	return (vec){x, x, x, x};
#elif W == 8
	return (vec){x, x, x, x, x, x, x, x};
#else
	return (vec){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
#endif
}

// fma is a·b + c, rounded once wherever the machine can.
INLINE vec fma_(vec a, vec b, vec c) {
#if defined(FMA_NATIVE) && defined(__x86_64__) && W == 16
	return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(FMA_NATIVE) && defined(__x86_64__) && W == 8
	return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(FMA_NATIVE) && defined(__x86_64__) && W == 4
	return (vec)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
#elif defined(FMA_NATIVE) && defined(__aarch64__) && W == 4
	return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#elif defined(FMA_BY_HALVES)
	union {
		vec whole;
		__m256 half[2];
	} x = {a}, y = {b}, z = {c};
	z.half[0] = _mm256_fmadd_ps(x.half[0], y.half[0], z.half[0]);
	z.half[1] = _mm256_fmadd_ps(x.half[1], y.half[1], z.half[1]);
	return z.whole;
#else
	return a * b + c;
#endif
}

// choose is mask ? a : b by lane, for masks of comparisons: all ones or all zeros.
INLINE vec choose(veci mask, vec a, vec b) { return (vec)(((veci)a & mask) | ((veci)b & ~mask)); }

// larger and smaller return b where either is NaN, as SSE's max and min do and NEON's do not.
#if defined(FMA_NATIVE) && defined(__x86_64__) && W == 16
INLINE vec larger(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vec smaller(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(FMA_NATIVE) && defined(__x86_64__) && W == 8
INLINE vec larger(vec a, vec b) { return (vec)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vec smaller(vec a, vec b) { return (vec)_mm256_min_ps((__m256)a, (__m256)b); }
#else
INLINE vec larger(vec a, vec b) { return choose(a > b, a, b); }
INLINE vec smaller(vec a, vec b) { return choose(a < b, a, b); }
#endif

// at_least and at_most keep NaN in x.
INLINE vec at_least(float bound, vec x) { return larger(splat(bound), x); }
INLINE vec at_most(float bound, vec x) { return smaller(splat(bound), x); }

// load_part and store_part move the first n < W lanes; the others are 0.
INLINE vec load_part(const float *p, int64_t n) {
	float lanes[W] = {0};
	for (int64_t i = 0; i < n; i++) lanes[i] = p[i];
	return load(lanes);
}
INLINE void store_part(float *p, vec v, int64_t n) {
	float lanes[W];
	store(lanes, v);
	for (int64_t i = 0; i < n; i++) p[i] = lanes[i];
}

// 2^n for n = x rounded to an integer: adding 1.5·2²³ leaves the integer in the low bits.
#define ROUND_MAGIC 12582912.0f
INLINE vec round_and_power(vec x, vec *power) {
	vec t = x + splat(ROUND_MAGIC);
	*power = (vec)(((vecu)t << 23) + 0x3f800000u);
	return t - splat(ROUND_MAGIC);
}

// exp2_ is 2^x for x ≤ 127 within 2 ulp; below -125 it is 2⁻¹²⁵, so that no result is subnormal, which
// some processors are slow to compute with. x = n + r with |r| ≤ ½, and 2^r is a polynomial of least
// relative error (polynomials.h).
INLINE vec exp2_(vec x) {
	vec power;
	x = at_least(-125, x);
	vec r = x - round_and_power(x, &power);
	vec p = splat(EXP2_5);
	p = fma_(p, r, splat(EXP2_4));
	p = fma_(p, r, splat(EXP2_3));
	p = fma_(p, r, splat(EXP2_2));
	p = fma_(p, r, splat(EXP2_1));
	p = fma_(p, r, splat(EXP2_0));
	return p * power;
}

// exp_ is e^x within 2 ulp for -87 ≤ x ≤ 88; below it is e⁻⁸⁷, and above infinity. ln 2 is split in two
// (Cody & Waite 1980) so that r = x - n·ln 2 is exact enough for large x.
INLINE vec exp_(vec x) {
	vec power;
	x = at_most(89, at_least(-87, x)); // 89 has n = 128, which is infinity's exponent
	vec n = round_and_power(x * splat(1.44269504f), &power);
	vec r = fma_(n, splat(-0.693359375f), x);
	r = fma_(n, splat(2.12194440e-4f), r) * splat(1.44269504f);
	vec p = splat(EXP_6);
	p = fma_(p, r, splat(EXP_5));
	p = fma_(p, r, splat(EXP_4));
	p = fma_(p, r, splat(EXP_3));
	p = fma_(p, r, splat(EXP_2));
	p = fma_(p, r, splat(EXP_1));
	p = fma_(p, r, splat(EXP_0));
	return p * power;
}

// erf_ is the error function within 6·2⁻²⁴, ±1 from 3.8 on: a ratio of polynomials, whose two halves are
// computed side by side.
INLINE vec erf_(vec x) {
	vec a = (vec)((veci)x & 0x7fffffff), t = at_most(3.8f, a), s = t * t;
	vec p = splat(ERF_P_5), q = splat(ERF_Q_5);
	p = fma_(p, s, splat(ERF_P_4)), q = fma_(q, s, splat(ERF_Q_4));
	p = fma_(p, s, splat(ERF_P_3)), q = fma_(q, s, splat(ERF_Q_3));
	p = fma_(p, s, splat(ERF_P_2)), q = fma_(q, s, splat(ERF_Q_2));
	p = fma_(p, s, splat(ERF_P_1)), q = fma_(q, s, splat(ERF_Q_1));
	p = fma_(p, s, splat(ERF_P_0)), q = fma_(q, s, splat(ERF_Q_0));
	vec r = choose(a >= splat(3.8f), splat(1), t * p / q);
	return (vec)((veci)r | ((veci)x & (int32_t)0x80000000));
}

INLINE vec sigmoid_(vec x) { return splat(1) / (splat(1) + exp_(-x)); }
INLINE vec gelu_(vec x) { return splat(0.5f) * x * (splat(1) + erf_(x * splat(0.70710678f))); }

// tanh_gelu_ is x·½(1 + tanh y) = x·σ(2y) with y = √(2/π)·(x + 0.044715·x³).
INLINE vec tanh_gelu_(vec x) { return x * sigmoid_(splat(1.5957691216f) * fma_(splat(0.044715f) * x * x, x, x)); }

// Activations in memory are elem: float, or bfloat16 in the sets that define HALF. read and write move W of
// them, read_part and write_part the first n.
#ifndef HALF
#define gelu gelu_
typedef float elem;
#define TYPE TYPE_F32
INLINE vec read(const elem *p) { return load(p); }
INLINE void write(elem *p, vec v) { store(p, v); }
INLINE vec read_part(const elem *p, int64_t n) { return load_part(p, n); }
INLINE void write_part(elem *p, vec v, int64_t n) { store_part(p, v, n); }
#else
#include "half.h"
#define gelu gelu_half
#endif

INLINE vec activate(vec x, int act) {
	switch (act) {
	case ACT_SILU: return x * sigmoid_(x);
	case ACT_GELU: return gelu(x);
	case ACT_QUICKGELU: return x * sigmoid_(x * splat(1.702f));
	case ACT_TANHGELU: return tanh_gelu_(x);
	}
	return x;
}
