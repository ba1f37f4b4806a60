// attention_sm90.cuh: attention_mma of attention.cuh on Hopper: keys and values by TMA, both products by wgmma, blocks that
// stay, in the manner of FlashAttention-3 (Shah et al. 2024).
//
// A block has three warpgroups. One thread of the first asks TMA for queries, and for keys and values tile after tile; the
// other two have 64 queries each. A warpgroup asks for the scores of the next tile, then for the weighted values of this one
// with the weights from its registers, and while the latter are summed it turns the former into weights.
//
// Heads lie in shared memory in panels of 64 columns, rows of 128 bytes permuted by TMA (SWIZZLE_128B). Tensor maps have
// an axis for heads, so that what is past a head's size is zeros, not the next head; so are rows past the last key.
// Keys that an image lacks (lengths) are read and get weights of 0: their values are finite.
#pragma once
#include "attention.cuh"
#include "ptx_sm90.cuh"

struct HopperAttention {
  TensorMap q, k, v;             // columns, heads, rows, images; boxes of 64 columns of one head
  Attention a;
  int tiles, heads, works;       // tiles of queries, of an image's head; of them all
  Divisor by_tiles, by_heads;
};

// HopperFlash<D, keys>: heads of up to D channels, so many keys at a time.
template <int D, int keys>
struct HopperFlash {
  static constexpr int kSize = D, kKeys = keys, kQueries = 128, kThreads = 384, kConsumers = 8; // warps
  static constexpr int kPanels = (D + 63) / 64, kDepth = (D + 15) / 16, kStages = 2;
  static constexpr int kPanel = keys * 128, kTile = kPanels * kPanel, kQueryPanel = kQueries * 128;
  // Queries; keys and values of each stage; barriers: queries come and are used, then those of each stage.
  static constexpr int kStage = kPanels * kQueryPanel, kBarriers = kStage + kStages * 2 * kTile;
  static constexpr int kBytes = kBarriers + 16 + 32 * kStages + 1024; // 1024: to begin at a multiple of that
};

// Places in shared memory.
template <class F>
struct FlashShared {
  Shared base;
  __device__ __forceinline__ Shared queries() const { return base; }
  __device__ __forceinline__ Shared keys(int stage) const { return base + F::kStage + stage * 2 * F::kTile; }
  __device__ __forceinline__ Shared values(int stage) const { return keys(stage) + F::kTile; }
  __device__ __forceinline__ Shared full_queries() const { return base + F::kBarriers; }
  __device__ __forceinline__ Shared empty_queries() const { return base + F::kBarriers + 8; }
  __device__ __forceinline__ Shared full_keys(int stage) const { return base + F::kBarriers + 16 + 32 * stage; }
  __device__ __forceinline__ Shared full_values(int stage) const { return full_keys(stage) + 8; }
  __device__ __forceinline__ Shared empty_keys(int stage) const { return full_keys(stage) + 16; }
  __device__ __forceinline__ Shared empty_values(int stage) const { return full_keys(stage) + 24; }
};

// FlashWork is a tile of queries of a head.
struct FlashWork {
  int q0, head, image, there, tiles; // keys that the image has; tiles of keys that some query sees
  template <class F>
  static __device__ __forceinline__ FlashWork of(const HopperAttention& p, int work) {
    int row = p.by_tiles.under(work), image = p.by_heads.under(row), q0 = (work - row * p.tiles) * F::kQueries;
    int there = p.a.lengths ? p.a.lengths[image] : p.a.keys;
    int end = p.a.causal ? min(there, q0 + F::kQueries) : there;
    return {q0, row - image * p.heads, image, there, max(1, ceil_div(end, F::kKeys))};
  }
};

// bring_heads asks for the panels of a tile of queries, keys or values.
template <class F>
__device__ __forceinline__ void bring_heads(Shared to, int panel, const TensorMap& map, Shared barrier, int head, int row, int image) {
  barrier_expect(barrier, F::kPanels * panel);
#pragma unroll
  for (int i = 0; i < F::kPanels; i++) tma_load_head(to + i * panel, map, barrier, 64 * i, head, row, image);
}

