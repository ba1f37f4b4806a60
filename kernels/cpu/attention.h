// Attention, blocked over keys with a running maximum and sum (FlashAttention, Dao et al. 2022), and
// turned on its side: queries lie along the vectors, NR to a panel. The softmax then needs no sum or
// maximum across lanes, each lane is one query's own arithmetic, and both products are the
// micro-kernel of gemm.h.
//
//	item: one image, one head, a block of queries
//	  Q panels: [d][NR], scaled by scale·log2(e)
//	  for each 96 keys
//	    K: [96][d] and V transposed: [d][96]       copied once for the whole block of queries
//	    for each panel
//	      S[key][NR]  = K · Q                       scores in units of log 2
//	      m' = max(m, S);  P = 2^(S - m');  l = l·2^(m-m') + Σ P
//	      O[d][NR]    = O·2^(m-m') + Vᵀ · P
//	  dst = O / l

#define KEYS_PER_BLOCK 96 // keys that are looked at together

typedef struct {
	float *q, *o;           // [panel][d][NR]
	float *top, *sum;       // [panel][NR]
	float *k, *v, *s;       // [keys][d], [d][keys], [keys][NR]
	const float **k_rows, **v_rows;
} attention_memory;

static attention_memory attention_layout(const attention_job *a, float *p) {
	int64_t d = a->channels / a->heads, panels = ceil_div(a->block_queries, NR);
	attention_memory m;
	m.q = p, p += panels * d * NR;
	m.o = p, p += panels * d * NR;
	m.top = p, p += panels * NR;
	m.sum = p, p += panels * NR;
	m.s = p, p += KEYS_PER_BLOCK * NR;
	m.k = p, p += KEYS_PER_BLOCK * round_up(d, 16);
	m.v = p, p += KEYS_PER_BLOCK * round_up(d, 16);
	m.k_rows = (const float **)p;
	m.v_rows = m.k_rows + KEYS_PER_BLOCK;
	return m;
}

// softmax_block turns scores[keys][nv·W] into weights, and brings the sums, and unless it is the first
// block the result so far, to the new maximum. first_key and query serve causal masks: in lane i
// keys after query + i are not seen. Maxima and sums are taken in STRANDS independent ones, or each
// step would wait for the one before.
#define STRANDS 4

INLINE void softmax_block(const int causal, int begin, int64_t keys, int64_t nv, int64_t d, float *s, float *top, float *sum, float *o, int64_t first_key, int64_t query) {
	for (int64_t j = 0; j < nv * W; j += W) {
		if (causal) {
			veci seen_until = {0};
			for (int i = 0; i < W; i++) seen_until[i] = (int32_t)(query + j + i - first_key);
			for (int64_t k = 0; k < keys; k++) store(s + k * NR + j, choose((veci){0} + (int32_t)k > seen_until, splat(-INFINITY), load(s + k * NR + j)));
		}
		int64_t even = keys / STRANDS * STRANDS;
		vec before = begin ? splat(-INFINITY) : load(top + j), m[STRANDS], l[STRANDS];
		UNROLL_ALL
		for (int i = 0; i < STRANDS; i++) m[i] = before, l[i] = splat(0);
		for (int64_t k = 0; k < even; k += STRANDS)
			UNROLL_ALL
			for (int i = 0; i < STRANDS; i++) m[i] = larger(m[i], load(s + (k + i) * NR + j));
		for (int64_t k = even; k < keys; k++) m[0] = larger(m[0], load(s + k * NR + j));
		vec now = larger(larger(m[0], m[1]), larger(m[2], m[3]));

		for (int64_t k = 0; k < even; k += STRANDS)
			UNROLL_ALL
			for (int i = 0; i < STRANDS; i++) {
				vec p = exp2_(load(s + (k + i) * NR + j) - now);
				store(s + (k + i) * NR + j, p);
				l[i] = l[i] + p;
			}
		for (int64_t k = even; k < keys; k++) {
			vec p = exp2_(load(s + k * NR + j) - now);
			store(s + k * NR + j, p);
			l[0] = l[0] + p;
		}
		vec total = (l[0] + l[1]) + (l[2] + l[3]);
		if (!begin) {
			vec shrink = exp2_(before - now);
			total = fma_(load(sum + j), shrink, total);
			for (int64_t c = 0; c < d; c++) store(o + c * NR + j, load(o + c * NR + j) * shrink);
		}
		store(top + j, now);
		store(sum + j, total);
	}
}

// add_bias adds what the distance of query and key adds to the scores of n queries, times a factor. bias is that of the block's first
// query and key: queries further on lie behind it, keys before it.
static void add_bias(const float *bias, float factor, int64_t keys, int64_t n, float *s) {
	for (int64_t k = 0; k < keys; k++)
		for (int64_t j = 0; j < n; j += W) {
			vec b = n - j >= W ? load(bias - k + j) : load_part(bias - k + j, n - j);
			store(s + k * NR + j, fma_(b, splat(factor), load(s + k * NR + j)));
		}
}

