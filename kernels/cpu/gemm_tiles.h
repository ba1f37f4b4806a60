// Matrix products with AMX. On a Xeon of 2023 a product of tiles (TDP) takes 16 cycles, a load 8 where its lines
// are in the L1 cache, a store 16. Two by two squares of sums need a load for each product. So
//
//	B       a block of K of one panel, 40 KiB at most, stays in the L1 cache for all rows of the item
//	A       comes from the L2 cache, past the L1 cache (TILELOADDT1)
//	sums    are loaded and stored once for each block of K, so that blocks are as long as they may be. The last
//	        block's never leave the L1 cache: they become results at once
//
// A tile's rows may lie apart, as long as they are equally far apart. So A is windows that were copied (gemm_half.h), or
// the piece of the picture itself that the item's windows cover, copied once instead of once for each tap:
//
//	image's line, zeros beside it   │0│pixel│pixel│ … │pixel│0│     pixels of an odd number of lines of 64 bytes:
//	                                │0│pixel│pixel│ … │pixel│0│     rows of a tile are in different sets of the cache

#define MOST_CHUNKS (WHOLE / CHUNK) // of a block of K
#define MOST_PICTURE 1400000    // bytes of the L2 cache

// Where two squares of rows and up to two of columns are, and what is to become of them. Strides of A are bytes.
typedef struct {
	const char *a[2];
	int64_t stride;
	const int64_t *steps; // from a row to its chunks
	const elem *b;
	int64_t b_square, b_chunk; // values
	const float *from; // NULL: sums begin at 0
	float *to;
	int64_t from_square, to_square;
	int64_t chunks;
	const char *next;
	const char *later;
	int64_t lines, later_lines; // to bring into the L2 cache with each chunk
} tiles_of;

#define TILE_PRODUCT(s, a, b) \
	if (int8) TILE_DOT8(s, a, b); \
	else TILE_DOT(s, a, b)

INLINE void micro_tiles(const int mt, const int nt, const int int8, const tiles_of *m) {
	const float *s0 = m->from, *s1 = s0 + m->from_square;
	if (!s0) {
		TILE_ZERO(0);
		if (nt > 1) TILE_ZERO(1);
		if (mt > 1) TILE_ZERO(2);
		if (mt > 1 && nt > 1) TILE_ZERO(3);
	} else {
		TILE_STREAM(0, s0, 64);
		if (nt > 1) {
			TILE_STREAM(1, s1, 64);
		}
		if (mt > 1) {
			TILE_STREAM(2, s0 + 16 * 16, 64);
		}
		if (mt > 1 && nt > 1) {
			TILE_STREAM(3, s1 + 16 * 16, 64);
		}
	}
	const char *a0 = m->a[0], *a1 = m->a[1], *next = m->next, *later = m->later;
	const elem *b = m->b;
	for (int64_t k = 0; k < m->chunks; k++, b += m->b_chunk) {
		int64_t step = m->steps[k];
		TILE_LOAD(6, b, 64);
		TILE_STREAM(4, a0 + step, m->stride);
		TILE_PRODUCT(0, 4, 6);
		for (int64_t line = 0; line < m->lines; line++, next += 64) __builtin_prefetch(next, 0, 2);
		for (int64_t line = 0; line < m->later_lines; line++, later += 64) __builtin_prefetch(later, 0, 2);
		if (nt > 1) {
			TILE_LOAD(7, b + m->b_square, 64);
			TILE_PRODUCT(1, 4, 7);
		}
		if (mt > 1) {
			TILE_STREAM(5, a1 + step, m->stride);
			TILE_PRODUCT(2, 5, 6);
			if (nt > 1) {
				TILE_PRODUCT(3, 5, 7);
			}
		}
	}
	float *t0 = m->to, *t1 = t0 + m->to_square;
	TILE_STORE(0, t0, 64);
	if (nt > 1) TILE_STORE(1, t1, 64);
	if (mt > 1) TILE_STORE(2, t0 + 16 * 16, 64);
	if (mt > 1 && nt > 1) TILE_STORE(3, t1 + 16 * 16, 64);
}

typedef void (*micro_kernel)(const tiles_of *);
#define MICRO(mt, nt, int8) \
	static void micro_##mt##_##nt##_##int8(const tiles_of *m) { micro_tiles(mt, nt, int8, m); }
