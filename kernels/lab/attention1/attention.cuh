// attention1/attention.cuh, the first version, as it was; ../README.md has what was learned from it.
//
// attention.cuh: softmax(Q·Kᵀ·scale)·V for each head, the score matrix never stored (FlashAttention, Dao et
// al. 2022): for each tile of keys, the running maximum, sum and weighted values of a query are rescaled.
//
// attention_simple: one warp a query, every type and head size up to 512.
// attention_mma: tensor cores, 64 queries a block, head sizes up to 160 in multiples of 8.
// attention_wide: tensor cores, 32 queries a block, head sizes up to 512 in multiples of 8.
#pragma once
#include "ptx.cuh"

// Attention is the parameter of every kernel of this family, filled by attention.go.
struct Attention {
  const void *q, *k, *v; // [N, queries, channels], [N, keys, channels] twice
  void* o;               // as q
  int queries, keys, channels;
  int size;              // of a head
  int causal;
  float scale;
};
// The grid is (tiles of queries, heads, images).

constexpr float kLog2E = 1.44269504088896341f;

// ---- attention_simple: blocks of 4 warps ----

template <class T>
__device__ void attention_simple(const Attention& a, float* shared) {
  constexpr int kMost = 512 / 32; // columns of a head that a lane sums
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int query = blockIdx.x * 4 + warp;
  if (query >= a.queries) return;
  const int64_t head = blockIdx.y * a.size;
  const T* q = static_cast<const T*>(a.q) + (int64_t(blockIdx.z) * a.queries + query) * a.channels + head;
  const T* k = static_cast<const T*>(a.k) + int64_t(blockIdx.z) * a.keys * a.channels + head;
  const T* v = static_cast<const T*>(a.v) + int64_t(blockIdx.z) * a.keys * a.channels + head;
  float* mine = shared + warp * a.size; // the query in float32
  for (int c = lane; c < a.size; c += 32) mine[c] = to_float(q[c]);
  __syncwarp();

  float top = -INFINITY, sum = 0, out[kMost] = {};
  int seen = a.causal ? query + 1 : a.keys;
  for (int k0 = 0; k0 < seen; k0 += 32) {
    int key = k0 + lane;
    float score = -INFINITY;
    if (key < seen) {
      score = 0;
      for (int c = 0; c < a.size; c++) score += mine[c] * to_float(k[int64_t(key) * a.channels + c]);
      score *= a.scale;
    }
    float m = score;
    for (int i = 16; i; i >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, i));
    m = fmaxf(m, top);
    float p = key < seen ? expf(score - m) : 0, rescale = expf(top - m);
    top = m;
    sum = sum * rescale + warp_sum(p);
    for (int i = 0; i < kMost; i++) out[i] *= rescale;
    for (int j = 0; j < min(32, seen - k0); j++) {
      float pj = __shfl_sync(~0u, p, j);
      const T* row = v + int64_t(k0 + j) * a.channels;
      for (int i = 0; i < kMost; i++)
        if (lane + 32 * i < a.size) out[i] += pj * to_float(row[lane + 32 * i]);
    }
  }
  T* o = static_cast<T*>(a.o) + (int64_t(blockIdx.z) * a.queries + query) * a.channels + head;
  for (int i = 0; i < kMost; i++)
    if (lane + 32 * i < a.size) o[lane + 32 * i] = from_float<T>(out[i] / sum);
}

// ---- tiles of rows of a head ----

// Rows<T, D> is a tile of head rows in shared memory, one after another, in chunks of 16 bytes; 8 chunks make the
// 128 bytes that one cycle serves. cp.async fills them in order. ldmatrix reads the same chunk of 8 neighbouring rows:
// without help, rows kPeriod apart would meet in the same place of their 128 bytes. So the places are permuted, by
// exclusive or with the number of the period.
template <class T, int D>
struct Rows {
  static constexpr int kChunks = D / 8, kPitch = D;
  static constexpr int kPeriod = kChunks % 8 == 0 ? 1 : kChunks % 4 == 0 ? 2 : 4; // rows that fill whole 128 bytes
  T* at;
  __device__ __forceinline__ T* row(int r, int column) const {
    return at + ((r * kChunks + column / 8) ^ (r / kPeriod & (8 / kPeriod - 1))) * 8;
  }

