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

#include "micro.h"

#define KC (6144 / NR) // depth of a block of K: 24 KiB of a panel stay in the L1 cache
#define MAX_SEGMENTS 64

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
			if (at.k == k && p % twice == twice - 1) // the sums are in the L1 cache now
				finish_item(g, from, to, p / twice, p / twice + 1, rows, sums + (p + 1 - twice - twice * first) * rows * NR);
		}
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
