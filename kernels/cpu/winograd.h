// Convolutions of 3×3 taps and stride 1 with a quarter of the multiplications: F(4×4, 3×3) of Lavin & Gray 2016,
// "Fast Algorithms for Convolutional Neural Networks", section 4.3. The result is cut into tiles of 4×4 pixels. Each is
//
//	Y = Aᵀ · [ Σ over channels of (G g Gᵀ) ⊙ (Bᵀ d B) ] · A        (their equation 8, summed as in 10)
//
// for the 6×6 pixels d that it depends on and the filters g. ⊙ is by position: the sums over channels are 36 independent
// matrix products, [tiles × channels] · [channels × outs], for the same micro-kernel as other products.
//
//	item: up to 80 tiles × up to 320 columns
//	  for each stretch of 320 channels
//	    Bᵀ d B of all its tiles                       3.7 MB, read once a panel
//	    for each panel of NR columns, each 80 channels
//	      G g Gᵀ of the panel, from the packed weights   stays in the L2 cache: transformed weights are never kept
//	      for each of the 36 positions: micro-kernels
//	  Aᵀ m A, bias, activation, residual → dst
//
// The matrices are those of the points 0, ±3/4, ±3/2 and ∞. The usual 0, ±1, ±2, ∞ lose twice as much: docs/kernels.md.
// A value passes the same operations in the same order whatever the blocks, the batch and the width of vectors are.
// With activations and weights in bfloat16 all of this is float32 too, from the pixels and filters read to the results written:
// transformed pixels in 8 bits would lose far more than the sums in bfloat16 do.

#ifdef HALF
#include "micro.h"
#define TOGETHER 2 // rows of a packed panel that lie together
#else
#define TOGETHER 1
#endif

#define WTILE 4
#define WSIDE (WTILE + 2)
#define POSITIONS (WSIDE * WSIDE)

#define PA 0.75f  // the points ±a
#define PB 1.5f   // and ±b
#define A2 (PA * PA)
#define B2 (PB * PB)
#define FA (1 / (2 * A2 * (A2 - B2)))
#define FB (1 / (2 * B2 * (B2 - A2)))

// winograd_in is Bᵀ x for six values that lie step apart.
INLINE void winograd_in(const vec *x, int step, vec *y) {
	vec x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step], x4 = x[4 * step], x5 = x[5 * step];
	vec ea = fma_(splat(-B2), x2, x4), oa = fma_(splat(-B2), x1, x3) * splat(PA);
	vec eb = fma_(splat(-A2), x2, x4), ob = fma_(splat(-A2), x1, x3) * splat(PB);
	y[0] = fma_(splat(A2 * B2), x0, fma_(splat(-(A2 + B2)), x2, x4));
	y[step] = ea + oa;
	y[2 * step] = ea - oa;
	y[3 * step] = eb + ob;
	y[4 * step] = eb - ob;
	y[5 * step] = fma_(splat(A2 * B2), x1, fma_(splat(-(A2 + B2)), x3, x5));
}

// winograd_filter is G x for three values.
INLINE void winograd_filter(vec x0, vec x1, vec x2, int step, vec *y) {
	vec ea = fma_(splat(A2), x2, x0) * splat(FA), oa = x1 * splat(PA * FA);
	vec eb = fma_(splat(B2), x2, x0) * splat(FB), ob = x1 * splat(PB * FB);
	y[0] = x0 * splat(1 / (A2 * B2));
	y[step] = ea + oa;
	y[2 * step] = ea - oa;
	y[3 * step] = eb + ob;
	y[4 * step] = eb - ob;
	y[5 * step] = x2;
}

// winograd_out is Aᵀ x: six values that lie step apart become four.
INLINE void winograd_out(const vec *x, int step, vec *y, int to) {
	vec sa = x[step] + x[2 * step], da = x[step] - x[2 * step], sb = x[3 * step] + x[4 * step], db = x[3 * step] - x[4 * step];
	y[0] = x[0] + sa + sb;
	y[to] = fma_(splat(PB), db, da * splat(PA));
	y[2 * to] = fma_(splat(B2), sb, sa * splat(A2));
	y[3 * to] = fma_(splat(B2 * PB), db, fma_(splat(A2 * PA), da, x[5 * step]));
}