#define MICROS(int8) MICRO(1, 1, int8) MICRO(1, 2, int8) MICRO(2, 1, int8) MICRO(2, 2, int8)
#define TABLE(int8) {{micro_1_1_##int8, micro_1_2_##int8}, {micro_2_1_##int8, micro_2_2_##int8}}
MICROS(0) MICROS(1)
static const micro_kernel micros[2][2][2] = {TABLE(0), TABLE(1)};

// How an item reads A: windows that were copied, the picture under them, or a matrix as it lies in memory.
enum { WINDOWS, PICTURE, MATRIX };

typedef struct {
	int kind;
	int64_t lines, columns; // of a picture
	int64_t pitch;          // bytes of a pixel or row
} source;

static int64_t rows_of_item(const gemm_job *g) { return MR * ceil_div(ceil_div(g->rows, MR), g->row_blocks); }

// source_of is the same for all items.
static source source_of(const gemm_job *g, int64_t size) {
	source windows = {WINDOWS};
	int64_t bytes = (g->channels[0] + g->channels[1]) * size, w = g->out_w, rows = rows_of_item(g);
	if (bytes % LINE) return windows; // chunks would hold two taps
	if (ROW_WISE(g)) {
		// Rows that are a multiple of 512 bytes apart are in few sets of the L1 cache.
		int lies = !g->channels[1] && g->rows % 16 == 0 && bytes / LINE % 8 && rows * bytes <= MOST_PICTURE;
		return lies ? (source){.kind = MATRIX, .pitch = bytes} : windows;
	}
	if (w % 16) return windows; // tiles would hold two lines
	source p = {.kind = PICTURE, .pitch = (bytes / LINE | 1) * LINE, .columns = (w - 1) * g->stride + g->kw};
	int aligned = ceil_div(g->rows, MR) % g->row_blocks == 0;
	if (aligned && w % rows == 0) p.lines = g->kh, p.columns = (rows - 1) * g->stride + g->kw;
	else if (aligned && rows % w == 0 && g->out_h * w % rows == 0) p.lines = (rows / w - 1) * g->stride + g->kh;
	else p.lines = (rows / w + 2) * g->stride + (rows / (g->out_h * w) + 2) * g->kh;
	return p.lines * p.columns * p.pitch > MOST_PICTURE ? windows : p;
}

// copy_pixel copies the channels of both inputs.
INLINE void copy_pixel(const gemm_job *g, int64_t size, int64_t n, int64_t y, int64_t x, char *to) {
	int64_t first = g->channels[0] * size, second = g->channels[1] * size;
	const char *a = (const char *)g->zeros + n * g->zeros_stride, *b = a;
	if (y >= 0 && y < g->read_h && x >= 0 && x < g->read_w) {
		if (g->read_h != g->h) y = y * g->h / g->read_h;
		if (g->read_w != g->w) x = x * g->w / g->read_w;
		int64_t pixel = (n * g->h + y) * g->w + x;
		a = (const char *)g->in[0] + pixel * first, b = (const char *)g->in[1] + pixel * second;
	}
	int64_t i = 0;
	for (; i + LINE <= first; i += LINE) __builtin_memcpy(to + i, a + i, LINE);
	if (i < first) __builtin_memcpy(to + i, a + i, first - i);
	to += first;
	for (i = 0; i + LINE <= second; i += LINE) __builtin_memcpy(to + i, b + i, LINE);
	if (i < second) __builtin_memcpy(to + i, b + i, second - i);
}

// copy_picture copies what the windows of rows [from, to) cover, and fills where squares of 16 rows and chunks of K begin.
static void copy_picture(const gemm_job *g, int64_t size, source p, int64_t from, int64_t to, char *out, const char **squares, int64_t *steps) {
	int64_t w = g->out_w, per_image = g->out_h * w, bytes = (g->channels[0] + g->channels[1]) * size, at = 0;
	int64_t left = from / w == (to - 1) / w ? from % w : 0, right = left ? (to - 1) % w : min64(w - 1, left + (p.columns - g->kw) / g->stride);
	for (int64_t n = from / per_image; n * per_image < to; n++) {
		int64_t first = max64(from, n * per_image) / w % g->out_h, last = (min64(to, (n + 1) * per_image) - 1) / w % g->out_h;
		int64_t lines = (last - first) * g->stride + g->kh, columns = (right - left) * g->stride + g->kw;
		for (int64_t i = 0; i < lines; i++)
			for (int64_t j = 0; j < columns; j++)
				copy_pixel(g, size, n, first * g->stride - g->pad + i, left * g->stride - g->pad + j, out + ((at + i) * p.columns + j) * p.pitch);
		for (int64_t r = max64(from, n * per_image); r < min64(to, (n + 1) * per_image); r += 16)
			squares[(r - from) / 16] = out + ((at + (r / w % g->out_h - first) * g->stride) * p.columns + (r % w - left) * g->stride) * p.pitch;
		at += lines;
	}
	for (int64_t k = 0; k * LINE < g->kh * g->kw * bytes; k++) {
		int64_t tap = k * LINE / bytes;
		steps[k] = (tap / g->kw * p.columns + tap % g->kw) * p.pitch + k * LINE % bytes;
	}
}

