// Normalisations. Sums are float64, so that a mean far from 0 costs no digits; they are taken in an
// order that neither the number of workers nor the width of the vectors changes.

#ifndef HALF
// add_chunk adds Σx and Σx² of count pixels to sum[channel] and squares[channel].
INLINE void add_chunk(const float *in, int64_t count, int64_t stride, double *sum, double *squares) {
	for (int64_t p = 0; p < count; p++, in += stride)
		for (int64_t c = 0; c < stride; c++) {
			double x = in[c];
			sum[c] += x;
			squares[c] += x * x; // the product of two float32 is exact
		}
}
#else
#define FEW 16 // pixels whose float32 sums join the float64 ones: their rounding is far below bfloat16's

INLINE void add_chunk(const elem *in, int64_t count, int64_t stride, double *sum, double *squares) {
	for (int64_t p = 0; p < count; p += FEW, in += FEW * stride) {
		int64_t few = min64(FEW, count - p);
		for (int64_t c = 0; c < stride; c += W) {
			int64_t n = min64(W, stride - c);
			vec s = splat(0), q = splat(0);
			for (int64_t i = 0; i < few; i++) {
				vec x = n == W ? read(in + i * stride + c) : read_part(in + i * stride + c, n);
				s = s + x;
				q = fma_(x, x, q);
			}
			for (int64_t i = 0; i < n; i++) sum[c + i] += s[i], squares[c + i] += q[i];
		}
	}
}
#endif

static void groupnorm_sums_item(const groupnorm_job *g, int64_t item, double *scratch) {
	int64_t image = item / g->chunks, chunk = item % g->chunks;
	int64_t from = chunk * g->chunk, count = min64(g->chunk, g->pixels - from);
	int64_t c1 = g->channels[0], c2 = g->channels[1], channels = c1 + c2, size = channels / g->groups;
	double *sum = scratch, *squares = scratch + channels;
	for (int64_t c = 0; c < 2 * channels; c++) scratch[c] = 0;
	add_chunk((const elem *)g->in[0] + (image * g->pixels + from) * c1, count, c1, sum, squares);
	if (c2) add_chunk((const elem *)g->in[1] + (image * g->pixels + from) * c2, count, c2, sum + c1, squares + c1);
	double *out = g->sums + item * g->groups * 2;
	for (int64_t i = 0; i < g->groups; i++) {
		out[2 * i] = out[2 * i + 1] = 0;
		for (int64_t c = i * size; c < (i + 1) * size; c++) {
			out[2 * i] += sum[c];
			out[2 * i + 1] += squares[c];
		}
	}
}

static void groupnorm_sums(groupnorm_job *g, void *scratch) {
	for (int64_t i; (i = NEXT_ITEM(g)) < g->items;) groupnorm_sums_item(g, i, scratch);
}

// normalise writes act(in·slope + shift) for one input's channels.
INLINE void normalise(const int act, const elem *in, int64_t count, int64_t channels, const float *slope, const float *shift, elem *dst, int64_t stride) {
	for (int64_t p = 0; p < count; p++, in += channels, dst += stride) {
		int64_t c = 0;
		for (; c + W <= channels; c += W) write(dst + c, activate(fma_(read(in + c), load(slope + c), load(shift + c)), act));
		if (c < channels) {
			int64_t n = channels - c;
			vec v = fma_(read_part(in + c, n), load_part(slope + c, n), load_part(shift + c, n));
			write_part(dst + c, activate(v, act), n);
		}
	}
}