  // load brings rows [first, first+n) of a head; what is past the end, or past the head's size, is zero.
  template <int n, int threads>
  __device__ __forceinline__ void load(const T* from, int first, int end, int64_t pitch, int size) const {
#pragma unroll
    for (int i = threadIdx.x; i < n * kChunks; i += threads) {
      int r = i / kChunks, c = i % kChunks * 8;
      bool valid = first + r < end && c < size;
      cp_async16(row(r, c), valid ? from + (first + r) * pitch + c : from, valid);
    }
  }
};

// Softmax is the running maximum and sum of the two query rows, g and g+8, that a lane holds results of.
struct Softmax {
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};

  // step takes the scores of a tile of 8·n keys from k0 on, turns them into weights relative to the new maximum, and
  // gives the factors of what was summed before. Scores come scaled by log₂e, so that weights are powers of 2.
  template <int n>
  __device__ __forceinline__ void step(Acc (&s)[n], float scale, int k0, int seen0, int seen1, float (&rescale)[2]) {
    int t = threadIdx.x % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      int seen = h ? seen1 : seen0;
      float m = top[h];
#pragma unroll
      for (int j = 0; j < n; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float& x = s[j][2 * h + e];
          x = k0 + 8 * j + 2 * t + e < seen ? x * scale : -INFINITY;
          m = fmaxf(m, x);
        }
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
      if (m == -INFINITY) m = 0; // nothing seen yet: weights 0, not NaN
      rescale[h] = exp2f(top[h] - m);
      top[h] = m;
      float add = 0;
#pragma unroll
      for (int j = 0; j < n; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float& x = s[j][2 * h + e];
          x = exp2f(x - m);
          add += x;
        }
      sum[h] = sum[h] * rescale[h] + add;
    }
  }
  // total is the sum over the row's four lanes.
  __device__ __forceinline__ float total(int h) const {
    float x = sum[h];
    x += __shfl_xor_sync(~0u, x, 1);
    x += __shfl_xor_sync(~0u, x, 2);
    return x;
  }
};

// ---- attention_mma: 4 warps of 16 queries; two tiles of keys and values in turn ----

template <int D>
struct Flash {
  static constexpr int kQueries = 64, kKeys = D > 80 ? 32 : 64, kThreads = 128;
};
template <class T, int D>
struct FlashTiles {
  using R = Rows<T, D>;
  T q[Flash<D>::kQueries * R::kPitch];
  T k[2][Flash<D>::kKeys * R::kPitch], v[2][Flash<D>::kKeys * R::kPitch];
};

