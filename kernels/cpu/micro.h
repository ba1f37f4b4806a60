// The micro-kernel of matrix products in float32, for gemm.h and winograd.h.

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

typedef void (*float_kernel)(const segment *, int, const float *, float *, int64_t, int);

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
static const float_kernel float_kernels[MR][NV] = {ROW(1), ROW(2)};
#elif MR == 6
MICROS(1) MICROS(2) MICROS(3) MICROS(4) MICROS(5) MICROS(6)
static const float_kernel float_kernels[MR][NV] = {ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6)};
#elif MR == 8
MICROS(1) MICROS(2) MICROS(3) MICROS(4) MICROS(5) MICROS(6) MICROS(7) MICROS(8)
static const float_kernel float_kernels[MR][NV] = {ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7), ROW(8)};
#endif
#undef MICRO
#undef MICROS
#undef ROW

// tile_rows runs the micro-kernel over any number of rows: nearly equal tiles, because a tile of one
// row costs as much time as one of four. Meanwhile it brings the soon floats at next into the L2 cache,
// a part with each tile: the first tile on them would wait for memory otherwise.
INLINE void tile_rows(segment *s, int count, int64_t rows, int64_t columns, const float *panel, float *sums, int64_t stride, int begin, const float *next, int64_t soon) {
	int64_t tiles = ceil_div(rows, MR);
	int64_t nv = min64(NV, ceil_div(columns, W));
	for (int64_t t = 0; t < tiles; t++) {
		for (int64_t i = part(soon, tiles, t) & -16, end = part(soon, tiles, t + 1); i < end; i += 16) __builtin_prefetch(next + i, 0, 2);
		int64_t from = part(rows, tiles, t), mr = part(rows, tiles, t + 1) - from;
		float_kernels[mr - 1][nv - 1](s, count, panel, sums + from * stride, stride, begin);
		for (int i = 0; i < count; i++) s[i].rows += mr;
	}
	for (int i = 0; i < count; i++) s[i].rows -= rows;
}
