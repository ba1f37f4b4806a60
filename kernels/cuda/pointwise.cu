// pointwise.cu: sums and activations that ride on nothing, and what only moves elements. A thread an element: they are
// bound by memory, and neighbours read neighbours.
#include "device.cuh"

// Pointwise is filled by pointwise.go.
struct Pointwise {
  const void *a, *b, *scale; // [images, image], the same or null, [images] or null; [images, channels] if per_channel
  const float* slope;        // [channels], or null
  void* d;
  long long count, image;    // elements of all images; of one
  float factor;
  int channels, act, per_channel;
};

// The rest of kernels.Activation.
enum { kReLU = kTanhGEGLU + 1, kLeakyReLU, kPReLU, kSoftClip, kTanh };

__device__ __forceinline__ float bend(float x, int act, const float* slope, int c) {
  switch (act) {
  case kSiLU: return silu(x);
  case kReLU: return x < 0 ? 0 : x;
  case kLeakyReLU: return x < 0 ? 0.2f * x : x;
  case kPReLU: return x < 0 ? slope[c] * x : x;
  case kSoftClip: return 3 * tanhf(x / 3);
  case kTanh: return tanhf(x);
  }
  return x;
}

template <class T>
__device__ void pointwise(const Pointwise& p) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= p.count) return;
  float x = to_float(static_cast<const T*>(p.a)[i]);
  if (p.b) {
    float factor = p.factor;
    if (p.scale) factor *= to_float(static_cast<const T*>(p.scale)[p.per_channel ? i / p.image * p.channels + i % p.channels : i / p.image]);
    x += factor * to_float(static_cast<const T*>(p.b)[i]);
  }
  static_cast<T*>(p.d)[i] = from_float<T>(bend(x, p.act, p.slope, int(i % p.channels)));
}

#define POINTWISE(name, T) \
  KERNEL(pointwise_##name, 256, Pointwise, p) { pointwise<T>(p); }
POINTWISE(f32, float)
POINTWISE(f16, half_t)
POINTWISE(bf16, bfloat_t)

// Place is one part of a concatenation, filled by pointwise.go: rows of so many elements go to rows of the result.
struct Place {
  const void* a;
  void* d;
  long long count;      // elements of the part
  int row, pitch, off;  // of the part, of the result; where the part begins in it
};

template <class T>
__device__ void place(const Place& p) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= p.count) return;
  int64_t row = i / p.row;
  static_cast<T*>(p.d)[row * p.pitch + p.off + (i - row * p.row)] = static_cast<const T*>(p.a)[i];
}

// Cut is filled by pointwise.go: a run of each row of so many elements.
struct Cut {
  const void* a;
  void* d;
  long long count; // elements of the result
  int from, length, pitch;
};

template <class T>
__device__ void cut(const Cut& c) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= c.count) return;
  int64_t row = i / c.length;
  static_cast<T*>(c.d)[i] = static_cast<const T*>(c.a)[row * c.pitch + c.from + (i - row * c.length)];
}

// Shuffle is filled by pointwise.go.
struct Shuffle {
  const void* a; // [images, h, w, channels·factor²]
  void* d;       // [images, h·factor, w·factor, channels]
  long long count;
  int h, w, channels, factor;
};

template <class T>
__device__ void shuffle(const Shuffle& s) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; // of the result
  if (i >= s.count) return;
  int r = s.factor, c = int(i % s.channels);
  int64_t pixel = i / s.channels;
  int x = int(pixel % (s.w * r));
  int64_t line = pixel / (s.w * r); // image · h · r + y
  int64_t from = (line / r * s.w + x / r) * s.channels + c;
  static_cast<T*>(s.d)[i] = static_cast<const T*>(s.a)[from * r * r + int(line % r) * r + x % r];
}

// Surround is filled by pointwise.go.
struct Surround {
  const void* a; // [images, h, w, channels]
  void* d;       // [images, out_h, out_w, channels]
  long long count;
  int h, w, channels;
  int up_h, up_w; // the size that the input is read at
  int out_h, out_w, pad;
  int wrap_y, wrap_x;
};

// from is the row or column of the input that position i shows, -1 for a zero.
__device__ __forceinline__ int from(int i, int wrap, int read, int size) {
  if (wrap) i = (i % read + read) % read;
  return i < 0 || i >= read ? -1 : int(int64_t(i) * size / read);
}

template <class T>
__device__ void surround(const Surround& s) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; // of the result
  if (i >= s.count) return;
  int c = int(i % s.channels);
  int64_t pixel = i / s.channels, line = pixel / s.out_w;
  int y = from(int(line % s.out_h) - s.pad, s.wrap_y, s.up_h, s.h), x = from(int(pixel % s.out_w) - s.pad, s.wrap_x, s.up_w, s.w);
  T v = 0;
  if (y >= 0 && x >= 0) v = static_cast<const T*>(s.a)[((line / s.out_h * s.h + y) * s.w + x) * s.channels + c];
  static_cast<T*>(s.d)[i] = v;
}

// Swap is filled by pointwise.go.
struct Swap {
  const void* a; // [images, first, second, channels]
  void* d;       // [images, second, first, channels]
  long long count;
  int first, second, channels;
};

template <class T>
__device__ void swap(const Swap& s) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; // of the result
  if (i >= s.count) return;
  int64_t row = i / s.channels, line = row / s.first; // line: image · second + j
  int64_t from = (line / s.second * s.first + row % s.first) * s.second + line % s.second;
  static_cast<T*>(s.d)[i] = static_cast<const T*>(s.a)[from * s.channels + i % s.channels];
}

#define MOVE(bits)                                                        \
  KERNEL(place_##bits, 256, Place, p) { place<uint##bits##_t>(p); }       \
  KERNEL(cut_##bits, 256, Cut, c) { cut<uint##bits##_t>(c); }             \
  KERNEL(shuffle_##bits, 256, Shuffle, s) { shuffle<uint##bits##_t>(s); } \
  KERNEL(swap_##bits, 256, Swap, s) { swap<uint##bits##_t>(s); }          \
  KERNEL(surround_##bits, 256, Surround, s) { surround<uint##bits##_t>(s); }
MOVE(16)
MOVE(32)
