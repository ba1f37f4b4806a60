// gemm_sm90.cuh: the products of gemm.cuh on Hopper: operands by TMA, products by wgmma, blocks that stay.
//
// A block has three warpgroups. One thread of the first asks TMA for the operands' tiles, stage after stage; the other two
// multiply 64 rows each. A stage is 64 columns of K, or 128 of bytes: rows of 128 bytes, permuted by TMA (SWIZZLE_128B) as
// wgmma wants them. Each stage has two barriers: `full` ends its phase when the bytes have come, `empty` when all eight warps have read
// them. There are as many blocks as processors; each takes every gridDim.x-th tile, and the next tile's operands come
// while the results of the last one are stored.
//
// A's columns are visited tap by tap, input by input, 64 channels at a time. Where channels are not a multiple of 64, TMA
// fills the rest with zeros, and what B holds there does not matter: weights are finite.
//
// What is multiplied, and how sums become results, is a parameter, How: here Plain, in kernels/lab/fp8 float8.
#pragma once
#include "gemm.cuh"
#include "ptx_sm90.cuh"

struct HopperGemm {
  TensorMap a, a2, b; // a and a2: boxes of 128 rows or places of the filter; b: of N rows; 128 bytes each
  Gemm g;
  int im2col;         // a and a2 are images seen through a filter, not matrices
  int tiles_m, part_tiles, tiles; // of rows; of a part of split sums; of all parts
  int steps, part_steps;          // of K, of all parts and of each
  Divisor by_m, by_part;          // by tiles_m and part_tiles
};

template <int N, int stages>
struct HopperTile {
  static constexpr int kM = 128, kN = N, kStages = stages, kThreads = 384, kConsumers = 8; // warps
  static constexpr int kA = kM * 128, kStageBytes = (kM + N) * 128;
  // 16 rows of results, up to 64 columns at a time, for each consuming warp; then the norms of A's rows, and the barriers.
  static constexpr int kResults = stages * kStageBytes, kNorms = kResults + kConsumers * 16 * 64 * 4, kBarriers = kNorms + kM * 8;
  static constexpr int kBytes = kBarriers + 16 * stages + 1024; // 1024: to begin at a multiple of that
  static constexpr int kWarpN = N % 64 ? 32 : 64; // columns at a time, for spread_at
};

// Work is one tile of results, or a part of its sums.
struct Work {
  int m0, n0, part, first, end; // steps of K
  template <class Tile>
  static __device__ __forceinline__ Work of(const HopperGemm& p, int tile) {
    int part = p.by_part.under(tile), r = tile - part * p.part_tiles;
    int n = p.by_m.under(r), m = r - n * p.tiles_m, first = min(p.steps, part * p.part_steps);
    return {m * Tile::kM, n * Tile::kN, part, first, min(p.steps, first + p.part_steps)};
  }
};

// Plain multiplies values of the results' type, and the sums of these products are what the epilogue takes.
template <class T>
struct Plain {
  using Operand = T;
  // Products of a stage would go to accumulators of their own, and from there to the sums.
  static constexpr bool kPromotes = false;
  // Scale is what four columns of results from n on are multiplied by.
  struct Scale {
    __device__ __forceinline__ void apply(int, float (&)[4]) const {}
  };
  __device__ __forceinline__ Scale scale(const Gemm&, int) const { return {}; }
};

// produce asks for all operands of the block's tiles, as stages become empty.
template <class Operand, class Tile>
__device__ __forceinline__ void produce(const HopperGemm& p, Shared stages, Shared full, Shared empty) {
  const Gemm& g = p.g;
  constexpr int kColumns = 128 / sizeof(Operand); // of K, a stage
  int c1_steps = ceil_div(g.c1, kColumns), tap_steps = c1_steps + ceil_div(g.c2, kColumns);
  Stage<Tile::kStages> stage;
  for (int tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
    Work work = Work::of<Tile>(p, tile);
    int image = g.pixels.under(work.m0), r = work.m0 - image * (g.out_h * g.out_w);
    int y = g.row.under(r), x = r - y * g.out_w;
    int tap = work.first / tap_steps, step = work.first - tap * tap_steps, down = tap / g.kw, right = tap - down * g.kw;
#pragma unroll 1
    for (int i = work.first; i < work.end; i++) {
      barrier_wait(empty + 8 * stage.at, stage.parity ^ 1);
      Shared to = stages + stage.at * Tile::kStageBytes, arrival = full + 8 * stage.at;
      barrier_expect(arrival, Tile::kStageBytes);
      bool second = step >= c1_steps;
      int c = kColumns * (second ? step - c1_steps : step);
      const TensorMap& a = second ? p.a2 : p.a;
      if (p.im2col) tma_load_im2col(to, a, arrival, c, x * g.stride - g.pad, y * g.stride - g.pad, image, right, down);
      else tma_load(to, a, arrival, c, work.m0);
      tma_load(to + Tile::kA, p.b, arrival, (down * g.kw + right) * (g.c1 + g.c2) + (second ? g.c1 : 0) + c, work.n0);
      stage.next();
      if (++step == tap_steps) {
        step = 0;
        if (++right == g.kw) right = 0, down++;
      }
    }
  }
}

// spread writes kWarpN columns of a warp's 16 rows of results, from column kWarpN·part on, to shared memory, as gemm.cuh's does.
template <class Tile, int N>
__device__ __forceinline__ void spread(const WgAcc<N>& c, int part, float* to) {
  constexpr int kWidth = Tile::kWarpN;
  int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int p = 0; p < (N + kWidth - 1) / kWidth; p++) {
    if (p != part) continue; // so that every register has its number
#pragma unroll
    for (int j = 0; j < kWidth / 8; j++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        int i = kWidth / 2 * p + 4 * j + 2 * r;
        if (i < N / 2) store_shared_pair(to + spread_at<Tile>(8 * r + g, 8 * j + 2 * t), c[i], c[i + 1]);
      }
  }
}