template <class T, int D>
__device__ __forceinline__ void attention_mma(const Attention& a, FlashTiles<T, D>* s) {
  using F = Flash<D>;
  using R = Rows<T, D>;
  constexpr int kKeys = F::kKeys;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int q0 = blockIdx.x * F::kQueries, mine = q0 + warp * 16 + lane / 4;
  const int64_t head = blockIdx.y * a.size, pitch = a.channels;
  const T* q = static_cast<const T*>(a.q) + blockIdx.z * (a.queries * pitch) + head;
  const T* k = static_cast<const T*>(a.k) + blockIdx.z * (a.keys * pitch) + head;
  const T* v = static_cast<const T*>(a.v) + blockIdx.z * (a.keys * pitch) + head;
  int end = a.causal ? min(a.keys, q0 + F::kQueries) : a.keys;
  int tiles = ceil_div(end, kKeys);

  auto load = [&](int tile) {
    R{s->k[tile & 1]}.template load<kKeys, F::kThreads>(k, tile * kKeys, a.keys, pitch, a.size);
    R{s->v[tile & 1]}.template load<kKeys, F::kThreads>(v, tile * kKeys, a.keys, pitch, a.size);
  };
  R{s->q}.template load<F::kQueries, F::kThreads>(q, q0, a.queries, pitch, a.size);
  load(0);
  cp_async_commit();

  Acc o[D / 8];
  Softmax softmax;
  uint32_t qa[D / 16][4]; // the warp's queries, as operand A, for the whole run
  float scale = a.scale * kLog2E;
#pragma unroll 1
  for (int tile = 0; tile < tiles; tile++) {
    if (tile + 1 < tiles) load(tile + 1);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    if (tile == 0) {
#pragma unroll
      for (int c = 0; c < D / 16; c++) ldmatrix_x4(qa[c], R{s->q}.row(warp * 16 + lane % 16, 16 * c + lane / 16 * 8));
    }
    R keys{s->k[tile & 1]}, values{s->v[tile & 1]};
    Acc scores[kKeys / 8];
#pragma unroll
    for (int c = 0; c < D / 16; c++)
#pragma unroll
      for (int j = 0; j < kKeys / 16; j++) {
        uint32_t b[4];
        ldmatrix_x4(b, keys.row(16 * j + lane % 8 + lane / 16 * 8, 16 * c + lane / 8 % 2 * 8));
        mma_m16n8k16(scores[2 * j], qa[c], b[0], b[1], T());
        mma_m16n8k16(scores[2 * j + 1], qa[c], b[2], b[3], T());
      }

    float rescale[2];
    int k0 = tile * kKeys;
    softmax.step(scores, scale, k0, a.causal ? min(a.keys, mine + 1) : a.keys, a.causal ? min(a.keys, mine + 9) : a.keys, rescale);
#pragma unroll
    for (int c = 0; c < D / 8; c++)
#pragma unroll
      for (int e = 0; e < 4; e++) o[c][e] *= rescale[e / 2];

    // The weights' places in C are those that A wants for 16 keys: no exchange between lanes.
#pragma unroll
    for (int j = 0; j < kKeys / 16; j++) {
      uint32_t p[4] = {pack<T>(scores[2 * j][0], scores[2 * j][1]), pack<T>(scores[2 * j][2], scores[2 * j][3]),
                       pack<T>(scores[2 * j + 1][0], scores[2 * j + 1][1]), pack<T>(scores[2 * j + 1][2], scores[2 * j + 1][3])};
#pragma unroll
      for (int c = 0; c < D / 16; c++) {
        uint32_t b[4];
        ldmatrix_x4_trans(b, values.row(16 * j + lane % 16, 16 * c + lane / 16 * 8));
        mma_m16n8k16(o[2 * c], p, b[0], b[1], T());
        mma_m16n8k16(o[2 * c + 1], p, b[2], b[3], T());
      }
    }
    __syncthreads(); // before the next tile but one overwrites these
  }

#pragma unroll
  for (int h = 0; h < 2; h++) {
    float inverse = 1 / softmax.total(h);
    int row = mine + 8 * h;
    if (row >= a.queries) continue;
    T* to = static_cast<T*>(a.o) + (int64_t(blockIdx.z) * a.queries + row) * pitch + head;
#pragma unroll
    for (int c = 0; c < D / 8; c++) {
      float pair[2] = {o[c][2 * h] * inverse, o[c][2 * h + 1] * inverse};
      if (8 * c < a.size) store(to + 8 * c + lane % 4 * 2, pair);
    }
  }
}

// ---- attention_wide: 8 warps, 2 × 16 queries by 4 shares of the keys or of the columns; heads of up to 512 ----

constexpr int kWide = 512, kWideQueries = 32, kWideKeys = 32;
template <class T>
struct WideTiles {
  using R = Rows<T, kWide>;
  static constexpr int kWeightPitch = kWideKeys + 8; // 5 chunks: odd
  T q[kWideQueries * R::kPitch], kv[kWideKeys * R::kPitch];
  T weight[kWideQueries * kWeightPitch];
  float score[kWideQueries][kWideKeys + 8];
  float rescale[kWideQueries], sum[kWideQueries];
};

