// ptx_emu_sm90.h: the twins of the wrappers in ../ptx_sm90.cuh.
#pragma once
#include "async.h"
#include "ptx_emu.h"

#define TMA_KERNEL KERNEL

struct alignas(64) TensorMap { uint64_t opaque[16]; };

inline uint32_t shared_offset(const void* p) { return uint32_t(static_cast<const char*>(p) - emu::shared_window); }

inline void barrier_init(Shared at, int count) { emu::barrier_init(const_cast<char*>(at), count); }
inline void barrier_init_fence() { emu::barrier_fence(); }
inline void barrier_arrive(Shared at) { emu::barrier_arrive(const_cast<char*>(at), 0); }
inline void barrier_expect(Shared at, int bytes) { emu::barrier_arrive(const_cast<char*>(at), bytes); }
inline void barrier_wait(Shared at, int parity) { emu::barrier_wait(at, parity); }

inline void tma_load(Shared to, const TensorMap& map, Shared barrier, int x, int y) {
  int at[] = {x, y};
  emu::copy_tensor(const_cast<char*>(to), &map, const_cast<char*>(barrier), at, 2, 0, 0, false);
}
inline void tma_load_head(Shared to, const TensorMap& map, Shared barrier, int x, int head, int row, int image) {
  int at[] = {x, head, row, image};
  emu::copy_tensor(const_cast<char*>(to), &map, const_cast<char*>(barrier), at, 4, 0, 0, false);
}
inline void tma_load_im2col(Shared to, const TensorMap& map, Shared barrier, int c, int w, int h, int n, int right, int down) {
  int at[] = {c, w, h, n};
  emu::copy_tensor(const_cast<char*>(to), &map, const_cast<char*>(barrier), at, 4, right, down, true);
}

inline void wgmma_fence() { emu::wgmma_fence(); }
inline void wgmma_commit() { emu::wgmma_commit(); }
template <int n>
void wgmma_wait() { emu::wgmma_wait(n); }
inline void done_before(float) {}
template <int n>
void registers_give() {}
template <int n>
void registers_take() {}

template <int N>
struct WgAcc {
  float v[N / 2];
  float operator[](int i) const { return v[i]; }
};
template <int N>
void settled(WgAcc<N>&) {}
template <int n>
void settled(uint32_t (&)[n][4]) {}

constexpr emu::Operands operands(__half) { return emu::kHalves; }
constexpr emu::Operands operands(__nv_bfloat16) { return emu::kBfloats; }
constexpr emu::Operands operands(E4M3) { return emu::kFloat8s; }
template <int N, class T>
void wgmma(WgAcc<N>& c, uint64_t a, uint64_t b, int add, T t) { emu::wgmma(c.v, {N, operands(t), add != 0, false, a, b}, nullptr); }
template <int N, class T>
void wgmma(WgAcc<N>& c, const uint32_t (&a)[4], uint64_t b, int add, T t) {
  static_assert(sizeof(T) == 2, "B of 8 bits is K-major, and none here is multiplied by registers");
  emu::wgmma(c.v, {N, operands(t), add != 0, true, 0, b}, a);
}
