// warp.h is the part of block.cc that lanes of a warp do together: shuffles, matrix loads and products. It uses its fibers.
#pragma once
#include "float8.h"

// ---- warp-wide operations ----

static void shared_address(const void* p, size_t bytes, unsigned align) {
  const char* c = (const char*)p;
  if ((uintptr_t)p % align) fail("shared address %p is not %u-byte aligned", p, align);
  bool dynamic = c >= dynamic_shared && c + bytes <= dynamic_shared + dynamic_shared_bytes;
  bool fixed = c >= __start_emu_shared && c + bytes <= __stop_emu_shared;
  if (!dynamic && !fixed)
    fail("shared access out of bounds: offset %ld of %zu dynamic bytes", long(c - dynamic_shared), dynamic_shared_bytes);
}

// conflicts counts the extra cycles of 8 accesses of 16 bytes: shared memory serves 8 different
// 16-byte columns of its 128 a cycle.
static int conflicts(const uintptr_t* to, int n) {
  int load[8] = {}, worst = 0;
  for (int i = 0; i < n; i++) {
    bool same = false;
    for (int j = 0; j < i; j++) same |= to[j] == to[i];
    if (!same) worst = std::max(worst, ++load[to[i] / 16 % 8]);
  }
  return worst - 1;
}

static void load_matrix(Warp& w) {
  counters.ldmatrix++;
  uintptr_t at[32];
  for (int i = 0; i < 32; i++) {
    thread = w.lane[i];
    at[i] = (uintptr_t)thread->row;
    shared_address(thread->row, 16, 16);
    if (check_access) check_access(thread->row, 16, false, 16);
    memcpy(w.rows[i], thread->row, 16);
  }
  for (int m = 0; m < 4; m++) counters.ldmatrix_conflicts += conflicts(at + 8 * m, 8);
}

static float widen(uint16_t bits, bool bfloat) {
  if (!bfloat) return half_to_float(bits);
  uint32_t u = uint32_t(bits) << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}

// multiply does one matrix multiplication for the warp: 16×K times K×8, added to 16×8 in float32. Products are exact there,
// those of e4m3 too. In which order a GPU adds, and with how many bits, is not documented; of e4m3 it is known that Ada and
// Hopper keep fewer than float32's (MMA-Sim, arXiv 2511.10909, models what was measured). For wgmma of e4m3 float8.h imitates
// that, here nothing does.
static void multiply(Warp& w, int at) {
  counters.mma++;
  MmaKind kind = w.lane[0]->mma[at].kind;
  alignas(32) float a[16][32], b[32][8], c[16][8];
  int depth = kind == kE4M3K32 ? 32 : kind == kF16K16 || kind == kBF16K16 ? 16 : 8;
  for (int l = 0; l < 32; l++) {
    const PendingMma& m = w.lane[l]->mma[at];
    int g = l / 4, t = l % 4;
    if (m.kind != kind) fail("lanes of a warp meet in different mma instructions");
    if (kind == kTF32K8) { // a lane holds (g,t) (g+8,t) (g,t+4) (g+8,t+4); the low 13 bits are not read
      for (int i = 0; i < 4; i++) {
        uint32_t u = m.a[i] & 0xffffe000;
        memcpy(&a[g + i % 2 * 8][t + i / 2 * 4], &u, 4);
      }
      for (int i = 0; i < 2; i++) {
        uint32_t u = m.b[i] & 0xffffe000;
        memcpy(&b[t + 4 * i][g], &u, 4);
      }
    } else if (kind == kE4M3K32) { // as of 16 bits, with two bytes in each value's place
      for (int i = 0; i < 4; i++)
        for (int h = 0; h < 4; h++) a[g + i % 2 * 8][4 * t + h + i / 2 * 16] = e4m3_to_float(uint8_t(m.a[i] >> 8 * h));
      for (int i = 0; i < 2; i++)
        for (int h = 0; h < 4; h++) b[4 * t + h + 16 * i][g] = e4m3_to_float(uint8_t(m.b[i] >> 8 * h));
    } else {
      bool bf = kind == kBF16K16 || kind == kBF16K8;
      for (int i = 0; i < depth / 4; i++)
        for (int h = 0; h < 2; h++) a[g + i % 2 * 8][2 * t + h + i / 2 * 8] = widen(uint16_t(m.a[i] >> 16 * h), bf);
      for (int i = 0; i < depth / 8; i++)
        for (int h = 0; h < 2; h++) b[2 * t + h + 8 * i][g] = widen(uint16_t(m.b[i] >> 16 * h), bf);
    }
    memcpy(&c[g][2 * t], m.acc, 8);
    memcpy(&c[g + 8][2 * t], m.acc + 2, 8);
  }
  for (int r = 0; r < 16; r++) {
    Floats8 even = Floats8::zero(), odd = Floats8::load(c[r]);
    for (int k = 0; k < depth; k += 2) {
      even = Floats8::fma(Floats8::all(a[r][k]), Floats8::load(b[k]), even);
      odd = Floats8::fma(Floats8::all(a[r][k + 1]), Floats8::load(b[k + 1]), odd);
    }
    (even + odd).store(c[r]);
  }
  for (int l = 0; l < 32; l++) {
    const PendingMma& m = w.lane[l]->mma[at];
    memcpy(m.acc, &c[l / 4][l % 4 * 2], 8);
    memcpy(m.acc + 2, &c[l / 4 + 8][l % 4 * 2], 8);
  }
}

