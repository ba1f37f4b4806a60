// gemm.cuh: D[M,N] = act(A[M,K] · B[N,K]ᵀ + bias + perChannel) + residual, the heart of Conv2D and Linear.
//
// B is the weight as packed by weights.go: row n holds output n's coefficients, padded with zeros to a
// multiple of 32. A is either a matrix, or an image seen through a filter (an implicit GEMM: row m is
// output pixel m, column k is tap and channel, and nothing is ever unfolded in memory).
//
// Two kernels: gemm_simple, plain float32 arithmetic for every type and shape, and gemm_mma on tensor cores.
// kernels/lab (gemm1, gemm2) holds earlier versions of gemm_mma, with what each change gained.
#pragma once
#include "moments.cuh"
#include "ptx.cuh"

// Gemm is the parameter of every kernel of this family, filled by gemm.go.
struct Gemm {
  const void *a, *a2;       // one input or two side by side in the channels
  const void* b;            // [N, ldb]
  const float* bias;        // [N] or null
  const void* per_channel;  // [images, N], or columns of a wider matrix, or null
  const void* residual;     // D's shape or null
  void* d;
  float* partial;           // [splits, M, N] if splits > 1
  int m, n, k, ldb, act, splits;
  int h, w;                 // of the inputs
  int c1, c2, kh, kw;       // channels of a and a2; the filter's size
  int stride, pad;
  int up_h, up_w;           // the size that the input is read at
  int out_h, out_w;
  Divisor pixels, row, by_up_h, by_up_w; // by out_h·out_w, out_w, up_h, up_w
  int per_channel_pitch;    // from one image's to the next
  float eps;                // of the norm
  unsigned* ticket;         // if splits > 1: zeros, one for each warp of a tile, or null: then gemm_reduce follows
  // With a layer norm before the product, whose scale b holds: the moments of A's rows, by which products are normalised,
  // and by column the sum of b and what the norm's shift adds. Null without.
  const float2* moments;
  float2* moments_out;      // of D's rows, or null
  const float *sums, *shift;
};

// Pixel is the place in the input that an output pixel's filter begins at.
struct Pixel {
  int first, y, x; // first: number of the image's first pixel in memory
};
__device__ __forceinline__ Pixel first_tap(const Gemm& g, int m) {
  if (m >= g.m) return {0, -0x10000000, 0}; // outside every image
  int image = g.pixels.under(m), r = m - image * (g.out_h * g.out_w);
  int y = g.row.under(r), x = r - y * g.out_w;
  return {image * (g.h * g.w), y * g.stride - g.pad, x * g.stride - g.pad};
}

// Column k of A as tap and channel, which can step along.
struct Column {
  int ky, kx, c;
};
__device__ __forceinline__ void advance(const Gemm& g, Column& k, int by) {
  k.c += by;
  while (k.c >= g.c1 + g.c2) {
    k.c -= g.c1 + g.c2;
    if (++k.kx == g.kw) k.kx = 0, k.ky++;
  }
}

// Where a tap's channel lies, or null outside the image, or past the filter's last row.
template <class T>
__device__ __forceinline__ const T* tap(const Gemm& g, const Pixel& p, const Column& k) {
  int y = p.y + k.ky, x = p.x + k.kx;
  if (unsigned(y) >= unsigned(g.up_h) || unsigned(x) >= unsigned(g.up_w) || k.ky >= g.kh) return nullptr;
  if (g.up_h != g.h) y = g.by_up_h.under(y * g.h);
  if (g.up_w != g.w) x = g.by_up_w.under(x * g.w);
  int at = p.first + y * g.w + x;
  return k.c < g.c1 ? static_cast<const T*>(g.a) + int64_t(at) * g.c1 + k.c : static_cast<const T*>(g.a2) + int64_t(at) * g.c2 + (k.c - g.c1);
}

// Epilogue takes sums through what follows them, four neighbouring columns from n0 on at a time, and stores them. With GEGLU
// and SwiGLU the packed columns are value, gate, value, gate …, and two results come of four.
template <class T>
struct Epilogue {
  const Gemm& g;
  int n0, to, width; // the first column of the sums and of the results; a row of results
  bool full;         // all four columns are inside, and every row begins aligned
  float bias[4], sums[4];

