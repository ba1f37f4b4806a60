// Weights on their way from the checkpoint's file to the kernels' layout, decoded and checked for
// NaN and infinity as they pass, without a copy in between.

typedef float vec_bytes __attribute__((vector_size(4 * W), aligned(1), may_alias));
typedef double vec64_bytes __attribute__((vector_size(8 * W), aligned(1), may_alias));

// widen decodes elements [at, at+W) of src. A half is widened by moving its bits to where a float has
// them and correcting the exponent's bias by a product; NaN and infinity turn into large numbers
// thereby, so *bad collects them before.
INLINE vec widen(const int type, const void *src, int64_t at, veci *bad) {
	vec v;
	if (type == TYPE_F16) {
		vecu h = __builtin_convertvector((vec16) * (const vec16_any *)((const char *)src + 2 * at), vecu);
		*bad |= (veci)((h & 0x7c00u) == 0x7c00u);
		vecu magnitude = (vecu)((vec)((h & 0x7fffu) << 13) * splat(0x1p112f));
		return (vec)(magnitude | (h & 0x8000u) << 16);
	}
	if (type == TYPE_BF16) v = (vec)(__builtin_convertvector((vec16) * (const vec16_any *)((const char *)src + 2 * at), vecu) << 16);
	else if (type == TYPE_F64) v = __builtin_convertvector(*(const vec64_bytes *)((const char *)src + 8 * at), vec);
	else v = (vec) * (const vec_bytes *)((const char *)src + 4 * at);
	*bad |= (veci)(((vecu)v & 0x7f800000u) == 0x7f800000u);
	return v;
}

// widen_row decodes n elements from at on into dst.
INLINE void widen_row(const int type, const void *src, int64_t at, int64_t n, float *dst, veci *bad) {
	static const int size[] = {4, 2, 2, 8};
	int64_t i = 0;
	for (; i + W <= n; i += W) store(dst + i, widen(type, src, at + i, bad));
	if (i < n) {
		char rest[8 * W] = {0};
		__builtin_memcpy(rest, (const char *)src + size[type] * (at + i), size[type] * (n - i));
		store_part(dst + i, widen(type, rest, 0, bad), n - i);
	}
}

#define FLAT_BLOCK 65536 // elements that an item of a vector or table widens
#define DEPTH 16

// place is where row k and column j lie in a packed panel: [k][NR], or in bfloat16, whose instructions add two
// products at once, [k/32][NV][16 pairs of k][16 columns][2] with zeros at the end of K.
INLINE int64_t place(int64_t k, int64_t j) {
#ifndef HALF
	return k * NR + j;
#else
	return (k / CHUNK * NV + j / W) * (CHUNK * W) + k % CHUNK / 2 * (2 * W) + j % W * 2 + k % 2;
#endif
}

INLINE void report(pack_job *job, veci bad) {
	int any = 0;
	for (int i = 0; i < W; i++) any |= bad[i];
	if (any) __atomic_store_n(&job->bad, 1, __ATOMIC_RELAXED);
}

INLINE void pack_item(const int type, pack_job *job, int64_t item) {
	float row[DEPTH] = {0};
	veci bad = {0};
	if (job->flat) {
		int64_t at = item * FLAT_BLOCK;
		widen_row(type, job->src, at, min64(FLAT_BLOCK, job->outs - at), (float *)job->dst + at, &bad);
	} else {
		int64_t k = job->channels * job->taps, outs = job->outs, first = item * NR, offset = 0;
		if (job->geglu) {
			outs /= 2;
			first = item / 2 * NR;
			offset = item % 2 * outs; // gates come second
		}
		int64_t n = min64(NR, outs - first), channel = 0, tap = 0;
		elem *panel = (elem *)job->dst + item * round_up(k, CHUNK) * NR, columns[NR * DEPTH] = {0};
		for (int64_t i = k * NR; i < round_up(k, CHUNK) * NR; i++) panel[place(i / NR, i % NR)] = 0;
		for (int64_t at = 0; at < k; at += DEPTH) {
			int64_t depth = min64(DEPTH, k - at);
			for (int64_t j = 0; j < n; j++) {
				widen_row(type, job->src, (offset + first + j) * k + at, depth, row, &bad);
				for (int64_t i = 0; i < DEPTH; i += W) write(columns + j * DEPTH + i, load(row + i));
			}
			for (int64_t i = 0; i < depth; i++) {
				int64_t at_k = tap * job->channels + channel;
				for (int64_t j = 0; j < NR; j++) panel[place(at_k, j)] = columns[j * DEPTH + i];
				if (++tap == job->taps) tap = 0, channel++;
			}
		}
	}
	report(job, bad);
}