static void multiply_pending(Warp& w) {
  int n = w.lane[0]->mmas;
  for (int i = 1; i < 32; i++)
    if (w.lane[i]->mmas != n) fail("lane 0 has issued %d mma instructions, lane %d has issued %d: the warp diverges", n, i, w.lane[i]->mmas);
  for (int i = 0; i < n; i++) multiply(w, i);
  for (int i = 0; i < 32; i++) w.lane[i]->mmas = 0;
}

// ---- wgmma: a warp of the group does its rows when it waits for them, as late as may be ----

void wgmma_fence() { thread->wgmma_fenced = true; }

static Flight* flight_of(Thread* t, float* acc) {
  for (Flight& f : t->flight)
    if (f.acc == acc) return &f;
  return nullptr;
}

void wgmma(float* acc, const Product& p, const uint32_t* a) {
  Thread* t = thread;
  if (t->wgmmas == kMaxWgmma) fail("more than %d wgmma of a thread are under way", kMaxWgmma);
  if (a && !t->wgmma_fenced) fail("A's registers are not ordered by wgmma.fence");
  Flight* f = flight_of(t, acc);
  if (!f) {
    if (!t->wgmma_fenced) fail("wgmma's accumulators are not ordered by wgmma.fence");
    if (!(f = flight_of(t, nullptr))) fail("products go to more than %d sets of accumulators", kMaxFlights);
    *f = {acc, p.n / 2, {}};
    memcpy(f->value, acc, p.n / 2 * sizeof(float));
    memset(acc, 0xff, p.n / 2 * sizeof(float));
  }
  PendingWgmma& w = t->wgmma[t->wgmmas++];
  w = {acc, p, a, {}};
  if (a) memcpy(w.was, a, sizeof w.was);
}

void wgmma_commit() {
  Thread* t = thread;
  if (t->wgmma_groups == kMaxWgmmaGroups) fail("more than %d groups of wgmma are under way", kMaxWgmmaGroups);
  t->wgmma_group_end[t->wgmma_groups++] = t->wgmmas;
}

static void multiply_warpgroup(Warp& w, int at) {
  static float c[16 * 256];
  const Product p = w.lane[0]->wgmma[at].product;
  Flight* flight[32];
  uint16_t rows[16][16];
  for (int l = 0; l < 32; l++) {
    const PendingWgmma& m = w.lane[l]->wgmma[at];
    if (!(m.product == p)) fail("lanes of a warp ask for different wgmma");
    flight[l] = flight_of(w.lane[l], m.acc);
    if (!m.registers) continue;
    if (memcmp(m.registers, m.was, sizeof m.was)) fail("A's registers were written while wgmma was under way");
    put_fragment(rows, l, m.was);
  }
  auto value = [&](int l, int i) -> float* { return &flight[l]->value[i]; };
  auto cell = [&](int l, int i) { return (l / 4 + i / 2 % 2 * 8) * p.n + i / 4 * 8 + l % 4 * 2 + i % 2; };
  for (int l = 0; l < 32; l++)
    for (int i = 0; i < p.n / 2; i++) c[cell(l, i)] = *value(l, i);
  multiply_rows(int(&w - warps) % 4, p, rows, c);
  for (int l = 0; l < 32; l++)
    for (int i = 0; i < p.n / 2; i++) *value(l, i) = c[cell(l, i)];
}

