// Matrix products in bfloat16, summed in float32: the same implicit GEMM as gemm.h, with these differences.
//
//	A       windows are copied, block by block of K, to [chunk][row][32]: the instructions read pairs or
//	        squares of channels, and what lies side by side in K may lie far apart in the picture
//	B       panels of 16 columns: [chunk][16 pairs][16 columns][2], a square of 1 KiB for each chunk of K
//	sums    [panel][row][16] in float32, kept between blocks of K
//
// A row's sums depend on nothing but K's order, which chunks of 32 from 0 on fix. How they are taken within a
// chunk is the instruction's: one chain of 32 (VDPBF16PS), or even and odd terms apart (TDPBF16PS). So the two
// sets differ in the last bits from each other, and neither from itself.

#define SQUARE (CHUNK * NR) // values of a panel's chunk

// micro adds n chunks to a tile of sums: mr × nv·16 of them, or with AMX mr and nv squares of 16 × 16.
// Strides are in values; those of A let it be a matrix that was not copied.
typedef struct {
	const elem *a;
	int64_t a_row, a_chunk;
	const elem *b;
	int64_t b_panel;
	float *sums;
	int64_t sums_panel;
	int64_t chunks;
} product;

#ifdef AMX
#define TILE_ROWS 16 // A and sums have a multiple of it in rows

INLINE void micro_half(const int mt, const int nt, const product *m, int begin) {
	float *s0 = m->sums, *s1 = s0 + m->sums_panel;
	if (begin) {
		TILE_ZERO(0);
		if (nt > 1) TILE_ZERO(1);
		if (mt > 1) TILE_ZERO(2);
		if (mt > 1 && nt > 1) TILE_ZERO(3);
	} else {
		TILE_LOAD(0, s0, 64);
		if (nt > 1) TILE_LOAD(1, s1, 64);
		if (mt > 1) TILE_LOAD(2, s0 + 16 * 16, 64);
		if (mt > 1 && nt > 1) TILE_LOAD(3, s1 + 16 * 16, 64);
	}
	const elem *a = m->a, *b = m->b;
	int64_t stride = 2 * m->a_row;
	for (int64_t k = 0; k < m->chunks; k++, a += m->a_chunk, b += SQUARE) {
		TILE_LOAD(6, b, 64);
		TILE_LOAD(4, a, stride);
		TILE_DOT(0, 4, 6);
		if (nt > 1) {
			TILE_LOAD(7, b + m->b_panel, 64);
			TILE_DOT(1, 4, 7);
		}
		if (mt > 1) {
			TILE_LOAD(5, a + 16 * m->a_row, stride);
			TILE_DOT(2, 5, 6);
			if (nt > 1) TILE_DOT(3, 5, 7);
		}
	}
	TILE_STORE(0, s0, 64);
	if (nt > 1) TILE_STORE(1, s1, 64);
	if (mt > 1) TILE_STORE(2, s0 + 16 * 16, 64);
	if (mt > 1 && nt > 1) TILE_STORE(3, s1 + 16 * 16, 64);
}

static void micro_1_1(const product *m, int begin) { micro_half(1, 1, m, begin); }
static void micro_1_2(const product *m, int begin) { micro_half(1, 2, m, begin); }
static void micro_2_1(const product *m, int begin) { micro_half(2, 1, m, begin); }
static void micro_2_2(const product *m, int begin) { micro_half(2, 2, m, begin); }

// tile runs the micro-kernel over rows and up to NV panels.
INLINE void tile_half(const product *m, int64_t rows, int64_t panels, int begin) {
	product p = *m;
	int64_t squares = ceil_div(rows, 16);
	for (int64_t t = 0; t < squares; t += 2) {
		if (panels > 1) (t + 1 < squares ? micro_2_2 : micro_1_2)(&p, begin);
		else (t + 1 < squares ? micro_2_1 : micro_1_1)(&p, begin);
		p.a += 32 * p.a_row, p.sums += 32 * NR;
	}
}
#else
#define TILE_ROWS 1

