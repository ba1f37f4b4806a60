// norm.cu: GroupNorm with SiLU over one or two inputs, and LayerNorm.
//
// GroupNorm of a small image takes one launch: in groupnorm_whole a block has some groups of an image to itself, reads
// them three times (they stay in the cache), and writes the result. A large image takes two. groupnorm_chunks: each block
// reads some pixels of some groups and gives mean and sum of squared deviations of each group there; the last block of an
// image joins these, in order (Chan et al. 1979), into a scale and shift for each channel. groupnorm_apply: dst =
// act(x·scale + shift).
#include "moments.cuh"

// GroupNorm is the parameter of all three, filled by norm.go.
struct GroupNorm {
  const void *a, *a2;      // [N, pixels, c1], [N, pixels, c2] or null
  const float *gamma, *beta;
  void* d;
  float2* chunk;           // [N, groups, chunks]: mean, sum of squared deviations
  float2* scale;           // [N, channels]: scale, shift
  unsigned* ticket;        // [N] zeros
  int c1, c2, pixels, groups;
  int chunk_pixels, chunks; // pixels a block of groupnorm_chunks, and how many such chunks
  int slab;                // groups a block
  int act;
  float eps, each;         // each: 1 over the values of a group
  int images;
};

// inverse_root is 1/√x, to a unit or two in the last place, without the branches of a division.
__device__ __forceinline__ float inverse_root(float x) {
  float r = rsqrtf(x);
  return r * (1.5f - 0.5f * x * r * r);
}

// value_at is where channel c of a pixel (counted over all images) lies.
template <class T>
__device__ __forceinline__ const T* value_at(const GroupNorm& g, int64_t pixel, int c) {
  return c < g.c1 ? static_cast<const T*>(g.a) + pixel * g.c1 + c : static_cast<const T*>(g.a2) + pixel * g.c2 + (c - g.c1);
}

constexpr int kNormThreads = 256;

// Slab is a block's groups, and how its threads divide them: a thread owns `wide` neighbouring channels of every few pixels.
template <int wide>
struct Slab {
  int per_group, first_group, count, first_channel, columns, rows, column, row;
  __device__ __forceinline__ Slab(const GroupNorm& g) {
    per_group = (g.c1 + g.c2) / g.groups;
    first_group = blockIdx.y * g.slab;
    count = min(g.slab, g.groups - first_group);
    first_channel = first_group * per_group;
    columns = count * per_group / wide;
    rows = kNormThreads / columns; // threads along channels and pixels
    column = threadIdx.x % columns;
    row = threadIdx.x / columns;
  }
};

// statistics makes two passes over the pixels p0 to p1, which stay in the cache: mean, then deviations. It leaves mean and sum
// of squared deviations of the slab's groups in shared memory, which holds a sum for each channel and row of threads besides.
template <class T, int wide>
__device__ __forceinline__ void statistics(const GroupNorm& g, const Slab<wide>& s, int64_t image, int p0, int p1, float* sums, float* mean, float* squares) {
  int n = (p1 - p0) * s.per_group;
  // sums[channel][row], channel column·wide + e at e·columns + column; the odd pitch spreads a warp's writes over the banks.
  int pitch = s.rows | 1;
  for (int pass = 0; pass < 2; pass++) {
    if (s.row < s.rows) {
      float sum[wide] = {}, center[wide] = {};
      if (pass == 1)
        for (int e = 0; e < wide; e++) center[e] = mean[(s.column * wide + e) / s.per_group];
      for (int p = p0 + s.row; p < p1; p += s.rows) {
        float v[wide];
        load(v, value_at<T>(g, image + p, s.first_channel + s.column * wide));
        for (int e = 0; e < wide; e++) {
          float x = v[e] - center[e];
          sum[e] += pass == 0 ? x : x * x;
        }
      }
      for (int e = 0; e < wide; e++) sums[(e * s.columns + s.column) * pitch + s.row] = sum[e];
    }
    __syncthreads();
    // A warp a group: lanes along rows and channels, in a fixed order.
    for (int i = threadIdx.x / 32; i < s.count; i += kNormThreads / 32) {
      float sum = 0;
      for (int j = threadIdx.x % 32; j < s.per_group * s.rows; j += 32) {
        int c = i * s.per_group + j / s.rows;
        sum += sums[(c % wide * s.columns + c / wide) * pitch + j % s.rows];
      }
      sum = warp_sum(sum);
      if (threadIdx.x % 32) continue;
      if (pass == 0) mean[i] = sum / n;
      else squares[i] = sum;
    }
    __syncthreads();
  }
}

