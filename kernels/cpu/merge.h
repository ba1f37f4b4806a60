// Which tokens are alike: the largest cosine of each source with all targets. The targets are normalised and packed once, NR
// to a panel, and a tile of sources runs over all panels; the products are never stored.

INLINE float inverse_length(const elem *x, int64_t channels) {
	double sum = 0;
	for (int64_t c = 0; c < channels; c += W) {
		int64_t n = min64(W, channels - c);
		vec v = n == W ? read(x + c) : read_part(x + c, n);
		for (int64_t i = 0; i < n; i++) sum += (double)v[i] * v[i];
	}
	return sum > 0 ? (float)(1 / __builtin_sqrt(sum)) : 0;
}

INLINE void floats_of(float *to, const elem *from, int64_t n) {
	for (int64_t c = 0; c < n; c += W) {
		int64_t few = min64(W, n - c);
		if (few == W) store(to + c, read(from + c));
		else store_part(to + c, read_part(from + c, few), few);
	}
}

// match_pack writes a panel: [channels][NR], zeros beyond the last target. The scratch holds a row of floats.
static void match_pack(match_job *m, void *scratch) {
	float *row = scratch;
	int64_t panels = ceil_div(m->targets, NR);
	for (int64_t i; (i = NEXT_ITEM(m)) < m->items;) {
		int64_t image = i / panels, panel = i % panels;
		float *to = m->panels + i * NR * m->channels;
		for (int64_t j = 0; j < NR; j++) {
			int64_t target = panel * NR + j;
			if (target >= m->targets) {
				for (int64_t c = 0; c < m->channels; c++) to[c * NR + j] = 0;
				continue;
			}
			const elem *x = (const elem *)m->in + (image * m->tokens + m->target[target]) * m->channels;
			float inverse = inverse_length(x, m->channels);
			floats_of(row, x, m->channels);
			for (int64_t c = 0; c < m->channels; c++) to[c * NR + j] = row[c] * inverse;
		}
	}
}

#define MATCH_ROWS 4

// match_tile brings the best of a panel's columns into best and at, by row and lane.
INLINE void match_tile(const float *rows, int64_t channels, const float *panel, int64_t first, int64_t targets, float *best, int32_t *at) {
	vec sum[MATCH_ROWS][NV];
	UNROLL_ALL for (int r = 0; r < MATCH_ROWS; r++) UNROLL_ALL for (int v = 0; v < NV; v++) sum[r][v] = splat(0);
	for (int64_t c = 0; c < channels; c++, panel += NR) {
		UNROLL_ALL for (int r = 0; r < MATCH_ROWS; r++) {
			vec x = splat(rows[r * channels + c]);
			UNROLL_ALL for (int v = 0; v < NV; v++) sum[r][v] = fma_(x, load(panel + v * W), sum[r][v]);
		}
	}
	UNROLL_ALL for (int r = 0; r < MATCH_ROWS; r++) {
		vec most = load(best + r * W);
		veci where = (veci)load((const float *)at + r * W);
		UNROLL_ALL for (int v = 0; v < NV; v++) {
			veci column = (veci)splat(0);
			for (int i = 0; i < W; i++) column[i] = (int32_t)(first + v * W + i);
			veci better = (veci)(sum[r][v] > most) & (column < (int32_t)targets);
			most = choose(better, sum[r][v], most);
			where = (veci)choose(better, (vec)column, (vec)where);
		}
		store(best + r * W, most);
		store((float *)at + r * W, (vec)where);
	}
}

// match finds the best target of each source. The scratch holds a block's rows of floats and, by lane, what was found.
static void match(match_job *m, void *scratch) {
	int64_t panels = ceil_div(m->targets, NR), blocks = ceil_div(m->sources, MATCH_BLOCK), channels = m->channels;
	float *rows = scratch, *best = rows + MATCH_BLOCK * channels;
	int32_t *at = (int32_t *)(best + MATCH_BLOCK * W);
	float inverse[MATCH_BLOCK];
	for (int64_t i; (i = NEXT_ITEM(m)) < m->items;) {
		int64_t image = i / blocks, from = i % blocks * MATCH_BLOCK, count = min64(MATCH_BLOCK, m->sources - from);
		for (int64_t r = 0; r < MATCH_BLOCK; r++) {
			const elem *x = (const elem *)m->in + (image * m->tokens + m->source[from + min64(r, count - 1)]) * channels;
			inverse[r] = inverse_length(x, channels);
			floats_of(rows + r * channels, x, channels);
			store(best + r * W, splat(-3e38f));
			store((float *)at + r * W, splat(0));
		}
		for (int64_t p = 0; p < panels; p++)
			for (int64_t r = 0; r < count; r += MATCH_ROWS)
				match_tile(rows + r * channels, channels, m->panels + (image * panels + p) * NR * channels, p * NR, m->targets, best + r * W, at + r * W);
		for (int64_t r = 0; r < count; r++) {
			float most = best[r * W];
			int32_t where = at[r * W];
			for (int64_t l = 1; l < W; l++) {
				float x = best[r * W + l];
				int32_t column = at[r * W + l];
				if (x > most || (x == most && column < where)) most = x, where = column;
			}
			m->best[image * m->sources + from + r] = most * inverse[r];
			m->at[image * m->sources + from + r] = m->target[where];
		}
	}
}

static int64_t match_scratch_bytes(int64_t channels) { return MATCH_BLOCK * (channels + 2 * W) * 4; }
