// async.cc: mbarriers, TMA and wgmma, as late and as badly ordered as they may be. Nothing is copied when it is asked for:
// block.cc and ptx_run.cc choose when, and which of the copies under way comes first.
#include <string.h>

#include <vector>

#include "async.h"
#include "float8.h"

namespace emu {

// ---- mbarriers ----

struct Barrier { // 8 bytes of shared memory
  uint64_t magic : 15, phase : 1, count : 12, missing : 12;
  int64_t bytes : 24;
};
static_assert(sizeof(Barrier) == 8);
constexpr unsigned kBarrierMagic = 0x2b4d;
static bool fenced = true; // since the last barrier_init

static Barrier* barrier_at(const void* at) {
  const char* c = (const char*)at;
  if (c < dynamic_shared || c + 8 > dynamic_shared + dynamic_shared_bytes || (uintptr_t)at % 8) fail("an mbarrier at offset %ld of shared memory", long(c - dynamic_shared));
  return (Barrier*)at;
}
static Barrier* initialised(const void* at) {
  Barrier* b = barrier_at(at);
  if (b->magic != kBarrierMagic) fail("the mbarrier at offset %ld is not initialised", long((const char*)at - dynamic_shared));
  return b;
}
static void check_phase(Barrier* b) {
  if (b->missing || b->bytes) return;
  b->phase ^= 1;
  b->missing = b->count;
  barrier_flipped(b);
}

void barrier_init(void* at, int count) {
  *barrier_at(at) = {kBarrierMagic, 0, unsigned(count), unsigned(count), 0};
  fenced = false;
}
void barrier_fence() { fenced = true; }
void barrier_arrive(void* at, int bytes) {
  Barrier* b = initialised(at);
  if (!b->missing) fail("more arrivals at the mbarrier at offset %ld than the %d of a phase", long((char*)at - dynamic_shared), int(b->count));
  b->bytes += bytes;
  b->missing--;
  check_phase(b);
}
bool barrier_ended(const void* at, int parity) { return initialised(at)->phase != (parity & 1); }

// ---- TMA ----

struct Copy {
  Map map;
  char* to;
  void* barrier;
  int at[4], right, down;
};
static std::vector<Copy> copies;

// place is where byte `at` behind the target lies: 16-byte chunks of 128 bytes are permuted by the number of these 128 bytes.
static char* place(const char* to, size_t at) {
  uint64_t o = uint64_t(to - shared_window) + at;
  return shared_window + (o ^ (o >> 7 & 7) << 4);
}

static int box_rows(const Map& m) {
  int n = 1;
  for (int i = 1; i < (m.im2col ? 2 : int(m.rank)); i++) n *= m.box[i];
  return n;
}

void copy_tensor(void* to, const void* map, void* barrier, const int* at, int rank, int right, int down, bool im2col) {
  if (compute_capability != 90) fail("TMA needs sm_90a");
  if ((uintptr_t)map % 64) fail("the tensor map is not aligned to 64 bytes");
  Copy c = {*(const Map*)map, (char*)to, barrier, {}, right, down};
  if (c.map.magic != kMapMagic) fail("this is not a tensor map");
  if (c.map.rank != rank || c.map.im2col != im2col) fail("the copy's mode is not the tensor map's");
  if (!fenced) fail("an mbarrier was initialised, and no fence made it visible to TMA");
  for (int i = 0; i < rank; i++) c.at[i] = at[i];
  size_t bytes = size_t(box_rows(c.map)) * c.map.box[0] * c.map.pitch[0];
  if ((c.to - shared_window) % 1024) fail("TMA writes to offset %ld, which is no multiple of 1024", long(c.to - dynamic_shared));
  if (c.to < dynamic_shared || c.to + bytes > dynamic_shared + dynamic_shared_bytes)
    fail("TMA writes out of bounds: offset %ld, %zu bytes of %zu", long(c.to - dynamic_shared), bytes, dynamic_shared_bytes);
  initialised(barrier);
  memset(c.to, 0xff, bytes);
  counters.tensor_copies++;
  copies.push_back(c);
}
size_t copies_under_way() { return copies.size(); }
void forget_copies() {
  copies.clear();
  fenced = true;
}

// copy_row brings `box[0]` elements from x on of the row that begins at from, or zeros where row is null or x is outside.
static void copy_row(const Copy& c, int row, const char* from) {
  const Map& m = c.map;
  size_t element = m.pitch[0], bytes = m.box[0] * element;
  char line[256] = {};
  int64_t first = c.at[0], last = std::min<int64_t>(first + m.box[0], m.size[0]), skip = first < 0 ? -first : 0;
  if (from && first + skip < last) {
    const char* source = from + (first + skip) * element;
    size_t n = (last - first - skip) * element;
    if (!inside((uint64_t)source, n)) fail("TMA reads out of bounds: %zu bytes at %p", n, source);
    memcpy(line + skip * element, source, n);
  }
  for (size_t i = 0; i < bytes; i += 16) memcpy(place(c.to, row * bytes + i), line + i, 16);
}

void perform_copy(size_t which) {
  Copy c = copies[which];
  copies.erase(copies.begin() + which);
  const Map& m = c.map;
  auto inside_axis = [&](int axis, int64_t i) { return i >= 0 && i < int64_t(m.size[axis]); };
  if (!m.im2col) {
    for (int r = 0; r < box_rows(m); r++) {
      const char* from = m.address;
      int rest = r;
      for (int axis = 1; axis < m.rank; axis++) {
        int64_t i = int64_t(c.at[axis]) + rest % m.box[axis];
        rest /= m.box[axis];
        from = from && inside_axis(axis, i) ? from + i * m.pitch[axis] : nullptr;
      }
      copy_row(c, r, from);
    }
  } else {
    // The corner of the filter walks over its places of one image, row by row, and on to the next image.
    int64_t w = c.at[1], h = c.at[2], n = c.at[3];
    int64_t last_w = int64_t(m.size[1]) - 1 + m.upper[0], last_h = int64_t(m.size[2]) - 1 + m.upper[1];
    for (int r = 0; r < box_rows(m); r++) {
      int64_t x = w + c.right, y = h + c.down;
      bool there = inside_axis(1, x) && inside_axis(2, y) && inside_axis(3, n);
      copy_row(c, r, there ? m.address + n * m.pitch[3] + y * m.pitch[2] + x * m.pitch[1] : nullptr);
      if ((w += m.step[1]) <= last_w) continue;
      w = m.lower[0];
      if ((h += m.step[2]) <= last_h) continue;
      h = m.lower[1];
      n++;
    }
  }
  Barrier* b = initialised(c.barrier);
  b->bytes -= int64_t(box_rows(m)) * m.box[0] * m.pitch[0];
  check_phase(b);
}

// ---- wgmma ----

static float widen(uint16_t bits, bool bfloat) {
  if (!bfloat) return half_to_float(bits);
  uint32_t u = uint32_t(bits) << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}

// element is (row, k) of a matrix of V in shared memory, by its descriptor (PTX manual, "Matrix descriptor").
template <class V>
static V element(uint64_t d, int row, int k, bool n_major) {
  constexpr int bytes = sizeof(V), chunk = 16 / bytes;
  uint64_t start = (d & 0x3fff) << 4, leading = (d >> 16 & 0x3fff) << 4, stride = (d >> 32 & 0x3fff) << 4, mode = d >> 62;
  if (d >> 49 & 7) fail("a matrix descriptor with a base offset");
  uint64_t at;
  if (n_major) { // 128 bytes are columns of one row of K, of which `stride` leads 8 further on
    if (mode != 1) fail("an N-major matrix without 128-byte swizzle");
    at = start + row / 64 * leading + row % 64 * 2 + k / 8 * stride + k % 8 * 128;
    at ^= (at >> 7 & 7) << 4;
  } else if (mode == 0) {
    at = start + row / 8 * stride + k / chunk * leading + row % 8 * 16 + k % chunk * bytes;
  } else { // 1: 128 bytes, 2: 64, 3: 32
    at = start + row / 8 * stride + row % 8 * (256 >> mode) + bytes * k;
    at ^= (at >> 7 & (15 >> mode)) << 4;
  }
  const char* p = shared_window + at;
  if (p < dynamic_shared || p + bytes > dynamic_shared + dynamic_shared_bytes) fail("wgmma reads out of bounds: offset %ld of %zu", long(p - dynamic_shared), dynamic_shared_bytes);
  V v;
  memcpy(&v, p, bytes);
  return v;
}

void put_fragment(uint16_t (*rows)[16], int lane, const uint32_t* a) {
  for (int i = 0; i < 4; i++)
    for (int h = 0; h < 2; h++) rows[lane / 4 + i % 2 * 8][lane % 4 * 2 + h + i / 2 * 8] = uint16_t(a[i] >> 16 * h);
}

static void multiply_float8(int warp, const Product& p, float* c) {
  static uint8_t a[16][32], b[256][32];
  for (int k = 0; k < 32; k++) {
    for (int r = 0; r < 16; r++) a[r][k] = element<uint8_t>(p.a, 16 * warp + r, k, false);
    for (int j = 0; j < p.n; j++) b[j][k] = element<uint8_t>(p.b, j, k, false); // K-major always
  }
  for (int r = 0; r < 16; r++)
    for (int j = 0; j < p.n; j++) c[r * p.n + j] = hopper_dot(a[r], b[j], 32, p.add ? c[r * p.n + j] : 0);
}

void multiply_rows(int warp, const Product& p, const uint16_t (*rows)[16], float* c) {
  if (compute_capability != 90) fail("wgmma needs sm_90a");
  counters.wgmma++;
  if (p.of == kFloat8s) return multiply_float8(warp, p, c);
  bool bfloat = p.of == kBfloats;
  alignas(32) static float columns[16][256];
  for (int k = 0; k < 16; k++)
    for (int j = 0; j < p.n; j++) columns[k][j] = widen(element<uint16_t>(p.b, j, k, p.from_registers), bfloat);
  for (int r = 0; r < 16; r++) {
    float* to = c + r * p.n;
    if (!p.add) memset(to, 0, p.n * sizeof(float));
    for (int k = 0; k < 16; k++) {
      uint16_t a = p.from_registers ? rows[r][k] : element<uint16_t>(p.a, 16 * warp + r, k, false);
      Floats8 x = Floats8::all(widen(a, bfloat));
      for (int j = 0; j < p.n; j += 8)
        Floats8::fma(x, Floats8::load(columns[k] + j), Floats8::load(to + j)).store(to + j);
    }
  }
}

} // namespace emu
