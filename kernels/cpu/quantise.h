// Activations in 8 bits, for products with int8 weights: q = x/scale + zero, from 0 to 255. The range holds 0, so that
// pixels outside an image are exact. A matrix has a range for each row; windows that overlap need one for the whole
// image, whose extremes are taken first. In memory q is BYTE_SHIFT less (half.h).

// What is not finite makes the whole range NaN, and every sum over it.
typedef struct {
	vec low, high, poison; // poison is 0·x, summed
} seen;

#define NOTHING {splat(0), splat(0), splat(0)}

// look widens what was seen by a pixel's channels.
INLINE void look(const quantise_job *q, int64_t pixel, seen *s) {
	for (int input = 0; input < 2; input++) {
		int64_t n = q->channels[input];
		const elem *in = (const elem *)q->in[input] + pixel * n;
		for (int64_t c = 0; c < n; c += W) {
			vec x = n - c >= W ? read(in + c) : read_part(in + c, n - c);
			s->low = smaller(x, s->low), s->high = larger(x, s->high), s->poison = fma_(x, splat(0), s->poison);
		}
	}
}

INLINE step8 range_of(float low, float high) {
	step8 r = {(high - low) / 255, 0};
	if (low != low) return r;
	if (!(r.scale > 1e-30f)) r.scale = 1e-30f; // all zero
	r.zero = (int32_t)__builtin_rintf(-low / r.scale);
	return r;
}

INLINE void bounds(const seen *s, float *least, float *most) {
	*least = *most = 0;
	for (int i = 0; i < W; i++) {
		*least = s->low[i] < *least ? s->low[i] : *least;
		*most = s->high[i] > *most ? s->high[i] : *most;
	}
	for (int i = 0; i < W; i++)
		if (s->poison[i] != 0) *least = NAN;
}

static void extremes(quantise_job *q, void *scratch) {
	(void)scratch;
	int64_t blocks = ceil_div(q->pixels, q->block);
	for (int64_t i; (i = NEXT_ITEM(q)) < q->items;) {
		int64_t from = i % blocks * q->block, to = min64(q->pixels, from + q->block);
		seen s = NOTHING;
		for (int64_t p = from; p < to; p++) look(q, i / blocks * q->pixels + p, &s);
		bounds(&s, q->extremes + 2 * i, q->extremes + 2 * i + 1);
	}
}

// to_bytes writes n ≤ W values.
INLINE void to_bytes(uint8_t *to, vec x, step8 r, int64_t n) {
	vec q = x * splat(1 / r.scale) + splat((float)r.zero);
#ifdef HALF_NATIVE
	__m128i bytes = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32((__m512)at_most(255, at_least(0, q))));
	_mm_mask_storeu_epi8(to, (__mmask16)((1u << n) - 1), bytes);
#elif defined(HALF_AVX2)
	__m256i whole = _mm256_cvtps_epi32((__m256)at_most(255, at_least(0, q)));
	__m128i words = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
	uint8_t bytes[16];
	_mm_storeu_si128((__m128i *)bytes, _mm_packus_epi16(words, words));
	if (n == W) __builtin_memcpy(to, bytes, W);
	else
		for (int64_t i = 0; i < n; i++) to[i] = bytes[i];
#elif defined(HALF_NEON)
	uint16x4_t words = vmovn_u32((uint32x4_t)vcvtnq_s32_f32((float32x4_t)at_most(255, at_least(0, q))));
	uint8_t bytes[8];
	vst1_u8(bytes, veor_u8(vmovn_u16(vcombine_u16(words, words)), vdup_n_u8(BYTE_SHIFT)));
	if (n == W) __builtin_memcpy(to, bytes, W);
	else
		for (int64_t i = 0; i < n; i++) to[i] = bytes[i];
#else
	q = at_most(255, at_least(0, q));
	for (int64_t i = 0; i < n; i++) to[i] = (uint8_t)__builtin_rintf(q[i]) - BYTE_SHIFT;
#endif
}

static void quantise(quantise_job *q, void *scratch) {
	(void)scratch;
	int64_t blocks = ceil_div(q->pixels, q->block), channels = q->channels[0] + q->channels[1];
	for (int64_t i; (i = NEXT_ITEM(q)) < q->items;) {
		int64_t image = i / blocks, from = i % blocks * q->block, to = min64(q->pixels, from + q->block);
		step8 r = {0};
		if (q->extremes) {
			float low = 0, high = 0;
			int poisoned = 0;
			for (int64_t b = image * blocks; b < (image + 1) * blocks; b++) {
				low = q->extremes[2 * b] < low ? q->extremes[2 * b] : low;
				high = q->extremes[2 * b + 1] > high ? q->extremes[2 * b + 1] : high;
				poisoned |= q->extremes[2 * b] != q->extremes[2 * b];
			}
			if (poisoned) low = NAN;
			r = range_of(low, high);
			if (from == 0) {
				q->ranges[image] = r;
				__builtin_memset(q->zeros + image * channels, r.zero - BYTE_SHIFT, channels);
			}
		}
		for (int64_t p = image * q->pixels + from; p < image * q->pixels + to; p++) {
			if (!q->extremes) {
				seen s = NOTHING;
				float least, most;
				look(q, p, &s);
				bounds(&s, &least, &most);
				q->ranges[p] = r = range_of(least, most);
			}
			uint8_t *dst = q->dst + p * channels;
			for (int input = 0; input < 2; input++) {
				int64_t n = q->channels[input];
				const elem *in = (const elem *)q->in[input] + p * n;
				for (int64_t c = 0; c < n; c += W, dst += min64(W, n - c + W)) to_bytes(dst, n - c >= W ? read(in + c) : read_part(in + c, n - c), r, min64(W, n - c));
			}
		}
	}
}
