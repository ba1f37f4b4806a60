// Normalisations. Sums are float64, so that a mean far from 0 costs no digits; they are taken in an
// order that neither the number of workers nor the width of the vectors changes.

// add_chunk adds Σx and Σx² of count pixels to sums[channel], [channels+channel].
INLINE void add_chunk(const float *in, int64_t count, int64_t stride, double *sum, double *squares) {
	for (int64_t p = 0; p < count; p++, in += stride)
		for (int64_t c = 0; c < stride; c++) {
			double x = in[c];
			sum[c] += x;
			squares[c] += x * x; // the product of two float32 is exact
		}
}

static void groupnorm_sums_item(const groupnorm_job *g, int64_t item, double *scratch) {
	int64_t image = item / g->chunks, chunk = item % g->chunks;
	int64_t from = chunk * g->chunk, count = min64(g->chunk, g->pixels - from);
	int64_t c1 = g->channels[0], c2 = g->channels[1], channels = c1 + c2, size = channels / g->groups;
	double *sum = scratch, *squares = scratch + channels;
	for (int64_t c = 0; c < 2 * channels; c++) scratch[c] = 0;
	add_chunk(g->in[0] + (image * g->pixels + from) * c1, count, c1, sum, squares);
	if (c2) add_chunk(g->in[1] + (image * g->pixels + from) * c2, count, c2, sum + c1, squares + c1);
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
INLINE void normalise(const int act, const float *in, int64_t count, int64_t channels, const float *slope, const float *shift, float *dst, int64_t stride) {
	for (int64_t p = 0; p < count; p++, in += channels, dst += stride) {
		int64_t c = 0;
		for (; c + W <= channels; c += W) store(dst + c, activate(fma_(load(in + c), load(slope + c), load(shift + c)), act));
		if (c < channels) {
			int64_t n = channels - c;
			vec v = fma_(load_part(in + c, n), load_part(slope + c, n), load_part(shift + c, n));
			store_part(dst + c, activate(v, act), n);
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
		const float *in = g->in[k] + first * g->channels[k];
		float *dst = g->dst + first * channels + c;
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

static void layernorm_row(const layernorm_job *l, int64_t row) {
	const float *in = l->in + row * l->channels;
	float *dst = l->dst + row * l->channels;
	double mean = sum_of(in, l->channels, 0, 0) / l->channels;
	double variance = sum_of(in, l->channels, mean, 1) / l->channels;
	vec centre = splat((float)mean), inverse = splat((float)(1 / __builtin_sqrt(variance + l->eps)));
	int64_t c = 0;
	for (; c + W <= l->channels; c += W) store(dst + c, fma_((load(in + c) - centre) * inverse, load(l->gamma + c), load(l->beta + c)));
	if (c < l->channels) {
		int64_t n = l->channels - c;
		store_part(dst + c, fma_((load_part(in + c, n) - centre) * inverse, load_part(l->gamma + c, n), load_part(l->beta + c, n)), n);
	}
}

static void layernorm(layernorm_job *l, void *scratch) {
	(void)scratch;
	for (int64_t i; (i = NEXT_ITEM(l)) < l->items;)
		for (int64_t row = i * l->block; row < min64(l->rows, (i + 1) * l->block); row++) layernorm_row(l, row);
}