// Every lane of the warp has come to the wait.
static void finish_warpgroup(Warp& w) {
  int done = int(w.lane[0]->in);
  for (int l = 1; l < 32; l++)
    if (int(w.lane[l]->in) != done || w.lane[l]->wgmmas != w.lane[0]->wgmmas) fail("lanes of a warp wait for different wgmma");
  for (int i = 0; i < done; i++) multiply_warpgroup(w, i);
  for (Thread* t : w.lane) {
    memmove(t->wgmma, t->wgmma + done, (t->wgmmas - done) * sizeof t->wgmma[0]);
    t->wgmmas -= done;
    for (Flight& f : t->flight) {
      bool pending = !f.acc;
      for (int i = 0; i < t->wgmmas; i++) pending |= t->wgmma[i].acc == f.acc;
      if (pending) continue;
      const unsigned char* bytes = (const unsigned char*)f.acc;
      for (size_t i = 0; i < f.n * sizeof(float); i++)
        if (bytes[i] != 0xff) fail("accumulators were written while wgmma was under way");
      memcpy(f.acc, f.value, f.n * sizeof(float));
      f.acc = nullptr;
    }
    t->wgmma_fenced = false;
  }
}

void wgmma_wait(int newest) {
  Thread* t = thread;
  if (t->wgmma_groups <= newest) return;
  int groups = t->wgmma_groups - newest, n = t->wgmma_group_end[groups - 1];
  collective(kPause, ~0u); // what the warp has done may have consequences before its products read their operands
  t->in = n;
  collective(kWgmma, ~0u);
  for (int i = groups; i < t->wgmma_groups; i++) t->wgmma_group_end[i - groups] = t->wgmma_group_end[i] - n;
  t->wgmma_groups -= groups;
}

static void perform(Warp& w, int kind, uint32_t mask) {
  if ((kind == kMma || kind == kLoadMatrix || kind == kWgmma) && mask != ~0u) fail("mma, ldmatrix or wgmma by a part of a warp (mask %08x)", mask);
  Thread* me = thread;
  switch (kind) {
  case kSyncWarp:
    if (mask == w.alive) warp_syncs[&w - warps]++;
    break;
  case kShuffle:
    for (int i = 0; i < 32; i++) {
      if (!(mask >> i & 1)) continue;
      int from = w.lane[i]->from & 31;
      if (!(mask >> from & 1)) fail("lane %d shuffles from lane %d, which is outside the mask %08x", i, from, mask);
      w.lane[i]->out = w.lane[from]->in;
    }
    break;
  case kLoadMatrix:
    load_matrix(w);
    break;
  case kMma:
    multiply_pending(w);
    break;
  case kWgmma:
    finish_warpgroup(w);
    break;
  }
  thread = me;
}

// complete performs the operation if every lane of the mask that is alive has come to it.
static void complete(Warp& w, int kind, uint32_t mask) {
  uint32_t members = mask & w.alive;
  if (members & ~w.arrived) return;
  for (int i = 0; i < 32; i++) {
    const Thread* t = w.lane[i];
    if ((members >> i & 1) && (t->kind != kind || t->mask != mask))
      fail("lanes of a warp meet in different operations: lane %d in number %d with mask %08x, here number %d with mask %08x", i,
           t->kind, t->mask, kind, mask);
  }
  perform(w, kind, members);
  w.arrived &= ~members;
  (kind == kPause ? w.paused : w.runnable) |= members;
}

void collective(int kind, uint32_t mask) {
  Thread* me = thread;
  Warp& w = *me->warp;
  uint32_t bit = 1u << me->lane;
  if (!(mask & bit)) fail("a warp operation's mask %08x leaves out the calling lane", mask);
  me->kind = kind;
  me->mask = mask;
  w.arrived |= bit;
  w.runnable &= ~bit;
  complete(w, kind, mask);
  if (!(w.runnable & bit)) leave();
}

void settle_mma() { collective(kMma, ~0u); }
