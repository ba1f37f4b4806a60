// Attention in bfloat16, after the plan of attention.h: queries along the vectors, 16 to a panel, keys in
// blocks with a running maximum and sum. Both products are the micro-kernel of gemm_half.h:
//
//	item: one image, one head, a block of queries
//	  Q panels: [chunk of d][16 pairs][16 queries][2]
//	  for each block of keys
//	    K and V transposed, as gemm_half.h has A                             once for the whole block of queries
//	    for NV panels at a time
//	      S[key][16]  = K · Q
//	      m' = max(m, S);  P = 2^((S - m')·scale·log2(e));  l = l·2^(…(m-m')) + Σ P     all float32
//	      O[d][16]    = O·2^(…(m-m')) + Vᵀ · P, with P rounded to bfloat16
//	  dst = O / l

#define KEYS_PER_BLOCK 256 // a multiple of CHUNK

typedef struct {
	elem *q;          // [panel][chunk of d][SQUARE]
	float *o;         // [panel][height of d][16]
	float *top, *sum; // [panel][16]
	elem *k, *v;      // rows are keys with chunks of d, and channels with chunks of keys
	float *s;         // [NV][KEYS_PER_BLOCK][16]
	elem *p;          // [NV][chunk of keys][SQUARE]
	int64_t chunks, height, bytes;
} attention_memory;

static attention_memory attention_layout(const attention_job *a, char *scratch) {
	int64_t d = a->channels / a->heads, panels = ceil_div(a->block_queries, W), at = 0;
	attention_memory m = {.chunks = ceil_div(d, CHUNK), .height = round_up(d, max64(W, TALL))};
#define PLACE(p, count) m.p = (void *)(scratch + at), at += round_up((count) * (int64_t)sizeof(*m.p), 64)
	PLACE(q, panels * m.chunks * SQUARE);
	PLACE(o, panels * m.height * W);
	PLACE(top, panels * W);
	PLACE(sum, panels * W);
	PLACE(k, m.chunks * KEYS_PER_BLOCK * CHUNK);
	PLACE(v, KEYS_PER_BLOCK * m.height);
	PLACE(s, NV * KEYS_PER_BLOCK * W);
	PLACE(p, NV * KEYS_PER_BLOCK * W);
#undef PLACE
	m.bytes = at;
	return m;
}

// pack_queries turns up to 16 rows into a panel. A negative scale is the queries' sign.
static void pack_queries(const elem *q, int64_t queries, int64_t d, int64_t stride, int negative, const attention_memory *m, elem *panel) {
	for (int64_t c = 0; c < m->chunks; c++) {
		elem row[W][CHUNK];
		vecu square[W];
		for (int i = 0; i < W; i++) {
			copy_chunk(row[i], q + i * stride + c * CHUNK, i < queries ? min64(CHUNK, d - c * CHUNK) : 0);
			square[i] = (vecu)load((const float *)row[i]) ^ (negative ? 0x80008000u : 0);
		}
		transpose(square);
		for (int i = 0; i < W; i++) store((float *)(panel + c * SQUARE) + i * W, (vec)square[i]);
	}
}

static void copy_keys(const elem *k, int64_t keys, int64_t d, int64_t stride, int64_t chunks, elem *out) {
	for (int64_t j = 0; j < keys; j++, k += stride) {
		elem *row = out + (j / TALL * TALL * chunks + j % TALL) * CHUNK;
		for (int64_t c = 0; c < d; c += CHUNK, row += TALL * CHUNK) copy_chunk(row, k + c, min64(CHUNK, d - c));
	}
}

// transpose_values has zeros for keys and channels that there are not.
static void transpose_values(const elem *v, int64_t keys, int64_t d, int64_t stride, elem *out) {
	int64_t chunks = ceil_div(keys, CHUNK);
	for (int64_t first = 0; first < keys; first += CHUNK, out += TALL * CHUNK)
		for (int64_t c = 0; c < d; c += W) {
			vecu square[W];
			int64_t n = min64(W, d - c);
			for (int i = 0; i < W; i++) {
				vecu half[2] = {{0}, {0}};
				for (int odd = 0; odd < 2; odd++) {
					int64_t key = first + 2 * i + odd;
					if (key < keys) half[odd] = (vecu)(n == W ? read(v + key * stride + c) : read_part(v + key * stride + c, n));
				}
				square[i] = half[0] >> 16 | half[1];
			}
			transpose(square);
			for (int i = 0; i < W; i++) store((float *)(out + ((c + i) / TALL * TALL * chunks + (c + i) % TALL) * CHUNK), (vec)square[i]);
		}
}