static void copy_keys(const float *k, int64_t keys, int64_t d, int64_t stride, float *out) {
	for (int64_t j = 0; j < keys; j++, k += stride, out += d)
		for (int64_t c = 0; c < d; c++) out[c] = k[c];
}

static void transpose_values(const float *v, int64_t keys, int64_t d, int64_t stride, float *out) {
	int64_t j = 0;
	for (; j + 4 <= keys; j += 4) {
		const float *a = v + j * stride, *b = a + stride, *c = b + stride, *e = c + stride;
		for (int64_t i = 0; i < d; i++) {
			float *to = out + i * KEYS_PER_BLOCK + j;
			to[0] = a[i], to[1] = b[i], to[2] = c[i], to[3] = e[i];
		}
	}
	for (; j < keys; j++)
		for (int64_t i = 0; i < d; i++) out[i * KEYS_PER_BLOCK + j] = v[j * stride + i];
}

static void attention_item(const attention_job *a, int64_t item, float *scratch) {
	int64_t d = a->channels / a->heads;
	int64_t image = item / (a->heads * a->query_blocks), head = item / a->query_blocks % a->heads, block = item % a->query_blocks;
	int64_t from = block * a->block_queries, queries = min64(a->block_queries, a->queries - from);
	int64_t panels = ceil_div(queries, NR);
	attention_memory m = attention_layout(a, scratch);
	for (int64_t j = 0; j < KEYS_PER_BLOCK; j++) m.k_rows[j] = m.k + j * d;
	for (int64_t c = 0; c < d; c++) m.v_rows[c] = m.v + c * KEYS_PER_BLOCK;

	float scale = a->scale * 1.44269504f;
	const float *q = (const float *)a->q + (image * a->queries + from) * a->pitch + head * d;
	for (int64_t p = 0; p < panels; p++)
		for (int64_t i = 0; i < NR; i++)
			for (int64_t c = 0; c < d; c++)
				m.q[(p * d + c) * NR + i] = p * NR + i < queries ? q[(p * NR + i) * a->pitch + c] * scale : 0;

	int64_t seen = seen_keys(a, image, from + queries), stride = a->shared_channels, shared = head / (a->heads / a->shared);
	for (int64_t first = 0; first < seen; first += KEYS_PER_BLOCK) {
		int64_t keys = min64(KEYS_PER_BLOCK, seen - first);
		int64_t at = (image * a->keys + first) * stride + shared * d;
		copy_keys((const float *)a->k + at, keys, d, stride, m.k);
		transpose_values((const float *)a->v + at, keys, d, stride, m.v);
		for (int64_t p = 0; p < panels; p++) {
			int64_t n = min64(NR, queries - p * NR), nv = ceil_div(n, W), query = from + p * NR;
			float *o = m.o + p * d * NR, *top = m.top + p * NR, *sum = m.sum + p * NR;
			if (a->causal && first > query + n - 1) continue; // nobody here sees these keys
			segment scores = {m.k_rows, 0, d, 0};
			tile_rows(&scores, 1, keys, n, m.q + p * d * NR, m.s, NR, 1, 0, 0);
			if (a->bias) add_bias(bias_at(a, head, query, first), 1.44269504f, keys, n, m.s);
			if (a->causal) softmax_block(1, first == 0, keys, nv, d, m.s, top, sum, o, first, query);
			else softmax_block(0, first == 0, keys, nv, d, m.s, top, sum, o, first, query);
			segment values = {m.v_rows, 0, keys, 0};
			tile_rows(&values, 1, d, n, m.s, o, NR, first == 0, 0, 0);
		}
	}

	float *dst = (float *)a->dst + (image * a->queries + from) * a->channels + head * d;
	for (int64_t i = 0; i < queries; i++) {
		int64_t p = i / NR, lane = i % NR;
		float inverse = 1 / m.sum[p * NR + lane];
		for (int64_t c = 0; c < d; c++) dst[i * a->channels + c] = m.o[(p * d + c) * NR + lane] * inverse;
	}
}

static void attention(attention_job *a, void *scratch) {
	for (int64_t i; (i = NEXT_ITEM(a)) < a->items;) attention_item(a, i, scratch);
}

static int64_t attention_scratch_bytes(const attention_job *a) {
	int64_t d = a->channels / a->heads, panels = ceil_div(a->block_queries, NR);
	int64_t floats = panels * NR * (2 * d + 2) + KEYS_PER_BLOCK * (NR + 2 * round_up(d, 16));
	return floats * (int64_t)sizeof(float) + (KEYS_PER_BLOCK + d) * (int64_t)sizeof(float *);
}