// What stands in an item's scratch memory. Its size is a bound for all items.
typedef struct {
	float *sums, *hot; // [panel][square of columns][height][16]; [gate or not][square of columns][32][16]
	char *a;
	const char **squares; // of 16 rows
	int64_t *steps;
	const char **table;
	int64_t height, bytes;
} gemm_layout;

static gemm_layout layout_of(const gemm_job *g, source in, char *scratch) {
	int64_t rows = rows_of_item(g), panels = ceil_div(ceil_div(g->outs, NR), g->col_blocks) * (GATED(g->act) ? 2 : 1), taps = g->kh * g->kw;
	int64_t chunks = ceil_div(taps * (g->channels[0] + g->channels[1]) * size_of(g), LINE), at = 0;
	gemm_layout l = {.height = round_up(rows, TALL)};
#define PLACE(p, bytes) l.p = (void *)(scratch + at), at += round_up(bytes, 64)
	PLACE(hot, 2 * NR * TALL * (int64_t)sizeof(float));
	PLACE(sums, (chunks > MOST_CHUNKS ? panels : 1) * NR * l.height * (int64_t)sizeof(float));
	PLACE(squares, l.height / 16 * (int64_t)sizeof(char *));
	PLACE(steps, chunks * (int64_t)sizeof(int64_t));
	PLACE(a, in.kind == MATRIX ? 0 : in.kind == PICTURE ? in.lines * in.columns * in.pitch : l.height * LINE * min64(chunks, MOST_CHUNKS));
	PLACE(table, in.kind != WINDOWS ? 0 : 2 * taps * rows * (int64_t)sizeof(char *));
#undef PLACE
	l.bytes = at;
	return l;
}

// A square of sums as it lies: 16 columns, of int8 if there are scales.
typedef struct {
	const float *sums;
	vec bias, scale;
	veci total;
} column;

INLINE column column_of(const gemm_job *g, const int int8, const float *sums, const float *bias, int64_t packed) {
	column c = {.sums = sums, .bias = splat(0)};
	if (bias) c.bias = load(bias);
	if (int8) c.scale = load(g->weights.scales + packed), c.total = (veci)load((const float *)g->weights.sums + packed);
	return c;
}

// sum_of_row turns a sum of 8-bit values into that of what they stand for.
INLINE vec sum_of_row(const int int8, const column *c, int64_t r, step8 x) {
	vec v = load(c->sums + r * W);
	return int8 ? __builtin_convertvector((veci)v - c->total * x.zero, vec) * (c->scale * splat(x.scale)) : v;
}