// add_bias adds to a panel's scores, which the softmax will scale, what the distance of query and key adds to them: see attention.h.
static void add_bias(const float *bias, float factor, int64_t keys, int64_t n, float *s) {
	for (int64_t k = 0; k < keys; k++) {
		vec b = n >= W ? load(bias - k) : load_part(bias - k, n);
		store(s + k * W, fma_(b, splat(factor), load(s + k * W)));
	}
}

#define STRANDS 4 // independent maxima and sums: each step would wait for the one before otherwise

// softmax turns a panel's scores [keys][16] into weights, and brings the sum, and unless it is the first block
// the result so far, to the new maximum. first_key and query serve causal masks: in lane i keys after
// query + i are not seen.
INLINE void softmax(const int causal, int begin, int64_t keys, int64_t height, float scale, float *s, elem *p, float *top, float *sum, float *o, int64_t first_key, int64_t query) {
	if (causal) {
		veci seen_until = {0};
		for (int i = 0; i < W; i++) seen_until[i] = (int32_t)(query + i - first_key);
		for (int64_t k = 0; k < keys; k++) store(s + k * W, choose((veci){0} + (int32_t)k > seen_until, splat(-INFINITY), load(s + k * W)));
	}
	int64_t even = keys / STRANDS * STRANDS;
	vec before = begin ? splat(-INFINITY) : load(top), m[STRANDS], l[STRANDS];
	UNROLL_ALL
	for (int i = 0; i < STRANDS; i++) m[i] = before, l[i] = splat(0);
	for (int64_t k = 0; k < even; k += STRANDS)
		UNROLL_ALL
		for (int i = 0; i < STRANDS; i++) m[i] = larger(m[i], load(s + (k + i) * W));
	for (int64_t k = even; k < keys; k++) m[0] = larger(m[0], load(s + k * W));
	vec now = larger(larger(m[0], m[1]), larger(m[2], m[3])), factor = splat(scale), shift = now * factor;

	for (int64_t k = 0; k < even; k += STRANDS)
		UNROLL_ALL
		for (int i = 0; i < STRANDS; i += 2) {
			vec e0 = exp2_half(fma_(load(s + (k + i) * W), factor, -shift)), e1 = exp2_half(fma_(load(s + (k + i + 1) * W), factor, -shift));
			l[i] = l[i] + e0, l[i + 1] = l[i + 1] + e1;
			store((float *)p + (k + i) / 2 * W, (vec)pairs(e0, e1));
		}
	for (int64_t k = even; k < round_up(keys, CHUNK); k += 2) {
		vec e[2] = {splat(0), splat(0)};
		for (int64_t i = 0; i < 2; i++)
			if (k + i < keys) {
				e[i] = exp2_half(fma_(load(s + (k + i) * W), factor, -shift));
				l[i] = l[i] + e[i];
			}
		store((float *)p + k / 2 * W, (vec)pairs(e[0], e[1]));
	}
	vec total = (l[0] + l[1]) + (l[2] + l[3]);
	if (!begin) {
		// A lane whose maximum stands keeps its sums as they are, whatever its neighbours do: exp2_half of the product's rounding is not
		// quite 1, and how many queries share a vector differs from set to set.
		veci moved = (veci)(before != now);
		vec shrink = choose(moved, exp2_half(fma_(before, factor, -shift)), splat(1));
		total = fma_(load(sum), shrink, total);
		int any = 0;
		for (int i = 0; i < W; i++) any |= moved[i];
		if (any)
			for (int64_t c = 0; c < height; c++) store(o + c * W, load(o + c * W) * shrink);
	}
	store(top, now);
	store(sum, total);
}

