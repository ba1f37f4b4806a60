// bfloat16 in memory, and sums of two products at once. The instructions' own rules hold everywhere in these
// sets, so that a lowered build gives their bits: subnormal numbers count as zero, going in and coming out.
typedef uint16_t elem;
#define TYPE TYPE_BF16

// widen16 is exact; narrow rounds to nearest, ties to even.
INLINE vec widen16(vec16 h) { return (vec)(__builtin_convertvector(h, vecu) << 16); }
INLINE vec16 narrow(vec v) {
#if defined(HALF_NATIVE)
	return (vec16)_mm512_cvtneps_pbh((__m512)v);
#elif defined(HALF_NEON) && defined(MATRICES)
	return (vec16)vcvt_bf16_f32((float32x4_t)v);
#else
	vecu b = (vecu)v, magnitude = b & 0x7fffffffu;
	vecu rounded = (b + 0x7fffu + (b >> 16 & 1)) >> 16;
	vecu quiet = b >> 16 | 0x40u, zero = b >> 16 & 0x8000u;
	vecu nan = (vecu)(magnitude > 0x7f800000u), tiny = (vecu)(magnitude < 0x00800000u);
	return __builtin_convertvector((rounded & ~nan & ~tiny) | (quiet & nan) | (zero & tiny), vec16);
#endif
}

INLINE vec read(const elem *p) { return widen16((vec16) * (const vec16_any *)p); }
INLINE void write(elem *p, vec v) { *(vec16_any *)p = (vec16_any)narrow(v); }
INLINE void write_pair(elem *p, vec first, vec second) {
#ifdef HALF_NATIVE
	_mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
#else
	write(p, first), write(p + W, second);
#endif
}
#ifdef HALF_NATIVE
INLINE vec read_part(const elem *p, int64_t n) { return widen16((vec16)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p)); }
INLINE void write_part(elem *p, vec v, int64_t n) { _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), (__m256i)narrow(v)); }
#else
INLINE vec read_part(const elem *p, int64_t n) {
	elem lanes[W] = {0};
	for (int64_t i = 0; i < n; i++) lanes[i] = p[i];
	return read(lanes);
}
INLINE void write_part(elem *p, vec v, int64_t n) {
	elem lanes[W];
	write(lanes, v);
	for (int64_t i = 0; i < n; i++) p[i] = lanes[i];
}
#endif

// copy_chunk copies n ≤ 2·W values, a chunk, and fills it up with zeros.
INLINE void copy_chunk(elem *to, const elem *from, int64_t n) {
#ifdef HALF_NATIVE
	_mm512_storeu_si512(to, _mm512_maskz_loadu_epi16((__mmask32)((1ull << n) - 1), from));
#else
	if (n == 2 * W) __builtin_memcpy(to, from, 2 * W * sizeof(elem));
	else
		for (int64_t i = 0; i < 2 * W; i++) to[i] = i < n ? from[i] : 0;
#endif
}

#ifdef MATRICES
// add_odd is a + b as BFMMLA adds: an inexact sum is that of its two neighbours whose last bit is 1, so that nothing is rounded twice.
// (That a sum within half an ulp of 2¹²⁸ does not become infinite is left out.)
INLINE vec add_odd(vec a, vec b) {
	vec sum = a + b, part = sum - a, rest = (a - (sum - part)) + (b - part); // exactly what was rounded away (Knuth 1969)
	vecu inexact = (vecu)(rest != splat(0)) & (vecu)(rest == rest), beyond = (vecu)rest >> 31 ^ (vecu)sum >> 31;
	return (vec)(((vecu)sum - (beyond & inexact)) | (inexact & 1));
}
#endif

// dot2 is VDPBF16PS: acc + a[2i+1]·b[2i+1] + a[2i]·b[2i] by lane, each product added with one rounding. With MATRICES it is BFDOT: both
// products, which are exact, are added to each other first, and the sums are rounded to odd.
INLINE vec dot2(vec acc, vecu a, vecu b) {
#if defined(HALF_NATIVE)
	return (vec)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#elif defined(MATRICES)
	return add_odd(acc, add_odd((vec)(a << 16) * (vec)(b << 16), (vec)(a & 0xffff0000u) * (vec)(b & 0xffff0000u)));
#else
	acc = fma_((vec)(a & 0xffff0000u), (vec)(b & 0xffff0000u), acc);
	return fma_((vec)(a << 16), (vec)(b << 16), acc);
#endif
}