// bring asks for all operands of the block's works, as their places become empty.
template <class F>
__device__ __forceinline__ void bring(const HopperAttention& p, const FlashShared<F>& s) {
  Stage<F::kStages> stage;
  Stage<1> queries;
  for (int i = blockIdx.x; i < p.works; i += gridDim.x) {
    FlashWork work = FlashWork::of<F>(p, i);
    barrier_wait(s.empty_queries(), queries.parity ^ 1);
    bring_heads<F>(s.queries(), F::kQueryPanel, p.q, s.full_queries(), work.head, work.q0, work.image);
    queries.next();
    int shared_head = work.head / p.a.group;
#pragma unroll 1
    for (int tile = 0; tile < work.tiles; tile++) {
      barrier_wait(s.empty_keys(stage.at), stage.parity ^ 1);
      bring_heads<F>(s.keys(stage.at), F::kPanel, p.k, s.full_keys(stage.at), shared_head, tile * F::kKeys, work.image);
      barrier_wait(s.empty_values(stage.at), stage.parity ^ 1);
      bring_heads<F>(s.values(stage.at), F::kPanel, p.v, s.full_values(stage.at), shared_head, tile * F::kKeys, work.image);
      stage.next();
    }
  }
}

// HopperSoftmax is the running maximum and sum of the two query rows that a lane holds results of. The weight of score x is
// 2^(x·scale - top·scale). A maximum that grows by less than 2^kSlack is left as it was, so that the factors of what was summed
// before are mostly 1. attention.cuh's Softmax looks for a maximum only where it must, and then makes the scores again; here
// the next products are under way by then.
struct HopperSoftmax {
  static constexpr float kSlack = 6;
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};

  // hide takes the scores of keys that a query may not see out of a tile of N keys.
  template <int N>
  static __device__ __forceinline__ void hide(WgAcc<N>& s, int seen0, int seen1) {
    int t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < N / 2; i++)
      if (i / 4 * 8 + 2 * t + i % 2 >= (i % 4 < 2 ? seen0 : seen1)) s.v[i] = -INFINITY;
  }
  template <int N>
  __device__ __forceinline__ void step(WgAcc<N>& s, float scale, float (&rescale)[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float m = top[h];
#pragma unroll
      for (int j = 0; j < N / 8; j++) m = fmaxf(fmaxf(m, s.v[4 * j + 2 * h]), s.v[4 * j + 2 * h + 1]);
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
      if (m == -INFINITY) m = 0; // nothing seen yet: weights 0, not NaN
      if ((m - top[h]) * scale < kSlack) m = top[h];
      rescale[h] = exp2_fast((top[h] - m) * scale);
      top[h] = m;
      float less = m * scale, add = 0;
#pragma unroll
      for (int j = 0; j < N / 8; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float& x = s.v[4 * j + 2 * h + e];
          x = exp2_fast(fmaf(x, scale, -less));
          add += x;
        }
      sum[h] = sum[h] * rescale[h] + add;
    }
  }
  // total is the sum over the row's four lanes.
  __device__ __forceinline__ float total(int h) const {
    float x = sum[h];
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
  }
};

// score asks for the scores of 64 queries against a tile of keys.
template <class T, class F>
__device__ __forceinline__ void score(WgAcc<F::kKeys>& scores, Shared queries, Shared keys) {
#pragma unroll
  for (int k = 0; k < F::kDepth; k++) { // 16 columns are 32 bytes, 4 of them a panel
    uint64_t a = matrix_descriptor(queries + k / 4 * F::kQueryPanel), b = matrix_descriptor(keys + k / 4 * F::kPanel);
    wgmma(scores, a + 2 * (k % 4), b + 2 * (k % 4), k > 0, T());
  }
  wgmma_commit();
}

// weigh asks for the values of a tile of keys times their weights, added to o, or in its place.
template <class T, class F>
__device__ __forceinline__ void weigh(WgAcc<F::kSize>& o, const uint32_t (&weights)[F::kKeys / 16][4], Shared values, bool add) {
  uint64_t b = column_descriptor(values, F::kPanel);
#pragma unroll
  for (int j = 0; j < F::kKeys / 16; j++) wgmma(o, weights[j], b + 128 * j, add || j > 0, T()); // 16 rows are 2048 bytes
  wgmma_commit();
}