static void attention_item(const attention_job *a, int64_t item, char *scratch) {
	int64_t d = a->channels / a->heads;
	int64_t image = item / (a->heads * a->query_blocks), head = item / a->query_blocks % a->heads, block = item % a->query_blocks;
	int64_t from = block * a->block_queries, queries = min64(a->block_queries, a->queries - from);
	int64_t panels = ceil_div(queries, W), stride = a->channels;
	attention_memory m = attention_layout(a, scratch);
	int negative = a->scale < 0;
	float scale = (negative ? -a->scale : a->scale) * 1.44269504f;
	const elem *q = (const elem *)a->q + (image * a->queries + from) * a->pitch + head * d;
	for (int64_t p = 0; p < panels; p++)
		pack_queries(q + p * W * a->pitch, min64(W, queries - p * W), d, a->pitch, negative, &m, m.q + p * m.chunks * SQUARE);

	int64_t seen = seen_keys(a, image, from + queries), pitch = a->shared_channels, shared = head / (a->heads / a->shared);
	for (int64_t first = 0; first < seen; first += KEYS_PER_BLOCK) {
		int64_t keys = min64(KEYS_PER_BLOCK, seen - first), key_chunks = ceil_div(keys, CHUNK);
		int64_t at = (image * a->keys + first) * pitch + shared * d;
		copy_keys((const elem *)a->k + at, keys, d, pitch, m.chunks, m.k);
		transpose_values((const elem *)a->v + at, keys, d, pitch, m.v);
		int64_t blind = a->causal ? max64(0, first - from) / W : 0; // panels that see none of these keys
		for (int64_t p = blind; p < panels; p += NV) {
			int64_t some = min64(NV, panels - p);
			product scores = {.a = m.k, .a_tall = m.chunks * TALL * CHUNK, .a_chunk = TALL * CHUNK, .b = m.q + p * m.chunks * SQUARE, .b_square = m.chunks * SQUARE,
			                  .b_chunk = SQUARE, .sums = m.s, .sums_square = KEYS_PER_BLOCK * W, .chunks = m.chunks};
#if !defined(AMX) && !defined(MATRICES)
			if (d % CHUNK) scores.chunks--, scores.rest = (d % CHUNK + 1) / 2; // zeros change nothing, but take time: 3 of 8 pairs of 40 channels
#endif
			tile_half(&scores, keys, some, 1, 0);
			for (int64_t i = 0; i < some; i++) {
				float *s = m.s + i * KEYS_PER_BLOCK * W, *o = m.o + (p + i) * m.height * W;
				elem *weights = m.p + i * KEYS_PER_BLOCK * W;
				int64_t query = from + (p + i) * W, lane = (p + i) * W;
				if (a->bias) add_bias(bias_at(a, head, query, first), 1.44269504f / scale, keys, queries - (p + i) * W, s);
				if (a->causal) softmax(1, first == 0, keys, m.height, scale, s, weights, m.top + lane, m.sum + lane, o, first, query);
				else softmax(0, first == 0, keys, m.height, scale, s, weights, m.top + lane, m.sum + lane, o, first, query);
			}
			product values = {.a = m.v, .a_tall = key_chunks * TALL * CHUNK, .a_chunk = TALL * CHUNK, .b = m.p, .b_square = KEYS_PER_BLOCK * W,
			                  .b_chunk = SQUARE, .sums = m.o + p * m.height * W, .sums_square = m.height * W, .chunks = key_chunks};
			tile_half(&values, d, some, first == 0, 0);
		}
	}

	elem *dst = (elem *)a->dst + (image * a->queries + from) * stride + head * d;
	for (int64_t p = 0; p < panels; p++) {
		vec inverse = splat(1) / load(m.sum + p * W);
		for (int64_t c = 0; c < d; c += W) {
			vecu square[W];
			for (int i = 0; i < W; i++) square[i] = (vecu)(load(m.o + (p * m.height + c + i) * W) * inverse);
			transpose(square);
			int64_t n = min64(W, d - c);
			for (int i = 0; i < min64(W, queries - p * W); i++) {
				elem *to = dst + (p * W + i) * stride + c;
				if (n == W) write(to, (vec)square[i]);
				else write_part(to, (vec)square[i], n);
			}
		}
	}
}

static void attention(attention_job *a, void *scratch) {
	uint64_t mode = flush_subnormals();
	BEGIN_TILES;
	for (int64_t i; (i = NEXT_ITEM(a)) < a->items;) attention_item(a, i, scratch);
	END_TILES;
	restore_mode(mode);
}

static int64_t attention_scratch_bytes(const attention_job *a) { return attention_layout(a, 0).bytes; }
