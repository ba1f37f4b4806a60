// embed.cu: dst[n,t,c] = tokens[ids[n,t], c] + positions[t, c], if there are positions, a thread an element.
#include "device.cuh"

// Embed is filled by embed.go.
struct Embed {
  const int* ids;                 // [rows]
  const void *tokens, *positions; // [vocabulary, channels], [at least length, channels]
  void* d;                        // [rows, channels]
  int rows, length, channels;     // rows of all images; of one image
};

template <class T>
__device__ void embed(const Embed& e) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= int64_t(e.rows) * e.channels) return;
  int row = int(i / e.channels), c = int(i % e.channels);
  const T *tokens = static_cast<const T*>(e.tokens), *positions = static_cast<const T*>(e.positions);
  float token = to_float(tokens[int64_t(e.ids[row]) * e.channels + c]);
  if (positions) token += to_float(positions[int64_t(row % e.length) * e.channels + c]);
  static_cast<T*>(e.d)[i] = from_float<T>(token);
}

#define EMBED(name, T) \
  KERNEL(embed_##name, 256, Embed, e) { embed<T>(e); }
EMBED(f32, float)
EMBED(f16, half_t)
EMBED(bf16, bfloat_t)