// finish_tiles writes rows [from, from+rows) × panel p, as finish does. Sums of value columns lie square apart.
INLINE void finish_tiles(const int act, const int int8, const gemm_job *g, int64_t from, int64_t rows, int64_t p, const float *sums, int64_t square, const float *gates) {
	int64_t o = p * NR, per_image = g->out_h * g->out_w, packed = GATED(act) ? 2 * o : o, left = g->outs - o;
	const int whole = left >= NR;
	column value[NV], gate[NV];
	for (int64_t j = 0; j < NV; j++) {
		float bias[2][W] = {{0}};
		int64_t n = min64(W, left - j * W);
		if (g->bias && n > 0) {
			store(bias[0], n == W ? load(g->bias + o + j * W) : load_part(g->bias + o + j * W, n));
			if (GATED(act)) store(bias[1], n == W ? load(g->bias + g->outs + o + j * W) : load_part(g->bias + g->outs + o + j * W, n));
		}
		value[j] = column_of(g, int8, sums + j * square, bias[0], packed + j * W);
		if (GATED(act)) gate[j] = column_of(g, int8, gates + j * TALL * W, bias[1], packed + NR + j * W);
	}
	for (int64_t r = 0; r < rows; r++) {
		step8 x = int8 ? g->ranges[(from + r) / g->range_rows] : (step8){0};
		elem *dst = (elem *)g->dst + (from + r) * g->outs + o;
		const elem *per_channel = OFFSET((const elem *)g->per_channel, (from + r) / per_image * g->per_channel_pitch + o);
		const elem *residual = OFFSET((const elem *)g->residual, (from + r) * g->outs + o);
		vec v[NV];
		UNROLL_ALL
		for (int j = 0; j < NV; j++) {
			int64_t n = whole ? W : max64(0, min64(W, left - j * W));
#define ACTIVATION(p) (whole ? read((p) + j * W) : read_part((p) + j * W, n))
			v[j] = sum_of_row(int8, &value[j], r, x);
			if (g->bias) v[j] = v[j] + value[j].bias;
			if (per_channel) v[j] = v[j] + ACTIVATION(per_channel);
			if (GATED(act)) {
				vec y = sum_of_row(int8, &gate[j], r, x);
				if (g->bias) y = y + gate[j].bias;
				v[j] = gated(act, v[j], y);
			} else {
				v[j] = activate(v[j], act);
			}
			if (residual) v[j] = v[j] + ACTIVATION(residual);
#undef ACTIVATION
			if (!whole && n > 0) write_part(dst + j * W, v[j], n);
		}
		if (whole) write_pair(dst, v[0], v[1]);
	}
}

static void finish_tile(const gemm_job *g, int64_t from, int64_t rows, int64_t p, const float *sums, int64_t square, const float *gates) {
#define FINISH(act) \
	case act: \
		if (g->weights.type == TYPE_I8) finish_tiles(act, 1, g, from, rows, p, sums, square, gates); \
		else finish_tiles(act, 0, g, from, rows, p, sums, square, gates); \
		break
	switch (g->act) {
		FINISH(ACT_IDENTITY);
		FINISH(ACT_SILU);
		FINISH(ACT_GELU);
		FINISH(ACT_QUICKGELU);
		FINISH(ACT_TANHGELU);
		FINISH(ACT_GEGLU);
		FINISH(ACT_SWIGLU);
		FINISH(ACT_TANHGEGLU);
	}
#undef FINISH
}

// What will be read later, to be brought into the L2 cache meanwhile: the next item's part of the inputs.
typedef struct {
	const char *at[2], *end[2];
	int64_t lines; // with each chunk
} later;

static later read_later(const gemm_job *g, int64_t size, source in, int64_t rows, int64_t from, int64_t chunks) {
	later l = {{0}};
	int64_t pixels = g->rows / (g->out_h * g->out_w) * g->h * g->w, total = 0;
	if (from >= g->rows || in.kind == WINDOWS) return l;
	int64_t first = min64(pixels, from * pixels / g->rows + g->pad * g->w), last = min64(pixels, first + rows * pixels / g->rows);
	for (int i = 0; i < 2; i++)
		if (g->channels[i]) {
			l.at[i] = (const char *)g->in[i] + first * g->channels[i] * size, l.end[i] = (const char *)g->in[i] + last * g->channels[i] * size;
			total += (l.end[i] - l.at[i]) / 64;
		}
	l.lines = ceil_div(total, chunks);
	return l;
}

