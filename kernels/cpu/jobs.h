// The jobs that Go hands to the kernels, and the table of instruction sets that they are compiled
// for. A job is cut into items; every worker takes the next item until there are none. Each element
// of a result is computed by one worker in one order, so that neither the number of workers nor
// their luck changes a bit.
#ifndef DARKROOM_JOBS_H
#define DARKROOM_JOBS_H

#include <stdint.h>

enum { ACT_IDENTITY, ACT_SILU, ACT_GELU, ACT_QUICKGELU, ACT_TANHGELU, ACT_GEGLU, ACT_SWIGLU, ACT_TANHGEGLU }; // kernels.Activation
#define GATED(act) ((act) >= ACT_GEGLU) // values and gates
enum { TYPE_F32, TYPE_F16, TYPE_BF16, TYPE_F64, TYPE_I8 };           // tensor.DType, but for the last

// A packed weight says itself what it is: the kernels choose their arithmetic by it.
typedef struct {
	const void *panels;   // packed by pack_job
	int32_t type;         // TYPE_F32, TYPE_BF16, TYPE_I8
	const float *scales;  // of int8, by packed column
	const int32_t *sums;  // of a column's int8 values
} matrix;

// Activations in 8 bits: x = (q - zero)·scale, with one scale for each row of a matrix, or for each image.
typedef struct {
	float scale;
	int32_t zero;
} step8;

// Activations are of the set's own type (isa.type), vectors of weights are float32.

// A matrix product: rows of A are pixels of a sliding window, or rows of a matrix.
typedef struct {
	int64_t items, next;

	const void *in[2];   // NHWC; in[1] lies beside in[0] in the channels, or is NULL
	int64_t channels[2]; // of each
	int64_t h, w;        // of the inputs
	int64_t read_h, read_w; // size that they are read at: h, w, or that after nearest upsampling
	int64_t out_h, out_w;
	int64_t kh, kw, stride, pad;
	int64_t rows; // images · out_h · out_w
	int64_t outs; // columns of dst

	matrix weights;
	const float *bias;
	const void *per_channel, *residual;
	int64_t per_channel_pitch; // from one image's to the next
	const void *zeros; // a pixel outside the image: at least max(channels) zeros
	int64_t zeros_stride; // bytes to the next image's; 0: they share one
	const step8 *ranges;  // of in[0] if the weights are int8; in[1] is not used then
	int64_t range_rows;   // rows of dst that share one
	void *dst;
	int32_t act;

	int64_t tiles; // of 4×4 pixels, of all images, in a Winograd convolution; there row_blocks are of tiles

	// Blocking, see plan_gemm and plan_winograd: items = row_blocks · col_blocks.
	int64_t row_blocks, col_blocks;
	int64_t workers;
} gemm_job;

typedef struct {
	int64_t items, next;
	const void *q, *k, *v;
	void *dst;
	int64_t images, queries, keys, channels, heads;
	int64_t pitch;                   // of rows of queries; those of dst are channels apart
	int64_t shared, shared_channels; // heads of keys and values, and the pitch of their rows
	const int32_t *lengths;          // [images]: keys that are there; NULL: all
	const float *bias;               // [heads][queries+keys-1], see kernels.Attention; NULL: none
	float scale; // of the scores
	int32_t causal;
	int64_t query_blocks, block_queries;
} attention_job;

// Both passes of a group normalisation: sums of chunks of pixels, then the result.
typedef struct {
	int64_t items, next;
	const void *in[2];
	int64_t channels[2];
	const float *gamma, *beta;
	void *dst;
	double *sums; // [images][chunks][groups][2]: Σx, Σx²
	int64_t images, pixels, groups, chunks, chunk;
	double eps;
	int32_t silu;
} groupnorm_job;

typedef struct {
	int64_t items, next;
	const void *in;
	const float *gamma, *beta;  // NULL: 1 and 0
	const void *scale, *shift;  // [images][channels]; NULL: 0
	void *dst;
	int64_t rows, channels, block, image; // image: rows of one
	double eps;
	int32_t rms;
} layernorm_job;

typedef struct {
	int64_t items, next;
	const void *in;
	const float *angles, *gamma; // [rows][d]: cosines, then sines; [d], or NULL
	void *dst;
	int64_t rows, heads, d, block; // rows: tokens of all images
	double eps;
	int32_t half;
} rotary_job;

// Both passes of finding what is alike: targets into panels, then the best target of each source.
typedef struct {
	int64_t items, next;
	const void *in; // [images][tokens][channels]
	int64_t images, tokens, channels;
	int64_t sources, targets;
	const int32_t *source, *target; // among the tokens
	float *panels;                  // [images][panels][channels][nr]
	float *best;                    // [images][sources]: cosines
	int32_t *at;                    // [images][sources]: a token
} match_job;

#define MATCH_BLOCK 32 // sources of an item

