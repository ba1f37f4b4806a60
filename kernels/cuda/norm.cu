// norm.cu: GroupNorm with SiLU over one or two inputs, and LayerNorm.
//
// GroupNorm takes three launches. groupnorm_chunks: each block reads some pixels of some groups and gives mean and
// sum of squared deviations of each group there. groupnorm_scale: these are joined, in order (Chan et al. 1979),
// into a scale and shift for each channel. groupnorm_apply: dst = act(x·scale + shift).
#include "device.cuh"

// GroupNorm is the parameter of the three, filled by norm.go.
struct GroupNorm {
  const void *a, *a2;      // [N, pixels, c1], [N, pixels, c2] or null
  const float *gamma, *beta;
  void* d;
  float2* chunk;           // [N, groups, chunks]: mean, sum of squared deviations
  float2* scale;           // [N, channels]: scale, shift
  int c1, c2, pixels, groups;
  int chunk_pixels, chunks; // pixels a block of groupnorm_chunks, and how many such chunks
  int slab;                // groups a block
  int act;
  float eps;
  int images;
};

// value_at is where channel c of a pixel (counted over all images) lies.
template <class T>
__device__ __forceinline__ const T* value_at(const GroupNorm& g, int64_t pixel, int c) {
  return c < g.c1 ? static_cast<const T*>(g.a) + pixel * g.c1 + c : static_cast<const T*>(g.a2) + pixel * g.c2 + (c - g.c1);
}

constexpr int kNormThreads = 256;

// A thread owns `wide` neighbouring channels of every few pixels; shared memory holds a sum for each channel and row
// of threads. The block makes two passes over its pixels, which stay in the cache: mean, then deviations.
template <class T, int wide>
__device__ void groupnorm_chunks(const GroupNorm& g, float* shared) {
  int per_group = (g.c1 + g.c2) / g.groups;
  int first_group = blockIdx.y * g.slab, count = min(g.slab, g.groups - first_group);
  int first_channel = first_group * per_group, channels = count * per_group;
  int columns = channels / wide, rows = kNormThreads / columns; // threads along channels and pixels
  int column = threadIdx.x % columns, row = threadIdx.x / columns;
  int p0 = blockIdx.x * g.chunk_pixels, p1 = min(g.pixels, p0 + g.chunk_pixels);
  int64_t image = int64_t(blockIdx.z) * g.pixels;
  int n = (p1 - p0) * per_group;
  // sums[channel][row], channel column·wide + e at e·columns + column; the odd pitch spreads a warp's writes over the banks.
  int pitch = rows | 1;
  float* sums = shared;
  float* mean = shared + 2 * kNormThreads * wide; // [count]

  for (int pass = 0; pass < 2; pass++) {
    if (row < rows) {
      float sum[wide] = {}, center[wide] = {};
      if (pass == 1)
        for (int e = 0; e < wide; e++) center[e] = mean[(column * wide + e) / per_group];
      for (int p = p0 + row; p < p1; p += rows) {
        float v[wide];
        load(v, value_at<T>(g, image + p, first_channel + column * wide));
        for (int e = 0; e < wide; e++) {
          float x = v[e] - center[e];
          sum[e] += pass == 0 ? x : x * x;
        }
      }
      for (int e = 0; e < wide; e++) sums[(e * columns + column) * pitch + row] = sum[e];
    }
    __syncthreads();
    // A warp a group: lanes along rows and channels, in a fixed order.
    for (int i = threadIdx.x / 32; i < count; i += kNormThreads / 32) {
      float sum = 0;
      for (int j = threadIdx.x % 32; j < per_group * rows; j += 32) {
        int c = i * per_group + j / rows;
        sum += sums[(c % wide * columns + c / wide) * pitch + j % rows];
      }
      sum = warp_sum(sum);
      if (threadIdx.x % 32) continue;
      if (pass == 0) mean[i] = sum / n;
      else g.chunk[(int64_t(blockIdx.z) * g.groups + first_group + i) * g.chunks + blockIdx.x] = make_float2(mean[i], sum);
    }
    __syncthreads();
  }
}

