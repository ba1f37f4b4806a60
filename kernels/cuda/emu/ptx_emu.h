// ptx_emu.h: the twins of the wrappers in ../ptx.cuh, with the fragment layouts of the PTX manual
// ("Warp-level matrix instructions"). Lane l = 4·g + t.
#pragma once
#include "device.h"

// The four results of a lane: rows g and g+8, columns 2t and 2t+1. Reading them makes the lane wait for
// the multiplications that it has asked for.
struct Acc {
  float v[4] = {};
  Acc() = default;
  Acc(const Acc& o) { *this = o; }
  Acc& operator=(const Acc& o) {
    if (emu::thread->mmas) emu::settle_mma();
    memcpy(v, o.v, sizeof v);
    return *this;
  }
  ~Acc() {
    if (emu::thread->mmas) emu::settle_mma();
  }
  float& operator[](int i) {
    if (emu::thread->mmas) emu::settle_mma();
    return v[i];
  }
};

inline void emu_mma(emu::MmaKind kind, Acc& c, const uint32_t* a, int na, const uint32_t* b, int nb) {
  emu::Thread* t = emu::thread;
  if (t->mmas == emu::kMaxPendingMma) emu::settle_mma();
  emu::PendingMma& m = t->mma[t->mmas++];
  m.kind = kind;
  m.acc = c.v;
  for (int i = 0; i < na; i++) m.a[i] = a[i];
  for (int i = 0; i < nb; i++) m.b[i] = b[i];
}

inline void mma_m16n8k8(Acc& c, uint32_t a0, uint32_t a1, uint32_t b, __half) {
  uint32_t a[2] = {a0, a1};
  emu_mma(emu::kF16K8, c, a, 2, &b, 1);
}
inline void mma_m16n8k16(Acc& c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __half h) {
  if (emu::compute_capability < 80) {
    mma_m16n8k8(c, a[0], a[1], b0, h);
    mma_m16n8k8(c, a[2], a[3], b1, h);
    return;
  }
  uint32_t b[2] = {b0, b1};
  emu_mma(emu::kF16K16, c, a, 4, b, 2);
}
inline void mma_m16n8k16(Acc& c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __nv_bfloat16) {
  if (emu::compute_capability < 80) emu::fail("mma with bfloat16 needs sm_80");
  uint32_t b[2] = {b0, b1};
  emu_mma(emu::kBF16K16, c, a, 4, b, 2);
}
inline void mma_m16n8k8(Acc& c, uint32_t a0, uint32_t a1, uint32_t b, __nv_bfloat16) {
  if (emu::compute_capability < 80) emu::fail("mma with bfloat16 needs sm_80");
  uint32_t a[2] = {a0, a1};
  emu_mma(emu::kBF16K8, c, a, 2, &b, 1);
}
inline void mma_m16n8k8_tf32(Acc& c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  uint32_t b[2] = {b0, b1};
  emu_mma(emu::kTF32K8, c, a, 4, b, 2);
}
// To nearest, ties away from zero; infinity and NaN stay.
inline uint32_t to_tf32(uint32_t x) { return (x & 0x7f800000) == 0x7f800000 ? x : (x + 0x1000) & 0xffffe000; }

using Shared = const char*;
inline float exp2_fast(float x) { return x < -126 ? 0 : exp2f(x); }
inline int kept(int x) { return x; }
inline Shared shared_address(const void* p) { return static_cast<const char*>(p); }
inline Shared flipped(Shared at, int bits) { return at + ((intptr_t(at) ^ bits) - intptr_t(at)); }

inline void store_shared_pair(float* to, float x, float y) {
  if ((uintptr_t)to % 8) emu::fail("shared address %p is not 8-byte aligned", (void*)to);
  to[0] = x;
  to[1] = y;
}

inline void store_shared16(Shared to, const uint32_t (&v)[4]) {
  if ((uintptr_t)to % 16) emu::fail("shared address %p is not 16-byte aligned", (const void*)to);
  *reinterpret_cast<uint4*>(const_cast<char*>(to)) = {v[0], v[1], v[2], v[3]};
}

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) { // and Shared
  emu::Thread* t = emu::thread;
  t->row = row;
  emu::collective(emu::kLoadMatrix, ~0u);
  for (int i = 0; i < 4; i++) memcpy(&r[i], &t->warp->rows[8 * i + t->lane / 4][t->lane % 4 * 2], 4);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  emu::Thread* t = emu::thread;
  t->row = row;
  emu::collective(emu::kLoadMatrix, ~0u);
  int g = t->lane / 4, k = t->lane % 4 * 2;
  for (int i = 0; i < 4; i++) r[i] = t->warp->rows[8 * i + k][g] | uint32_t(t->warp->rows[8 * i + k + 1][g]) << 16;
}

inline void cp_async16(const void* shared, const void* from, int valid) { // bytes, or bool
  void* to = const_cast<void*>(shared);
  if (emu::compute_capability < 80) {
    uint4 v = {};
    if (valid) v = *reinterpret_cast<const uint4*>(from);
    *reinterpret_cast<uint4*>(to) = v;
    return;
  }
  emu::copy_async(to, from, 16, valid);
}
inline void cp_async_commit() { emu::commit_copies(); }
template <int N>
void cp_async_wait() { emu::wait_copies(N); }
