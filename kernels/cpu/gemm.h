// Matrix products: dst = act(A · Wᵀ + bias + per_channel) + residual, where the rows of A are the
// windows of a convolution, found through pointers and never copied ("implicit GEMM", with the
// indirection of Dukhan 2019). A Linear is a convolution with one tap on a picture one pixel high.
//
//	item: up to 144 rows × up to 320 columns of dst
//	  for each block of K, KC deep                 K = taps · channels, in that order
//	    for each panel of NR columns               B: KC·NR floats stay in the L1 cache
//	      for each MR rows                         A: 144 rows of KC floats stay in the L2 cache
//	        micro-kernel: MR × NR sums in registers, over the block
//	  finish: bias, activation, residual → dst
//
// Each sum starts at 0 and adds its products one by one in the order of K, whatever the blocks are:
// the same bits for every blocking, tile and width of vector.

#define KC (6144 / NR) // depth of a block of K: 24 KiB of a panel stay in the L1 cache
#define MAX_SEGMENTS 64

// A segment is a stretch of K whose values lie side by side in the pixels of one tap and one input.
typedef struct {
	const float *const *rows; // where each row's pixel starts
	int64_t first, length;    // channels [first, first+length) of it
	int64_t k;                // row of the packed panel
} segment;

// micro adds the segments' products to an mr × nv·W tile of sums; begin says that the sums are 0.
// mr and nv are constants wherever it is inlined, so that the tile lives in registers.
INLINE void micro(const int mr, const int nv, const segment *s, int count, const float *panel, float *sums, int64_t stride, int begin) {
	vec acc[MR][NV];
	UNROLL_ALL
	for (int i = 0; i < mr; i++)
		UNROLL_ALL
		for (int j = 0; j < nv; j++) acc[i][j] = begin ? splat(0) : load(sums + i * stride + j * W);
	for (; count > 0; count--, s++) {
		const float *a[MR];
		UNROLL_ALL
		for (int i = 0; i < mr; i++) a[i] = s->rows[i] + s->first;
		const float *b = panel + s->k * NR;
		int64_t n = s->length;
		UNROLL_BY_4
		for (int64_t k = 0; k < n; k++) {
			vec column[NV];
			UNROLL_ALL
			for (int j = 0; j < nv; j++) column[j] = load(b + k * NR + j * W);
			UNROLL_ALL
			for (int i = 0; i < mr; i++) {
				vec x = splat(a[i][k]);
				UNROLL_ALL
				for (int j = 0; j < nv; j++) acc[i][j] = fma_(x, column[j], acc[i][j]);
			}
		}
	}
	UNROLL_ALL
	for (int i = 0; i < mr; i++)
		UNROLL_ALL
		for (int j = 0; j < nv; j++) store(sums + i * stride + j * W, acc[i][j]);
}

typedef void (*micro_kernel)(const segment *, int, const float *, float *, int64_t, int);

#define MICRO(mr, nv) \
	static void micro_##mr##_##nv(const segment *s, int n, const float *b, float *c, int64_t stride, int begin) { micro(mr, nv, s, n, b, c, stride, begin); }
#if NV == 2
#define MICROS(mr) MICRO(mr, 1) MICRO(mr, 2)
#define ROW(mr) {micro_##mr##_1, micro_##mr##_2}
#elif NV == 3
#define MICROS(mr) MICRO(mr, 1) MICRO(mr, 2) MICRO(mr, 3)
#define ROW(mr) {micro_##mr##_1, micro_##mr##_2, micro_##mr##_3}
#elif NV == 4
#define MICROS(mr) MICRO(mr, 1) MICRO(mr, 2) MICRO(mr, 3) MICRO(mr, 4)
#define ROW(mr) {micro_##mr##_1, micro_##mr##_2, micro_##mr##_3, micro_##mr##_4}
#endif
#if MR == 2
MICROS(1) MICROS(2)
static const micro_kernel micros[MR][NV] = {ROW(1), ROW(2)};
#elif MR == 6
MICROS(1) MICROS(2) MICROS(3) MICROS(4) MICROS(5) MICROS(6)
static const micro_kernel micros[MR][NV] = {ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6)};
#elif MR == 8
MICROS(1) MICROS(2) MICROS(3) MICROS(4) MICROS(5) MICROS(6) MICROS(7) MICROS(8)
static const micro_kernel micros[MR][NV] = {ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7), ROW(8)};
#endif