// dot4 is VPDPBUSD: acc + Σ a·b of four unsigned bytes of a and signed bytes of b by lane. With BYTES_SIGNED both are signed, as SDOT
// wants them: activations in memory are 128 less then, and so is the zero of their range. The sums of what they stand for are the same.
#ifdef BYTES_SIGNED
#define BYTE_SHIFT 128
#else
#define BYTE_SHIFT 0
#endif
INLINE veci dot4(veci acc, vecu a, vecu b) {
#if defined(HALF_NATIVE)
	return (veci)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)a, (__m512i)b);
#elif defined(BYTES_NATIVE)
	return (veci)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)a, (__m256i)b);
#elif defined(HALF_AVX2)
	// VPMADDUBSW adds two products in 16 bits, where 255·127 twice has no room. Even and odd bytes in 16 bits each have.
	__m256i even = _mm256_madd_epi16(_mm256_and_si256((__m256i)a, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16((__m256i)b, 8), 8));
	__m256i odd = _mm256_madd_epi16(_mm256_srli_epi16((__m256i)a, 8), _mm256_srai_epi16((__m256i)b, 8));
	return acc + (veci)even + (veci)odd;
#elif defined(HALF_NEON) && defined(BYTES_SIGNED)
	return (veci)vdotq_s32((int32x4_t)acc, (int8x16_t)a, (int8x16_t)b);
#elif defined(BYTES_SIGNED)
	for (int i = 0; i < 32; i += 8) acc += ((veci)(a << (24 - i)) >> 24) * ((veci)(b << (24 - i)) >> 24);
	return acc;
#else
	for (int i = 0; i < 32; i += 8) acc += (veci)(a >> i & 255) * ((veci)(b << (24 - i)) >> 24);
	return acc;
#endif
}

INLINE vecu splat_pair(const elem *p) {
	uint32_t x;
	__builtin_memcpy(&x, p, 4);
	return (vecu)splat(0) + x;
}

// pairs puts two rows of values side by side, as the second operand of dot2 wants them.
INLINE vecu pairs(vec even, vec odd) {
#ifdef HALF_NATIVE
	const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
	return (vecu)_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even));
#else
	return __builtin_convertvector(narrow(even), vecu) | __builtin_convertvector(narrow(odd), vecu) << 16;
#endif
}

// exp2_half is 2^x within 2⁻¹², which bfloat16 does not see, and 1 exactly at 0. x = n + r with 0 ≤ r < 1.
INLINE vec exp2_half(vec x) {
#ifdef HALF_NATIVE
	vec r = (vec)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEG_INF);
#elif defined(HALF_AVX2)
	vec n = (vec)_mm256_floor_ps((__m256)x), r = choose(x == splat(-INFINITY), splat(0), x - n);
#elif defined(HALF_NEON)
	vec n = (vec)vrndmq_f32((float32x4_t)x), r = choose(x == splat(-INFINITY), splat(0), x - n);
#else
	vec n, r;
	for (int i = 0; i < W; i++) n[i] = __builtin_floorf(x[i]), r[i] = x[i] - n[i];
	r = choose(x == splat(-INFINITY), splat(0), r);
#endif
	vec p = splat(EXP2_HALF_3);
	p = fma_(p, r, splat(EXP2_HALF_2));
	p = fma_(p, r, splat(EXP2_HALF_1));
	p = fma_(p, r, splat(1));
#ifdef HALF_NATIVE
	return (vec)_mm512_scalef_ps((__m512)p, (__m512)x);
#elif defined(HALF_AVX2) || defined(HALF_NEON)
	// p is from 1 to 2, so that below 2⁻¹²⁶ the result is subnormal and counts as 0. Two factors: one has no room for 2¹²⁸.
	vec limited = at_most(254, at_least(-126, n));
#ifdef HALF_NEON
	veci whole = (veci)vcvtq_s32_f32((float32x4_t)limited), half = whole >> 1;
#else
	veci whole = (veci)_mm256_cvttps_epi32((__m256)limited), half = whole >> 1;
#endif
	p = p * (vec)((half + 127) << 23) * (vec)((whole - half + 127) << 23);
	return choose(n < splat(-126), splat(0), p);