// join_chunks makes scale and shift of one group of an image from its chunks: a warp's work.
__device__ __forceinline__ void join_chunks(const GroupNorm& g, int image, int group) {
  int lane = threadIdx.x % 32, channels = g.c1 + g.c2, per_group = channels / g.groups;
  const float2* chunk = g.chunk + (int64_t(image) * g.groups + group) * g.chunks;
  auto count = [&](int j) { return float(min(g.chunk_pixels, g.pixels - j * g.chunk_pixels)) * per_group; };
  float mean = 0, squares = 0;
#pragma unroll 1
  for (int j = lane; j < g.chunks; j += 32) mean += load_fresh(chunk + j).x * (count(j) * g.each);
  mean = warp_sum(mean);
#pragma unroll 1
  for (int j = lane; j < g.chunks; j += 32) {
    float2 c = load_fresh(chunk + j);
    float off = c.x - mean;
    squares += c.y + count(j) * off * off;
  }
  float inverse = inverse_root(warp_sum(squares) * g.each + g.eps);
  int first = group * per_group;
#pragma unroll 1
  for (int c = first + lane; c < first + per_group; c += 32) {
    float s = inverse * g.gamma[c];
    g.scale[int64_t(image) * channels + c] = make_float2(s, g.beta[c] - mean * s);
  }
}

template <class T, int wide>
__device__ __forceinline__ void groupnorm_chunks(const GroupNorm& g, float* sums) {
  float *mean = sums + 2 * kNormThreads * wide, *squares = mean + g.slab;
  Slab<wide> s(g);
  int image = blockIdx.z, p0 = blockIdx.x * g.chunk_pixels;
  statistics<T>(g, s, int64_t(image) * g.pixels, p0, min(g.pixels, p0 + g.chunk_pixels), sums, mean, squares);
  for (int i = threadIdx.x; i < s.count; i += kNormThreads)
    g.chunk[(int64_t(image) * g.groups + s.first_group + i) * g.chunks + blockIdx.x] = make_float2(mean[i], squares[i]);
  // The last block of the image to come this far joins the chunks, and leaves the ticket as zero.
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) sums[0] = atomicAdd(g.ticket + image, 1u) + 1 == gridDim.x * gridDim.y ? 1.0f : 0.0f;
  __syncthreads();
  if (sums[0] == 0) return;
  if (threadIdx.x == 0) g.ticket[image] = 0;
  __threadfence();
#pragma unroll 1
  for (int i = threadIdx.x / 32; i < g.groups; i += kNormThreads / 32) join_chunks(g, image, i);
}

