// Matrix products in bfloat16, summed in float32: the same implicit GEMM as gemm.h, with these differences.
//
//	A       windows are copied, block by block of K, to [TALL rows][chunk][row][32]: the instructions read pairs
//	        or squares of channels, and what lies side by side in K may lie far apart in the picture. What the
//	        micro-kernel reads is one stream (TALL 32), or one for each row (TALL 1). With AMX they often need not
//	        be copied: gemm_tiles.h
//	B       panels of NV·16 columns: [chunk][NV][16 pairs][16 columns][2], squares of 1 KiB
//	        With int8 weights a chunk of 64 bytes is 64 values, and a square 16 times 4 of them
//	        (numbers are those of W = 16; with W = 8 chunks, squares and panels are half as wide, and with W = 4 a quarter)
//	sums    [square of columns][row][16] in float32, kept between blocks of K
//
// A row's sums depend on nothing but K's order, which chunks of 32 from 0 on fix. How they are taken within a
// chunk is the instruction's: one chain of 32 (VDPBF16PS), even and odd terms apart (TDPBF16PS), or a chain of pairs
// whose sums are rounded to odd (BFMMLA). So the sets differ in the last bits from each other, and none from itself.

#define SQUARE (CHUNK * W)

// The micro-kernel adds chunks to a tile of sums: mr × nv·16 of them, or with AMX mr and nv squares of 16 × 16.
// Strides are in values. The rows of A lie TALL by TALL. Meanwhile it brings lines of 64 bytes from next on into the
// L2 cache: the first tile on them would wait for memory otherwise.
typedef struct {
	const elem *a;
	int64_t a_tall, a_chunk;
	const elem *b;
	int64_t b_square, b_chunk;
	float *sums;
	int64_t sums_square;
	int64_t chunks;
	int64_t rest; // pairs of one more chunk that is not whole; with AMX or MATRICES there are none
	const char *next;
	int64_t lines; // a chunk
} product;

#define PREFETCH(p) \
	for (int64_t line = 0; line < m->lines; line++, p += 64) __builtin_prefetch(p, 0, 2)

#ifdef AMX
#define TALL 32 // rows of A that lie together; the sums have a multiple of it
#else
#define TALL 1

#ifdef MATRICES
// Sums are 2 × 2 in registers and in rows in memory, which they turn between at the beginning and at the end. Columns lie as dot2 and
// dot4 want them: two vectors of K's pairs (or fours) are two columns' 8 bytes each, and two other columns', once their halves
// are exchanged.
INLINE void micro_half(const int mr, const int nv, const int int8, const product *m, int begin) {
	const int twos = (mr + 1) / 2;
	vec left[MR / 2][NV], right[MR / 2][NV]; // of the first two columns of a vector, and of the last two
	UNROLL_ALL
	for (int i = 0; i < twos; i++)
		UNROLL_ALL
		for (int j = 0; j < nv; j++) {
			const float *s = m->sums + j * m->sums_square + 2 * i * W;
			vec even = begin ? splat(0) : load(s), odd = begin || 2 * i + 1 == mr ? splat(0) : load(s + W);
			left[i][j] = SHUFFLE(even, odd, 0, 1, 4, 5);
			right[i][j] = SHUFFLE(even, odd, 2, 3, 6, 7);
		}
	const elem *a = m->a, *b = m->b;
	const char *next = m->next;
	for (int64_t k = 0; k < m->chunks; k++, a += m->a_chunk, b += m->b_chunk) {
		PREFETCH(next);
		UNROLL_ALL
		for (int half = 0; half < 2; half++) {
			vecu rows[MR / 2];
			UNROLL_ALL
			for (int i = 0; i < twos; i++) rows[i] = two_rows(a + 2 * i * m->a_tall + half * W, a + (2 * i + 1 < mr ? 2 * i + 1 : 2 * i) * m->a_tall + half * W);
			UNROLL_ALL
			for (int j = 0; j < nv; j++) {
				const float *square = (const float *)(b + j * m->b_square) + 2 * half * W;
				vecu first = (vecu)load(square), second = (vecu)load(square + W);
				vecu two = SHUFFLE(first, second, 0, 4, 1, 5), others = SHUFFLE(first, second, 2, 6, 3, 7);
				UNROLL_ALL
				for (int i = 0; i < twos; i++) {
					left[i][j] = int8 ? mmla8(left[i][j], rows[i], two) : mmla(left[i][j], rows[i], two);
					right[i][j] = int8 ? mmla8(right[i][j], rows[i], others) : mmla(right[i][j], rows[i], others);
				}
			}
		}
	}
	UNROLL_ALL
	for (int i = 0; i < twos; i++)
		UNROLL_ALL
		for (int j = 0; j < nv; j++) {
			float *s = m->sums + j * m->sums_square + 2 * i * W;
			store(s, SHUFFLE(left[i][j], right[i][j], 0, 1, 4, 5));
			if (2 * i + 1 < mr) store(s + W, SHUFFLE(left[i][j], right[i][j], 2, 3, 6, 7));
		}
}
#else
// add_pair adds a pair of K, or four bytes of it.
INLINE void add_pair(const int mr, const int nv, const int int8, const product *m, const elem *a, const elem *b, int64_t pair, vec acc[MR][NV]) {
	vecu column[NV];
	UNROLL_ALL
	for (int j = 0; j < nv; j++) column[j] = (vecu)load((const float *)(b + j * m->b_square) + pair * W);
	UNROLL_ALL
	for (int i = 0; i < mr; i++) {
		vecu x = splat_pair(a + i * m->a_tall + 2 * pair);
		UNROLL_ALL
		for (int j = 0; j < nv; j++) acc[i][j] = int8 ? (vec)dot4((veci)acc[i][j], x, column[j]) : dot2(acc[i][j], x, column[j]);
	}
}

