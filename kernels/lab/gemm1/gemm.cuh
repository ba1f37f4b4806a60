// gemm1/gemm.cuh, the first version, as it was; ../README.md has what was learned from it.
//
// gemm.cuh: D[M,N] = act(A[M,K] · B[N,K]ᵀ + bias + perChannel) + residual, the heart of Conv2D and Linear.
//
// B is the weight as packed by weights.go: row n holds output n's coefficients, padded with zeros to a
// multiple of kDepth. A is either a matrix, or an image seen through a filter (an implicit GEMM: row m is
// output pixel m, column k is tap and channel, and nothing is ever unfolded in memory).
//
// Two kernels: gemm_simple, plain float32 arithmetic for every type and shape, and gemm_mma on tensor cores.
#pragma once
#include "ptx.cuh"

// The steps along K that a packed weight is padded to; weights.go agrees.
constexpr int kDepth = 32;

// Gemm is the parameter of every kernel of this family, filled by gemm.go. What came later is not read here.
struct Divisor {
  unsigned factor;
  int shift;
};
struct Gemm {
  const void *a, *a2;       // one input or two side by side in the channels
  const void* b;            // [N, ldb]
  const float* bias;        // [N] or null
  const void* per_channel;  // [images, N] or null
  const void* residual;     // D's shape or null
  void* d;
  float* partial;           // [splits, M, N] if splits > 1
  int m, n, k, ldb, act, splits;
  int h, w;                 // of the inputs
  int c1, c2, kh, kw;       // channels of a and a2; the filter's size
  int stride, pad;
  int up_h, up_w;           // the size that the input is read at
  int out_h, out_w;
  Divisor pixels, row, by_up_h, by_up_w;
  int per_channel_pitch;
};

// Pixel is the place in the input that an output pixel's filter begins at.
struct Pixel {
  int image, y, x;
};
__device__ __forceinline__ Pixel first_tap(const Gemm& g, int m) {
  int per_image = g.out_h * g.out_w, image = m / per_image, r = m - image * per_image;
  int y = r / g.out_w, x = r - y * g.out_w;
  return {image, y * g.stride - g.pad, x * g.stride - g.pad};
}

// Where a tap's channel c lies, or null outside the image.
template <class T>
__device__ __forceinline__ const T* tap(const Gemm& g, const Pixel& p, int ky, int kx, int c) {
  int y = p.y + ky, x = p.x + kx;
  if (unsigned(y) >= unsigned(g.up_h) || unsigned(x) >= unsigned(g.up_w)) return nullptr;
  if (g.up_h != g.h) y = y * g.h / g.up_h;
  if (g.up_w != g.w) x = x * g.w / g.up_w;
  int64_t at = (int64_t(p.image) * g.h + y) * g.w + x;
  return c < g.c1 ? static_cast<const T*>(g.a) + at * g.c1 + c : static_cast<const T*>(g.a2) + at * g.c2 + (c - g.c1);
}

// Column k of A as tap and channel, which can step along.
struct Column {
  int ky, kx, c;
};
__device__ __forceinline__ Column column(const Gemm& g, int k) {
  int channels = g.c1 + g.c2, t = k / channels;
  return {t / g.kw, t % g.kw, k - t * channels};
}
__device__ __forceinline__ void advance(const Gemm& g, Column& k, int by) {
  k.c += by;
  while (k.c >= g.c1 + g.c2) {
    k.c -= g.c1 + g.c2;
    if (++k.kx == g.kw) k.kx = 0, k.ky++;
  }
}

