// ptx.cuh: the instructions that CUDA C++ has no name for. Nothing else in this folder holds assembly.
// The emulated device has twins of them in emu/ptx_emu.h.
//
// Fragments (PTX manual, "Matrix fragments for mma.m16n8k16"), lane = 4·g + t, each register two 16-bit values:
//
//	A 16×16: a0 (g, 2t)  a1 (g+8, 2t)  a2 (g, 2t+8)  a3 (g+8, 2t+8)
//	B 16×8:  b0 (2t, g)  b1 (2t+8, g)
//	C 16×8:  c0 c1 (g, 2t..2t+1)  c2 c3 (g+8, 2t..2t+1), float32
#pragma once
#include "device.cuh"
#ifdef CUDA_EMU
#include "ptx_emu.h"
#else

// Acc is a lane's part of C.
struct Acc {
  float v[4] = {0, 0, 0, 0};
  __device__ __forceinline__ float& operator[](int i) { return v[i]; }
};

// Shared is an address in shared memory, as the instructions want it; it counts bytes.
using Shared = uint32_t;
__device__ __forceinline__ Shared shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

// flipped is an address with some of its bits the other way.
__device__ __forceinline__ Shared flipped(Shared at, int bits) { return at ^ bits; }

// kept hides x's origin from the compiler, so that x is computed once, before a loop, and not again in each round.
__device__ __forceinline__ int kept(int x) {
  asm volatile("mov.b32 %0, %0;" : "+r"(x));
  return x;
}

// ldmatrix_x4 loads four 8×8 matrices of 16-bit values. Lane 8i+r names row r of matrix i (16 bytes, aligned);
// register i of lane 4g+t then holds row g, columns 2t and 2t+1 of it: 32 bits, which may as well be one float32 of
// 8×4 matrices. _trans gives it transposed.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], Shared row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], Shared row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) { ldmatrix_x4(r, shared_address(row)); }
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) { ldmatrix_x4_trans(r, shared_address(row)); }

// store_shared_pair writes 8 bytes at once, which the compiler does not always see that it may.
__device__ __forceinline__ void store_shared_pair(float* to, float x, float y) {
  asm volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(shared_address(to)), "f"(x), "f"(y) : "memory");
}

// store_shared16 writes 16 bytes.
__device__ __forceinline__ void store_shared16(Shared to, const uint32_t (&v)[4]) {
  asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
}

// exp2_fast is 2^x within 2 units in the last place, 0 below 2^-126.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// mma_m16n8k8 has half of the depth, and is all that sm_75 has.
__device__ __forceinline__ void mma_m16n8k8(Acc& c, uint32_t a0, uint32_t a1, uint32_t b, half_t) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
               : "r"(a0), "r"(a1), "r"(b));
}

#ifndef OLD_GPU

// mma_m16n8k16 adds A·B to C on the tensor cores, in float32.
__device__ __forceinline__ void mma_m16n8k16(Acc& c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1, half_t) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mma_m16n8k16(Acc& c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1, bfloat_t) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_m16n8k8(Acc& c, uint32_t a0, uint32_t a1, uint32_t b, bfloat_t) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
               : "r"(a0), "r"(a1), "r"(b));
}

// cp_async16 copies 16 bytes from global to shared memory while the thread goes on; where bytes is 0 it
// writes zeros and reads nothing. Both addresses are aligned to 16. L1 is bypassed.
__device__ __forceinline__ void cp_async16(Shared to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
// mma_m16n8k8 of TF32: float32 of which the tensor cores read 11 significant bits. Lane 4g+t holds of A (g, t), (g+8, t),
// (g, t+4), (g+8, t+4), of B (t, g), (t+4, g). to_tf32 rounds to nearest, ties away from zero.
__device__ __forceinline__ void mma_m16n8k8_tf32(Acc& c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ uint32_t to_tf32(uint32_t x) {
  uint32_t y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// A group is what the thread has issued since the last commit; wait<n> waits until all but the n newest are done.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

#else // sm_75: half the depth an instruction, no asynchronous copies, no bfloat16 or TF32

__device__ __forceinline__ void mma_m16n8k16(Acc& c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1, half_t h) {
  mma_m16n8k8(c, a[0], a[1], b0, h);
  mma_m16n8k8(c, a[2], a[3], b1, h);
}
__device__ __forceinline__ void cp_async16(Shared to, const void* from, int bytes) {
  uint4 v = make_uint4(0, 0, 0, 0);
  if (bytes) v = *reinterpret_cast<const uint4*>(from);
  store_shared16(to, {v.x, v.y, v.z, v.w});
}
__device__ __forceinline__ void cp_async_commit() {}
template <int n>
__device__ __forceinline__ void cp_async_wait() {}

#endif
__device__ __forceinline__ void cp_async16(void* to, const void* from, bool valid) { cp_async16(shared_address(to), from, valid ? 16 : 0); }
#endif