INLINE void micro_half(const int mr, const int nv, const int int8, const product *m, int begin) {
	vec acc[MR][NV];
	UNROLL_ALL
	for (int i = 0; i < mr; i++)
		UNROLL_ALL
		for (int j = 0; j < nv; j++) acc[i][j] = begin ? splat(0) : load(m->sums + j * m->sums_square + i * W);
	const elem *a = m->a, *b = m->b;
	const char *next = m->next;
	for (int64_t k = 0; k < m->chunks; k++, a += m->a_chunk, b += m->b_chunk) {
		PREFETCH(next);
		UNROLL_BY_4
		for (int64_t pair = 0; pair < CHUNK / 2; pair++) add_pair(mr, nv, int8, m, a, b, pair, acc);
	}
	if (!int8)
		for (int64_t pair = 0; pair < m->rest; pair++) add_pair(mr, nv, int8, m, a, b, pair, acc);
	UNROLL_ALL
	for (int i = 0; i < mr; i++)
		UNROLL_ALL
		for (int j = 0; j < nv; j++) store(m->sums + j * m->sums_square + i * W, acc[i][j]);
}
#endif

typedef void (*micro_kernel)(const product *, int begin);
#define MICRO(mr, nv, int8) \
	static void micro_##mr##_##nv##_##int8(const product *m, int begin) { micro_half(mr, nv, int8, m, begin); }
#if NV == 3
#define MICROS(mr) MICRO(mr, 1, 0) MICRO(mr, 2, 0) MICRO(mr, 3, 0) MICRO(mr, 1, 1) MICRO(mr, 2, 1) MICRO(mr, 3, 1)
#define ROW(mr, int8) {micro_##mr##_1_##int8, micro_##mr##_2_##int8, micro_##mr##_3_##int8}
#else
#define MICROS(mr) MICRO(mr, 1, 0) MICRO(mr, 2, 0) MICRO(mr, 1, 1) MICRO(mr, 2, 1)
#define ROW(mr, int8) {micro_##mr##_1_##int8, micro_##mr##_2_##int8}
#endif
MICROS(1) MICROS(2) MICROS(3) MICROS(4) MICROS(5) MICROS(6)
#if MR == 8
MICROS(7) MICROS(8)
#define TABLE(int8) {ROW(1, int8), ROW(2, int8), ROW(3, int8), ROW(4, int8), ROW(5, int8), ROW(6, int8), ROW(7, int8), ROW(8, int8)}
#else
#define TABLE(int8) {ROW(1, int8), ROW(2, int8), ROW(3, int8), ROW(4, int8), ROW(5, int8), ROW(6, int8)}
#endif
static const micro_kernel micros[2][MR][NV] = {TABLE(0), TABLE(1)};
#undef MICRO
#undef MICROS
#undef ROW
#undef TABLE