// One warp a group and image.
__device__ __forceinline__ void join_chunks(const GroupNorm& g) {
  int i = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (i >= g.images * g.groups) return;
  int channels = g.c1 + g.c2, per_group = channels / g.groups;
  const float2* chunk = g.chunk + int64_t(i) * g.chunks;
  auto count = [&](int j) { return float(min(g.chunk_pixels, g.pixels - j * g.chunk_pixels)) * per_group; };
  float total = float(g.pixels) * per_group, mean = 0, squares = 0;
  for (int j = lane; j < g.chunks; j += 32) mean += chunk[j].x * (count(j) / total);
  mean = warp_sum(mean);
  for (int j = lane; j < g.chunks; j += 32) {
    float off = chunk[j].x - mean;
    squares += chunk[j].y + count(j) * off * off;
  }
  float inverse = 1 / sqrtf(warp_sum(squares) / total + g.eps);
  int image = i / g.groups, first = i % g.groups * per_group;
  for (int c = first + lane; c < first + per_group; c += 32) {
    float s = inverse * g.gamma[c];
    g.scale[int64_t(image) * channels + c] = make_float2(s, g.beta[c] - mean * s);
  }
}

template <class T, int wide>
__device__ void groupnorm_apply(const GroupNorm& g) {
  int channels = g.c1 + g.c2, columns = channels / wide;
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= int64_t(g.images) * g.pixels * columns) return;
  int64_t pixel = i / columns;
  int c = int(i - pixel * columns) * wide;
  float v[wide], scale[2 * wide]; // scale, shift, scale, shift …
  load(v, value_at<T>(g, pixel, c));
  load(scale, reinterpret_cast<const float*>(g.scale + pixel / g.pixels * channels + c));
  for (int e = 0; e < wide; e++) {
    v[e] = v[e] * scale[2 * e] + scale[2 * e + 1];
    if (g.act == kSiLU) v[e] = silu(v[e]);
  }
  store(static_cast<T*>(g.d) + pixel * channels + c, v);
}

// ---- LayerNorm: a warp a row, three passes over it ----

struct LayerNorm {
  const void* a;             // [rows, channels]
  const float *gamma, *beta; // [channels]
  void* d;                   // as a
  int rows, channels;
  float eps;
};

template <class T, int wide>
__device__ void layernorm(const LayerNorm& n) {
  int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32, channels = n.channels;
  if (row >= n.rows) return;
  const T* a = static_cast<const T*>(n.a) + int64_t(row) * channels;
  T* d = static_cast<T*>(n.d) + int64_t(row) * channels;
  float sum = 0, squares = 0, v[wide];
  for (int c = lane * wide; c < channels; c += 32 * wide) {
    load(v, a + c);
    for (int e = 0; e < wide; e++) sum += v[e];
  }
  float mean = warp_sum(sum) / channels;
  for (int c = lane * wide; c < channels; c += 32 * wide) {
    load(v, a + c);
    for (int e = 0; e < wide; e++) squares += (v[e] - mean) * (v[e] - mean);
  }
  float inverse = 1 / sqrtf(warp_sum(squares) / channels + n.eps);
  for (int c = lane * wide; c < channels; c += 32 * wide) {
    float g[wide], b[wide];
    load(v, a + c);
    load(g, n.gamma + c);
    load(b, n.beta + c);
    for (int e = 0; e < wide; e++) v[e] = (v[e] - mean) * inverse * g[e] + b[e];
    store(d + c, v);
  }
}

#define NORM(name, T, wide)                                                                                   \
  KERNEL(groupnorm_chunks_##name##_##wide, kNormThreads, GroupNorm, g) {                                      \
    SHARED(float, sums);                                                                                      \
    groupnorm_chunks<T, wide>(g, sums);                                                                       \
  }                                                                                                           \
  KERNEL(groupnorm_apply_##name##_##wide, kNormThreads, GroupNorm, g) { groupnorm_apply<T, wide>(g); }        \
  KERNEL(layernorm_##name##_##wide, kNormThreads, LayerNorm, n) { layernorm<T, wide>(n); }
NORM(f32, float, 1)
NORM(f32, float, 4)
NORM(f16, half_t, 1)
NORM(f16, half_t, 8)
NORM(bf16, bfloat_t, 1)
NORM(bf16, bfloat_t, 8)
KERNEL(groupnorm_scale, kNormThreads, GroupNorm, g) { join_chunks(g); }