// A block of transformed pixels is [channels/KB][POSITIONS][tiles][KB], of weights [POSITIONS][KB][NR], of sums
// [POSITIONS][tiles][NR]. A cache line between positions keeps them from sharing the same few sets of the caches.
#define KB WINOGRAD_DEPTH
#define APART 16
#define PIXELS_APART(tiles) ((tiles)*KB + APART)
#define WEIGHTS_APART (KB * NR + APART)
#define SUMS_APART(tiles) ((tiles)*NR + APART)

// transform_pixels writes n channels of a tile. pixels are its 36, from the first of these channels on.
INLINE void transform_pixels(const elem *const *pixels, int64_t first, int64_t n, float *to, int64_t apart) {
	for (int64_t c = 0; c < n; c += W) {
		// Positions lie so far apart that every one begins a stretch of memory of its own: ask for the next tile's.
		for (int i = 0; i < POSITIONS; i++) __builtin_prefetch(to + i * apart + c + KB, 1, 2);
		vec d[POSITIONS], v[POSITIONS];
		int64_t left = n - c;
		if (left >= W)
			UNROLL_ALL
			for (int i = 0; i < WSIDE; i++) {
				for (int j = 0; j < WSIDE; j++) d[i * WSIDE + j] = read(pixels[i * WSIDE + j] + first + c);
				winograd_in(d + i * WSIDE, 1, v + i * WSIDE);
			}
		else
			for (int i = 0; i < WSIDE; i++) {
				for (int j = 0; j < WSIDE; j++) d[i * WSIDE + j] = read_part(pixels[i * WSIDE + j] + first + c, left);
				winograd_in(d + i * WSIDE, 1, v + i * WSIDE);
			}
		UNROLL_ALL
		for (int j = 0; j < WSIDE; j++) {
			winograd_in(v + j, WSIDE, d + j);
			for (int i = 0; i < WSIDE; i++) {
				float *p = to + (i * WSIDE + j) * apart + c;
				if (left >= W) store(p, d[i * WSIDE + j]);
				else store_part(p, d[i * WSIDE + j], left);
			}
		}
	}
}

// read_weights reads W columns of TOGETHER rows of a packed panel, from row k on, and weights_row takes one of these rows.
INLINE vecu read_weights(const elem *panel, int64_t k, int64_t column) { return (vecu)load((const float *)(panel + place(k, column))); }
INLINE vec weights_row(vecu rows, int row) {
#ifdef HALF
	return (vec)(row ? rows & 0xffff0000u : rows << 16);
#else
	return (vec)rows;
#endif
}

// transform_weights writes G g Gᵀ of channels [first, first+n) of all channels. Of both there are a multiple of TOGETHER.
INLINE void transform_weights(const elem *panel, int64_t first, int64_t n, int64_t channels, float *to) {
	for (int j = 0; j < NV; j++)
		for (int64_t c = 0; c < n; c += TOGETHER) {
			vecu rows[9];
			UNROLL_ALL
			for (int t = 0; t < 9; t++) rows[t] = read_weights(panel, t * channels + first + c, j * W);
			UNROLL_ALL
			for (int row = 0; row < TOGETHER; row++) {
				float *p = to + (c + row) * NR + j * W;
				vec half[3 * WSIDE], u[WSIDE];
				UNROLL_ALL
				for (int x = 0; x < 3; x++) winograd_filter(weights_row(rows[x], row), weights_row(rows[3 + x], row), weights_row(rows[6 + x], row), 3, half + x);
				UNROLL_ALL
				for (int i = 0; i < WSIDE; i++) {
					winograd_filter(half[3 * i], half[3 * i + 1], half[3 * i + 2], 1, u);
					UNROLL_ALL
					for (int x = 0; x < WSIDE; x++) store(p + (i * WSIDE + x) * WEIGHTS_APART, u[x]);
				}
			}
		}
}