INLINE void tile_half(const product *m, int64_t rows, int64_t wide, int begin, const int int8) {
	product p = *m;
	int64_t tiles = ceil_div(rows, MR);
	for (int64_t t = 0; t < tiles; t++) {
		int64_t from = part(rows, tiles, t), mr = part(rows, tiles, t + 1) - from;
		p.a = m->a + from * m->a_tall, p.sums = m->sums + from * W;
		micros[int8][mr - 1][wide - 1](&p, begin);
		p.next += 64 * p.lines * p.chunks;
	}
}
#endif

#define LINE (4 * W) // bytes of a chunk of one row

// copy_windows copies the next bytes of every row's window to A, with zeros at the end of the last chunk and in rows
// that a square needs and the item has not. A channel takes size bytes.
static void copy_windows(const gemm_job *g, int64_t size, const char **table, int64_t rows, int64_t height, int64_t bytes, cursor *at, char *a) {
	int64_t chunks = ceil_div(bytes, LINE);
	for (int64_t done = 0; done < bytes;) {
		int64_t n = min64((g->channels[at->input] - at->channel) * size, bytes - done);
		const char **pixels = table + (at->tap * 2 + at->input) * rows;
		for (int64_t first = 0; first < rows; first += TALL) {
			int64_t skip = at->channel * size, some;
			for (int64_t to = done; to < done + n; to += some, skip += some) {
				char *row = a + (first * chunks + to / LINE * TALL) * LINE + to % LINE;
				some = min64(LINE - to % LINE, done + n - to);
				if (some == LINE)
					for (int64_t r = first; r < min64(first + TALL, rows); r++, row += LINE) __builtin_memcpy(row, pixels[r] + skip, LINE);
				else
					for (int64_t r = first; r < min64(first + TALL, rows); r++, row += LINE) __builtin_memcpy(row, pixels[r] + skip, some);
			}
		}
		done += n;
		at->channel += n / size, at->k += n / size;
		if (at->channel == g->channels[at->input]) {
			at->channel = 0;
			at->tap += at->input;
			at->input = 1 - at->input;
		}
	}
	if (bytes % LINE)
		for (int64_t r = 0; r < rows; r++)
			__builtin_memset(a + (r / TALL * TALL * chunks + (chunks - 1) * TALL + r % TALL) * LINE + bytes % LINE, 0, LINE - bytes % LINE);
	if (rows % TALL)
		for (int64_t c = 0; c < chunks; c++) __builtin_memset(a + (rows / TALL * TALL * chunks + c * TALL + rows % TALL) * LINE, 0, (height - rows) * LINE);
}

// size_of is how many bytes a value of A takes.
static int64_t size_of(const gemm_job *g) { return g->weights.type == TYPE_I8 ? 1 : sizeof(elem); }

#ifdef AMX
#include "gemm_tiles.h"
#else
// gemm_layout gives the sizes of an item's parts: an item of the most rows and panels has to fit.
typedef struct {
	int64_t height, sums, a; // rows of the block; bytes
} gemm_layout;

static gemm_layout layout_of(const gemm_job *g, int64_t rows, int64_t panels) {
	gemm_layout l = {.height = round_up(rows, TALL)};
	int64_t k = g->kh * g->kw * (g->channels[0] + g->channels[1]);
	l.sums = panels * NR * l.height * (int64_t)sizeof(float);
	l.a = l.height * LINE * min64(ceil_div(k * size_of(g), LINE), BLOCK_CHUNKS);
	return l;
}

// dequantise turns sums of 8-bit values into those of what they stand for.
static void dequantise(const gemm_job *g, int64_t from, int64_t rows, int64_t first, int64_t last, int64_t height, float *sums) {
	for (int64_t column = first * NR; column < last * NR; column += W, sums += height * W) {
		vec scale = load(g->weights.scales + column);
		veci total = (veci)load((const float *)g->weights.sums + column);
		for (int64_t r = 0; r < rows; r++) {
			step8 x = g->ranges[(from + r) / g->range_rows];
			veci sum = (veci)load(sums + r * W) - total * (x.zero - BYTE_SHIFT);
			store(sums + r * W, __builtin_convertvector(sum, vec) * (scale * splat(x.scale)));
		}
	}
}