template <class T>
__device__ __forceinline__ void attention_wide(const Attention& a, WideTiles<T>* s) {
  using R = Rows<T, kWide>;
  constexpr int kThreads = 256, kShare = kWide / 4;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, rows = warp % 2 * 16, share = warp / 2;
  int g = lane / 4, t = lane % 4;
  int q0 = blockIdx.x * kWideQueries;
  const int64_t head = blockIdx.y * a.size, pitch = a.channels;
  const T* q = static_cast<const T*>(a.q) + blockIdx.z * (a.queries * pitch) + head;
  const T* k = static_cast<const T*>(a.k) + blockIdx.z * (a.keys * pitch) + head;
  const T* v = static_cast<const T*>(a.v) + blockIdx.z * (a.keys * pitch) + head;
  int end = a.causal ? min(a.keys, q0 + kWideQueries) : a.keys;
  float scale = a.scale * kLog2E;
  R queries{s->q}, tile{s->kv};
  queries.template load<kWideQueries, kThreads>(q, q0, a.queries, pitch, a.size);

  Acc o[kShare / 8];
  // 8 neighbouring threads keep the maximum and sum of one query: row threadIdx.x/8.
  float top = -INFINITY, sum = 0;
#pragma unroll 1
  for (int k0 = 0; k0 < end; k0 += kWideKeys) {
    tile.template load<kWideKeys, kThreads>(k, k0, a.keys, pitch, a.size);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    Acc score[1];
    for (int c = 0; c < kWide / 32; c++) { // two 16-column steps: one ldmatrix brings B for both
      uint32_t b[4];
      ldmatrix_x4(b, tile.row(8 * share + lane % 8, 32 * c + lane / 8 * 8));
      for (int h = 0; h < 2; h++) {
        uint32_t qa[4];
        ldmatrix_x4(qa, queries.row(rows + lane % 16, 32 * c + 16 * h + lane / 16 * 8));
        mma_m16n8k16(score[0], qa, b[2 * h], b[2 * h + 1], T());
      }
    }
    for (int h = 0; h < 2; h++) store_shared_pair(&s->score[rows + g + 8 * h][8 * share + 2 * t], score[0][2 * h], score[0][2 * h + 1]);
    __syncthreads(); // the scores are there, and K is not needed any more

    tile.template load<kWideKeys, kThreads>(v, k0, a.keys, pitch, a.size);
    cp_async_commit();
    {
      int row = threadIdx.x / 8, c = threadIdx.x % 8 * 4;
      int seen = a.causal ? min(a.keys, q0 + row + 1) : a.keys;
      float x[4], m = top;
      load(x, &s->score[row][c]);
      for (int e = 0; e < 4; e++) {
        x[e] = k0 + c + e < seen ? x[e] * scale : -INFINITY;
        m = fmaxf(m, x[e]);
      }
      for (int i = 4; i; i >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, i));
      if (m == -INFINITY) m = 0;
      float rescale = exp2f(top - m), add = 0;
      top = m;
      for (int e = 0; e < 4; e++) add += x[e] = exp2f(x[e] - m);
      for (int i = 4; i; i >>= 1) add += __shfl_xor_sync(~0u, add, i);
      sum = sum * rescale + add;
      store(s->weight + row * s->kWeightPitch + c, x);
      if (c == 0) s->rescale[row] = rescale, s->sum[row] = sum;
    }
    cp_async_wait<0>();
    __syncthreads();

    float r0 = s->rescale[rows + g], r1 = s->rescale[rows + g + 8];
#pragma unroll
    for (int c = 0; c < kShare / 8; c++)
      for (int e = 0; e < 4; e++) o[c][e] *= e < 2 ? r0 : r1;
#pragma unroll
    for (int j = 0; j < kWideKeys / 16; j++) {
      uint32_t p[4];
      ldmatrix_x4(p, s->weight + (rows + lane % 16) * s->kWeightPitch + 16 * j + lane / 16 * 8);
#pragma unroll
      for (int c = 0; c < kShare / 16; c++) {
        uint32_t b[4];
        ldmatrix_x4_trans(b, tile.row(16 * j + lane % 16, share * kShare + 16 * c + lane / 16 * 8));
        mma_m16n8k16(o[2 * c], p, b[0], b[1], T());
        mma_m16n8k16(o[2 * c + 1], p, b[2], b[3], T());
      }
    }
    __syncthreads(); // before the next tile of keys overwrites V
  }

  for (int h = 0; h < 2; h++) {
    int row = rows + g + 8 * h;
    if (q0 + row >= a.queries) continue;
    float inverse = 1 / s->sum[row];
    T* to = static_cast<T*>(a.o) + (int64_t(blockIdx.z) * a.queries + q0 + row) * pitch + head;
#pragma unroll
    for (int c = 0; c < kShare / 8; c++) {
      int column = share * kShare + 8 * c;
      float pair[2] = {o[c][2 * h] * inverse, o[c][2 * h + 1] * inverse};
      if (column < a.size) store(to + column + 2 * t, pair);
    }
  }
}