// winograd_finish turns the sums of a panel into results.
INLINE void winograd_finish(const int act, const gemm_job *g, int64_t from, int64_t to, int64_t panel, const float *sums) {
	int64_t across = ceil_div(g->out_w, WTILE), down = ceil_div(g->out_h, WTILE), apart = SUMS_APART(to - from);
	int64_t o = panel * NR, columns = min64(NR, g->outs - o);
	const elem *residual = g->residual, *per_channel = g->per_channel;
	elem *dst = g->dst;
	for (int64_t t = from; t < to; t++, sums += NR) {
		vec m[POSITIONS], half[WTILE * WSIDE], y[WTILE * WTILE];
		float rows[WTILE * WTILE][NR];
		for (int64_t j = 0; j < columns; j += W) {
			UNROLL_ALL
			for (int x = 0; x < WSIDE; x++) {
				for (int i = 0; i < WSIDE; i++) m[i * WSIDE + x] = load(sums + (i * WSIDE + x) * apart + j);
				winograd_out(m + x, WSIDE, half + x, WSIDE);
			}
			UNROLL_ALL
			for (int i = 0; i < WTILE; i++) {
				winograd_out(half + i * WSIDE, 1, y + i * WTILE, 1);
				for (int x = 0; x < WTILE; x++) store(rows[i * WTILE + x] + j, y[i * WTILE + x]);
			}
		}
		int64_t n = t / (across * down), y0 = t % (across * down) / across * WTILE, x0 = t % across * WTILE;
		for (int64_t i = 0; i < min64(WTILE, g->out_h - y0); i++)
			for (int64_t x = 0; x < min64(WTILE, g->out_w - x0); x++) {
				int64_t at = ((n * g->out_h + y0 + i) * g->out_w + x0 + x) * g->outs + o;
				finish(act, columns, rows[i * WTILE + x], 0, OFFSET(g->bias, o), 0, OFFSET(per_channel, n * g->per_channel_pitch + o), OFFSET(residual, at), dst + at);
			}
	}
}

// tile_pixels finds the 36 pixels of a tile in one of the inputs.
static void tile_pixels(const gemm_job *g, int64_t tile, int input, const elem **pixels) {
	int64_t across = ceil_div(g->out_w, WTILE), down = ceil_div(g->out_h, WTILE);
	int64_t n = tile / (across * down), y0 = tile % (across * down) / across * WTILE - g->pad, x0 = tile % across * WTILE - g->pad;
	for (int64_t i = 0; i < WSIDE; i++)
		for (int64_t j = 0; j < WSIDE; j++) {
			int64_t y = y0 + i, x = x0 + j;
			const elem **p = pixels + i * WSIDE + j;
			if (y < 0 || y >= g->read_h || x < 0 || x >= g->read_w) {
				*p = g->zeros;
				continue;
			}
			if (g->read_h != g->h) y = y * g->h / g->read_h;
			if (g->read_w != g->w) x = x * g->w / g->read_w;
			*p = (const elem *)g->in[input] + ((n * g->h + y) * g->w + x) * g->channels[input];
		}
}

// transform_tiles writes channels [first, first+n) of tiles [from, to).
static void transform_tiles(const gemm_job *g, int64_t from, int64_t to, int64_t first, int64_t n, float *v) {
	int64_t tiles = to - from, apart = PIXELS_APART(tiles);
	const elem *pixels[POSITIONS];
	for (int64_t t = 0; t < tiles; t++)
		for (int input = 0; input < 2; input++) {
			int64_t before = input ? g->channels[0] : 0; // channels of the other input
			int64_t c = max64(first, before), end = min64(first + n, before + g->channels[input]);
			if (c >= end) continue;
			tile_pixels(g, from + t, input, pixels);
			for (int64_t block = c - first, next; block < end - first; block = next) {
				next = min64(end - first, (block / KB + 1) * KB);
				transform_pixels(pixels, first + block - before, next - block, v + block / KB * POSITIONS * apart + t * KB + block % KB, apart);
			}
		}
}