static void groupnorm_item(const groupnorm_job *g, int64_t item, float *scratch) {
	int64_t image = item / g->chunks, chunk = item % g->chunks;
	int64_t from = chunk * g->chunk, count = min64(g->chunk, g->pixels - from);
	int64_t channels = g->channels[0] + g->channels[1], size = channels / g->groups;
	float *slope = scratch, *shift = scratch + channels;
	for (int64_t i = 0; i < g->groups; i++) {
		double sum = 0, squares = 0, n = (double)(g->pixels * size);
		for (int64_t k = 0; k < g->chunks; k++) {
			sum += g->sums[((image * g->chunks + k) * g->groups + i) * 2];
			squares += g->sums[((image * g->chunks + k) * g->groups + i) * 2 + 1];
		}
		double mean = sum / n, variance = squares / n - mean * mean;
		if (variance < 0) variance = 0;
		double inverse = 1 / __builtin_sqrt(variance + g->eps);
		for (int64_t c = i * size; c < (i + 1) * size; c++) {
			slope[c] = (float)(g->gamma[c] * inverse);
			shift[c] = (float)(g->beta[c] - mean * g->gamma[c] * inverse);
		}
	}
	for (int64_t k = 0, c = 0; k < 2; c += g->channels[k], k++) {
		if (!g->channels[k]) continue;
		int64_t first = image * g->pixels + from;
		const elem *in = (const elem *)g->in[k] + first * g->channels[k];
		elem *dst = (elem *)g->dst + first * channels + c;
		if (g->silu) normalise(ACT_SILU, in, count, g->channels[k], slope + c, shift + c, dst, channels);
		else normalise(ACT_IDENTITY, in, count, g->channels[k], slope + c, shift + c, dst, channels);
	}
}

static void groupnorm(groupnorm_job *g, void *scratch) {
	for (int64_t i; (i = NEXT_ITEM(g)) < g->items;) groupnorm_item(g, i, scratch);
}

// LANES partial sums, the same for every width of vector.
#define LANES 16

INLINE double sum_of(const float *x, int64_t n, double mean, const int squared) {
	double lanes[LANES] = {0}, total = 0;
	int64_t c = 0;
	for (; c + LANES <= n; c += LANES)
		for (int i = 0; i < LANES; i++) {
			double d = x[c + i] - mean;
			lanes[i] += squared ? d * d : d;
		}
	for (int i = 0; c + i < n; i++) {
		double d = x[c + i] - mean;
		lanes[i] += squared ? d * d : d;
	}
	for (int i = 0; i < LANES; i++) total += lanes[i];
	return total;
}

// layernorm_row normalises one row. A row of bfloat16 is widened into wide first.
static void layernorm_row(const layernorm_job *l, int64_t row, float *wide) {
	const elem *from = (const elem *)l->in + row * l->channels;
	elem *dst = (elem *)l->dst + row * l->channels;
	int64_t c = 0, channels = l->channels;
#ifndef HALF
	const float *in = from;
	(void)wide;
#else
	const float *in = wide;
	for (; c + W <= channels; c += W) store(wide + c, read(from + c));
	if (c < channels) store_part(wide + c, read_part(from + c, channels - c), channels - c);
#endif
	double mean = l->rms ? 0 : sum_of(in, channels, 0, 0) / channels;
	double variance = sum_of(in, channels, mean, 1) / channels;
	vec centre = splat((float)mean), inverse = splat((float)(1 / __builtin_sqrt(variance + l->eps)));
	const elem *scale = OFFSET((const elem *)l->scale, row / l->image * channels), *shift = OFFSET((const elem *)l->shift, row / l->image * channels);
	for (c = 0; c < channels; c += W) {
		int64_t n = min64(W, channels - c);
#define OPERAND(p) (n == W ? load((p) + c) : load_part((p) + c, n))
#define ACTIVATION(p) (n == W ? read((p) + c) : read_part((p) + c, n))
		vec y = (OPERAND(in) - centre) * inverse;
		if (l->gamma && l->beta) y = fma_(y, OPERAND(l->gamma), OPERAND(l->beta));
		else if (l->gamma) y = y * OPERAND(l->gamma);
		else if (l->beta) y = y + OPERAND(l->beta);
		if (scale) y = fma_(y, ACTIVATION(scale), y);
		if (shift) y = y + ACTIVATION(shift);
		if (n == W) write(dst + c, y);
		else write_part(dst + c, y, n);
#undef OPERAND
#undef ACTIVATION
	}
}

static void layernorm(layernorm_job *l, void *scratch) {
	for (int64_t i; (i = NEXT_ITEM(l)) < l->items;)
		for (int64_t row = i * l->block; row < min64(l->rows, (i + 1) * l->block); row++) layernorm_row(l, row, scratch);
}
