// simd.h: conversions of float16 and vectors of 8 floats, on the hosts that the emulated device runs on. Both round to nearest
// even, and both multiply and add with one rounding, so that the emulated device gives the same bits on each.
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
inline float half_to_float(uint16_t h) { return _cvtsh_ss(h); }
inline uint16_t float_to_half(float f) { return _cvtss_sh(f, 0); }
struct Floats8 {
  __m256 v;
  static Floats8 zero() { return {_mm256_setzero_ps()}; }
  static Floats8 all(float f) { return {_mm256_set1_ps(f)}; }
  static Floats8 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  Floats8 operator+(Floats8 o) const { return {_mm256_add_ps(v, o.v)}; }
  static Floats8 fma(Floats8 a, Floats8 b, Floats8 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
};
#elif defined(__aarch64__)
#include <arm_neon.h>
inline float half_to_float(uint16_t h) {
  __fp16 f;
  memcpy(&f, &h, 2);
  return f;
}
inline uint16_t float_to_half(float f) {
  __fp16 r = __fp16(f);
  uint16_t h;
  memcpy(&h, &r, 2);
  return h;
}
struct Floats8 {
  float32x4_t a, b;
  static Floats8 zero() { return all(0); }
  static Floats8 all(float f) { return {vdupq_n_f32(f), vdupq_n_f32(f)}; }
  static Floats8 load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
  void store(float* p) const { vst1q_f32(p, a), vst1q_f32(p + 4, b); }
  Floats8 operator+(Floats8 o) const { return {vaddq_f32(a, o.a), vaddq_f32(b, o.b)}; }
  static Floats8 fma(Floats8 x, Floats8 y, Floats8 z) { return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b)}; }
};
#else
#error "simd.h knows amd64 and arm64"
#endif