// attend computes 64 queries of each work.
template <class T, class F>
__device__ __forceinline__ void attend(const HopperAttention& p, const FlashShared<F>& s) {
  constexpr int kKeys = F::kKeys, D = F::kSize;
  const Attention& a = p.a;
  int group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
  float scale = a.scale * kLog2E;
  Stage<F::kStages> stage;
  Stage<1> queries;
  WgAcc<kKeys> scores;
  WgAcc<D> o;
  uint32_t weights[kKeys / 16][4];
  for (int i = blockIdx.x; i < p.works; i += gridDim.x) {
    FlashWork work = FlashWork::of<F>(p, i);
    int first = work.q0 + 16 * warp, row = first + lane / 4;
    HopperSoftmax softmax;
    float rescale[2];
    auto normalise = [&](int tile) {
      int k0 = tile * kKeys;
      if (k0 + kKeys > (a.causal ? min(work.there, first + 1) : work.there))
        HopperSoftmax::hide(scores, (a.causal ? min(work.there, row + 1) : work.there) - k0, (a.causal ? min(work.there, row + 9) : work.there) - k0);
      softmax.step(scores, scale, rescale);
    };
    // The weights' places in the sums are those that A wants for 16 keys: no exchange between lanes.
    auto round = [&] {
#pragma unroll
      for (int j = 0; j < kKeys / 16; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) weights[j][e] = pack<T>(scores.v[8 * j + 2 * e], scores.v[8 * j + 2 * e + 1]);
    };

    Shared mine = s.queries() + group * (64 * 128);
    barrier_wait(s.full_queries(), queries.parity);
    barrier_wait(s.full_keys(stage.at), stage.parity);
    wgmma_fence();
    score<T, F>(scores, mine, s.keys(stage.at));
    wgmma_wait<0>();
    settled(scores);
    if (lane == 0) barrier_arrive(s.empty_keys(stage.at));
    normalise(0);
    round();
#pragma unroll 1
    for (int tile = 1; tile < work.tiles; tile++) {
      Stage<F::kStages> now = stage;
      stage.next();
      barrier_wait(s.full_keys(stage.at), stage.parity);
      wgmma_fence();
      score<T, F>(scores, mine, s.keys(stage.at));
      barrier_wait(s.full_values(now.at), now.parity);
      weigh<T, F>(o, weights, s.values(now.at), tile > 1);
      wgmma_wait<1>();
      settled(scores);
      if (lane == 0) barrier_arrive(s.empty_keys(stage.at));
      normalise(tile);
      done_before(softmax.sum[0] + softmax.sum[1]);
      wgmma_wait<0>();
      settled(o);
      settled(weights);
      if (lane == 0) barrier_arrive(s.empty_values(now.at));
      if (__any_sync(~0u, rescale[0] != 1 || rescale[1] != 1)) {
#pragma unroll
        for (int c = 0; c < D / 2; c++) o.v[c] *= rescale[c / 2 % 2];
      }
      round();
    }
    if (lane == 0) barrier_arrive(s.empty_queries());
    queries.next();
    barrier_wait(s.full_values(stage.at), stage.parity);
    wgmma_fence();
    weigh<T, F>(o, weights, s.values(stage.at), work.tiles > 1);
    wgmma_wait<0>();
    settled(o);
    settled(weights);
    if (lane == 0) barrier_arrive(s.empty_values(stage.at));
    stage.next();

#pragma unroll
    for (int h = 0; h < 2; h++) {
      float inverse = 1 / softmax.total(h);
      int m = row + 8 * h;
      if (m >= a.queries) continue;
      T* to = static_cast<T*>(a.o) + (int64_t(work.image) * a.queries + m) * a.channels + work.head * a.size;
#pragma unroll
      for (int c = 0; c < D / 8; c++) {
        float pair[2] = {o.v[4 * c + 2 * h] * inverse, o.v[4 * c + 2 * h + 1] * inverse};
        if (8 * c < a.size) store(to + 8 * c + lane % 4 * 2, pair);
      }
    }
  }
}

template <class T, class F>
__device__ __forceinline__ void attention_wgmma(const HopperAttention& p, char* shared) {
  shared += -shared_offset(shared) & 1023;
  FlashShared<F> s = {shared_address(shared)};
  if (threadIdx.x == 0) {
    barrier_init(s.full_queries(), 1);
    barrier_init(s.empty_queries(), F::kConsumers);
    for (int i = 0; i < F::kStages; i++) {
      barrier_init(s.full_keys(i), 1);
      barrier_init(s.full_values(i), 1);
      barrier_init(s.empty_keys(i), F::kConsumers);
      barrier_init(s.empty_values(i), F::kConsumers);
    }
    barrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    registers_give<40>();
    if (threadIdx.x == 0) bring(p, s);
  } else {
    registers_take<232>();
    attend<T>(p, s);
  }
}