  __device__ __forceinline__ Epilogue(const Gemm& g, int n0) : g(g), n0(n0) {
    bool pairs = gated(g.act);
    width = pairs ? g.n / 2 : g.n;
    to = pairs ? n0 / 2 : n0;
    full = g.n % 4 == 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
      bias[i] = !g.bias || n0 + i >= g.n ? 0 : g.bias[pairs ? i % 2 * width + to + i / 2 : n0 + i];
    if (!g.moments) return;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      sums[i] = n0 + i < g.n ? g.sums[n0 + i] : 0;
      bias[i] += n0 + i < g.n ? g.shift[n0 + i] : 0;
    }
  }

  // The row is A's mean and reciprocal deviation, read with a norm only. The results stay in v.
  __device__ __forceinline__ void store(int m, float (&v)[4], float2 row) const {
    if (m >= g.m || n0 >= g.n) return;
    if (g.moments)
      for (int i = 0; i < 4; i++) v[i] = row.y * fmaf(-row.x, sums[i], v[i]);
    for (int i = 0; i < 4; i++) v[i] += bias[i];
    int64_t at = int64_t(m) * width + to;
    if (gated(g.act)) {
      float r[2] = {v[0] * gate(v[1], g.act), v[2] * gate(v[3], g.act)};
      finish(r, at);
      return;
    }
    if (g.per_channel) {
      const T* p = static_cast<const T*>(g.per_channel) + int64_t(g.pixels.under(m)) * g.per_channel_pitch + n0;
      float add[4];
      if (full) load(add, p);
      else
        for (int i = 0; i < 4; i++) add[i] = n0 + i < g.n ? to_float(p[i]) : 0;
      for (int i = 0; i < 4; i++) v[i] += add[i];
    }
    if (g.act != kIdentity)
      for (int i = 0; i < 4; i++) v[i] = activate(v[i], g.act);
    finish(v, at);
  }

  // finish adds the residual and rounds.
  template <int count>
  __device__ __forceinline__ void finish(float (&v)[count], int64_t at) const {
    const T* residual = static_cast<const T*>(g.residual);
    T* d = static_cast<T*>(g.d);
    if (full) {
      if (residual) {
        float add[count];
        load(add, residual + at);
        for (int i = 0; i < count; i++) v[i] += add[i];
      }
      ::store(d + at, v);
      return;
    }
    for (int i = 0; i < count && to + i < width; i++) {
      if (residual) v[i] += to_float(residual[at + i]);
      d[at + i] = from_float<T>(v[i]);
    }
  }
};

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
  for (int i = 0; i < 4; i++) pixel[i] = first_tap(g, m0 + row + 16 * i);
  Column col = {0, 0, 0};
  advance(g, col, k);
  int tm = t / 16 * 4, tn = t % 16 * 4;
  float acc[4][4] = {};
  for (int k0 = 0; k0 < g.k; k0 += kStep) {
    for (int i = 0; i < 4; i++) {
      const T* p = k0 + k < g.k ? tap<T>(g, pixel[i], col) : nullptr;
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
  Epilogue<T> epilogue(g, n0 + tn);
#pragma unroll 1 // one copy of the epilogue for all four rows
  for (int i = 0; i < 4; i++) {
    float v[4];
    for (int j = 0; j < 4; j++) v[j] = i == 0 ? acc[0][j] : i == 1 ? acc[1][j] : i == 2 ? acc[2][j] : acc[3][j];
    epilogue.store(m0 + tm + i, v, make_float2(0, 1));
  }
}

// ---- gemm_mma: tensor cores ----

// Tile<M, N, warps along M, warps along N, stages>. A block makes M×N results. Operands come through the stages, each
// kRowBytes deep, so that all but one are on their way while one is used.
constexpr int kRowBytes = 64, kChunks = kRowBytes / 16;
template <int M, int N, int WM, int WN, int stages>
struct Tile {
  static constexpr int kM = M, kN = N, kWarpsM = WM, kWarpsN = WN;
  static constexpr int kThreads = 32 * WM * WN, kStages = stages;
  static constexpr bool kCrowded = kThreads > 128; // so many warps that one loads while others multiply
  static constexpr int kWarpM = M / WM, kWarpN = N / WN;
  static constexpr int kStageBytes = (M + N) * kRowBytes; // rows of A, then of B
};

// A row of a stage is 4 chunks of 16 bytes, and two rows fill the 128 bytes of shared memory that one
// cycle serves. ldmatrix reads one chunk of 8 neighbouring rows: the chunks of a row are permuted by its number so that
// these 8 fall on 8 different places. Rows 8 apart are permuted alike.
__device__ __forceinline__ int chunk_at(int row, int chunk) { return row * kRowBytes + (chunk ^ (row >> 1 & 3)) * 16; }
// other_half is where chunk 2 lies, in the row whose chunk 0 lies at a place, and 3 where 1 does.
__device__ __forceinline__ Shared other_half(Shared chunk) { return flipped(chunk, 32); }

// Loader brings the rows of a stage into shared memory. Every thread owns one chunk column and every
// kThreads/4-th row. With wide, channels come in whole chunks (c1 and c2 are multiples of them) and are copied
// asynchronously; else one by one. Where a row's chunk lies is worked out once a tap and input: within these, and in B, the
// next chunk is kRowBytes on.
template <class T, class Tile, bool wide>
struct Loader {
  static constexpr int kRows = Tile::kThreads / kChunks; // rows that the block loads at once
  static constexpr int kA = Tile::kM / kRows, kB = Tile::kN / kRows;
  static constexpr int kDepth = kRowBytes / sizeof(T), kPerChunk = 16 / sizeof(T);
  static_assert(Tile::kM % kRows == 0 && Tile::kN % kRows == 0 && kRows % 8 == 0, "the threads must divide the tile");
  const Gemm& g;
  Pixel pixel[kA];
  Column col;
  int end;         // the channel at which col leaves the input that it is in
  const T* a[kA];
  const T* b;
  int64_t pitch;   // from one of the thread's rows of B to the next
  int a_bytes[kA], b_bytes[kB]; // 16 of a row that is there, 0 of one in whose place zeros are taken
  Shared to;       // this thread's chunk in stage 0

  __device__ Loader(const Gemm& g, char* stages, int m0, int n0, int k0) : g(g) {
    int row = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
    to = shared_address(stages) + kept(chunk_at(row, chunk));
    for (int i = 0; i < kA; i++) pixel[i] = first_tap(g, m0 + row + i * kRows);
    int n = n0 + row;
    for (int i = 0; i < kB; i++) b_bytes[i] = n + i * kRows < g.n ? 16 : 0;
    b = static_cast<const T*>(g.b) + int64_t(n) * g.ldb + k0 + chunk * kPerChunk;
    pitch = int64_t(kRows) * g.ldb;
    col = {0, 0, 0};
    advance(g, col, k0 + chunk * kPerChunk);
    if (wide) find();
  }

  // find works out where the rows' chunks lie.
  __device__ __forceinline__ void find() {
    end = col.c < g.c1 ? g.c1 : g.c1 + g.c2;
#pragma unroll
    for (int i = 0; i < kA; i++) {
      a[i] = tap<T>(g, pixel[i], col);
      a_bytes[i] = a[i] ? 16 : 0;
    }
  }

  // next loads a stage, with zeros if there is no more.
  __device__ __forceinline__ void next(int stage, bool more) {
    int there = more ? 16 : 0;
    Shared at = to + stage;
#pragma unroll
    for (int i = 0; i < kA; i++) {
      if constexpr (wide) {
        cp_async16(at + i * kRows * kRowBytes, a[i], there & a_bytes[i]);
        a[i] += kDepth;
      } else {
        load_narrow(at + i * kRows * kRowBytes, pixel[i], more);
      }
    }
#pragma unroll
    for (int i = 0; i < kB; i++) cp_async16(at + (Tile::kM + i * kRows) * kRowBytes, b + i * pitch, there & b_bytes[i]);
    b += kDepth;
  }
  // step goes on to the next one.
  __device__ __forceinline__ void step() {
    if constexpr (!wide) {
      advance(g, col, kDepth);
    } else if ((col.c += kDepth) >= end) {
      advance(g, col, 0);
      find();
    }
  }

  __device__ __forceinline__ void load_narrow(Shared at, const Pixel& p, bool more) {
    Column c = col;
    uint32_t v[4];
    T e[kPerChunk];
    for (int i = 0; i < kPerChunk; i++) {
      const T* from = more ? tap<T>(g, p, c) : nullptr;
      e[i] = from ? *from : from_float<T>(0);
      advance(g, c, 1);
    }
    memcpy(v, e, 16);
    store_shared16(at, v);
  }
};

// Fragments is what a warp multiplies at once: 32 bytes of the depth of its rows of A and B. That is 16
// halves, or 8 float32: to ldmatrix, and to the places of the values in the registers, these are the same. Float32 are
// rounded to TF32, B by weights.go.
template <class T, class Tile>
struct Fragments {
  static constexpr int kI = Tile::kWarpM / 16, kJ = Tile::kWarpN / 16;
  uint32_t a[kI][4], b[kJ][4];

  __device__ __forceinline__ void load(Shared from_a, Shared from_b) {
#pragma unroll
    for (int i = 0; i < kI; i++) ldmatrix_x4(a[i], from_a + 16 * i * kRowBytes);
#pragma unroll
    for (int j = 0; j < kJ; j++) ldmatrix_x4(b[j], from_b + 16 * j * kRowBytes);
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int i = 0; i < kI; i++)
        for (int e = 0; e < 4; e++) a[i][e] = to_tf32(a[i][e]);
    }
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

  __device__ __forceinline__ void multiply(const Fragments<T, Tile>& f) {
#pragma unroll
    for (int i = 0; i < kI; i++)
#pragma unroll
      for (int j = 0; j < kJ; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
          if constexpr (sizeof(T) == 4) mma_m16n8k8_tf32(acc[i][j][h], f.a[i], f.b[j][2 * h], f.b[j][2 * h + 1]);
          else mma_m16n8k16(acc[i][j][h], f.a[i], f.b[j][2 * h], f.b[j][2 * h + 1], T());
        }
  }

  // spread writes 32 rows of the warp's results, from row 32·part on, to its part of shared memory, so that
  // neighbouring lanes can take neighbouring columns from there. The quads of a row are permuted for the sake of the
  // banks: the lanes 4g+t write 8 bytes each to rows g, g+1, g+2, g+3 at a time.
  template <int part>
  __device__ __forceinline__ void spread(float* to) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
      for (int j = 0; j < kJ; j++)
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
          for (int r = 0; r < 2; r++) {
            Acc& c = acc[2 * part + i][j][h];
            store_shared_pair(to + spread_at<Tile>(16 * i + 8 * r + g, 16 * j + 8 * h + 2 * t), c[2 * r], c[2 * r + 1]);
          }
  }
};

