// What follows the sums of a matrix product: bias, time embedding, activation, residual.

INLINE vec gated(const int act, vec v, vec gate) {
	return v * (act == ACT_GEGLU ? gelu(gate) : act == ACT_TANHGEGLU ? tanh_gelu_(gate) : gate * sigmoid_(gate));
}

// finish turns sums into results for n ≤ NR columns of one row.
INLINE void finish(const int act, int64_t n, const float *sums, const float *gates, const float *bias, const float *gate_bias, const elem *per_channel,
                   const elem *residual, elem *dst) {
	for (int64_t j = 0; j < n; j += W) {
		int64_t left = n - j;
#define OPERAND(p) (left >= W ? load((p) + j) : load_part((p) + j, left))
#define ACTIVATION(p) (left >= W ? read((p) + j) : read_part((p) + j, left))
		vec v = load(sums + j);
		if (bias) v = v + OPERAND(bias);
		if (per_channel) v = v + ACTIVATION(per_channel);
		if (GATED(act)) {
			vec gate = load(gates + j);
			if (gate_bias) gate = gate + OPERAND(gate_bias);
			v = gated(act, v, gate);
		} else {
			v = activate(v, act);
		}
		if (residual) v = v + ACTIVATION(residual);
		if (left >= W) write(dst + j, v);
		else write_part(dst + j, v, left);
#undef OPERAND
#undef ACTIVATION
	}
}

#define OFFSET(p, n) ((p) ? (p) + (n) : 0)

#ifndef AMX // gemm_tiles.h has its own

#ifdef HALF
#define SQUARE_COLUMNS W // columns whose sums lie together: [square][height][columns]
#else
#define SQUARE_COLUMNS NR
#endif

// finish_block writes rows [from, to) × panels [first, last).
INLINE void finish_block(const int act, const gemm_job *g, int64_t from, int64_t to, int64_t first, int64_t last, int64_t height, const float *sums) {
	int64_t rows = to - from, per_image = g->out_h * g->out_w, panel = height * NR;
	const elem *per_channel = g->per_channel, *residual = g->residual;
	elem *dst = g->dst;
	for (int64_t p = first; p < last; p++, sums += GATED(act) ? 2 * panel : panel)
		for (int64_t r = 0; r < rows; r++)
			for (int64_t o = p * NR; o < min64((p + 1) * NR, g->outs); o += SQUARE_COLUMNS) {
				const float *row = sums + (o - p * NR) * height + r * SQUARE_COLUMNS;
				int64_t at = (from + r) * g->outs + o;
				finish(act, min64(SQUARE_COLUMNS, g->outs - o), row, row + panel, OFFSET(g->bias, o), OFFSET(g->bias, g->outs + o),
				       OFFSET(per_channel, (from + r) / per_image * g->per_channel_pitch + o), OFFSET(residual, at), dst + at);
			}
}

static void finish_item(const gemm_job *g, int64_t from, int64_t to, int64_t first, int64_t last, int64_t height, const float *sums) {
	switch (g->act) {
	case ACT_IDENTITY: finish_block(ACT_IDENTITY, g, from, to, first, last, height, sums); break;
	case ACT_SILU: finish_block(ACT_SILU, g, from, to, first, last, height, sums); break;
	case ACT_GELU: finish_block(ACT_GELU, g, from, to, first, last, height, sums); break;
	case ACT_QUICKGELU: finish_block(ACT_QUICKGELU, g, from, to, first, last, height, sums); break;
	case ACT_TANHGELU: finish_block(ACT_TANHGELU, g, from, to, first, last, height, sums); break;
	case ACT_GEGLU: finish_block(ACT_GEGLU, g, from, to, first, last, height, sums); break;
	case ACT_SWIGLU: finish_block(ACT_SWIGLU, g, from, to, first, last, height, sums); break;
	case ACT_TANHGEGLU: finish_block(ACT_TANHGEGLU, g, from, to, first, last, height, sums); break;
	}
}
#endif
