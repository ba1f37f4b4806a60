// The windows of a convolution: where each row of the implicit matrix A reads, and the walk over K.

// ROW_WISE is whether a row of A is a pixel of the input, the same one.
#define ROW_WISE(g) ((g)->kh * (g)->kw == 1 && (g)->stride == 1 && !(g)->pad && (g)->read_h == (g)->h && (g)->read_w == (g)->w)

// find_pixels fills table[tap·2 + input][row] with the pixel that the tap reads for rows [from, to). A channel
// takes size bytes.
static void find_pixels(const gemm_job *g, int64_t size, int64_t from, int64_t to, const char **table) {
	int64_t rows = to - from, per_image = g->out_h * g->out_w;
	for (int64_t i = 0; i < g->kh; i++)
		for (int64_t j = 0; j < g->kw; j++) {
			const char **first = table + (i * g->kw + j) * 2 * rows, **second = first + rows;
			int64_t n = from / per_image, y = from % per_image / g->out_w, x = from % g->out_w;
			int64_t sy = -1; // row of the input, -1 outside
			for (int64_t r = 0; r < rows; r++) {
				if (r == 0 || x == 0) {
					sy = y * g->stride + i - g->pad;
					if (sy < 0 || sy >= g->read_h) sy = -1;
					else if (g->read_h != g->h) sy = sy * g->h / g->read_h;
				}
				int64_t sx = x * g->stride + j - g->pad;
				if (sy < 0 || sx < 0 || sx >= g->read_w) {
					first[r] = second[r] = (const char *)g->zeros + n * g->zeros_stride;
				} else {
					if (g->read_w != g->w) sx = sx * g->w / g->read_w;
					int64_t pixel = (n * g->h + sy) * g->w + sx;
					first[r] = (const char *)g->in[0] + pixel * g->channels[0] * size;
					second[r] = (const char *)g->in[1] + pixel * g->channels[1] * size;
				}
				if (++x == g->out_w) {
					x = 0;
					if (++y == g->out_h) y = 0, n++;
				}
			}
		}
}

// A cursor walks over K: taps, then inputs, then channels.
typedef struct {
	int64_t tap, input, channel, k;
} cursor;