INLINE void micro_half(const int mr, const int nv, const product *m, int begin) {
	vec acc[MR][NV];
	UNROLL_ALL
	for (int i = 0; i < mr; i++)
		UNROLL_ALL
		for (int j = 0; j < nv; j++) acc[i][j] = begin ? splat(0) : load(m->sums + j * m->sums_panel + i * NR);
	const elem *a = m->a, *b = m->b;
	for (int64_t k = 0; k < m->chunks; k++, a += m->a_chunk, b += SQUARE) {
		UNROLL_BY_4
		for (int64_t pair = 0; pair < CHUNK / 2; pair++) {
			vecu column[NV];
			UNROLL_ALL
			for (int j = 0; j < nv; j++) column[j] = (vecu)load((const float *)(b + j * m->b_panel) + pair * NR);
			UNROLL_ALL
			for (int i = 0; i < mr; i++) {
				vecu x = splat_pair(a + i * m->a_row + 2 * pair);
				UNROLL_ALL
				for (int j = 0; j < nv; j++) acc[i][j] = dot2(acc[i][j], x, column[j]);
			}
		}
	}
	UNROLL_ALL
	for (int i = 0; i < mr; i++)
		UNROLL_ALL
		for (int j = 0; j < nv; j++) store(m->sums + j * m->sums_panel + i * NR, acc[i][j]);
}

typedef void (*micro_kernel)(const product *, int begin);
#define MICRO(mr, nv) \
	static void micro_##mr##_##nv(const product *m, int begin) { micro_half(mr, nv, m, begin); }
#define MICROS(mr) MICRO(mr, 1) MICRO(mr, 2) MICRO(mr, 3)
#define ROW(mr) {micro_##mr##_1, micro_##mr##_2, micro_##mr##_3}
MICROS(1) MICROS(2) MICROS(3) MICROS(4) MICROS(5) MICROS(6) MICROS(7) MICROS(8)
static const micro_kernel micros[MR][NV] = {ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7), ROW(8)};

INLINE void tile_half(const product *m, int64_t rows, int64_t panels, int begin) {
	product p = *m;
	int64_t tiles = ceil_div(rows, MR);
	for (int64_t t = 0; t < tiles; t++) {
		int64_t from = part(rows, tiles, t), mr = part(rows, tiles, t + 1) - from;
		p.a = m->a + from * m->a_row, p.sums = m->sums + from * NR;
		micros[mr - 1][panels - 1](&p, begin);
	}
}
#endif

// copy_windows copies the next k values of every row's window to a[chunk][height][32], with zeros at the end of
// the last chunk and in rows that a square needs and the item has not.
static void copy_windows(const gemm_job *g, const char **table, int64_t rows, int64_t height, int64_t k, cursor *at, elem *a) {
	for (int64_t done = 0; done < k;) {
		int64_t n = min64(g->channels[at->input] - at->channel, k - done);
		const char **pixels = table + (at->tap * 2 + at->input) * rows;
		int64_t skip = at->channel * (int64_t)sizeof(elem);
		for (int64_t left = n; left > 0;) {
			int64_t within = done % CHUNK, some = min64(CHUNK - within, left);
			elem *to = a + done / CHUNK * height * CHUNK + within;
			if (some == CHUNK)
				for (int64_t r = 0; r < rows; r++, to += CHUNK) __builtin_memcpy(to, pixels[r] + skip, 2 * CHUNK);
			else
				for (int64_t r = 0; r < rows; r++, to += CHUNK) __builtin_memcpy(to, pixels[r] + skip, 2 * some);
			done += some, left -= some, skip += 2 * some;
		}
		at->channel += n, at->k += n;
		if (at->channel == g->channels[at->input]) {
			at->channel = 0;
			at->tap += at->input;
			at->input = 1 - at->input;
		}
	}
	if (k % CHUNK)
		for (int64_t r = 0; r < rows; r++) __builtin_memset(a + (k / CHUNK * height + r) * CHUNK + k % CHUNK, 0, 2 * (CHUNK - k % CHUNK));
	for (int64_t c = 0; c < ceil_div(k, CHUNK); c++) __builtin_memset(a + (c * height + rows) * CHUNK, 0, 2 * (height - rows) * CHUNK);
}

