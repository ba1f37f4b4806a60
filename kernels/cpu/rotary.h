// Positions of queries and keys, with the normalisation of heads that comes before. Bound by memory: a head at a time.

static void rotary_head(const rotary_job *r, const elem *in, const float *cosines, elem *dst, float *x) {
	int64_t d = r->d, half = d / 2;
	const float *sines = cosines + half;
	float *turned = x + round_up(d, W);
	for (int64_t c = 0; c < d; c += W) {
		int64_t n = min64(W, d - c);
		if (n == W) store(x + c, read(in + c));
		else store_part(x + c, read_part(in + c, n), n);
	}
	if (r->gamma) {
		float inverse = (float)(1 / __builtin_sqrt(sum_of(x, d, 0, 1) / d + r->eps));
		for (int64_t c = 0; c < d; c++) x[c] = x[c] * inverse * r->gamma[c];
	}
	if (r->half)
		for (int64_t i = 0; i < half; i++) {
			float a = x[i], b = x[i + half];
			turned[i] = a * cosines[i] - b * sines[i];
			turned[i + half] = a * sines[i] + b * cosines[i];
		}
	else
		for (int64_t i = 0; i < half; i++) {
			float a = x[2 * i], b = x[2 * i + 1];
			turned[2 * i] = a * cosines[i] - b * sines[i];
			turned[2 * i + 1] = a * sines[i] + b * cosines[i];
		}
	for (int64_t c = 0; c < d; c += W) {
		int64_t n = min64(W, d - c);
		if (n == W) write(dst + c, load(turned + c));
		else write_part(dst + c, load_part(turned + c, n), n);
	}
}

static void rotary(rotary_job *r, void *scratch) {
	for (int64_t i; (i = NEXT_ITEM(r)) < r->items;)
		for (int64_t row = i * r->block; row < min64(r->rows, (i + 1) * r->block); row++)
			for (int64_t h = 0; h < r->heads; h++) {
				int64_t at = (row * r->heads + h) * r->d;
				rotary_head(r, (const elem *)r->in + at, r->angles + row * r->d, (elem *)r->dst + at, scratch);
			}
}
