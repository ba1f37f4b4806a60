// ptx_fp8.cuh: the instructions for e4m3, of sm_89 and later. The emulated device has twins of them in emu/ptx_emu_fp8.h.
//
// Fragments (PTX manual, "Matrix fragments for mma.m16n8k32"), lane = 4·g + t, each register four bytes:
//
//	A 16×32: a0 (g, 4t)  a1 (g+8, 4t)  a2 (g, 4t+16)  a3 (g+8, 4t+16)
//	B 32×8:  b0 (4t, g)  b1 (4t+16, g)
//
// A byte lies where half of a 16-bit value does in m16n8k16: ldmatrix brings both.
#pragma once
#include "ptx.cuh"

#ifdef CUDA_EMU
#include "ptx_emu_fp8.h"
#else

// to_e4m3 rounds two values to nearest even, x to the low byte. What is larger than kMostE4M3 becomes that, NaN stays NaN.
__device__ __forceinline__ uint16_t to_e4m3(float x, float y) {
  uint16_t codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(y), "f"(x));
  return codes;
}

// mma_m16n8k32 adds A·B to C, in float32 as the PTX manual says. It does not say in which order, nor how exactly.
__device__ __forceinline__ void mma_m16n8k32(Acc& c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif
