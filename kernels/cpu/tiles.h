// AMX: eight tiles of 16 rows × 64 bytes. Their numbers must be constants.
#ifdef HALF_NATIVE
#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, from, stride) _tile_loadd(t, from, stride)
#define TILE_STREAM(t, from, stride) _tile_stream_loadd(t, from, stride) // past the L1 cache
#define TILE_STORE(t, to, stride) _tile_stored(t, to, stride)
#define TILE_DOT(sums, a, b) _tile_dpbf16ps(sums, a, b)
#define TILE_DOT8(sums, a, b) _tile_dpbusd(sums, a, b)
#define BEGIN_TILES configure_tiles()
#define END_TILES _tile_release()

static void configure_tiles(void) {
	struct {
		uint8_t palette, start, reserved[14];
		uint16_t bytes[16];
		uint8_t rows[16];
	} config __attribute__((aligned(64))) = {.palette = 1};
	for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = 16;
	_tile_loadconfig(&config);
}
#else
// The same in plain C, for tests on other processors.
typedef union {
	float sums[16][16];
	uint16_t halves[16][32];
} tile;

static _Thread_local tile tiles[8];

#define TILE_ZERO(t) __builtin_memset(&tiles[t], 0, sizeof(tile))
#define TILE_LOAD(t, from, stride) tile_load(&tiles[t], from, stride)
#define TILE_STREAM TILE_LOAD
#define TILE_STORE(t, to, stride) tile_store(&tiles[t], to, stride)
#define TILE_DOT(s, a, b) tile_dot(&tiles[s], &tiles[a], &tiles[b])
#define TILE_DOT8(s, a, b) tile_dot8(&tiles[s], &tiles[a], &tiles[b])
#define BEGIN_TILES
#define END_TILES

static void tile_load(tile *t, const void *from, int64_t stride) {
	for (int i = 0; i < 16; i++) __builtin_memcpy(t->sums[i], (const char *)from + i * stride, 64);
}
static void tile_store(const tile *t, void *to, int64_t stride) {
	for (int i = 0; i < 16; i++) __builtin_memcpy((char *)to + i * stride, t->sums[i], 64);
}

// tile_dot is TDPBF16PS: the products of even and of odd K are summed apart, from 0, then both together and
// to what was there.
static void tile_dot(tile *s, const tile *a, const tile *b) {
	for (int i = 0; i < 16; i++) {
		vec even = splat(0), odd = splat(0);
		for (int k = 0; k < 16; k++) {
			vecu x = splat_pair(a->halves[i] + 2 * k), y = (vecu)load(b->sums[k]);
			even = fma_((vec)(x << 16), (vec)(y << 16), even);
			odd = fma_((vec)(x & 0xffff0000u), (vec)(y & 0xffff0000u), odd);
		}
		store(s->sums[i], load(s->sums[i]) + (even + odd));
	}
}

// tile_dot8 is TDPBUSD, whose sums are exact.
static void tile_dot8(tile *s, const tile *a, const tile *b) {
	for (int i = 0; i < 16; i++)
		for (int k = 0; k < 16; k++)
			store(s->sums[i], (vec)dot4((veci)load(s->sums[i]), splat_pair(a->halves[i] + 2 * k), (vecu)load(b->sums[k])));
}
#endif
