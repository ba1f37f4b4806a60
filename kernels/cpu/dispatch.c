// The choice of an instruction set at run time, and how jobs are cut into items.
#include <string.h>

#include "jobs.h"

extern const isa isa_base;
#if defined(__x86_64__)
extern const isa isa_avx2, isa_avx512, isa_wide;
#endif

const isa *cpu_isa(const char *name) {
	int any = !name[0];
#if defined(__x86_64__)
	__builtin_cpu_init();
	int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	if ((any || !strcmp(name, "avx512")) && avx2 && __builtin_cpu_supports("avx512f")) return &isa_avx512;
	if ((any || !strcmp(name, "avx2")) && avx2) return &isa_avx2;
	if (!strcmp(name, "wide") && avx2) return &isa_wide;
#endif
	if (any || !strcmp(name, "base")) return &isa_base;
	return 0;
}

void cpu_run(const isa *set, int kind, void *job, void *scratch) {
	switch (kind) {
	case RUN_GEMM: set->gemm(job, scratch); break;
	case RUN_ATTENTION: set->attention(job, scratch); break;
	case RUN_GROUPNORM_SUMS: set->groupnorm_sums(job, scratch); break;
	case RUN_GROUPNORM: set->groupnorm(job, scratch); break;
	case RUN_LAYERNORM: set->layernorm(job, scratch); break;
	case RUN_PACK: set->pack(job, scratch); break;
	}
}

double cpu_fma_peak(const isa *set, int64_t rounds) { return set->fma_peak(rounds); }

// Blocks as large as the caches allow, and more of them if there are workers to feed: about four items
// each, so that the last ones end together. Column blocks first: they cost only a second look at A.
void plan_gemm(const isa *set, gemm_job *g, int64_t workers) {
	int64_t tiles = ceil_div(g->rows, set->rows), panels = ceil_div(g->outs, set->nr);
	g->row_blocks = ceil_div(g->rows, ROWS_PER_BLOCK);
	int64_t columns = g->act == ACT_GEGLU ? COLUMNS_PER_BLOCK / 2 : COLUMNS_PER_BLOCK; // a value and a gate for each
	g->col_blocks = ceil_div(panels, max64(1, columns / set->nr));
	if (workers > 1)
		while (g->row_blocks * g->col_blocks < 4 * workers) {
			if (g->col_blocks * 2 <= panels) g->col_blocks *= 2;
			else if (g->row_blocks * 2 <= tiles) g->row_blocks *= 2;
			else break;
		}
	g->items = g->row_blocks * g->col_blocks;
}

int64_t gemm_scratch(const isa *set, const gemm_job *g) {
	// Parts of nearly equal size differ by one tile or panel at most.
	int64_t rows = set->rows * ceil_div(ceil_div(g->rows, set->rows), g->row_blocks);
	int64_t columns = set->nr * ceil_div(ceil_div(g->outs, set->nr), g->col_blocks) * (g->act == ACT_GEGLU ? 2 : 1);
	return rows * columns * (int64_t)sizeof(float) + g->kh * g->kw * 2 * rows * (int64_t)sizeof(float *);
}

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

int64_t attention_scratch(const isa *set, const attention_job *a) {
	int64_t d = a->channels / a->heads, panels = ceil_div(a->block_queries, set->nr);
	int64_t floats = panels * set->nr * (2 * d + 2) + KEYS_PER_BLOCK * (set->nr + 2 * round_up(d, 16));
	return floats * (int64_t)sizeof(float) + (KEYS_PER_BLOCK + d) * (int64_t)sizeof(float *);
}

int64_t groupnorm_scratch(const groupnorm_job *g) { return 2 * (g->channels[0] + g->channels[1]) * (int64_t)sizeof(double); }