template <class T, int wide>
__device__ __forceinline__ void groupnorm_whole(const GroupNorm& g, float* sums) {
  float *mean = sums + 2 * kNormThreads * wide, *squares = mean + g.slab;
  Slab<wide> s(g);
  int channels = g.c1 + g.c2;
  int64_t image = int64_t(blockIdx.z) * g.pixels;
  statistics<T>(g, s, image, 0, g.pixels, sums, mean, squares);
  if (s.row >= s.rows) return;
  float scale[wide], shift[wide];
  int first = s.first_channel + s.column * wide;
  for (int e = 0; e < wide; e++) {
    int i = (s.column * wide + e) / s.per_group;
    scale[e] = inverse_root(squares[i] * g.each + g.eps) * g.gamma[first + e];
    shift[e] = g.beta[first + e] - mean[i] * scale[e];
  }
  for (int p = s.row; p < g.pixels; p += s.rows) {
    float v[wide];
    load(v, value_at<T>(g, image + p, first));
    for (int e = 0; e < wide; e++) {
      v[e] = v[e] * scale[e] + shift[e];
      if (g.act == kSiLU) v[e] = silu(v[e]);
    }
    store(static_cast<T*>(g.d) + (image + p) * channels + first, v);
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
  const float *gamma, *beta; // [channels]; null: 1 and 0
  const void *scale, *shift; // [images, channels]; null: 0
  void* d;                   // as a
  int rows, channels;
  float eps;
  int image, rms;            // rows of an image
};

template <class T, int wide>
__device__ void layernorm(const LayerNorm& n) {
  int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32, channels = n.channels;
  if (row >= n.rows) return;
  const T* a = static_cast<const T*>(n.a) + int64_t(row) * channels;
  T* d = static_cast<T*>(n.d) + int64_t(row) * channels;
  const int64_t image = int64_t(row / n.image) * channels;
  const T *scale = n.scale ? static_cast<const T*>(n.scale) + image : nullptr, *shift = n.shift ? static_cast<const T*>(n.shift) + image : nullptr;
  float sum = 0, squares = 0, v[wide];
  for (int c = lane * wide; c < channels; c += 32 * wide) {
    load(v, a + c);
    for (int e = 0; e < wide; e++) sum += v[e];
  }
  float mean = n.rms ? 0 : warp_sum(sum) / channels;
  for (int c = lane * wide; c < channels; c += 32 * wide) {
    load(v, a + c);
    for (int e = 0; e < wide; e++) squares += (v[e] - mean) * (v[e] - mean);
  }
  float inverse = 1 / sqrtf(warp_sum(squares) / channels + n.eps);
  for (int c = lane * wide; c < channels; c += 32 * wide) {
    float x[wide];
    load(v, a + c);
    for (int e = 0; e < wide; e++) v[e] = (v[e] - mean) * inverse;
    if (n.gamma) {
      load(x, n.gamma + c);
      for (int e = 0; e < wide; e++) v[e] *= x[e];
    }
    if (n.beta) {
      load(x, n.beta + c);
      for (int e = 0; e < wide; e++) v[e] += x[e];
    }
    if (scale) {
      load(x, scale + c);
      for (int e = 0; e < wide; e++) v[e] += v[e] * x[e];
    }
    if (shift) {
      load(x, shift + c);
      for (int e = 0; e < wide; e++) v[e] += x[e];
    }
    store(d + c, v);
  }
}

// ---- Moments of rows that no product has left ----

struct Moments {
  const void* a; // [rows, channels], of whole granules
  float2* d;
  int rows, channels;
};

// moments is four columns a thread.
template <class T>
__device__ void moments(const Moments& p) {
  int quads = p.channels / 4;
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  int m = int(i / quads), n = int(i - int64_t(m) * quads) * 4;
  bool there = m < p.rows;
  float v[4] = {};
  if (there) load(v, static_cast<const T*>(p.a) + int64_t(m) * p.channels + n);
  store_moments<T>(p.d, p.rows, m, n, v, there);
}

KERNEL(moments_f16, kNormThreads, Moments, p) { moments<half_t>(p); }
KERNEL(moments_bf16, kNormThreads, Moments, p) { moments<bfloat_t>(p); }

// ---- Rotary: a warp a head ----

struct Rotary {
  const void* a;       // [rows, heads·size]
  const float *angles; // [rows, size]: cosines, then sines
  const float *gamma;  // [size], or null
  void* d;             // as a
  int rows, heads, size, half;
  float eps;
};

template <class T>
__device__ void rotary(const Rotary& r) {
  int64_t head = int64_t(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  int lane = threadIdx.x % 32;
  if (head >= int64_t(r.rows) * r.heads) return;
  const T* a = static_cast<const T*>(r.a) + head * r.size;
  T* d = static_cast<T*>(r.d) + head * r.size;
  const float* angles = r.angles + head / r.heads * r.size;
  float inverse = 1;
  if (r.gamma) {
    float squares = 0;
    for (int c = lane; c < r.size; c += 32) {
      float x = to_float(a[c]);
      squares += x * x;
    }
    inverse = 1 / sqrtf(warp_sum(squares) / r.size + r.eps);
  }
  int pairs = r.size / 2;
  for (int i = lane; i < pairs; i += 32) {
    int p = r.half ? i : 2 * i, q = r.half ? i + pairs : 2 * i + 1;
    float x = to_float(a[p]), y = to_float(a[q]), cosine = angles[i], sine = angles[pairs + i];
    if (r.gamma) x *= inverse * r.gamma[p], y *= inverse * r.gamma[q];
    d[p] = from_float<T>(x * cosine - y * sine);
    d[q] = from_float<T>(x * sine + y * cosine);
  }
}

KERNEL(rotary_f32, kNormThreads, Rotary, r) { rotary<float>(r); }
KERNEL(rotary_f16, kNormThreads, Rotary, r) { rotary<half_t>(r); }
KERNEL(rotary_bf16, kNormThreads, Rotary, r) { rotary<bfloat_t>(r); }

#define NORM(name, T, wide)                                                                                   \
  KERNEL(groupnorm_chunks_##name##_##wide, kNormThreads, GroupNorm, g) {                                      \
    SHARED(float, sums);                                                                                      \
    groupnorm_chunks<T, wide>(g, sums);                                                                       \
  }                                                                                                           \
  KERNEL(groupnorm_whole_##name##_##wide, kNormThreads, GroupNorm, g) {                                       \
    SHARED(float, sums);                                                                                      \
    groupnorm_whole<T, wide>(g, sums);                                                                        \
  }                                                                                                           \
  KERNEL(groupnorm_apply_##name##_##wide, kNormThreads, GroupNorm, g) { groupnorm_apply<T, wide>(g); }        \
  KERNEL(layernorm_##name##_##wide, kNormThreads, LayerNorm, n) { layernorm<T, wide>(n); }
NORM(f32, float, 1)
NORM(f32, float, 4)
NORM(f16, half_t, 1)
NORM(f16, half_t, 8)
NORM(bf16, bfloat_t, 1)
NORM(bf16, bfloat_t, 8)