#ifdef HALF
// place8 is where they lie in a panel of int8: [k/64][NV][16 times 4 of k][16 columns][4].
INLINE int64_t place8(int64_t k, int64_t j) { return (k / (2 * CHUNK) * NV + j / W) * (2 * CHUNK * W) + k % (2 * CHUNK) / 4 * (4 * W) + j % W * 4 + k % 4; }

// narrow_item packs a panel in int8: a column's largest value is ±127. After the panels lie all columns' scales, then
// the sums of their int8 values.
INLINE void narrow_item(const int type, pack_job *job, int64_t item) {
	veci bad = {0};
	int64_t k = job->channels * job->taps, outs = job->outs, first = item * NR, offset = 0;
	if (job->geglu) {
		outs /= 2;
		first = item / 2 * NR;
		offset = item % 2 * outs;
	}
	int64_t bytes = round_up(k, 2 * CHUNK) * NR;
	int8_t *panel = (int8_t *)job->dst + item * bytes;
	float *scales = (float *)((int8_t *)job->dst + job->items * bytes) + item * NR;
	int32_t *sums = (int32_t *)((float *)((int8_t *)job->dst + job->items * bytes) + job->items * NR) + item * NR;
	__builtin_memset(panel, 0, bytes);
	for (int64_t j = 0; j < NR; j++) {
		scales[j] = 0, sums[j] = 0;
		if (j >= min64(NR, outs - first)) continue;
		float row[DEPTH], top = 0;
		int64_t src = (offset + first + j) * k, channel = 0, tap = 0;
		for (int64_t at = 0; at < k; at += DEPTH) {
			int64_t n = min64(DEPTH, k - at);
			widen_row(type, job->src, src + at, n, row, &bad);
			for (int64_t i = 0; i < n; i++) top = __builtin_fabsf(row[i]) > top ? __builtin_fabsf(row[i]) : top;
		}
		if (!(top > 0) || top > 3e38f) continue; // all zero, or refused
		float inverse = 127 / top;
		scales[j] = top / 127;
		for (int64_t at = 0; at < k; at += DEPTH) {
			int64_t n = min64(DEPTH, k - at);
			widen_row(type, job->src, src + at, n, row, &bad);
			for (int64_t i = 0; i < n; i++) {
				int8_t q = (int8_t)__builtin_rintf(row[i] * inverse);
				panel[place8(tap * job->channels + channel, j)] = q;
				sums[j] += q;
				if (++tap == job->taps) tap = 0, channel++;
			}
		}
	}
	report(job, bad);
}
#else
INLINE void narrow_item(const int type, pack_job *job, int64_t item) {}
#endif

static void pack(pack_job *job, void *scratch) {
	(void)scratch;
	for (int64_t i; (i = NEXT_ITEM(job)) < job->items;) switch (job->type) {
		case TYPE_F32: job->narrow ? narrow_item(TYPE_F32, job, i) : pack_item(TYPE_F32, job, i); break;
		case TYPE_F16: job->narrow ? narrow_item(TYPE_F16, job, i) : pack_item(TYPE_F16, job, i); break;
		case TYPE_BF16: job->narrow ? narrow_item(TYPE_BF16, job, i) : pack_item(TYPE_BF16, job, i); break;
		case TYPE_F64: job->narrow ? narrow_item(TYPE_F64, job, i) : pack_item(TYPE_F64, job, i); break;
		}
}