// consume multiplies 64 rows of each tile and stores the results.
template <class T, class Tile, class How>
__device__ __forceinline__ void consume(const HopperGemm& p, const How& how, Shared stages, Shared full, Shared empty, float* results, float2* norms) {
  using Operand = typename How::Operand;
  constexpr int N = Tile::kN;
  const Gemm& g = p.g;
  int group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
  float* mine = results + warp * 16 * 64;
  norms += warp * 16;
  Stage<Tile::kStages> stage;
  WgAcc<N> sums, stage_sums; // the latter with kPromotes only
  for (int tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
    Work work = Work::of<Tile>(p, tile);
    if (g.moments && lane < 16) norms[lane] = row_norm(g.moments, g.m, g.k, min(work.m0 + 16 * warp + lane, g.m - 1), g.eps);
    __syncwarp();
    if constexpr (How::kPromotes) How::clear(sums);
    int last = -1; // the stage whose products may be under way
#pragma unroll 1
    for (int i = work.first; i < work.end; i++) {
      barrier_wait(full + 8 * stage.at, stage.parity);
      Shared at = stages + stage.at * Tile::kStageBytes;
      uint64_t a = matrix_descriptor(at + group * (64 * 128)), b = matrix_descriptor(at + Tile::kA);
      WgAcc<N>& to = How::kPromotes ? stage_sums : sums;
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < 4; k++) { // 32 bytes of K each: 16 columns, or 32 of bytes
        wgmma(to, a + 2 * k, b + 2 * k, (!How::kPromotes && i > work.first) || k > 0, Operand());
      }
      wgmma_commit();
      if constexpr (How::kPromotes) {
        How::promote(sums, stage_sums, empty + 8 * stage.at); // and gives the stage back
      } else {
        wgmma_wait<1>();
        if (last >= 0 && lane == 0) barrier_arrive(empty + 8 * last); // its products are done
        last = stage.at;
      }
      stage.next();
    }
    wgmma_wait<0>();
    settled(sums);
    if (last >= 0 && lane == 0) barrier_arrive(empty + 8 * last);

    constexpr int kQuads = Tile::kWarpN / 4;
    int column = lane % kQuads * 4;
#pragma unroll 1
    for (int part = 0; part * Tile::kWarpN < N; part++) {
      __syncwarp();
      spread<Tile>(sums, part, mine);
      __syncwarp();
      int n = work.n0 + Tile::kWarpN * part + column;
      if (Tile::kWarpN * part + column >= N) continue; // the last part may be narrower
      Epilogue<T> epilogue(g, n);
      auto scale = how.scale(g, n);
#pragma unroll 1
      for (int row = lane / kQuads; row < 16; row += 32 / kQuads) {
        int m = work.m0 + 16 * warp + row;
        float v[4];
        load(v, mine + spread_at<Tile>(row, column));
        if (work.first == work.end) v[0] = v[1] = v[2] = v[3] = 0; // a part without steps
        scale.apply(m, v);
        if (g.splits == 1) {
          epilogue.store(m, v, g.moments ? norms[row] : make_float2(0, 1));
          if (g.moments_out) store_moments<T>(g.moments_out, g.m, m, n, v, m < g.m && n < g.n);
        } else if (m < g.m && n < g.n) {
          store_partial(g, g.partial + (int64_t(work.part) * g.m + m) * g.n + n, n, v);
        }
      }
    }
    if (g.splits > 1 && g.ticket) add_parts<T, 16, N>(g, g.ticket + tile % p.part_tiles * 8 + warp, work.m0 + 16 * warp, work.n0, norms);
    __syncwarp(); // before the next tile's norms
  }
}

template <class T, class Tile, class How = Plain<T>>
__device__ __forceinline__ void gemm_wgmma(const HopperGemm& p, char* shared, const How& how = {}) {
  shared += -shared_offset(shared) & 1023;
  Shared stages = shared_address(shared), full = stages + Tile::kBarriers, empty = full + 8 * Tile::kStages;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; i++) {
      barrier_init(full + 8 * i, 1);
      barrier_init(empty + 8 * i, Tile::kConsumers);
    }
    barrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    registers_give<40>();
    if (threadIdx.x == 0) produce<typename How::Operand, Tile>(p, stages, full, empty);
  } else {
    registers_take<232>();
    consume<T, Tile>(p, how, stages, full, empty, reinterpret_cast<float*>(shared + Tile::kResults), reinterpret_cast<float2*>(shared + Tile::kNorms));
  }
}

// ---- enlarge: TMA's filters cannot read a pixel twice, so images that are read larger than they are are made so before ----

// Enlarge is filled by gemm_sm90.go.
struct Enlarge {
  const void* a;
  void* d;
  int64_t count;                         // chunks of 16 bytes of the result
  int h, w, up_h, up_w, chunks;          // chunks of a pixel
  Divisor by_chunks, pixels, row, by_up_h, by_up_w; // by chunks, up_h·up_w, up_w, up_h, up_w
};

__device__ __forceinline__ void enlarge(const Enlarge& e) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= e.count) return;
  int pixel = e.by_chunks.under(int(i)), image = e.pixels.under(pixel), r = pixel - image * (e.up_h * e.up_w);
  int y = e.row.under(r), x = r - y * e.up_w;
  int from = (image * e.h + e.by_up_h.under(y * e.h)) * e.w + e.by_up_w.under(x * e.w);
  static_cast<uint4*>(e.d)[i] = static_cast<const uint4*>(e.a)[int64_t(from) * e.chunks + (int(i) - pixel * e.chunks)];
}
