// The choice of an instruction set at run time, and how jobs are cut into items.
#include <string.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "jobs.h"
#include "neon.h"

extern const isa isa_base;
#if defined(__x86_64__)
extern const isa isa_avx2, isa_avx512, isa_avx512bf16, isa_amx, isa_avxvnni, isa_avx2bf16;

// has_avxvnni says whether the processor has AVX-VNNI, which GCC 12 cannot ask for by name.
static int has_avxvnni(void) {
	unsigned a = 0, b, c = 0, d;
	__asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if (a < 7) return 0;
	a = 7, c = 1;
	__asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return a >> 4 & 1;
}

// has_tiles says whether the processor has AMX for bfloat16 and int8, and the system lends its 8 KiB of registers to this
// process: Linux does on request (5.16 and later), because they make every thread's state so much larger.
#if !defined(_WIN32)
static int has_tiles(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
	unsigned a = 7, b, c = 0, d;
	__asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	const unsigned tile = 1u << 24, bf16 = 1u << 22, int8 = 1u << 25;
	if (!(d & tile) || !(d & bf16) || !(d & int8)) return 0;
	enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
	return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
	return 0;
#endif
}
#endif
#endif

#if NEON_SETS
extern const isa isa_neonbf16, isa_neondot;

// has_extension says whether the processor has an extension of the architecture, by Apple's name for it or Linux's bit.
#if defined(__APPLE__)
#include <sys/sysctl.h>
enum { IN_FIRST_WORD, IN_SECOND_WORD };
static int has_extension(const char *name, int word, unsigned long bit) {
	int has = 0;
	size_t size = sizeof(has);
	return sysctlbyname(name, &has, &size, 0, 0) == 0 && has;
}
#elif defined(__linux__)
#include <sys/auxv.h>
enum { IN_FIRST_WORD = AT_HWCAP, IN_SECOND_WORD = AT_HWCAP2 };
static int has_extension(const char *name, int word, unsigned long bit) { return (getauxval(word) & bit) != 0; }
#else
enum { IN_FIRST_WORD, IN_SECOND_WORD };
static int has_extension(const char *name, int word, unsigned long bit) { return 0; }
#endif
static int has_dotprod(void) { return has_extension("hw.optional.arm.FEAT_DotProd", IN_FIRST_WORD, 1ul << 20); }
static int has_matrices(void) {
	return has_extension("hw.optional.arm.FEAT_BF16", IN_SECOND_WORD, 1ul << 14) && has_extension("hw.optional.arm.FEAT_I8MM", IN_SECOND_WORD, 1ul << 13);
}
#endif

// On Windows GCC does not align the stack for vectors (its bug 54412), and a spilled one ends the program. So there is AVX only where the
// assembler writes moves that need no alignment, CGO_CFLAGS="-O2 -Wa,-muse-unaligned-vector-move -DUNALIGNED_MOVES", or with clang.
#if defined(_WIN32) && !defined(__clang__) && !defined(UNALIGNED_MOVES)
#define VECTORS 0
#else
#define VECTORS 1
#endif

const isa *cpu_isa(const char *name) {
#if defined(__x86_64__)
	if (!VECTORS) return strcmp(name, "base") ? 0 : &isa_base;
	__builtin_cpu_init();
	int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), avx512 = avx2 && __builtin_cpu_supports("avx512f");
	int half = avx512 && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
	           __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
	if (!strcmp(name, "avx512")) return avx512 ? &isa_avx512 : 0;
	if (!strcmp(name, "avx2")) return avx2 ? &isa_avx2 : 0;
	if (!strcmp(name, "avx2bf16")) return avx2 ? &isa_avx2bf16 : 0;
	if (!strcmp(name, "avxvnni")) return avx2 && has_avxvnni() ? &isa_avxvnni : 0;
	if (!strcmp(name, "avx512bf16")) return half ? &isa_avx512bf16 : 0;
#if !defined(_WIN32)
	if (!strcmp(name, "amx")) return half && has_tiles() ? &isa_amx : 0;
#endif
#endif
#if NEON_SETS
	if (!strcmp(name, "neonbf16")) return has_matrices() ? &isa_neonbf16 : 0;
	if (!strcmp(name, "neondot")) return has_dotprod() ? &isa_neondot : 0;
#endif
	if (!strcmp(name, "base")) return &isa_base;
	return 0;
}

