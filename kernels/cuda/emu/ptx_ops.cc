// ptx_ops.cc: what each instruction does, as the PTX manual says, for the lanes of `mask`.
#include <string.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "async.h"
#include "float8.h"
#include "ptx.h"

namespace ptx {

namespace {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s32 = int32_t;
using s64 = int64_t;

// ---- registers ----

u64& cell(int reg, int lane) { return warp->regs[size_t(reg) * 32 + lane]; }
template <class T>
T get(int reg, int lane) {
  T v;
  memcpy(&v, &cell(reg, lane), sizeof v);
  return v;
}
template <class T>
void put(int reg, int lane, T v) {
  u64 bits = 0;
  memcpy(&bits, &v, sizeof v);
  cell(reg, lane) = bits;
}
template <class F>
void each(F f) {
  for (int l = 0; l < 32; l++)
    if (mask >> l & 1) f(l);
}

// op1, op2, op3: d = f(a, b, c), all of type T but for d, whose type is f's.
template <class T, auto f>
void op1(const Op& o) {
  each([&](int l) { put(o.arg[0][0], l, f(get<T>(o.arg[1][0], l))); });
}
template <class T, auto f>
void op2(const Op& o) {
  each([&](int l) { put(o.arg[0][0], l, f(get<T>(o.arg[1][0], l), get<T>(o.arg[2][0], l))); });
}
template <class T, auto f>
void op3(const Op& o) {
  each([&](int l) { put(o.arg[0][0], l, f(get<T>(o.arg[1][0], l), get<T>(o.arg[2][0], l), get<T>(o.arg[3][0], l))); });
}
template <class T>
void shift_left(const Op& o) {
  each([&](int l) {
    u32 n = get<u32>(o.arg[2][0], l);
    put(o.arg[0][0], l, n < 8 * sizeof(T) ? T(get<T>(o.arg[1][0], l) << n) : T(0));
  });
}
template <class T>
void shift_right(const Op& o) { // arithmetic for signed T
  each([&](int l) { put(o.arg[0][0], l, T(get<T>(o.arg[1][0], l) >> std::min<u32>(get<u32>(o.arg[2][0], l), 8 * sizeof(T) - 1))); });
}
template <class T>
void shift_right_unsigned(const Op& o) {
  each([&](int l) {
    u32 n = get<u32>(o.arg[2][0], l);
    put(o.arg[0][0], l, n < 8 * sizeof(T) ? T(get<T>(o.arg[1][0], l) >> n) : T(0));
  });
}
template <class T>
void select(const Op& o) {
  each([&](int l) { put(o.arg[0][0], l, get<u16>(o.arg[3][0], l) & 1 ? get<T>(o.arg[1][0], l) : get<T>(o.arg[2][0], l)); });
}
template <class T>
void divide(const Op& o) {
  each([&](int l) {
    T a = get<T>(o.arg[1][0], l), b = get<T>(o.arg[2][0], l);
    if (!b) emu::fail("division by zero");
    put(o.arg[0][0], l, T(a / b));
  });
}
template <class T>
void remainder_of(const Op& o) {
  each([&](int l) {
    T a = get<T>(o.arg[1][0], l), b = get<T>(o.arg[2][0], l);
    if (!b) emu::fail("division by zero");
    put(o.arg[0][0], l, T(a % b));
  });
}
void bit_insert(const Op& o) { // bfi d, a, b, position, length: a into b
  each([&](int l) {
    u32 position = get<u32>(o.arg[3][0], l), length = get<u32>(o.arg[4][0], l);
    u32 field = (length >= 32 ? ~0u : (1u << length) - 1) << position;
    put(o.arg[0][0], l, (get<u32>(o.arg[1][0], l) << position & field) | (get<u32>(o.arg[2][0], l) & ~field));
  });
}
// The tag of an accumulator of a product that is under way.
u64 tag(int flight, int i) { return (u64(0xacc0) << 48) | u64(flight) << 40 | u64(i) << 32 | 0xffffffff; }
bool tagged(u64 v) { return v >> 48 == 0xacc0 && u32(v) == 0xffffffff; }

// mov between registers and lists of 16-bit halves, low half first.
void move(const Op& o) {
  each([&](int l) {
    if (o.count[0] == 2) {
      u32 v = get<u32>(o.arg[1][0], l);
      put(o.arg[0][0], l, u16(v));
      put(o.arg[0][1], l, u16(v >> 16));
    } else if (o.count[1] == 2) {
      put(o.arg[0][0], l, u32(get<u16>(o.arg[1][0], l)) | u32(get<u16>(o.arg[1][1], l)) << 16);
    } else {
      u64 v = cell(o.arg[1][0], l);
      cell(o.arg[0][0], l) = o.bytes == 8 || (o.bytes == 4 && tagged(v)) ? v : o.bytes == 2 ? get<u16>(o.arg[1][0], l) : get<u32>(o.arg[1][0], l);
    }
  });
}

// The upper half of a product.
s32 high_s32(s32 a, s32 b) { return s32((s64(a) * b) >> 32); }
u32 high_u32(u32 a, u32 b) { return u32((u64(a) * b) >> 32); }

// ---- floating point ----

u16 to_half(float f) { return float_to_half(f); }
float from_half(u16 h) { return half_to_float(h); }
u16 to_bfloat(float f) {
  u32 i;
  memcpy(&i, &f, 4);
  return f != f ? 0x7fff : u16((i + 0x7fff + (i >> 16 & 1)) >> 16);
}
float from_bfloat(u16 h) {
  u32 i = u32(h) << 16;
  float f;
  memcpy(&f, &i, 4);
  return f;
}
u32 half_pair(float a, float b) { return u32(to_half(a)) << 16 | to_half(b); }
u32 bfloat_pair(float a, float b) { return u32(to_bfloat(a)) << 16 | to_bfloat(b); }
u16 e4m3_pair(float a, float b) { return u16(float_to_e4m3(a) << 8 | float_to_e4m3(b)); }
// fma.rm: rounded towards minus infinity. The product is exact in double, and the sum nearly.
float fma_down(float a, float b, float c) {
  double exact = double(a) * b + c;
  float f = float(exact);
  return f > exact ? nextafterf(f, -INFINITY) : f;
}
// TF32: to nearest, ties away from zero; infinity and NaN stay.
u32 to_tf32(u32 x) { return (x & 0x7f800000) == 0x7f800000 ? x : (x + 0x1000) & 0xffffe000; }
float from_tf32(u32 x) {
  x &= 0xffffe000;
  float f;
  memcpy(&f, &x, 4);
  return f;
}
float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x; }

#include "ptx_memory.h"

// ---- warp-wide ----

template <auto source> // source(lane, b): the lane to read, or one past the segment
void shuffle(const Op& o) { // d, a, b, c (0x1f for whole warps), member mask
  u32 v[32];
  for (int l = 0; l < 32; l++) v[l] = get<u32>(o.arg[1][0], l);
  each([&](int l) {
    int from = source(l, int(get<u32>(o.arg[2][0], l)));
    if (from < 0 || from > 31) from = l;
    if (!(mask >> from & 1)) emu::fail("lane %d shuffles from lane %d, which does not take part (line %d)", l, from, o.line);
    put(o.arg[0][0], l, v[from]);
  });
}

void vote_any(const Op& o) { // p, q, member mask
  bool any = false;
  each([&](int l) { any = any || get<u16>(o.arg[1][0], l); });
  each([&](int l) { put(o.arg[0][0], l, u16(any)); });
}

template <bool transposed>
void load_matrix(const Op& o) {
  counters.ldmatrix++;
  u32 at[32];
  u16 rows[32][8];
  Op shared = o;
  shared.space = kShared;
  for (int l = 0; l < 32; l++) {
    at[l] = u32(get<u32>(o.arg[1][0], l) + o.offset);
    memcpy(rows[l], address(shared, at[l], 16, l), 16);
  }
  counters.shared_requests++;
  for (int m = 0; m < 4; m++) {
    int lanes[8];
    for (int i = 0; i < 8; i++) lanes[i] = 8 * m + i;
    int extra = shared_conflicts(at, lanes, 8, 16);
    counters.ldmatrix_conflicts += extra;
    counters.shared_conflicts += extra;
  }
  for (int l = 0; l < 32; l++) {
    int g = l / 4, t = l % 4 * 2;
    for (int m = 0; m < 4; m++) {
      u32 v = transposed ? rows[8 * m + t][g] | u32(rows[8 * m + t + 1][g]) << 16 : rows[8 * m + g][t] | u32(rows[8 * m + g][t + 1]) << 16;
      put(o.arg[0][m], l, v);
    }
  }
}

// D = A·B + C for fragments of the PTX manual's layout; products are exact in float32, and the sum is float32's: GPUs' order
// and precision are not documented. A register holds `n` values V: four e4m3, two of 16 bits, or one float32 of which TF32
// has the upper 19 bits.
template <int depth, class V, float (*widen)(V)>
void multiply(const Op& o) {
  counters.mma++;
  constexpr int n = 4 / sizeof(V);
  float a[16][depth], b[depth][8], c[16][8];
  for (int l = 0; l < 32; l++) {
    int g = l / 4, t = l % 4;
    for (int i = 0; i < depth / (2 * n); i++) {
      u32 v = get<u32>(o.arg[1][i], l);
      for (int h = 0; h < n; h++) a[g + i % 2 * 8][n * t + h + i / 2 * 4 * n] = widen(V(v >> 8 * sizeof(V) * h));
    }
    for (int i = 0; i < depth / (4 * n); i++) {
      u32 v = get<u32>(o.arg[2][i], l);
      for (int h = 0; h < n; h++) b[n * t + h + 4 * n * i][g] = widen(V(v >> 8 * sizeof(V) * h));
    }
    for (int i = 0; i < 4; i++) c[g + i / 2 * 8][2 * t + i % 2] = get<float>(o.arg[3][i], l);
  }
  for (int r = 0; r < 16; r++)
    for (int k = 0; k < depth; k++)
      for (int j = 0; j < 8; j++) c[r][j] += a[r][k] * b[k][j];
  for (int l = 0; l < 32; l++)
    for (int i = 0; i < 4; i++) put(o.arg[0][i], l, c[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2]);
}

void nothing(const Op&) {}

// ---- Hopper: the lanes of a warp ask one after another ----

char* shared_at(const Op& o, int operand, int lane, int bytes) {
  Op shared = o;
  shared.space = kShared;
  return address(shared, get<u32>(o.arg[operand][0], lane) + o.offset, bytes, lane);
}
void barrier_init(const Op& o) {
  each([&](int l) { emu::barrier_init(shared_at(o, 0, l, 8), get<s32>(o.arg[1][0], l)); });
}
void barrier_arrive(const Op& o) {
  each([&](int l) { emu::barrier_arrive(shared_at(o, 1, l, 8), o.count[2] ? get<s32>(o.arg[2][0], l) : 0); });
}
void barrier_try(const Op& o) {
  each([&](int l) {
    bool ended = emu::barrier_ended(shared_at(o, 1, l, 8), get<s32>(o.arg[2][0], l));
    put(o.arg[0][0], l, u16(ended));
    gave_way = gave_way || !ended;
  });
}
template <bool im2col>
void copy_tensor(const Op& o) { // [shared], [map, {coordinates}], [barrier], {right, down}
  each([&](int l) {
    int at[4], rank = int(o.list.size());
    for (int i = 0; i < rank; i++) at[i] = get<s32>(o.list[i], l);
    const char* map = address(o, get<u64>(o.arg[1][0], l), 64, l);
    int right = im2col ? get<u16>(o.arg[3][0], l) : 0, down = im2col ? get<u16>(o.arg[3][1], l) : 0;
    emu::copy_tensor(shared_at(o, 0, l, 16), map, shared_at(o, 2, l, 8), at, rank, right, down, im2col);
  });
}

// Where result i of lane l lies in a warp's 16×n.
size_t result(int l, int i, int n) { return size_t(l / 4 + i / 2 % 2 * 8) * n + i / 4 * 8 + l % 4 * 2 + i % 2; }

void wgmma_fence(const Op&) { warp->wgmma_fenced = true; }
void wgmma_commit(const Op&) { warp->wgmma_groups.push_back(warp->wgmma.size()); }
template <int n, emu::Operands of>
void wgmma(const Op& o) { // {sums}, a, b, add, 1, 1, 0, 0; or {sums}, {a}, b, add, 1, 1, 1; of e4m3 {sums}, a, b, add, 1, 1
  if (o.list.size() != n / 2) emu::fail("wgmma with %zu accumulators (line %d)", o.list.size(), o.line);
  bool from_registers = o.count[1] == 4;
  if (from_registers && !warp->wgmma_fenced) emu::fail("A's registers are not ordered by wgmma.fence (line %d)", o.line);
  if (of == emu::kFloat8s) {
    if (o.count[6] || o.count[7]) emu::fail("wgmma of 8 bits takes K-major matrices, and no transposition (line %d)", o.line);
    if (from_registers) emu::fail("wgmma of 8 bits with A from registers is not emulated (line %d)", o.line);
  } else if (from_registers != (get<u32>(o.arg[6][0], 0) == 1) || (!from_registers && get<u32>(o.arg[7][0], 0))) {
    emu::fail("wgmma with a major-ness that is not emulated (line %d)", o.line);
  }
  u64 first = cell(o.list[0], 0);
  int flight = tagged(first) ? int(first >> 40 & 0xff) : -1;
  if (flight < 0) {
    if (!warp->wgmma_fenced) emu::fail("wgmma's accumulators are not ordered by wgmma.fence (line %d)", o.line);
    flight = warp->flight[0].n ? 1 : 0;
    Flight& f = warp->flight[flight];
    if (f.n) emu::fail("products go to more than two sets of accumulators (line %d)", o.line);
    f.n = n;
    f.value.resize(16 * n);
    for (int l = 0; l < 32; l++)
      for (int i = 0; i < n / 2; i++) f.value[result(l, i, n)] = get<float>(o.list[i], l);
  }
  for (int l = 0; l < 32; l++) {
    if ((!from_registers && cell(o.arg[1][0], l) != cell(o.arg[1][0], 0)) || cell(o.arg[2][0], l) != cell(o.arg[2][0], 0)) emu::fail("lanes ask for different wgmma (line %d)", o.line);
    for (int i = 0; i < n / 2; i++) {
      u64& v = cell(o.list[i], l);
      if (tagged(first) && v != tag(flight, i)) emu::fail("accumulators were written while wgmma was under way (line %d)", o.line);
      v = tag(flight, i);
    }
  }
  Wgmma w = {flight, {n, of, (get<u16>(o.arg[3][0], 0) & 1) != 0, from_registers, from_registers ? 0 : get<u64>(o.arg[1][0], 0), get<u64>(o.arg[2][0], 0)}, {}, {}};
  for (int i = 0; from_registers && i < 4; i++) {
    w.registers[i] = o.arg[1][i];
    for (int l = 0; l < 32; l++) w.was.push_back(get<u32>(o.arg[1][i], l));
  }
  warp->wgmma.push_back(w);
}
// finish does a product that is waited for.
void finish(const Wgmma& w) {
  uint16_t rows[16][16];
  for (int l = 0; l < 32 && w.product.from_registers; l++) {
    u32 a[4];
    for (int i = 0; i < 4; i++) {
      a[i] = w.was[32 * i + l];
      if (get<u32>(w.registers[i], l) != a[i]) emu::fail("A's registers were written while wgmma was under way");
    }
    emu::put_fragment(rows, l, a);
  }
  emu::multiply_rows(warp->number % 4, w.product, rows, warp->flight[w.flight].value.data());
}
void wgmma_wait(const Op& o) {
  size_t newest = get<u32>(o.arg[0][0], 0);
  auto& groups = warp->wgmma_groups;
  if (groups.size() <= newest) return;
  size_t waited = groups.size() - newest, done = groups[waited - 1];
  for (size_t i = 0; i < done; i++) finish(warp->wgmma[i]);
  warp->wgmma.erase(warp->wgmma.begin(), warp->wgmma.begin() + done);
  groups.erase(groups.begin(), groups.begin() + waited);
  for (size_t& end : groups) end -= done;
  for (int flight = 0; flight < 2; flight++) {
    Flight& f = warp->flight[flight];
    bool pending = !f.n;
    for (const Wgmma& w : warp->wgmma) pending |= w.flight == flight;
    if (pending) continue;
    for (size_t at = 0; at < warp->regs.size(); at++) { // wherever a mov has brought them
      u64& v = warp->regs[at];
      if (!tagged(v) || int(v >> 40 & 0xff) != flight) continue;
      u64 bits = 0;
      memcpy(&bits, &f.value[result(int(at % 32), int(v >> 32 & 0xff), f.n)], 4);
      v = bits;
    }
    f.n = 0;
  }
  warp->wgmma_fenced = false;
}

// compare gives the six comparisons of a type. With NaN all are false but ne's unordered form, which nvcc does not use here.
template <class T>
void compare(std::map<std::string, Handler>& all, const std::string& type) {
  all["setp.eq." + type] = op2<T, [](T a, T b) { return u16(a == b); }>;
  all["setp.ne." + type] = op2<T, [](T a, T b) { return u16(a != b && a == a && b == b); }>;
  all["setp.lt." + type] = op2<T, [](T a, T b) { return u16(a < b); }>;
  all["setp.le." + type] = op2<T, [](T a, T b) { return u16(a <= b); }>;
  all["setp.gt." + type] = op2<T, [](T a, T b) { return u16(a > b); }>;
  all["setp.ge." + type] = op2<T, [](T a, T b) { return u16(a >= b); }>;
  if (type == "f32") {
    all["setp.neu.f32"] = op2<T, [](T a, T b) { return u16(!(a == b)); }>;
    all["setp.leu.f32"] = op2<T, [](T a, T b) { return u16(!(a > b)); }>;
    all["setp.ltu.f32"] = op2<T, [](T a, T b) { return u16(!(a >= b)); }>;
    all["setp.geu.f32"] = op2<T, [](T a, T b) { return u16(!(a < b)); }>;
    all["setp.gtu.f32"] = op2<T, [](T a, T b) { return u16(!(a <= b)); }>;
    all["setp.nan.f32"] = op2<T, [](T a, T b) { return u16(a != a || b != b); }>;
  }
}

// integer fills in what signed and unsigned arithmetic share: two's complement.
template <class U, class S>
void integer(std::map<std::string, Handler>& all, const std::string& bits) {
  for (std::string t : {"s", "u"}) {
    all["add." + t + bits] = op2<U, [](U a, U b) { return U(a + b); }>;
    all["sub." + t + bits] = op2<U, [](U a, U b) { return U(a - b); }>;
    all["mul.lo." + t + bits] = op2<U, [](U a, U b) { return U(a * b); }>;
    all["mad.lo." + t + bits] = op3<U, [](U a, U b, U c) { return U(a * b + c); }>;
  }
  all["and.b" + bits] = op2<U, [](U a, U b) { return U(a & b); }>;
  all["or.b" + bits] = op2<U, [](U a, U b) { return U(a | b); }>;
  all["xor.b" + bits] = op2<U, [](U a, U b) { return U(a ^ b); }>;
  all["not.b" + bits] = op1<U, [](U a) { return U(~a); }>;
  all["neg.s" + bits] = op1<U, [](U a) { return U(0 - a); }>;
  all["shl.b" + bits] = shift_left<U>;
  all["shr.s" + bits] = shift_right<S>;
  all["min.s" + bits] = op2<S, [](S a, S b) { return std::min(a, b); }>;
  all["max.s" + bits] = op2<S, [](S a, S b) { return std::max(a, b); }>;
  all["min.u" + bits] = op2<U, [](U a, U b) { return std::min(a, b); }>;
  all["max.u" + bits] = op2<U, [](U a, U b) { return std::max(a, b); }>;
  all["div.s" + bits] = divide<S>;
  all["div.u" + bits] = divide<U>;
  all["rem.s" + bits] = remainder_of<S>;
  all["rem.u" + bits] = remainder_of<U>;
  compare<S>(all, "s" + bits);
  compare<U>(all, "u" + bits);
  compare<U>(all, "b" + bits);
  for (std::string t : {"b", "s", "u"}) all["selp." + t + bits] = select<U>;
}

template <int... n>
void all_wgmma(std::map<std::string, Handler>& all) {
  ((all["wgmma.mma_async.sync.aligned.m64n" + std::to_string(n) + "k16.f32.f16.f16"] = wgmma<n, emu::kHalves>,
    all["wgmma.mma_async.sync.aligned.m64n" + std::to_string(n) + "k16.f32.bf16.bf16"] = wgmma<n, emu::kBfloats>,
    all["wgmma.mma_async.sync.aligned.m64n" + std::to_string(n) + "k32.f32.e4m3.e4m3"] = wgmma<n, emu::kFloat8s>), ...);
}

std::map<std::string, Handler> table() {
  std::map<std::string, Handler> all;
  integer<u16, int16_t>(all, "16");
  integer<u32, s32>(all, "32");
  integer<u64, s64>(all, "64");
  all["shr.u32"] = shift_right_unsigned<u32>;
  all["shr.u64"] = shift_right_unsigned<u64>;
  all["bfi.b32"] = bit_insert;
  all["mul.wide.s32"] = op2<s32, [](s32 a, s32 b) { return s64(a) * b; }>;
  all["mul.wide.u16"] = op2<u16, [](u16 a, u16 b) { return u32(a) * b; }>;
  all["mul.wide.u32"] = op2<u32, [](u32 a, u32 b) { return u64(a) * b; }>;
  all["mul.hi.s32"] = op2<s32, high_s32>;
  all["mul.hi.u32"] = op2<u32, high_u32>;
  all["and.pred"] = op2<u16, [](u16 a, u16 b) { return u16(a & b); }>;
  all["or.pred"] = op2<u16, [](u16 a, u16 b) { return u16(a | b); }>;
  all["xor.pred"] = op2<u16, [](u16 a, u16 b) { return u16(a ^ b); }>;
  all["not.pred"] = op1<u16, [](u16 a) { return u16(a ^ 1); }>;

  compare<float>(all, "f32");
  all["selp.f32"] = select<float>;
  all["add.f32"] = all["add.rn.f32"] = op2<float, [](float a, float b) { return a + b; }>;
  all["sub.f32"] = all["sub.rn.f32"] = op2<float, [](float a, float b) { return a - b; }>;
  all["mul.f32"] = all["mul.rn.f32"] = op2<float, [](float a, float b) { return a * b; }>;
  all["div.rn.f32"] = op2<float, [](float a, float b) { return a / b; }>;
  all["rcp.rn.f32"] = op1<float, [](float a) { return 1 / a; }>;
  all["sqrt.rn.f32"] = op1<float, [](float a) { return sqrtf(a); }>;
  all["neg.f32"] = op1<float, [](float a) { return -a; }>;
  all["abs.f32"] = op1<float, [](float a) { return fabsf(a); }>;
  all["max.f32"] = op2<float, [](float a, float b) { return fmaxf(a, b); }>; // the other, if one is NaN
  all["min.f32"] = op2<float, [](float a, float b) { return fminf(a, b); }>;
  all["copysign.f32"] = op2<float, [](float a, float b) { return copysignf(b, a); }>;
  all["fma.rn.f32"] = op3<float, [](float a, float b, float c) { return fmaf(a, b, c); }>;
  all["fma.rm.f32"] = op3<float, fma_down>;
  all["ex2.approx.f32"] = op1<float, [](float a) { return exp2f(a); }>;
  all["ex2.approx.ftz.f32"] = op1<float, [](float a) { return flushed(exp2f(flushed(a))); }>;
  all["rsqrt.approx.f32"] = op1<float, [](float a) { return 1 / sqrtf(a); }>;
  all["rcp.approx.ftz.f32"] = op1<float, [](float a) { return flushed(1 / flushed(a)); }>;
  all["cvt.sat.f32.f32"] = op1<float, [](float a) { return 0 < a ? fminf(a, 1) : 0.0f; }>; // NaN gives 0
  all["cvt.rzi.f32.f32"] = op1<float, [](float a) { return truncf(a); }>;
  all["cvt.rn.f32.s32"] = op1<s32, [](s32 a) { return float(a); }>;
  all["cvt.rn.f16.f32"] = op1<float, to_half>;
  all["cvt.rn.bf16.f32"] = op1<float, to_bfloat>;
  all["cvt.rna.tf32.f32"] = op1<u32, to_tf32>;
  all["cvt.f32.f16"] = op1<u16, from_half>;
  all["cvt.f32.bf16"] = op1<u16, from_bfloat>;
  // The first operand goes to the upper half.
  all["cvt.rn.f16x2.f32"] = op2<float, half_pair>;
  all["cvt.rn.bf16x2.f32"] = op2<float, bfloat_pair>;
  all["cvt.rn.satfinite.e4m3x2.f32"] = op2<float, e4m3_pair>;
  all["cvt.s64.s32"] = op1<s32, [](s32 a) { return s64(a); }>;
  all["cvt.u64.u32"] = op1<u32, [](u32 a) { return u64(a); }>;
  all["cvt.u32.u64"] = op1<u64, [](u64 a) { return u32(a); }>;
  all["cvt.u32.u16"] = op1<u16, [](u16 a) { return u32(a); }>;
  all["cvt.u16.u32"] = op1<u32, [](u32 a) { return u16(a); }>;

  all["atom.global.add.u32"] = atomic_add;
  all["membar.gl"] = nothing; // warps run one after the other
  all["cp.async.cg.shared.global"] = copy_async;
  all["cp.async.commit_group"] = commit_copies;
  all["cp.async.wait_group"] = wait_copies;
  all["shfl.sync.bfly.b32"] = shuffle<[](int l, int b) { return l ^ b; }>;
  all["vote.sync.any.pred"] = vote_any;
  all["shfl.sync.idx.b32"] = shuffle<[](int, int b) { return b & 31; }>;
  all["shfl.sync.down.b32"] = shuffle<[](int l, int b) { return l + b; }>;
  all["ldmatrix.sync.aligned.m8n8.x4.shared.b16"] = load_matrix<false>;
  all["ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"] = load_matrix<true>;
  all["mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"] = multiply<16, u16, from_half>;
  all["mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"] = multiply<16, u16, from_bfloat>;
  all["mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32"] = multiply<8, u16, from_half>;
  all["mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32"] = multiply<8, u16, from_bfloat>;
  all["mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"] = multiply<8, u32, from_tf32>;
  all["mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32"] = multiply<32, u8, e4m3_to_float>;
  all["mbarrier.init.shared::cta.b64"] = barrier_init;
  all["fence.mbarrier_init.release.cluster"] = [](const Op&) { emu::barrier_fence(); };
  all["mbarrier.arrive.shared::cta.b64"] = all["mbarrier.arrive.expect_tx.shared::cta.b64"] = barrier_arrive;
  all["mbarrier.try_wait.parity.shared::cta.b64"] = barrier_try;
  all["cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"] = copy_tensor<false>;
  all["cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"] = copy_tensor<false>;
  all["cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes"] = copy_tensor<true>;
  all["setmaxnreg.inc.sync.aligned.u32"] = all["setmaxnreg.dec.sync.aligned.u32"] = nothing;
  all["wgmma.fence.sync.aligned"] = wgmma_fence;
  all["wgmma.commit_group.sync.aligned"] = wgmma_commit;
  all["wgmma.wait_group.sync.aligned"] = wgmma_wait;
  all_wgmma<40, 64, 80, 128, 160, 256>(all);
  all["trap"] = [](const Op&) { emu::fail("trap"); };
  return all;
}

bool starts(const std::string& s, const char* with) { return s.compare(0, strlen(with), with) == 0; }

// width is the size of the type that the name ends in.
uint8_t width(const std::string& name) { return uint8_t(std::stoi(name.substr(name.find_last_not_of("0123456789") + 1)) / 8); }

} // namespace