// finish takes n0's sum and its neighbours' through the epilogue and stores them: `count` columns of row m, all
// inside the result or not. With GEGLU the packed columns are value, gate, value, gate …
template <class T, int count>
__device__ __forceinline__ void finish(const Gemm& g, int m, int n0, float (&v)[count]) {
  if (m >= g.m || n0 >= g.n) return;
  const T* per_channel = static_cast<const T*>(g.per_channel);
  const T* residual = static_cast<const T*>(g.residual);
  T* d = static_cast<T*>(g.d);
  int image = per_channel ? m / (g.out_h * g.out_w) : 0;
  if (g.act == kGEGLU) {
    int outs = g.n / 2;
    for (int i = 0; i < count && n0 + i < g.n; i += 2) {
      int o = (n0 + i) / 2;
      float value = v[i] + (g.bias ? g.bias[o] : 0), gate = v[i + 1] + (g.bias ? g.bias[outs + o] : 0);
      float r = value * gelu(gate);
      int64_t at = int64_t(m) * outs + o;
      if (residual) r += to_float(residual[at]);
      d[at] = from_float<T>(r);
    }
    return;
  }
  int64_t at = int64_t(m) * g.n + n0;
  if (g.n % count == 0) { // so that every row begins aligned, and is full
    float add[count];
    if (g.bias) {
      load(add, g.bias + n0);
      for (int i = 0; i < count; i++) v[i] += add[i];
    }
    if (per_channel) {
      load(add, per_channel + int64_t(image) * g.per_channel_pitch + n0);
      for (int i = 0; i < count; i++) v[i] += add[i];
    }
    for (int i = 0; i < count; i++) v[i] = activate(v[i], g.act);
    if (residual) {
      load(add, residual + at);
      for (int i = 0; i < count; i++) v[i] += add[i];
    }
    store(d + at, v);
    return;
  }
  for (int i = 0; i < count && n0 + i < g.n; i++) {
    float r = v[i];
    if (g.bias) r += g.bias[n0 + i];
    if (per_channel) r += to_float(per_channel[int64_t(image) * g.per_channel_pitch + n0 + i]);
    r = activate(r, g.act);
    if (residual) r += to_float(residual[at + i]);
    d[at + i] = from_float<T>(r);
  }
}

// ---- gemm_simple: 64×64 results a block of 256 threads, 4×4 a thread, through float32 tiles 16 deep ----

struct SimpleTiles {
  static constexpr int kSide = 64, kPitch = kSide + 4, kStep = 16;
  float a[kStep][kPitch], b[kStep][kPitch];
};

template <class T>
__device__ void gemm_simple(const Gemm& g, SimpleTiles* s) {
  constexpr int kSide = SimpleTiles::kSide, kStep = SimpleTiles::kStep;
  const T* b = static_cast<const T*>(g.b);
  int t = threadIdx.x, m0 = blockIdx.x * kSide, n0 = blockIdx.y * kSide;
  int k = t % kStep, row = t / kStep; // what this thread loads: column k of rows row, row+16, …
  Pixel pixel[4];
  for (int i = 0; i < 4; i++) {
    int m = m0 + row + 16 * i;
    pixel[i] = first_tap(g, m < g.m ? m : 0);
    if (m >= g.m) pixel[i].y = -0x10000; // outside every image
  }
  Column col = column(g, k);
  int tm = t / 16 * 4, tn = t % 16 * 4;
  float acc[4][4] = {};
  for (int k0 = 0; k0 < g.k; k0 += kStep) {
    for (int i = 0; i < 4; i++) {
      const T* p = k0 + k < g.k ? tap<T>(g, pixel[i], col.ky, col.kx, col.c) : nullptr;
      s->a[k][row + 16 * i] = p ? to_float(*p) : 0;
      int n = n0 + row + 16 * i;
      s->b[k][row + 16 * i] = n < g.n ? to_float(b[int64_t(n) * g.ldb + k0 + k]) : 0;
    }
    advance(g, col, kStep);
    __syncthreads();
    for (int kk = 0; kk < kStep; kk++) {
      float x[4], y[4];
      load(x, &s->a[kk][tm]);
      load(y, &s->b[kk][tn]);
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) acc[i][j] += x[i] * y[j];
    }
    __syncthreads();
  }
#pragma unroll 1 // one copy of the epilogue for all four rows
  for (int i = 0; i < 4; i++) {
    float v[4];
    for (int j = 0; j < 4; j++) v[j] = i == 0 ? acc[0][j] : i == 1 ? acc[1][j] : i == 2 ? acc[2][j] : acc[3][j];
    finish<T>(g, m0 + tm + i, n0 + tn, v);
  }
}

// ---- gemm_mma: tensor cores ----

// Tile<M, N, warps along M, warps along N>. A block makes M×N results; 16-bit operands come through kStages
// tiles 32 deep, so that kStages-1 of them are on their way while one is used.
template <int M, int N, int WM, int WN>
struct Tile {
  static constexpr int kM = M, kN = N, kWarpsM = WM, kWarpsN = WN;
  static constexpr int kThreads = 32 * WM * WN, kStages = 4;
  static constexpr int kWarpM = M / WM, kWarpN = N / WN;
};