__device__ __forceinline__ void store_partial(const Gemm& g, float* to, int n, float (&v)[4]) {
  if (g.n % 4 == 0) {
    store(to, v);
    return;
  }
  for (int e = 0; e < 4; e++)
    if (n + e < g.n) to[e] = v[e];
}

// load_partial reads four columns of a part that another block may just have written.
__device__ __forceinline__ void load_partial(const Gemm& g, const float* from, int n, float (&v)[4]) {
  if (g.n % 4 == 0) {
    load_fresh(v, from);
    return;
  }
  for (int e = 0; e < 4; e++) v[e] = n + e < g.n ? load_fresh(from + e) : 0;
}

// add_parts ends a warp's part of a split sum, whose rows×columns results begin at (m0, n0). The last of the parts to
// come adds them all, in their order, and finishes the results: whichever that is, the bits are the same. The ticket counts
// the parts, and is left as zero for the next product. No block waits for another. norms are those of the rows.
template <class T, int rows, int columns>
__device__ __forceinline__ void add_parts(const Gemm& g, unsigned* ticket, int m0, int n0, const float2* norms) {
  int lane = threadIdx.x % 32, parts = 0;
  __threadfence(); // before the count says that they are there, this lane's sums are
  __syncwarp();
  if (lane == 0) parts = int(atomicAdd(ticket, 1u)) + 1;
  if (__shfl_sync(~0u, parts, 0) != g.splits) return;
  if (lane == 0) *ticket = 0;
  __threadfence();
  constexpr int kQuads = columns >= 128 ? 32 : columns >= 64 ? 16 : columns / 4; // divides 32
#pragma unroll 1
  for (int n = n0 + lane % kQuads * 4; n < n0 + columns; n += 4 * kQuads) { // all lanes take as many turns
    Epilogue<T> epilogue(g, n);
#pragma unroll 1
    for (int row = lane / kQuads; row < rows; row += 32 / kQuads) {
      int m = m0 + row;
      bool there = m < g.m && n < g.n;
      float v[4] = {};
#pragma unroll 1
      for (int s = 0; there && s < g.splits; s++) {
        float part[4];
        load_partial(g, g.partial + (int64_t(s) * g.m + m) * g.n + n, n, part);
        for (int e = 0; e < 4; e++) v[e] += part[e];
      }
      epilogue.store(m, v, g.moments ? norms[row] : make_float2(0, 1));
      if (g.moments_out) store_moments<T>(g.moments_out, g.m, m, n, v, there);
    }
  }
}