#else
	for (int i = 0; i < W; i++) {
		// Below 2⁻³⁰⁰ everything is 0, and every power of two is exact in float64.
		union {
			int64_t bits;
			double value;
		} power;
		float limited = n[i] < -300 ? -300 : n[i] > 300 ? 300 : n[i];
		power.bits = (limited == limited ? (int64_t)limited + 1023 : 1023) << 52;
		p[i] = (float)(p[i] * power.value);
	}
	return p;
#endif
}

// gelu_half is GELU within 2⁻¹², where x is negative too: there it is x·Φ(x), and the logarithm of Φ is a polynomial. From
// -5.5 down it is less than 2⁻²³.
INLINE vec gelu_half(vec x) {
	vec t = at_most(5.5f, (vec)((veci)x & 0x7fffffff)), p = splat(LOG2_PHI_5);
	p = fma_(p, t, splat(LOG2_PHI_4));
	p = fma_(p, t, splat(LOG2_PHI_3));
	p = fma_(p, t, splat(LOG2_PHI_2));
	p = fma_(p, t, splat(LOG2_PHI_1));
	p = fma_(p, t, splat(LOG2_PHI_0));
	return fma_(-t, exp2_half(p), at_least(0, x));
}

// transpose turns a square of W × W 32-bit values, in W rounds of exchanges between rows 1, 2, 4, 8 apart.
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vecu){__VA_ARGS__})
#endif

INLINE void transpose(vecu *v) {
#if W == 4
	vecu a = SHUFFLE(v[0], v[1], 0, 4, 2, 6), b = SHUFFLE(v[0], v[1], 1, 5, 3, 7), c = SHUFFLE(v[2], v[3], 0, 4, 2, 6), d = SHUFFLE(v[2], v[3], 1, 5, 3, 7);
	v[0] = SHUFFLE(a, c, 0, 1, 4, 5);
	v[1] = SHUFFLE(b, d, 0, 1, 4, 5);
	v[2] = SHUFFLE(a, c, 2, 3, 6, 7);
	v[3] = SHUFFLE(b, d, 2, 3, 6, 7);
#elif W == 8
	UNROLL_ALL
	for (int i = 0; i < W; i++)
		if (!(i & 1)) {
			vecu a = v[i], b = v[i + 1];
			v[i] = SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
			v[i + 1] = SHUFFLE(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
		}
	UNROLL_ALL
	for (int i = 0; i < W; i++)
		if (!(i & 2)) {
			vecu a = v[i], b = v[i + 2];
			v[i] = SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
			v[i + 2] = SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
		}
	UNROLL_ALL
	for (int i = 0; i < W; i++)
		if (!(i & 4)) {
			vecu a = v[i], b = v[i + 4];
			v[i] = SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
			v[i + 4] = SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
		}
#else
	UNROLL_ALL
	for (int i = 0; i < W; i++)
		if (!(i & 1)) {
			vecu a = v[i], b = v[i + 1];
			v[i] = SHUFFLE(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
			v[i + 1] = SHUFFLE(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
		}
	UNROLL_ALL
	for (int i = 0; i < W; i++)
		if (!(i & 2)) {
			vecu a = v[i], b = v[i + 2];
			v[i] = SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
			v[i + 2] = SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
		}
	UNROLL_ALL
	for (int i = 0; i < W; i++)
		if (!(i & 4)) {
			vecu a = v[i], b = v[i + 4];
			v[i] = SHUFFLE(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
			v[i + 4] = SHUFFLE(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
		}
	UNROLL_ALL
	for (int i = 0; i < W; i++)
		if (!(i & 8)) {
			vecu a = v[i], b = v[i + 8];
			v[i] = SHUFFLE(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
			v[i + 8] = SHUFFLE(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
		}
#endif
}

// The kernels run with subnormals as zero, as the instructions for products do by themselves.
#if defined(__aarch64__)
INLINE uint64_t flush_subnormals(void) {
	uint64_t mode;
	__asm__ volatile("mrs %0, fpcr" : "=r"(mode)::"memory");
	__asm__ volatile("msr fpcr, %0" ::"r"(mode | 1u << 24) : "memory");
	return mode;
}
INLINE void restore_mode(uint64_t mode) { __asm__ volatile("msr fpcr, %0" ::"r"(mode) : "memory"); }
#else
INLINE uint64_t flush_subnormals(void) {
	unsigned mode = _mm_getcsr();
	_mm_setcsr(mode | 0x8040);
	return mode;
}
INLINE void restore_mode(uint64_t mode) { _mm_setcsr((unsigned)mode); }
#endif