static void gemm_item(const gemm_job *g, int64_t item, char *scratch) {
	int64_t panels = ceil_div(g->outs, NR), size = size_of(g), bytes = g->kh * g->kw * (g->channels[0] + g->channels[1]) * size, chunks = ceil_div(bytes, LINE);
	int64_t row_block = item % g->row_blocks, col_block = item / g->row_blocks;
	const int twice = GATED(g->act) ? 2 : 1, int8 = size == 1;
	int64_t from = MR * part(ceil_div(g->rows, MR), g->row_blocks, row_block);
	int64_t to = min64(g->rows, MR * part(ceil_div(g->rows, MR), g->row_blocks, row_block + 1));
	int64_t first = twice * part(panels, g->col_blocks, col_block), last = twice * part(panels, g->col_blocks, col_block + 1);
	int64_t rows = to - from, tall = ceil_div(rows, TALL);

	source in = source_of(g, size);
	gemm_layout l = layout_of(g, in, scratch);
	cursor at = {0};
	switch (in.kind) {
	case PICTURE: copy_picture(g, size, in, from, to, l.a, l.squares, l.steps); break;
	case MATRIX:
		for (int64_t s = 0; s < tall * 2; s++) l.squares[s] = (const char *)g->in[0] + (from + s * 16) * bytes;
		for (int64_t k = 0; k < chunks; k++) l.steps[k] = k * LINE;
		break;
	case WINDOWS:
		find_pixels(g, size, from, to, l.table);
		for (int64_t k = 0; k < min64(chunks, MOST_CHUNKS); k++) l.steps[k] = k * TALL * LINE;
	}
	later soon = read_later(g, size, in, rows, MR * part(ceil_div(g->rows, MR), g->row_blocks, min64(g->row_blocks, row_block + g->workers)), (last - first) * tall * chunks);
	int64_t blocks = ceil_div(chunks, MOST_CHUNKS);
	for (int64_t block = 0; block < blocks; block++) {
		int64_t c = part(chunks, blocks, block), n = part(chunks, blocks, block + 1) - c;
		if (in.kind == WINDOWS) {
			copy_windows(g, size, l.table, rows, round_up(rows, TALL), min64(n * LINE, bytes - c * LINE), &at, l.a);
			for (int64_t s = 0; s < tall * 2; s++) l.squares[s] = l.a + (s / 2 * n * TALL + s % 2 * 16) * LINE;
		}
		for (int64_t p = first; p < last; p++) {
			const elem *b = (const elem *)g->weights.panels + (p * chunks + c) * NV * SQUARE, *next = b + chunks * NV * SQUARE;
			if (p + 1 == last) next = (const elem *)g->weights.panels + (first * chunks + c + n) * NV * SQUARE;
			int wide = g->outs - p / twice * NR > W, gate = twice == 2 && p % 2, done = block + 1 == blocks && (twice == 1 || gate);
			float *sums = l.sums + (blocks == 1 ? 0 : (p - first) * NR * l.height);
			tiles_of m = {.stride = in.kind == PICTURE ? in.pitch * g->stride : in.kind == MATRIX ? in.pitch : LINE, .steps = l.steps + (in.kind == WINDOWS ? 0 : c),
			              .b = b, .b_square = SQUARE, .b_chunk = NV * SQUARE, .from_square = l.height * W, .to_square = done ? TALL * W : l.height * W,
			              .chunks = n, .next = (const char *)next, .lines = ceil_div(NV * SQUARE * (int64_t)sizeof(elem) / 64, tall)};
			for (int64_t t = 0; t < tall; t++, sums += TALL * W, m.next += 64 * m.lines * n) {
				int64_t some = min64(TALL, rows - t * TALL), row = from + t * TALL;
				m.a[0] = l.squares[2 * t], m.a[1] = l.squares[2 * t + 1];
				m.from = block ? sums : 0, m.to = done ? l.hot : sums;
				int now = soon.at[0] >= soon.end[0];
				m.later = soon.at[now], m.later_lines = soon.at[now] < soon.end[now] ? soon.lines : 0;
				soon.at[now] += 64 * m.later_lines * n;
				if (done)
					for (int64_t r = 0; r < some; r++) __builtin_prefetch((elem *)g->dst + (row + r) * g->outs + p / twice * NR, 1, 3);
				micros[int8][some > 16][wide](&m);
				if (done && gate) finish_tile(g, row, some, p / 2, blocks == 1 ? sums : sums - NR * l.height, l.height * W, l.hot);
				else if (done) finish_tile(g, row, some, p, l.hot, TALL * W, 0);
			}
		}
	}
}

static int64_t gemm_scratch_bytes(const gemm_job *g) { return layout_of(g, source_of(g, size_of(g)), 0).bytes; }

// tile_half runs the micro-kernel over rows and up to NV squares of columns.
INLINE void tile_half(const product *m, int64_t rows, int64_t wide, int begin, const int int8) {
	int64_t steps[m->chunks];
	for (int64_t k = 0; k < m->chunks; k++) steps[k] = k * m->a_chunk * (int64_t)sizeof(elem);
	for (int64_t r = 0; r < rows; r += TALL) {
		const char *a = (const char *)(m->a + r / TALL * m->a_tall);
		float *sums = m->sums + r * W;
		tiles_of t = {.a = {a, a + 16 * LINE}, .stride = LINE, .steps = steps, .b = m->b, .b_square = m->b_square, .b_chunk = m->b_chunk, .from = begin ? 0 : sums, .to = sums,
		              .from_square = m->sums_square, .to_square = m->sums_square, .chunks = m->chunks};
		micros[int8][rows - r > 16][wide - 1](&t);
	}
}