// gemm_mma makes the tile (blockIdx.x, blockIdx.y) of the result, or of part blockIdx.z of its sum.
template <class T, class Tile, bool wide>
__device__ __forceinline__ void gemm_mma(const Gemm& g, char* stages) {
  using L = Loader<T, Tile, wide>;
  constexpr int kStages = Tile::kStages, kBytes = Tile::kStageBytes;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int m0 = blockIdx.x * Tile::kM, n0 = blockIdx.y * Tile::kN;
  int wm = warp % Tile::kWarpsM * Tile::kWarpM, wn = warp / Tile::kWarpsM * Tile::kWarpN;

  int steps = ceil_div(g.k, L::kDepth), each = ceil_div(steps, g.splits);
  int first = blockIdx.z * each, count = max(0, min(each, steps - first));
  L loader(g, stages, m0, n0, first * L::kDepth);

#pragma unroll 1
  for (int i = 0; i < kStages - 1; i++) {
    loader.next(i * kBytes, i < count);
    loader.step();
    cp_async_commit();
  }

  // Behind the stages, if there is a norm: that of each row. The first stages are on their way meanwhile.
  if (g.moments && threadIdx.x < Tile::kM)
    reinterpret_cast<float2*>(stages + kStages * kBytes)[threadIdx.x] = row_norm(g.moments, g.m, g.k, min(m0 + int(threadIdx.x), g.m - 1), g.eps);

  // Where this lane's rows of the fragments lie in stage 0: their chunks 0 and 1, and 2 and 3.
  Shared base = shared_address(stages);
  int row_a = wm + lane % 16, row_b = Tile::kM + wn + lane % 8 + lane / 16 * 8;
  const int a_at[2] = {kept(chunk_at(row_a, lane / 16)), kept(chunk_at(row_a, 2 + lane / 16))};
  const int b_at[2] = {kept(chunk_at(row_b, lane / 8 % 2)), kept(chunk_at(row_b, 2 + lane / 8 % 2))};

  Accumulators<T, Tile> sums;
  int read = 0;
  cp_async_wait<kStages - 2>(); // stage 0 has come, for this thread
  __syncthreads();              // … and for all
  if constexpr (Tile::kCrowded) {
    Fragments<T, Tile> f;
#pragma unroll 1
    for (int left = count; left > 0; left--) {
      f.load(base + read + a_at[0], base + read + b_at[0]);
      loader.next(read == 0 ? (kStages - 1) * kBytes : read - kBytes, left >= kStages);
      cp_async_commit();
      sums.multiply(f);
      f.load(other_half(base + read + a_at[0]), other_half(base + read + b_at[0])); // registers are too few for a_at[1]
      loader.step();
      read = read == (kStages - 1) * kBytes ? 0 : read + kBytes;
      sums.multiply(f);
      cp_async_wait<kStages - 2>(); // the next stage has come, here
      __syncthreads();              // … and for all; and all have done with this one
    }
  } else {
    Fragments<T, Tile> even, odd; // one is loaded while the other is multiplied
    even.load(base + a_at[0], base + b_at[0]);
    int write = (kStages - 1) * kBytes;
#pragma unroll 1
    for (int i = 0; i < count; i++) {
#ifdef OLD_GPU // copies go through registers, which are needed twice otherwise
      loader.next(write, i + kStages - 1 < count);
      odd.load(base + read + a_at[1], base + read + b_at[1]);
#else
      odd.load(base + read + a_at[1], base + read + b_at[1]);
      loader.next(write, i + kStages - 1 < count);
#endif
      cp_async_commit();
      sums.multiply(even);
      loader.step();
      write = read;
      read = read == (kStages - 1) * kBytes ? 0 : read + kBytes;
      cp_async_wait<kStages - 2>(); // the next stage has come, for this thread
      __syncthreads();              // … and for all; and all have done with the stage before it
      even.load(base + read + a_at[0], base + read + b_at[0]);
      sums.multiply(odd);
    }
  }

  // The stages' memory is free once everybody is here. 32 rows a warp fit at a time.
  cp_async_wait<0>();
  __syncthreads();
  constexpr int kQuads = Tile::kWarpN / 4, kParts = Tile::kWarpM / 32;
  static_assert(kBytes * kStages >= 4 * 32 * Tile::kWarpN * Tile::kThreads / 32, "the results must fit the stages");
  static_assert(kParts <= 2, "spread is called for two parts");
  float* mine = reinterpret_cast<float*>(stages) + warp * 32 * Tile::kWarpN;
  const float2* norms = reinterpret_cast<const float2*>(stages + kStages * kBytes);
  int column = lane % kQuads * 4, n = n0 + wn + column;
  Epilogue<T> epilogue(g, n);
#pragma unroll 1
  for (int part = 0; part < kParts; part++) {
    if (part == 0) sums.template spread<0>(mine);
    else sums.template spread<kParts - 1>(mine);
    __syncwarp();
#pragma unroll 1
    for (int row = lane / kQuads; row < 32; row += 32 / kQuads) {
      int m = m0 + wm + 32 * part + row;
      float v[4];
      load(v, mine + spread_at<Tile>(row, column));
      if (g.splits == 1) {
        epilogue.store(m, v, g.moments ? norms[wm + 32 * part + row] : make_float2(0, 1));
        if (g.moments_out) store_moments<T>(g.moments_out, g.m, m, n, v, m < g.m && n < g.n);
      } else if (m < g.m && n < g.n) {
        store_partial(g, g.partial + (int64_t(blockIdx.z) * g.m + m) * g.n + n, n, v);
      }
    }
    __syncwarp();
  }
  if (g.splits > 1 && g.ticket) {
    int w = kept(threadIdx.x) / 32; // worked out again: no register holds it during the main loop
    add_parts<T, Tile::kWarpM, Tile::kWarpN>(g, g.ticket + (blockIdx.y * gridDim.x + blockIdx.x) * (Tile::kThreads / 32) + w,
      blockIdx.x * Tile::kM + w % Tile::kWarpsM * Tile::kWarpM, blockIdx.y * Tile::kN + w / Tile::kWarpsM * Tile::kWarpN, norms + w % Tile::kWarpsM * Tile::kWarpM);
  }
}

// gemm_reduce adds the parts of split sums, in order, and finishes four columns a thread: where there are too few tickets.
template <class T>
__device__ void gemm_reduce(const Gemm& g) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  int quads = ceil_div(g.n, 4);
  int m = int(i / quads), n = int(i % quads) * 4;
  bool there = m < g.m;
  float v[4] = {};
  for (int s = 0; there && s < g.splits; s++) {
    const float* p = g.partial + (int64_t(s) * g.m + m) * g.n + n;
    float part[4];
    load_partial(g, p, n, part);
    for (int e = 0; e < 4; e++) v[e] += part[e];
  }
  Epilogue<T>(g, n).store(m, v, g.moments && there ? row_norm(g.moments, g.m, g.k, m, g.eps) : make_float2(0, 1));
  if (g.moments_out) store_moments<T>(g.moments_out, g.m, m, n, v, there);
}