Handler handler(const std::string& name, Op& op) {
  static const std::map<std::string, Handler> all = table();
  if (auto i = all.find(name); i != all.end()) {
    if (starts(name, "shfl") || starts(name, "vote") || starts(name, "ldmatrix") || starts(name, "mma") || starts(name, "wgmma")) op.kind = kWarpWide;
    return i->second;
  }
  if (name == "bra" || name == "bra.uni") return op.kind = kBranch, nothing;
  if (name == "ret" || name == "exit") return op.kind = kReturn, nothing;
  if (name == "bar.sync") return op.kind = kBarrier, nothing;
  if (name == "bar.warp.sync") return op.kind = kWarpWide, nothing;
  if (starts(name, "cvta")) return op.bytes = 8, move; // generic addresses are those of global memory and of the parameter, and local ones their own
  if (starts(name, "mov.")) return op.bytes = name == "mov.pred" ? 2 : width(name), move;
  if (starts(name, "ld.") || starts(name, "st.")) {
    op.bytes = width(name);
    op.space = name.find(".shared") != name.npos ? kShared : name.find(".local") != name.npos ? kLocal : name.find(".global") != name.npos ? kGlobal : name.find(".param") != name.npos ? kParameter : kGeneric;
    return name[0] == 'l' ? load : store;
  }
  return nullptr;
}

} // namespace ptx