static void gemm_item(const gemm_job *g, int64_t item, char *scratch) {
	int64_t panels = ceil_div(g->outs, NR), k = g->kh * g->kw * (g->channels[0] + g->channels[1]), size = size_of(g), chunks = ceil_div(k * size, LINE);
	int64_t row_block = item % g->row_blocks, col_block = item / g->row_blocks, twice = GATED(g->act) ? 2 : 1;
	int64_t from = MR * part(ceil_div(g->rows, MR), g->row_blocks, row_block);
	int64_t to = min64(g->rows, MR * part(ceil_div(g->rows, MR), g->row_blocks, row_block + 1));
	int64_t first = twice * part(panels, g->col_blocks, col_block), last = twice * part(panels, g->col_blocks, col_block + 1);
	int64_t rows = to - from, tiles = ceil_div(rows, MR);

	gemm_layout l = layout_of(g, rows, last - first);
	float *sums = (float *)scratch;
	elem *a = (elem *)(scratch + l.sums);
	const char **table = (const char **)(scratch + l.sums + l.a);
	find_pixels(g, size, from, to, table);

	const int int8 = size == 1;
	const int once = chunks <= BLOCK_CHUNKS; // K is one block: no sums are kept but those of the panel at hand
	cursor at = {0};
	const elem *weights = g->weights.panels;
	for (int64_t c = 0; c < chunks; c += BLOCK_CHUNKS) {
		int64_t n = min64(BLOCK_CHUNKS, chunks - c);
		copy_windows(g, size, table, rows, l.height, min64(BLOCK_CHUNKS * LINE, k * size - c * LINE), &at, (char *)a);
		for (int64_t p = first; p < last; p++) {
			const elem *b = weights + (p * chunks + c) * NV * SQUARE, *next = b + chunks * NV * SQUARE;
			if (p + 1 == last) next = weights + (first * chunks + c + n) * NV * SQUARE;
			int64_t wide = min64(NV, ceil_div(g->outs - p / twice * NR, W));
			product m = {.a = a, .a_tall = n * TALL * CHUNK, .a_chunk = TALL * CHUNK, .b = b, .b_square = SQUARE, .b_chunk = NV * SQUARE,
			             .sums = sums + (once ? p % twice : p - first) * NR * l.height, .sums_square = l.height * W, .chunks = n,
			             .next = (const char *)next, .lines = ceil_div(NV * SQUARE * (int64_t)sizeof(elem) / 64, tiles)};
			if (int8) tile_half(&m, rows, wide, c == 0, 1);
			else tile_half(&m, rows, wide, c == 0, 0);
			if (c + n < chunks || p % twice != twice - 1) continue;
			// The sums are in the L1 cache now.
			float *done = m.sums - (twice - 1) * NR * l.height;
			if (int8) dequantise(g, from, rows, p + 1 - twice, p + 1, l.height, done);
			finish_item(g, from, to, p / twice, p / twice + 1, l.height, done);
		}
	}
}

static int64_t gemm_scratch_bytes(const gemm_job *g) {
	// Parts of nearly equal size differ by one tile or panel at most.
	int64_t rows = MR * ceil_div(ceil_div(g->rows, MR), g->row_blocks);
	int64_t panels = ceil_div(ceil_div(g->outs, NR), g->col_blocks) * (GATED(g->act) ? 2 : 1);
	gemm_layout l = layout_of(g, rows, panels);
	return l.sums + l.a + g->kh * g->kw * 2 * rows * (int64_t)sizeof(char *);
}
#endif

static void gemm(gemm_job *g, void *scratch) {
	uint64_t mode = flush_subnormals();
	BEGIN_TILES;
	for (int64_t i; (i = NEXT_ITEM(g)) < g->items;) gemm_item(g, i, scratch);
	END_TILES;
	restore_mode(mode);
}
