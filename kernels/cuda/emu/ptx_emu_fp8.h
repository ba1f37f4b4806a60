// ptx_emu_fp8.h: the twins of the wrappers in kernels/lab/fp8/ptx_fp8.cuh.
#pragma once
#include "float8.h"
#include "ptx_emu.h"

inline uint16_t to_e4m3(float x, float y) {
  if (emu::compute_capability < 89) emu::fail("conversion to e4m3 needs sm_89");
  return uint16_t(float_to_e4m3(x) | float_to_e4m3(y) << 8);
}
inline void mma_m16n8k32(Acc& c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if (emu::compute_capability < 89) emu::fail("mma with e4m3 needs sm_89");
  uint32_t b[2] = {b0, b1};
  emu_mma(emu::kE4M3K32, c, a, 4, b, 2);
}