// tile_rows runs the micro-kernel over any number of rows: nearly equal tiles, because a tile of one
// row costs as much time as one of four. Meanwhile it brings the soon floats at next into the L2 cache,
// a part with each tile: the first tile on them would wait for memory otherwise.
INLINE void tile_rows(segment *s, int count, int64_t rows, int64_t columns, const float *panel, float *sums, int64_t stride, int begin, const float *next, int64_t soon) {
	int64_t tiles = ceil_div(rows, MR);
	int64_t nv = min64(NV, ceil_div(columns, W));
	for (int64_t t = 0; t < tiles; t++) {
		for (int64_t i = part(soon, tiles, t) & -16, end = part(soon, tiles, t + 1); i < end; i += 16) __builtin_prefetch(next + i, 0, 2);
		int64_t from = part(rows, tiles, t), mr = part(rows, tiles, t + 1) - from;
		micros[mr - 1][nv - 1](s, count, panel, sums + from * stride, stride, begin);
		for (int i = 0; i < count; i++) s[i].rows += mr;
	}
	for (int i = 0; i < count; i++) s[i].rows -= rows;
}

// next_block cuts the next segments off K, about KC long in total; 0 at the end.
static int next_block(const gemm_job *g, const char **table, int64_t rows, cursor *at, segment *s) {
	int count = 0;
	int64_t room = KC;
	while (at->tap < g->kh * g->kw && room > 0 && count < MAX_SEGMENTS) {
		int64_t n = min64(g->channels[at->input] - at->channel, room);
		if (n > 0) {
			s[count++] = (segment){(const float *const *)table + (at->tap * 2 + at->input) * rows, at->channel, n, at->k};
			at->channel += n, at->k += n, room -= n;
		}
		if (at->channel == g->channels[at->input]) {
			at->channel = 0;
			at->tap += at->input;
			at->input = 1 - at->input;
		}
	}
	return count;
}

static void gemm_item(const gemm_job *g, int64_t item, float *scratch) {
	int64_t panels = ceil_div(g->outs, NR), k = g->kh * g->kw * (g->channels[0] + g->channels[1]);
	int64_t row_block = item % g->row_blocks, col_block = item / g->row_blocks;
	int64_t from = MR * part(ceil_div(g->rows, MR), g->row_blocks, row_block);
	int64_t to = min64(g->rows, MR * part(ceil_div(g->rows, MR), g->row_blocks, row_block + 1));
	int64_t first = part(panels, g->col_blocks, col_block), last = part(panels, g->col_blocks, col_block + 1);
	int64_t rows = to - from, twice = GATED(g->act) ? 2 : 1;

	const float *weights = g->weights.panels;
	float *sums = scratch;
	const char **table = (const char **)(sums + twice * (last - first) * NR * rows);
	find_pixels(g, sizeof(float), from, to, table);

	segment s[MAX_SEGMENTS];
	cursor at = {0};
	for (int count; (count = next_block(g, table, rows, &at, s)) > 0;)
		for (int64_t p = twice * first; p < twice * last; p++) {
			int64_t columns = min64(NR, g->outs - p / twice * NR);
			const float *panel = weights + p * k * NR;
			int64_t next = p + 1 < twice * last ? p + 1 : twice * first, from_k = p + 1 < twice * last ? s->k : at.k;
			tile_rows(s, count, rows, columns, panel, sums + (p - twice * first) * rows * NR, NR, s->k == 0,
			          weights + (next * k + from_k) * NR, min64(at.k - s->k, k - from_k) * NR);
		}
	finish_item(g, from, to, first, last, rows, sums);
}

static void gemm(gemm_job *g, void *scratch) {
	for (int64_t i; (i = NEXT_ITEM(g)) < g->items;) gemm_item(g, i, scratch);
}

static int64_t gemm_scratch_bytes(const gemm_job *g) {
	// Parts of nearly equal size differ by one tile or panel at most.
	int64_t rows = MR * ceil_div(ceil_div(g->rows, MR), g->row_blocks);
	int64_t columns = NR * ceil_div(ceil_div(g->outs, NR), g->col_blocks) * (GATED(g->act) ? 2 : 1);
	return rows * columns * (int64_t)sizeof(float) + g->kh * g->kw * 2 * rows * (int64_t)sizeof(char *);
}
