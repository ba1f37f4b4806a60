// attention.cuh: softmax(Q·Kᵀ·scale)·V for each head, the score matrix never stored (FlashAttention, Dao et
// al. 2022): for each tile of keys, the running maximum, sum and weighted values of a query are rescaled.
//
// attention_simple: one warp a query, every type and head size up to 512.
// attention_mma: tensor cores, 128 or 64 queries a block, head sizes up to 160 in multiples of 8.
// attention_wide: tensor cores, 32 queries a block, head sizes up to 512 in multiples of 8.
#pragma once
#include "ptx.cuh"

// Attention is the parameter of every kernel of this family, filled by attention.go.
struct Attention {
  const void *q, *k, *v; // [N, queries, channels], [N, keys, channels] twice
  void* o;               // [N, queries, channels]
  const int* lengths;    // [N]: keys that are there; null: all
  const float* bias;     // [heads, queries+keys-1], see kernels.Attention, of attention_simple alone; null: none
  int queries, keys, channels;
  int size;              // of a head
  int causal;
  float scale;
  int shared_channels;   // pitch of rows of keys and values, of which `group` heads in a row share a head
  int group;
  int pitch;             // of rows of queries; those of o are `channels` apart

  // there is how many keys the block's image has.
  __device__ __forceinline__ int there() const { return lengths ? lengths[blockIdx.z] : keys; }
  __device__ __forceinline__ int64_t shared_head() const { return int64_t(blockIdx.z) * keys * shared_channels + blockIdx.y / group * size; }
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
  const T* q = static_cast<const T*>(a.q) + (int64_t(blockIdx.z) * a.queries + query) * a.pitch + head;
  const T* k = static_cast<const T*>(a.k) + a.shared_head();
  const T* v = static_cast<const T*>(a.v) + a.shared_head();
  float* mine = shared + warp * a.size; // the query in float32
  for (int c = lane; c < a.size; c += 32) mine[c] = to_float(q[c]);
  __syncwarp();

