// float8.h: e4m3, the float8 of 4 bits of exponent and 3 of fraction: the largest value is 448, 0x7f and 0xff are NaN, and
// there is no infinity. kernels/lab/fp8's test compares each of float16's 65,536 values with a table made otherwise.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

// To nearest even; what is larger than 448, infinity too, gives 448, and NaN the positive NaN (cvt.rn.satfinite).
inline uint8_t float_to_e4m3(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  uint8_t sign = u >> 24 & 0x80;
  if (f != f) return 0x7f;
  f = fminf(fabsf(f), 448);
  if (f < 0x1p-6f) return sign | uint8_t(nearbyintf(f * 512)); // multiples of 2^-9; 8 of them are the first normal value
  memcpy(&u, &f, 4);
  u += 0x7ffff + (u >> 20 & 1); // 20 bits of fraction go
  return sign | uint8_t((u >> 20) - (120 << 3));
}
inline float e4m3_to_float(uint8_t code) {
  uint32_t exponent = code >> 3 & 15, fraction = code & 7, u = (exponent + 120) << 23 | fraction << 20;
  float f;
  memcpy(&f, &u, 4);
  if (!exponent) f = float(fraction) * 0x1p-9f;
  if ((code & 0x7f) == 0x7f) f = NAN;
  return code & 0x80 ? -f : f;
}