void cpu_run(const isa *set, int kind, void *job, void *scratch) {
	switch (kind) {
	case RUN_GEMM: set->gemm(job, scratch); break;
	case RUN_WINOGRAD: set->winograd(job, scratch); break;
	case RUN_ATTENTION: set->attention(job, scratch); break;
	case RUN_GROUPNORM_SUMS: set->groupnorm_sums(job, scratch); break;
	case RUN_GROUPNORM: set->groupnorm(job, scratch); break;
	case RUN_ROTARY: set->rotary(job, scratch); break;
	case RUN_LAYERNORM: set->layernorm(job, scratch); break;
	case RUN_PACK: set->pack(job, scratch); break;
	case RUN_EXTREMES: set->extremes(job, scratch); break;
	case RUN_QUANTISE: set->quantise(job, scratch); break;
	case RUN_MATCH_PACK: set->match_pack(job, scratch); break;
	case RUN_MATCH: set->match(job, scratch); break;
	}
}

double cpu_peak(const isa *set, int64_t rounds, int int8) { return set->peak(rounds, int8); }

// Blocks as large as the caches allow, and more of them if there are workers to feed: about four items
// each, so that the last ones end together. Column blocks first: they cost only a second look at A.
void plan_gemm(const isa *set, gemm_job *g, int64_t workers) {
	int64_t tiles = ceil_div(g->rows, set->rows), panels = ceil_div(g->outs, set->nr), twice = GATED(g->act) ? 2 : 1; // a value and a gate
	int64_t size = g->weights.type == TYPE_I8 ? 1 : 2, k = g->kh * g->kw * (g->channels[0] + g->channels[1]);
	int64_t columns = set->most_columns / twice, rows = set->most_rows;
	if (set->cache && k * size <= set->whole * 2) columns = max64(columns, set->cache * 2 / 5 / (k * size) / twice);
	g->col_blocks = ceil_div(panels, max64(1, columns / set->nr));
	if (set->cache && g->kh * g->kw == 1) {
		// Weights that fit stay in the cache from item to item.
		int64_t wide = ceil_div(panels, g->col_blocks) * set->nr * twice, weights = wide * k * size, row = 2 * k * size + (k * size > set->whole * 2 ? 4 * wide : 0);
		if (weights <= set->cache / 2) rows = min64(rows, max64(2, (set->cache - weights) / row / set->rows) * set->rows);
	}
	g->row_blocks = ceil_div(g->rows, rows);
	g->workers = workers;
	if (workers > 1)
		while (g->row_blocks * g->col_blocks < 4 * workers) {
			if (g->col_blocks * 2 <= panels) g->col_blocks *= 2;
			else if (g->row_blocks * 2 <= tiles) g->row_blocks *= 2;
			else break;
		}
	g->items = g->row_blocks * g->col_blocks;
}

// The same for tiles of a Winograd convolution, which transforms its pixels once for each block of columns and its weights
// once for each block of tiles.
void plan_winograd(const isa *set, gemm_job *g, int64_t workers) {
	int64_t groups = ceil_div(g->tiles, set->rows), panels = ceil_div(g->outs, set->nr);
	g->row_blocks = ceil_div(g->tiles, set->most_tiles);
	g->col_blocks = ceil_div(panels, max64(1, set->most_columns / set->nr));
	if (workers > 1)
		while (g->row_blocks * g->col_blocks < 4 * workers) {
			if (g->col_blocks * 2 <= panels) g->col_blocks *= 2;
			else if (g->row_blocks * 2 <= groups) g->row_blocks *= 2;
			else break;
		}
	g->items = g->row_blocks * g->col_blocks;
}

int64_t gemm_scratch(const isa *set, const gemm_job *g) { return set->gemm_scratch(g); }
int64_t winograd_scratch(const isa *set, const gemm_job *g) { return set->winograd_scratch(g); }

// A block of queries shares the copies of K and V, so it is as long as lets its own state stay in the L2
// cache, unless that leaves workers idle.
void plan_attention(const isa *set, attention_job *a, int64_t workers) {
	a->block_queries = set->nr * max64(1, QUERY_STATE / (a->channels / a->heads) / set->nr);
	int64_t smallest = set->nr * ceil_div(32, set->nr);
	while (a->block_queries > smallest && a->images * a->heads * ceil_div(a->queries, a->block_queries) < 4 * workers)
		a->block_queries = max64(smallest, set->nr * (a->block_queries / set->nr / 2));
	a->query_blocks = ceil_div(a->queries, a->block_queries);
	a->items = a->images * a->heads * a->query_blocks;
}

int64_t attention_scratch(const isa *set, const attention_job *a) { return set->attention_scratch(a); }

int64_t match_scratch(const isa *set, int64_t channels) { return set->match_scratch(channels); }

int64_t groupnorm_scratch(const groupnorm_job *g) { return 2 * (g->channels[0] + g->channels[1]) * (int64_t)sizeof(double); }