  float top = -INFINITY, sum = 0, out[kMost] = {};
  const int there = a.there();
  int seen = a.causal ? min(there, query + 1) : there;
  for (int k0 = 0; k0 < seen; k0 += 32) {
    int key = k0 + lane;
    float score = -INFINITY;
    if (key < seen) {
      score = 0;
      for (int c = 0; c < a.size; c++) score += mine[c] * to_float(k[int64_t(key) * a.shared_channels + c]);
      score *= a.scale;
      if (a.bias) score += a.bias[int64_t(blockIdx.y) * (a.queries + a.keys - 1) + query - key + a.keys - 1];
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
      const T* row = v + int64_t(k0 + j) * a.shared_channels;
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
// exclusive or with the number of the period. Places 8 rows, or 8 chunks, apart are permuted alike.
template <class T, int D>
struct Rows {
  static constexpr int kChunks = D / 8, kPitch = D;
  static constexpr int kPeriod = kChunks % 8 == 0 ? 1 : kChunks % 4 == 0 ? 2 : kChunks % 2 == 0 ? 4 : 8; // rows that fill whole 128 bytes
  // at is where a chunk lies, in bytes.
  static __device__ __forceinline__ int at(int r, int chunk) {
    return ((r * kChunks + chunk) ^ (r / kPeriod & (8 / kPeriod - 1))) * 16;
  }
};

// RowLoader brings rows of a head to shared memory; what is past the end, or past the head's size, is zero. Where this
// thread's chunks come from and go to is the same for every tile and worked out once. Where a thread's rows are a multiple of 8 apart,
// they are permuted alike, and what is known of the first serves all.
template <class T, int D, int rows, int threads>
struct RowLoader {
  using R = Rows<T, D>;
  static constexpr int kEach = (rows * R::kChunks + threads - 1) / threads, kRest = rows * R::kChunks % threads;
  static_assert(kRest % 32 == 0, "whole warps must divide the tile");
  static constexpr int kApart = threads / R::kChunks;
  static constexpr bool kAlike = threads % R::kChunks == 0 && kApart % 8 == 0;
  static constexpr int kKnown = kAlike ? 1 : kEach;
  int row[kKnown], from[kKnown], to[kKnown]; // row of the tile; elements from its first; bytes from its place
  int next;                                  // elements from one of the thread's rows to the next, if they are alike

  __device__ __forceinline__ RowLoader(int pitch, int size) : next(kAlike ? kApart * pitch : 0) {
#pragma unroll
    for (int i = 0; i < kKnown; i++) {
      int n = threadIdx.x + i * threads, r = n / R::kChunks, chunk = n % R::kChunks;
      row[i] = kept(chunk * 8 < size ? r : 0x40000000);
      from[i] = kept(r * pitch + chunk * 8);
      to[i] = kept(R::at(r, chunk));
    }
  }
  // load brings the first `there` rows, at most `rows` of them, to a tile.
  __device__ __forceinline__ void load(Shared tile, const T* first, int there) const {
#pragma unroll
    for (int i = 0; i < kEach; i++) {
      int known = kAlike ? 0 : i, past = i - known;
      if (kRest == 0 || i < kEach - 1 || threadIdx.x < kRest)
        cp_async16(tile + to[known] + past * kApart * D * 2, first + from[known] + past * next, row[known] + past * kApart < there ? 16 : 0);
    }
  }
};

// Softmax is of the two query rows, g and g+8, that a lane holds results of. The weight of score x is 2^(x·scale - less):
// scale > 0 holds log₂e. That every weight and sum can be held is all that `less` is for, so it need not be the row's maximum so
// far: it is that of the first keys, and it is replaced only when the weights of some keys add up to more than kMost. So most keys
// cost no search for a maximum. Larger weights lose nothing: they are floating-point numbers, and their sums are float32. Each
// row decides by its own scores alone.
struct Softmax {
  static constexpr float kMost = 32768; // below float16's largest
  float less[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};

  // hide takes the scores of keys that a query may not see out of 8·n keys.
  template <int n>
  static __device__ __forceinline__ void hide(Acc (&s)[n], int seen0, int seen1) {
    int t = threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < n; j++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        if (8 * j + 2 * t + e % 2 >= (e < 2 ? seen0 : seen1)) s[j][e] = -INFINITY;
  }

  // raise takes `less` from these scores, for the row h of this lane and its three neighbours, and gives the factor of what was summed before.
  template <int n>
  __device__ __forceinline__ float raise(Acc (&s)[n], float scale, int h, bool over) {
    float m = -INFINITY;
#pragma unroll
    for (int j = 0; j < n; j++) m = fmaxf(fmaxf(m, s[j][2 * h]), s[j][2 * h + 1]);
    m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
    m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
    if (!over) return 1;
    if (m == -INFINITY) m = 0; // nothing to be seen: weights 0, not NaN
    float before = less[h];
    less[h] = m * scale;
    float factor = exp2_fast(before - less[h]);
    sum[h] *= factor;
    return factor;
  }

  // weigh turns scores into weights, and adds up those of row h.
  template <int n>
  __device__ __forceinline__ float weigh(Acc (&s)[n], float scale, int h) const {
    float add = -0.0f; // of both zeros, this one plus x is x: no instruction
#pragma unroll
    for (int j = 0; j < n; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float& x = s[j][2 * h + e];
        x = exp2_fast(fmaf(x, scale, -less[h]));
        add += x;
      }
    return add;
  }

  // total is the sum over the row's four lanes.
  __device__ __forceinline__ float total(int h) const {
    float x = sum[h];
    x += __shfl_xor_sync(~0u, x, 1);
    x += __shfl_xor_sync(~0u, x, 2);
    return x;
  }
};

// ---- attention_mma: 4 warps of 16 or 32 queries; two tiles of keys and values in turn ----

template <int D>
struct Flash {
  static constexpr int kParts = D <= 64 ? 2 : 1; // 16 queries each: each ldmatrix of keys or values serves all of them
  static constexpr int kQueries = 64 * kParts, kKeys = D > 48 ? 32 : 64, kThreads = 128; // keys of a tile
  static constexpr int kAtOnce = D == 48 || D == 64 || D == 128 ? 16 : 32; // keys of which scores and weights are in registers: as many as fit
#ifdef OLD_GPU // whose shared memory holds no more
  static constexpr int kResident = 2;
#else
  static constexpr int kResident = D <= 128 ? 3 : 2;   // blocks that their registers leave room for
#endif
  static constexpr int kTile = kKeys * D * 2, kBytes = kQueries * D * 2 + 4 * kTile; // queries, keys twice, values twice
};

template <class T, int D>
__device__ __forceinline__ void attention_mma(const Attention& a, char* shared) {
  using F = Flash<D>;
  using R = Rows<T, D>;
  constexpr int kKeys = F::kKeys, kAtOnce = F::kAtOnce, kParts = F::kParts;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int q0 = blockIdx.x * F::kQueries;
  const int64_t head = blockIdx.y * a.size;
  // The lane's first query of a part; the second is 8 further on. It is seldom needed, and no register holds it meanwhile.
  auto query = [&](int part) { int t = kept(threadIdx.x); return q0 + (t / 32 * kParts + part) * 16 + t % 32 / 4; };
  const T* q = static_cast<const T*>(a.q) + (int64_t(blockIdx.z) * a.queries + q0) * a.pitch + head;
  const T* k = static_cast<const T*>(a.k) + a.shared_head();
  const T* v = static_cast<const T*>(a.v) + a.shared_head();
  const int there = a.there();
  int end = a.causal ? min(there, q0 + F::kQueries) : there;
  int tiles = ceil_div(end, kKeys);

  const Shared queries = shared_address(shared), keys = queries + F::kQueries * D * 2, values = keys + 2 * F::kTile;
  RowLoader<T, D, F::kQueries, F::kThreads>(a.pitch, a.size).load(queries, q, a.queries - q0);
  cp_async_commit();
  RowLoader<T, D, kKeys, F::kThreads> loader(a.shared_channels, a.size);
  const int64_t step = int64_t(kKeys) * a.shared_channels;
  int left = there; // rows that are not loaded yet
  auto load = [&](int stage) {
    loader.load(keys + stage, k, left);
    loader.load(values + stage, v, left);
    k += step;
    v += step;
    left -= kKeys;
  };
  load(0);
  cp_async_commit();

  // Where this lane's rows of operand B lie: of chunk pairs 0 to 3; pair c lies 128·(c/4) bytes behind pair c%4.
  constexpr int kPairs = D / 16 < 4 ? D / 16 : 4;
  // Of an odd number of chunks the last has no partner: it is half as deep (keys), or half as wide (values), and a ldmatrix
  // brings it for 32 keys.
  constexpr bool kOdd = D / 8 % 2;
  static_assert(!kOdd || kAtOnce == 32, "the odd chunk comes for 32 keys");
  constexpr int kChunks = (D + 15) / 16; // of queries, in operand A
  const int odd_at = kOdd ? kept(R::at(lane, D / 8 - 1)) : 0;
  int key_at[kPairs], value_at[kPairs];
#pragma unroll
  for (int c = 0; c < kPairs; c++) {
    key_at[c] = kept(R::at(lane % 8 + lane / 16 * 8, 2 * c + lane / 8 % 2));
    value_at[c] = kept(R::at(lane % 16, 2 * c + lane / 16));
  }
  constexpr int k16Rows = 16 * D * 2; // bytes of 16 rows

  Acc o[kParts][D / 8];
  Softmax softmax[kParts];
  uint32_t qa[kParts][kChunks][4]; // the warp's queries, as operand A, for the whole run
  cp_async_wait<1>();
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kParts; i++)
#pragma unroll
    for (int c = 0; c < kChunks; c++) ldmatrix_x4(qa[i][c], queries + R::at((warp * kParts + i) * 16 + lane % 16, min(2 * c + lane / 16, D / 8 - 1)));
  float scale = a.scale * kLog2E;
  const int seen_by_all = a.causal ? min(there, q0 + warp * 16 * kParts + 1) : there; // keys, by the warp's queries
  int stage = 0;
#pragma unroll 1
  for (int tile = 0; tile < tiles; tile++) {
    if (tile + 1 < tiles) load(stage ^ F::kTile);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
#pragma unroll
    for (int part = 0; part < kKeys / kAtOnce; part++) {
      const Shared some_keys = keys + stage + part * kAtOnce * D * 2, some_values = values + stage + part * kAtOnce * D * 2;
      int k0 = tile * kKeys + part * kAtOnce;
      Acc scores[kParts][kAtOnce / 8];
      bool raised = tile + part == 0; // the first keys give every row its maximum
      unsigned over = raised ? ~0u : 0; // a bit for each of this lane's rows
      while (true) {
#pragma unroll
        for (int i = 0; i < kParts; i++)
#pragma unroll
          for (int j = 0; j < kAtOnce / 8; j++) scores[i][j] = Acc();
#pragma unroll
        for (int c = 0; c < D / 16; c++)
#pragma unroll
          for (int j = 0; j < kAtOnce / 16; j++) {
            uint32_t b[4];
            ldmatrix_x4(b, some_keys + key_at[c % 4] + c / 4 * 128 + j * k16Rows);
#pragma unroll
            for (int i = 0; i < kParts; i++)
#pragma unroll
              for (int h = 0; h < 2; h++) mma_m16n8k16(scores[i][2 * j + h], qa[i][c], b[2 * h], b[2 * h + 1], T());
          }
        if constexpr (kOdd) {
          uint32_t b[4];
          ldmatrix_x4(b, some_keys + odd_at);
#pragma unroll
          for (int i = 0; i < kParts; i++)
#pragma unroll
            for (int h = 0; h < 4; h++) mma_m16n8k8(scores[i][h], qa[i][kChunks - 1][0], qa[i][kChunks - 1][1], b[h], T());
        }
#pragma unroll
        for (int i = 0; i < kParts; i++) {
          if (k0 + kAtOnce > seen_by_all) {
            int row = query(i);
            Softmax::hide(scores[i], (a.causal ? min(there, row + 1) : there) - k0, (a.causal ? min(there, row + 9) : there) - k0);
          }
        }
        if (raised) {
#pragma unroll
          for (int i = 0; i < kParts; i++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
              float factor = softmax[i].raise(scores[i], scale, h, over >> (2 * i + h) & 1);
#pragma unroll
              for (int c = 0; c < D / 8; c++) o[i][c][2 * h] *= factor, o[i][c][2 * h + 1] *= factor;
            }
        }
        float add[kParts][2];
        bool fine = true;
#pragma unroll
        for (int i = 0; i < kParts; i++)
#pragma unroll
          for (int h = 0; h < 2; h++) {
            add[i][h] = softmax[i].weigh(scores[i], scale, h);
            fine = fine && add[i][h] <= Softmax::kMost;
          }
        if (raised || !__any_sync(~0u, !fine)) { // what is too large even then is no number
#pragma unroll
          for (int i = 0; i < kParts; i++)
#pragma unroll
            for (int h = 0; h < 2; h++) softmax[i].sum[h] += add[i][h];
          break;
        }
        // The four lanes of a row decide together, and make the scores again.
        over = 0;
#pragma unroll
        for (int i = 0; i < kParts; i++)
#pragma unroll
          for (int h = 0; h < 2; h++)
            if (!(add[i][h] <= Softmax::kMost)) over |= 1u << (2 * i + h);
        over |= __shfl_xor_sync(~0u, over, 1);
        over |= __shfl_xor_sync(~0u, over, 2);
        raised = true;
      }

      // The weights' places in C are those that A wants for 16 keys: no exchange between lanes.
      uint32_t last[4]; // the odd chunk of 32 keys
      if constexpr (kOdd) ldmatrix_x4_trans(last, some_values + odd_at);
#pragma unroll
      for (int j = 0; j < kAtOnce / 16; j++) {
        uint32_t p[kParts][4];
#pragma unroll
        for (int i = 0; i < kParts; i++)
#pragma unroll
          for (int e = 0; e < 4; e++) {
            Acc& s = scores[i][2 * j + e / 2];
            p[i][e] = pack<T>(s[e % 2 * 2], s[e % 2 * 2 + 1]);
          }
#pragma unroll
        for (int c = 0; c < D / 16; c++) {
          uint32_t b[4];
          ldmatrix_x4_trans(b, some_values + value_at[c % 4] + c / 4 * 128 + j * k16Rows);
#pragma unroll
          for (int i = 0; i < kParts; i++)
#pragma unroll
            for (int h = 0; h < 2; h++) mma_m16n8k16(o[i][2 * c + h], p[i], b[2 * h], b[2 * h + 1], T());
        }
        if constexpr (kOdd) {
#pragma unroll
          for (int i = 0; i < kParts; i++) mma_m16n8k16(o[i][D / 8 - 1], p[i], last[2 * j], last[2 * j + 1], T());
        }
      }
    }
    stage ^= F::kTile;
    __syncthreads(); // before the next tile but one overwrites these
  }

#pragma unroll
  for (int i = 0; i < kParts; i++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float inverse = 1 / softmax[i].total(h);
      int row = query(i) + 8 * h;
      if (row >= a.queries) continue;
      T* to = static_cast<T*>(a.o) + (int64_t(blockIdx.z) * a.queries + row) * a.channels + int(blockIdx.y) * a.size;
#pragma unroll
      for (int c = 0; c < D / 8; c++) {
        float pair[2] = {o[i][c][2 * h] * inverse, o[i][c][2 * h + 1] * inverse};
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
  const T* q = static_cast<const T*>(a.q) + int64_t(blockIdx.z) * a.queries * a.pitch + head;
  const T* k = static_cast<const T*>(a.k) + a.shared_head();
  const T* v = static_cast<const T*>(a.v) + a.shared_head();
  const int there = a.there();
  int end = a.causal ? min(there, q0 + kWideQueries) : there;
  float scale = a.scale * kLog2E;
  Shared queries = shared_address(s->q), tile = shared_address(s->kv), weights = shared_address(s->weight);
  RowLoader<T, kWide, kWideQueries, kThreads>(a.pitch, a.size).load(queries, q + q0 * int64_t(a.pitch), a.queries - q0);
  RowLoader<T, kWide, kWideKeys, kThreads> loader(a.shared_channels, a.size);
  // Where this lane's rows of the operands lie, of the first 128 bytes: see attention_mma.
  int query_at[4], key_at[2], value_at[4];
#pragma unroll
  for (int c = 0; c < 4; c++) {
    query_at[c] = kept(R::at(rows + lane % 16, 2 * c + lane / 16));
    value_at[c] = kept(R::at(lane % 16, share * (kShare / 8) + 2 * c + lane / 16));
    if (c < 2) key_at[c] = kept(R::at(8 * share + lane % 8, 4 * c + lane / 8));
  }

  Acc o[kShare / 8];
  // 8 neighbouring threads keep the maximum and sum of one query: row threadIdx.x/8.
  float top = -INFINITY, sum = 0;
#pragma unroll 1
  for (int k0 = 0; k0 < end; k0 += kWideKeys) {
    loader.load(tile, k + int64_t(k0) * a.shared_channels, there - k0);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    Acc score[1];
#pragma unroll
    for (int c = 0; c < kWide / 32; c++) { // two 16-column steps: one ldmatrix brings B for both
      uint32_t b[4];
      ldmatrix_x4(b, tile + key_at[c % 2] + c / 2 * 128);
      for (int h = 0; h < 2; h++) {
        uint32_t qa[4];
        ldmatrix_x4(qa, queries + query_at[(2 * c + h) % 4] + (2 * c + h) / 4 * 128);
        mma_m16n8k16(score[0], qa, b[2 * h], b[2 * h + 1], T());
      }
    }
    for (int h = 0; h < 2; h++) store_shared_pair(&s->score[rows + g + 8 * h][8 * share + 2 * t], score[0][2 * h], score[0][2 * h + 1]);
    __syncthreads(); // the scores are there, and K is not needed any more

    loader.load(tile, v + int64_t(k0) * a.shared_channels, there - k0);
    cp_async_commit();
    {
      int row = threadIdx.x / 8, c = threadIdx.x % 8 * 4;
      int seen = a.causal ? min(there, q0 + row + 1) : there;
      float x[4], m = top;
      load(x, &s->score[row][c]);
      for (int e = 0; e < 4; e++) {
        x[e] = k0 + c + e < seen ? x[e] * scale : -INFINITY;
        m = fmaxf(m, x[e]);
      }
      for (int i = 4; i; i >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, i));
      if (m == -INFINITY) m = 0;
      float rescale = exp2_fast(top - m), add = 0;
      top = m;
      for (int e = 0; e < 4; e++) add += x[e] = exp2_fast(x[e] - m);
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
      ldmatrix_x4(p, weights + ((rows + lane % 16) * s->kWeightPitch + 16 * j + lane / 16 * 8) * 2);
#pragma unroll
      for (int c = 0; c < kShare / 16; c++) {
        uint32_t b[4];
        ldmatrix_x4_trans(b, tile + value_at[c % 4] + c / 4 * 128 + j * 16 * kWide * 2);
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