// Activations on their way to 8 bits. The first pass, for images with one range, finds the extremes of blocks of
// pixels; the second writes q, with a range for each pixel where there are no extremes.
typedef struct {
	int64_t items, next;
	const void *in[2];
	int64_t channels[2];
	int64_t images, pixels, block; // pixels of an image, and of an item; blocks do not straddle images
	float *extremes;               // [images][blocks][2], or NULL
	uint8_t *dst, *zeros;          // [images·pixels][channels]; [images][channels], pixels outside the image
	step8 *ranges;                 // [images·pixels], or [images]
} quantise_job;

// A weight on its way from the checkpoint to panels of columns (pack.h), or only widened to float32.
typedef struct {
	int64_t items, next;
	const void *src; // [outs, channels, taps]
	void *dst;
	int64_t outs, channels, taps;
	int32_t type;
	int32_t geglu; // panels of values and of gates take turns
	int32_t narrow; // to int8, with scales and sums after the panels
	int32_t flat;  // vectors and tables: no packing
	int32_t bad;   // set if a value is not finite
} pack_job;

// One instruction set's kernels for one type of activations. The functions take items from the job until
// none is left.
typedef struct {
	const char *name;
	int32_t type;             // of the activations: TYPE_F32 or TYPE_BF16
	int64_t nr;               // columns of a packed panel
	int64_t rows;             // of the micro-kernel's tile
	int64_t depth;            // K of a packed panel is a multiple of it
	int64_t most_rows;        // of an item of a matrix product; a multiple of rows
	int64_t most_columns;     // of an item of a matrix product
	int64_t most_tiles;       // of an item of a Winograd convolution
	void (*gemm)(gemm_job *, void *scratch);
	void (*winograd)(gemm_job *, void *scratch); // NULL in sets that are faster with plain sums
	void (*attention)(attention_job *, void *scratch);
	void (*groupnorm_sums)(groupnorm_job *, void *scratch);
	void (*groupnorm)(groupnorm_job *, void *scratch);
	void (*layernorm)(layernorm_job *, void *scratch);
	void (*rotary)(rotary_job *, void *scratch);
	void (*match_pack)(match_job *, void *scratch);
	void (*match)(match_job *, void *scratch);
	void (*pack)(pack_job *, void *scratch);
	void (*extremes)(quantise_job *, void *scratch); // NULL in sets without int8
	void (*quantise)(quantise_job *, void *scratch);
	int64_t (*gemm_scratch)(const gemm_job *); // bytes that a worker needs for a planned job
	int64_t (*winograd_scratch)(const gemm_job *);
	int64_t (*attention_scratch)(const attention_job *);
	int64_t (*match_scratch)(int64_t channels);
	// Returns a sum; does rounds · peak_flops of the set's multiply-adds, twice as many of bytes, and nothing else.
	double (*peak)(int64_t rounds, int int8);
	double peak_flops;
	// Of sets that cut matrix products by the memory that they take; 0 in others.
	int64_t whole; // K up to which no sums are kept
	int64_t cache; // bytes for an item and the inputs of the next
} isa;

// cpu_isa returns a set by name, NULL if it is unknown or the machine does not have it.
const isa *cpu_isa(const char *name);

// What Go may call with a function of the table: cgo cannot call through a pointer.
enum { RUN_GEMM, RUN_WINOGRAD, RUN_ATTENTION, RUN_GROUPNORM_SUMS, RUN_GROUPNORM, RUN_LAYERNORM, RUN_ROTARY, RUN_PACK, RUN_EXTREMES, RUN_QUANTISE, RUN_MATCH_PACK, RUN_MATCH };
void cpu_run(const isa *set, int kind, void *job, void *scratch);
double cpu_peak(const isa *set, int64_t rounds, int int8);

// Bytes of scratch that a worker needs for a job.
int64_t gemm_scratch(const isa *set, const gemm_job *job);
int64_t winograd_scratch(const isa *set, const gemm_job *job);
int64_t attention_scratch(const isa *set, const attention_job *job);
int64_t groupnorm_scratch(const groupnorm_job *job);
int64_t match_scratch(const isa *set, int64_t channels);

// plan_gemm, plan_winograd and plan_attention cut a job into items for so many workers.
void plan_gemm(const isa *set, gemm_job *job, int64_t workers);
void plan_winograd(const isa *set, gemm_job *job, int64_t workers);
void plan_attention(const isa *set, attention_job *job, int64_t workers);

#define QUERY_STATE 40960     // queries · d of an item of attention: Q and O are twice as many floats

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
// bias_at is what is added to the score of a query and a key: the next query's is after it, the next key's before it.
static inline const float *bias_at(const attention_job *a, int64_t head, int64_t query, int64_t key) {
	return a->bias + head * (a->queries + a->keys - 1) + query - key + a->keys - 1;
}
// seen_keys is how many keys the queries before end may see.
#define seen_keys(a, image, end) min64((a)->lengths ? (a)->lengths[image] : (a)->keys, (a)->causal ? (end) : (a)->keys)

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// part is where part i of n nearly equal parts of total starts.
static inline int64_t part(int64_t total, int64_t n, int64_t i) {
	int64_t base = total / n, more = total % n;
	return i * base + min64(i, more);
}

#define NEXT_ITEM(job) __atomic_fetch_add(&(job)->next, 1, __ATOMIC_RELAXED)

#endif