// A row of a tile is 32 values, 4 chunks of 16 bytes, and two rows fill the 128 bytes of shared memory that one
// cycle serves. ldmatrix reads one chunk of 8 neighbouring rows: the chunks of a row are permuted by its number so that
// these 8 fall on 8 different places.
__device__ __forceinline__ int chunk_at(int row, int chunk) { return row * 4 + (chunk ^ (row >> 1 & 3)); }

template <class T, class Tile>
struct Stage {
  T a[Tile::kM * kDepth], b[Tile::kN * kDepth];
};

// Loader brings tiles of A and B into shared memory. Every thread owns one chunk column and every
// kThreads/4-th row. With wide, channels come in eights (c1 and c2 are multiples of 8) and are copied asynchronously;
// else one by one.
template <class T, class Tile, bool wide>
struct Loader {
  static constexpr int kRows = Tile::kThreads / 4; // rows that the block loads at once
  static constexpr int kA = Tile::kM / kRows, kB = Tile::kN / kRows;
  static_assert(Tile::kM % kRows == 0 && Tile::kN % kRows == 0, "the threads must divide the tile");
  const Gemm& g;
  int row, chunk, k;
  Pixel pixel[kA];
  Column col;
  const T* a[kA]; // where the rows' chunks lie, null outside the image; only if wide
  const T* b[kB];
  bool moved; // to another tap or input: a has to be found again

  __device__ Loader(const Gemm& g, int m0, int n0, int k0) : g(g) {
    row = threadIdx.x / 4;
    chunk = threadIdx.x % 4;
    k = k0 + chunk * 8;
    col = column(g, k);
    moved = true;
    for (int i = 0; i < kA; i++) {
      int m = m0 + row + i * kRows;
      pixel[i] = first_tap(g, m < g.m ? m : 0);
      if (m >= g.m) pixel[i].y = -0x10000; // outside every image
    }
    for (int i = 0; i < kB; i++) {
      int n = n0 + row + i * kRows;
      b[i] = n < g.n ? static_cast<const T*>(g.b) + int64_t(n) * g.ldb + k : nullptr;
    }
  }

  // next loads one tile and steps kDepth along K.
  __device__ __forceinline__ void next(Stage<T, Tile>* s) {
    if (wide && moved)
      for (int i = 0; i < kA; i++) a[i] = k < g.k ? tap<T>(g, pixel[i], col.ky, col.kx, col.c) : nullptr;
    for (int i = 0; i < kA; i++) {
      T* to = s->a + chunk_at(row + i * kRows, chunk) * 8;
      if constexpr (wide) {
        cp_async16(to, a[i] ? a[i] : g.a, a[i] != nullptr);
        if (a[i]) a[i] += kDepth;
      } else {
        Column c = col;
        float v[8];
        for (int e = 0; e < 8; e++) {
          const T* p = k + e < g.k ? tap<T>(g, pixel[i], c.ky, c.kx, c.c) : nullptr;
          v[e] = p ? to_float(*p) : 0;
          advance(g, c, 1);
        }
        store(to, v);
      }
    }
    for (int i = 0; i < kB; i++) {
      cp_async16(s->b + chunk_at(row + i * kRows, chunk) * 8, b[i] ? b[i] : g.b, b[i] != nullptr);
      if (b[i]) b[i] += kDepth;
    }
    k += kDepth;
    // Within a tap and an input the channels go on; only where they end is there anything to work out.
    moved = col.c + kDepth >= (col.c < g.c1 ? g.c1 : g.c1 + g.c2);
    if (moved) advance(g, col, kDepth);
    else col.c += kDepth;
  }
};

template <class Tile>
__device__ __forceinline__ int spread_at(int row, int column) {
  return row * Tile::kWarpN + ((column >> 2 ^ (row << 1 & 6)) << 2) + (column & 3);
}

template <class T, class Tile>
struct Accumulators {
  static constexpr int kI = Tile::kWarpM / 16, kJ = Tile::kWarpN / 16;
  Acc acc[kI][kJ][2];

