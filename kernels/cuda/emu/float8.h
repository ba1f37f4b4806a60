// float8.h: e4m3, the float8 of 4 bits of exponent and 3 of fraction: the largest value is 448, 0x7f and 0xff are NaN, and
// there is no infinity. kernels/lab/fp8's test compares each of float16's 65,536 values with a table made otherwise.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <cmath>

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

// hopper_dot is c + a·b of n e4m3 as Hopper's wgmma adds them. NVIDIA does not document it: this is the model of MMA-Sim (Xie
// et al. 2025, arXiv 2511.10909), whose authors found it bit for bit equal to an H100's results. All terms are cut off, towards
// zero, 13 bits of fraction below the largest exponent among them, where a product's exponent is the sum of its factors'; what
// remains is added exactly, and the sum keeps 13 bits of fraction. DeepSeek-V3 (arXiv 2412.19437, section 3.3.2) found 14 bits
// by other means. No GPU was at hand to compare with.
inline float hopper_dot(const uint8_t* a, const uint8_t* b, int n, float c) {
  constexpr int kFraction = 13, kNone = -1000;
  int most = kNone;
  auto exponent = [](uint8_t code) { return (code >> 3 & 15) ? (code >> 3 & 15) - 7 : -6; };
  auto significand = [](uint8_t code) { return (code >> 3 & 15) ? 8 + (code & 7) : code & 7; }; // eighths
  for (int i = 0; i < n; i++) {
    if ((a[i] & 0x7f) == 0x7f || (b[i] & 0x7f) == 0x7f) return NAN;
    if ((a[i] & 0x7f) && (b[i] & 0x7f)) most = std::max(most, exponent(a[i]) + exponent(b[i]));
  }
  if (!std::isfinite(c)) return c;
  int c_exponent = 0;
  if (c != 0) {
    frexpf(c, &c_exponent); // c is from 2^(c_exponent-1) on
    most = std::max(most, c_exponent - 1);
  }
  if (most == kNone) return 0;
  int unit = most - kFraction; // all terms become multiples of 2^unit
  int64_t sum = int64_t(ldexpf(c, -unit)); // towards zero, as below
  for (int i = 0; i < n; i++) {
    int shift = exponent(a[i]) + exponent(b[i]) - 6 - unit; // 6: of two factors in eighths
    int product = significand(a[i]) * significand(b[i]);
    int term = shift >= 0 ? product << shift : shift > -31 ? product >> -shift : 0;
    sum += (a[i] ^ b[i]) & 0x80 ? -term : term;
  }
  int64_t size = sum < 0 ? -sum : sum;
  if (int more = 64 - __builtin_clzll(size | 1) - (kFraction + 1); more > 0) size = size >> more << more;
  return ldexpf(float(sum < 0 ? -size : size), unit);
}
