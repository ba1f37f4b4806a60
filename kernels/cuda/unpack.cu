// unpack.cu: a weight in 8 bits as gemm reads it: d[n,k] = code(w[n,k]) · scale[n], a thread 16 neighbours of a row.
//
// A row is pitch codes, its scale, and which code it is (unpack.go). Codes are whole numbers or float8 (e4m3), whose bits are
// those of a float32 with fewer: moved there, only the bias of the exponent differs, also of those near zero.
#include "device.cuh"

// Unpack is filled by unpack.go.
struct Unpack {
  const void* w; // [rows, pitch + 16]
  void* d;       // [rows, pitch]
  int rows, pitch;
};

__device__ __forceinline__ float int8_value(unsigned code) { return float(int(code << 24) >> 24); }

__device__ __forceinline__ float e4m3_value(unsigned code) {
  unsigned u = (code & 0x80) << 24 | (code & 0x7f) << 20;
  float f;
  memcpy(&f, &u, 4);
  return f * 0x1p120f;
}

template <class T>
__device__ void unpack(const Unpack& p) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  int chunks = p.pitch / 16;
  if (i >= int64_t(p.rows) * chunks) return;
  int row = int(i / chunks), chunk = int(i % chunks);
  const char* w = static_cast<const char*>(p.w) + int64_t(row) * (p.pitch + 16);
  float scale = *reinterpret_cast<const float*>(w + p.pitch);
  bool e4m3 = *reinterpret_cast<const int*>(w + p.pitch + 4);
  uint4 raw = *reinterpret_cast<const uint4*>(w + 16 * chunk);
  unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
  float v[16];
#pragma unroll
  for (int k = 0; k < 16; k++) {
    unsigned code = words[k / 4] >> 8 * (k % 4) & 0xff;
    v[k] = (e4m3 ? e4m3_value(code) : int8_value(code)) * scale;
  }
  store(static_cast<T*>(p.d) + int64_t(row) * p.pitch + 16 * chunk, v);
}

#define UNPACK(name, T) \
  KERNEL(unpack_##name, 256, Unpack, p) { unpack<T>(p); }
UNPACK(f16, half_t)
UNPACK(bf16, bfloat_t)
