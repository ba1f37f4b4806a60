// embed.cu: dst[n,t,c] = tokens[ids[n,t], c] + positions[t, c], a thread an element.
#include "device.cuh"

#define EMBED_PARAMETERS const int *ids, const void *tokens, const void *positions, void *d, int rows, int length, int channels

template <class T>
__device__ void embed(const int* ids, const T* tokens, const T* positions, T* d, int rows, int length, int channels) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= int64_t(rows) * channels) return;
  int row = int(i / channels), c = int(i % channels);
  float token = to_float(tokens[int64_t(ids[row]) * channels + c]);
  d[i] = from_float<T>(token + to_float(positions[int64_t(row % length) * channels + c]));
}

#define EMBED(name, T)                                                                                          \
  KERNEL(embed_##name, 256, (EMBED_PARAMETERS)) {                                                               \
    embed<T>(ids, static_cast<const T*>(tokens), static_cast<const T*>(positions), static_cast<T*>(d), rows, length, channels); \
  }
EMBED(f32, float)
EMBED(f16, half_t)
EMBED(bf16, bfloat_t)