static void winograd_item(const gemm_job *g, int64_t item, float *scratch) {
	int64_t all = g->tiles, panels = ceil_div(g->outs, NR), channels = g->channels[0] + g->channels[1];
	int64_t tile_block = item % g->row_blocks, col_block = item / g->row_blocks;
	int64_t from = MR * part(ceil_div(all, MR), g->row_blocks, tile_block);
	int64_t to = min64(all, MR * part(ceil_div(all, MR), g->row_blocks, tile_block + 1));
	int64_t first = part(panels, g->col_blocks, col_block), last = part(panels, g->col_blocks, col_block + 1);
	int64_t tiles = to - from, apart = PIXELS_APART(tiles), stretch = min64(round_up(channels, KB), WINOGRAD_CHANNELS);
	int64_t kept = channels > stretch ? SUMS_APART(tiles) * POSITIONS : 0; // sums of all panels, or of one at a time

	float *v = scratch, *u = v + stretch / KB * POSITIONS * apart, *m = u + POSITIONS * WEIGHTS_APART;
	const float **table = (const float **)(m + max64(kept * (last - first), SUMS_APART(tiles) * POSITIONS));
	for (int64_t t = 0; t < tiles; t++) table[t] = v + t * KB;
	for (int64_t c = 0; c < channels; c += stretch) {
		int64_t width = min64(stretch, channels - c);
		transform_tiles(g, from, to, c, width, v);
		for (int64_t p = first; p < last; p++) {
			const elem *panel = (const elem *)g->weights.panels + p * round_up(9 * channels, CHUNK) * NR;
			float *sums = m + kept * (p - first);
			int64_t columns = min64(NR, g->outs - p * NR);
			for (int64_t k = 0; k < width; k += KB) {
				int64_t depth = min64(KB, width - k), block = k / KB * POSITIONS * apart;
				transform_weights(panel, c + k, depth, channels, u);
				for (int64_t i = 0; i < POSITIONS; i++) {
					segment s = {table, block + i * apart, depth, 0};
					tile_rows(&s, 1, tiles, columns, u + i * WEIGHTS_APART, sums + i * SUMS_APART(tiles), NR, c + k == 0, v + block + (i + 1) * apart, tiles * KB);
				}
			}
			if (c + width < channels) continue;
			switch (g->act) {
			case ACT_IDENTITY: winograd_finish(ACT_IDENTITY, g, from, to, p, sums); break;
			case ACT_SILU: winograd_finish(ACT_SILU, g, from, to, p, sums); break;
			case ACT_GELU: winograd_finish(ACT_GELU, g, from, to, p, sums); break;
			case ACT_QUICKGELU: winograd_finish(ACT_QUICKGELU, g, from, to, p, sums); break;
			}
		}
	}
}

static void winograd(gemm_job *g, void *scratch) {
#ifdef HALF
	uint64_t mode = flush_subnormals();
#endif
	for (int64_t i; (i = NEXT_ITEM(g)) < g->items;) winograd_item(g, i, scratch);
#ifdef HALF
	restore_mode(mode);
#endif
}

static int64_t winograd_scratch_bytes(const gemm_job *g) {
	int64_t tiles = MR * ceil_div(ceil_div(g->tiles, MR), g->row_blocks), channels = g->channels[0] + g->channels[1];
	int64_t stretch = min64(round_up(channels, KB), WINOGRAD_CHANNELS);
	int64_t panels = channels > stretch ? ceil_div(ceil_div(g->outs, NR), g->col_blocks) : 1;
	int64_t floats = POSITIONS * (stretch / KB * PIXELS_APART(tiles) + WEIGHTS_APART + panels * SUMS_APART(tiles));
	return floats * (int64_t)sizeof(float) + tiles * (int64_t)sizeof(char *);
}