#define KC (BLOCK_CHUNKS * CHUNK) // depth of a block of K

// gemm_layout gives the sizes of an item's parts: an item of the most rows and panels has to fit.
typedef struct {
	int64_t height, sums, a; // rows of the block; bytes
} gemm_layout;

static gemm_layout layout_of(const gemm_job *g, int64_t rows, int64_t panels) {
	gemm_layout l = {.height = round_up(rows, TILE_ROWS)};
	int64_t k = g->kh * g->kw * (g->channels[0] + g->channels[1]);
	l.sums = panels * l.height * NR * (int64_t)sizeof(float);
	l.a = l.height * round_up(min64(k, KC), CHUNK) * (int64_t)sizeof(elem);
	return l;
}

static void gemm_item(const gemm_job *g, int64_t item, char *scratch) {
	int64_t panels = ceil_div(g->outs, NR), k = g->kh * g->kw * (g->channels[0] + g->channels[1]), chunks = ceil_div(k, CHUNK);
	int64_t row_block = item % g->row_blocks, col_block = item / g->row_blocks, twice = g->act == ACT_GEGLU ? 2 : 1;
	int64_t from = MR * part(ceil_div(g->rows, MR), g->row_blocks, row_block);
	int64_t to = min64(g->rows, MR * part(ceil_div(g->rows, MR), g->row_blocks, row_block + 1));
	int64_t first = twice * part(panels, g->col_blocks, col_block), last = twice * part(panels, g->col_blocks, col_block + 1);
	int64_t rows = to - from;

	gemm_layout l = layout_of(g, rows, last - first);
	float *sums = (float *)scratch;
	elem *a = (elem *)(scratch + l.sums);
	const char **table = (const char **)(scratch + l.sums + l.a);
	find_pixels(g, sizeof(elem), from, to, table);

	cursor at = {0};
	const elem *weights = g->weights.panels;
	int64_t groups = ceil_div(last - first, NV);
	for (int64_t c = 0; c < chunks; c += BLOCK_CHUNKS) {
		int64_t n = min64(BLOCK_CHUNKS, chunks - c);
		copy_windows(g, table, rows, l.height, min64(KC, k - c * CHUNK), &at, a);
		for (int64_t i = 0; i < groups; i++) {
			int64_t p = part(last - first, groups, i), count = part(last - first, groups, i + 1) - p;
			product m = {a, CHUNK, l.height * CHUNK, weights + ((first + p) * chunks + c) * SQUARE, chunks * SQUARE, sums + p * l.height * NR, l.height * NR, n};
			tile_half(&m, rows, count, c == 0);
		}
	}
	finish_item(g, from, to, first / twice, last / twice, l.height, sums);
}

static void gemm(gemm_job *g, void *scratch) {
	unsigned mode = flush_subnormals();
	BEGIN_TILES;
	for (int64_t i; (i = NEXT_ITEM(g)) < g->items;) gemm_item(g, i, scratch);
	END_TILES;
	_mm_setcsr(mode);
}

static int64_t gemm_scratch_bytes(const gemm_job *g) {
	// Parts of nearly equal size differ by one tile or panel at most.
	int64_t rows = MR * ceil_div(ceil_div(g->rows, MR), g->row_blocks);
	int64_t panels = ceil_div(ceil_div(g->outs, NR), g->col_blocks) * (g->act == ACT_GEGLU ? 2 : 1);
	gemm_layout l = layout_of(g, rows, panels);
	return l.sums + l.a + g->kh * g->kw * 2 * rows * (int64_t)sizeof(char *);
}