  // multiply adds the products of one tile for this warp.
  __device__ __forceinline__ void multiply(const Stage<T, Tile>* s, int wm, int wn) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int kk = 0; kk < kDepth / 16; kk++) {
      uint32_t a[kI][4], b[kJ][4];
#pragma unroll
      for (int i = 0; i < kI; i++) ldmatrix_x4(a[i], s->a + chunk_at(wm + 16 * i + lane % 16, 2 * kk + lane / 16) * 8);
#pragma unroll
      for (int j = 0; j < kJ; j++)
        ldmatrix_x4(b[j], s->b + chunk_at(wn + 16 * j + lane % 8 + lane / 16 * 8, 2 * kk + lane / 8 % 2) * 8);
#pragma unroll
      for (int i = 0; i < kI; i++)
#pragma unroll
        for (int j = 0; j < kJ; j++)
          for (int h = 0; h < 2; h++) mma_m16n8k16(acc[i][j][h], a[i], b[j][2 * h], b[j][2 * h + 1], T());
    }
  }

  // spread writes the warp's results to its part of shared memory, row by row, so that neighbouring lanes can
  // take neighbouring columns from there. The quads of a row are permuted for the sake of the banks: the lanes 4g+t write
  // 8 bytes each to rows g, g+1, g+2, g+3 at a time.
  __device__ __forceinline__ void spread(float* to) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < kI; i++)
#pragma unroll
      for (int j = 0; j < kJ; j++)
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
          for (int r = 0; r < 2; r++)
            store_shared_pair(to + spread_at<Tile>(16 * i + 8 * r + g, 16 * j + 8 * h + 2 * t), acc[i][j][h][2 * r], acc[i][j][h][2 * r + 1]);
  }
};

// gemm_mma makes the tile (blockIdx.x, blockIdx.y) of the result, or of part blockIdx.z of its sum.
template <class T, class Tile, bool wide>
__device__ __forceinline__ void gemm_mma(const Gemm& g, Stage<T, Tile>* stages) {
  constexpr int kStages = Tile::kStages;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int m0 = blockIdx.x * Tile::kM, n0 = blockIdx.y * Tile::kN;
  int wm = warp % Tile::kWarpsM * Tile::kWarpM, wn = warp / Tile::kWarpsM * Tile::kWarpN;

  int steps = ceil_div(g.k, kDepth), each = ceil_div(steps, g.splits);
  int first = blockIdx.z * each, count = max(0, min(each, steps - first));
  Loader<T, Tile, wide> loader(g, m0, n0, first * kDepth);
  Accumulators<T, Tile> sums;

#pragma unroll 1
  for (int i = 0; i < kStages - 1; i++) {
    if (i < count) loader.next(&stages[i]);
    cp_async_commit();
  }
#pragma unroll 1
  for (int i = 0; i < count; i++) {
    cp_async_wait<kStages - 2>(); // tile i has come, for this thread
    __syncthreads();              // … and for all; and all have done with the tile before it
    int ahead = i + kStages - 1;
    if (ahead < count) loader.next(&stages[ahead % kStages]);
    cp_async_commit();
    sums.multiply(&stages[i % kStages], wm, wn);
  }

  // The epilogue: the stages' memory is free once everybody is here.
  cp_async_wait<0>();
  __syncthreads();
  static_assert(sizeof(Stage<T, Tile>) * kStages >= sizeof(float) * Tile::kM * Tile::kN, "the results must fit the stages");
  float* mine = reinterpret_cast<float*>(stages) + warp * Tile::kWarpM * Tile::kWarpN;
  sums.spread(mine);
  __syncwarp();
  constexpr int kQuads = Tile::kWarpN / 4;
#pragma unroll 1
  for (int i = lane; i < Tile::kWarpM * kQuads; i += 32) {
    int row = i / kQuads, column = i % kQuads * 4;
    int m = m0 + wm + row, n = n0 + wn + column;
    float v[4];
    load(v, mine + spread_at<Tile>(row, column));
    if (g.splits == 1) {
      finish<T>(g, m, n, v);
    } else if (m < g.m) {
      float* to = g.partial + (int64_t(blockIdx.z) * g.m + m) * g.n + n;
      for (int e = 0; e < 4; e++)
        if (n + e < g.n) to[e] = v[e];
    }
  }
}

// gemm_reduce adds the parts of split sums, in order, and finishes four columns a thread.
template <class T>
__device__ void gemm_reduce(const Gemm& g) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  int quads = ceil_div(g.n, 4);
  if (i >= int64_t(g.m) * quads) return;
  int m = int(i / quads), n = int(i % quads) * 4;
  float v[4] = {};
  for (int s = 0; s < g.splits; s++) {
    const float* p = g.partial + (int64_t(s) * g.m + m) * g.n + n;
    for (int e = 0; e < 4; e++)
      if (n + e < g.n) v[e] += p[e];
  }
  finish<T>(g, m, n, v);
}
