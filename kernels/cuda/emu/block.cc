// block.cc runs a grid, one block after another, on one CPU thread. Each GPU thread is a fiber. A fiber
// runs until it must wait for others (a barrier, a warp-wide operation); then another one that can run
// is chosen by a seeded random order. So a kernel that forgets to wait sees its neighbours' work half
// done, in another way for each seed.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <map>
#include <string>

#include "async.h"
#include "device.h"

extern char __start_emu_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_emu_shared[] __attribute__((weak, visibility("hidden")));

namespace emu {

Thread* thread;
Index block_index, block_size, grid_size;
char *shared_window, *dynamic_shared;
size_t dynamic_shared_bytes;
unsigned block_number, barrier_number, warp_syncs[32];
Counters counters;

static constexpr int kThreads = 1024, kWarps = kThreads / 32;
static constexpr size_t kStack = 128 << 10, kGuard = 4096, kSharedMax = 228 << 10;
static Thread threads[kThreads];
static Warp warps[kWarps];
static int thread_count, warp_count, alive, waiting, at_barriers; // of the block that runs
static const Function* function;
static const void* parameter;
static void* scheduler_stack;
static char *stacks, *shared_memory;
static sigjmp_buf failure;
static char failure_text[512];
static volatile bool running;

char* stacks_begin() { return stacks; }
char* stacks_end() { return stacks + kThreads * (kStack + kGuard); }

// ---- the kernels ----

static std::map<std::string, Function>& functions() {
  static std::map<std::string, Function> all;
  return all;
}
Register::Register(const char* name, void (*run)(const void*), size_t parameter_bytes, int threads) {
  functions()[name] = {name, run, parameter_bytes, threads};
}
const Function* find_function(const char* name) {
  auto f = functions().find(name);
  return f == functions().end() ? nullptr : &f->second;
}

// ---- random numbers: xorshift ----

static uint64_t state;
static uint32_t random(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return uint32_t(state >> 32) % below;
}
static void seed_random(uint64_t a, uint64_t b) { state = (a + 1) * 0x9E3779B97F4A7C15ull + b * 0xD1B54A32D192ED03ull + 1; }
static void shuffle(Warp& w) {
  for (int k = 31; k > 0; k--) std::swap(w.order[k], w.order[random(k + 1)]);
}

// ---- fibers ----

// emu_switch saves the callee-saved registers on the stack, stores the stack pointer in *save and goes on
// where `to` was saved. It ends in a jump, not a return, because the CPU's prediction of returns would be
// wrong every time.
extern "C" void emu_switch(void** save, void* to);
extern "C" void emu_start();
__asm__(
    ".text\n"
    "emu_switch:\n"
    " push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    " mov %rsp,(%rdi)\n mov %rsi,%rsp\n"
    " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n"
    " pop %rcx\n jmp *%rcx\n"
    "emu_start:\n and $-16,%rsp\n call emu_thread_main\n ud2\n");

void fail(const char* format, ...) {
  char text[360];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  Index t = thread ? thread->index : Index{0, 0, 0};
  snprintf(failure_text, sizeof failure_text, "%s block (%u,%u,%u) thread (%u,%u,%u): %s", function->name, block_index.x,
           block_index.y, block_index.z, t.x, t.y, t.z, text);
  siglongjmp(failure, 1);
}

// next_lane is the lane of the warp that can run and comes next in its random cycle.
static Thread* next_lane(Warp& w) {
  do w.turn = (w.turn + 1) & 31;
  while (!(w.runnable >> w.order[w.turn] & 1));
  return w.lane[w.order[w.turn]];
}

// leave lets another lane of the warp run, or the scheduler choose another warp.
static void leave() {
  Thread* me = thread;
  Warp& w = *me->warp;
  if (!w.runnable) {
    emu_switch(&me->stack_pointer, scheduler_stack);
    return;
  }
  Thread* to = next_lane(w);
  if (to == me) return; // a barrier that this lane has just released
  thread = to;
  emu_switch(&me->stack_pointer, to->stack_pointer);
}

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
  if (!bfloat) return _cvtsh_ss(bits);
  uint32_t u = uint32_t(bits) << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}

// multiply does one matrix multiplication for the warp: 16×K times K×8, added to 16×8 in float32.
static void multiply(Warp& w, int at) {
  counters.mma++;
  MmaKind kind = w.lane[0]->mma[at].kind;
  alignas(32) float a[16][16], b[16][8], c[16][8];
  int depth = kind == kF16K16 || kind == kBF16K16 ? 16 : 8;
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
    } else {
      bool bf = kind == kBF16K16;
      for (int i = 0; i < depth / 4; i++)
        for (int h = 0; h < 2; h++) a[g + i % 2 * 8][2 * t + h + i / 2 * 8] = widen(uint16_t(m.a[i] >> 16 * h), bf);
      for (int i = 0; i < depth / 8; i++)
        for (int h = 0; h < 2; h++) b[2 * t + h + 8 * i][g] = widen(uint16_t(m.b[i] >> 16 * h), bf);
    }
    memcpy(&c[g][2 * t], m.acc, 8);
    memcpy(&c[g + 8][2 * t], m.acc + 2, 8);
  }
  for (int r = 0; r < 16; r++) {
    __m256 even = _mm256_setzero_ps(), odd = _mm256_load_ps(c[r]);
    for (int k = 0; k < depth; k += 2) {
      even = _mm256_fmadd_ps(_mm256_set1_ps(a[r][k]), _mm256_load_ps(b[k]), even);
      odd = _mm256_fmadd_ps(_mm256_set1_ps(a[r][k + 1]), _mm256_load_ps(b[k + 1]), odd);
    }
    _mm256_store_ps(c[r], _mm256_add_ps(even, odd));
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

void wgmma(float* acc, int n, bool bfloat, uint64_t a, uint64_t b, bool add) {
  Thread* t = thread;
  if (t->wgmmas == kMaxWgmma) fail("more than %d wgmma of a thread are under way", kMaxWgmma);
  Flight* f = flight_of(t, acc);
  if (!f) {
    if (!t->wgmma_fenced) fail("wgmma's accumulators are not ordered by wgmma.fence");
    if (!(f = flight_of(t, nullptr))) fail("products go to more than %d sets of accumulators", kMaxFlights);
    *f = {acc, n / 2, {}};
    memcpy(f->value, acc, n / 2 * sizeof(float));
    memset(acc, 0xff, n / 2 * sizeof(float));
  }
  t->wgmma[t->wgmmas++] = {acc, n, bfloat, add, a, b};
}

void wgmma_commit() {
  Thread* t = thread;
  if (t->wgmma_groups == kMaxWgmmaGroups) fail("more than %d groups of wgmma are under way", kMaxWgmmaGroups);
  t->wgmma_group_end[t->wgmma_groups++] = t->wgmmas;
}

static void multiply_warpgroup(Warp& w, int at) {
  static float c[16 * 256];
  const PendingWgmma p = w.lane[0]->wgmma[at];
  Flight* flight[32];
  for (int l = 0; l < 32; l++) {
    const PendingWgmma& m = w.lane[l]->wgmma[at];
    if (m.n != p.n || m.bfloat != p.bfloat || m.a != p.a || m.b != p.b || m.add != p.add) fail("lanes of a warp ask for different wgmma");
    flight[l] = flight_of(w.lane[l], m.acc);
  }
  auto value = [&](int l, int i) -> float* { return &flight[l]->value[i]; };
  auto cell = [&](int l, int i) { return (l / 4 + i / 2 % 2 * 8) * p.n + i / 4 * 8 + l % 4 * 2 + i % 2; };
  for (int l = 0; l < 32; l++)
    for (int i = 0; i < p.n / 2; i++) c[cell(l, i)] = *value(l, i);
  multiply_rows(int(&w - warps) % 4, p.n, p.bfloat, p.a, p.b, p.add, c);
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
  w.runnable |= members;
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

// ---- barriers ----

static void open_barrier() {
  counters.barriers++;
  barrier_number++;
  waiting = 0;
  for (int i = 0; i < warp_count; i++) {
    if (warps[i].arrived) fail("deadlock: __syncthreads while warp %d waits in a warp-wide operation", i);
    warps[i].runnable = warps[i].alive;
    shuffle(warps[i]);
  }
}

void barrier() {
  thread->warp->runnable &= ~(1u << thread->lane);
  if (++waiting == alive) open_barrier();
  leave();
}

// ---- mbarriers ----

void barrier_wait(const void* at, int parity) {
  Thread* me = thread;
  while (!barrier_ended(at, parity)) {
    me->barrier = at;
    me->parity = parity;
    me->warp->runnable &= ~(1u << me->lane);
    at_barriers++;
    leave();
  }
}

void barrier_flipped(void* at) {
  for (int i = 0; i < thread_count; i++) {
    Thread& t = threads[i];
    if (t.barrier != at || !barrier_ended(at, t.parity)) continue;
    t.barrier = nullptr;
    t.warp->runnable |= 1u << t.lane;
    at_barriers--;
  }
}

// ---- cp.async: nothing is copied before the wait that asks for it; until then the target is poison ----

static void note_banks(const void* to) {
  Warp& w = *thread->warp;
  auto& b = w.bank[thread->issued++ % 64];
  b.mask |= 1u << thread->lane;
  b.to[thread->lane] = (uintptr_t)to;
  if (b.mask == ~0u) {
    for (int m = 0; m < 4; m++) counters.copy_conflicts += conflicts(b.to + 8 * m, 8);
    b.mask = 0;
  }
}

void copy_async(void* to, const void* from, int bytes, bool valid) {
  Thread* t = thread;
  if (compute_capability < 80) fail("cp.async needs sm_80");
  if (t->copies == kMaxCopies) fail("more than %d cp.async of a thread are under way", kMaxCopies);
  shared_address(to, bytes, bytes);
  if ((uintptr_t)from % bytes) fail("cp.async source %p is not %d-byte aligned", from, bytes);
  if (check_access) {
    check_access(to, bytes, true, bytes);
    if (valid) check_access(from, bytes, false, bytes);
  }
  counters.copies++;
  note_banks(to);
  memset(to, 0xff, bytes);
  t->copy[t->copies++] = {to, from, valid};
}

void commit_copies() {
  Thread* t = thread;
  if (t->groups == kMaxGroups) fail("more than %d cp.async groups of a thread are under way", kMaxGroups);
  t->group_end[t->groups++] = t->copies;
}

void wait_copies(int newest) {
  Thread* t = thread;
  if (t->groups <= newest) return;
  int done = t->groups - newest, n = t->group_end[done - 1];
  for (int i = 0; i < n; i++) {
    const PendingCopy& c = t->copy[i];
    if (check_access) check_access(c.to, 16, true, 16);
    if (c.valid) memcpy(c.to, c.from, 16);
    else memset(c.to, 0, 16);
  }
  memmove(t->copy, t->copy + n, (t->copies - n) * sizeof t->copy[0]);
  t->copies -= n;
  for (int i = done; i < t->groups; i++) t->group_end[i - done] = t->group_end[i] - n;
  t->groups -= done;
}

// ---- a block ----

extern "C" void emu_thread_main() {
  function->run(parameter);
  Thread* me = thread;
  Warp& w = *me->warp;
  if (me->mmas) settle_mma();
  if (me->wgmmas) fail("the thread ends while wgmma is under way");
  w.alive &= ~(1u << me->lane);
  w.runnable &= ~(1u << me->lane);
  alive--;
  for (int i = 0; i < 32; i++)
    if (w.arrived >> i & 1) complete(w, w.lane[i]->kind, w.lane[i]->mask);
  if (alive && waiting == alive) open_barrier();
  leave();
}

static void start_block() {
  block_number++;
  barrier_number = 0;
  thread_count = block_size.x * block_size.y * block_size.z;
  warp_count = (thread_count + 31) / 32;
  alive = thread_count;
  waiting = at_barriers = 0;
  forget_copies();
  memset(dynamic_shared, 0xff, dynamic_shared_bytes);
  if (__start_emu_shared) memset(__start_emu_shared, 0xff, __stop_emu_shared - __start_emu_shared);
  for (int i = 0; i < warp_count; i++) {
    Warp& w = warps[i];
    int n = std::min(32, thread_count - 32 * i);
    w.alive = w.runnable = n == 32 ? ~0u : (1u << n) - 1;
    w.arrived = 0;
    w.turn = 31;
    for (auto& b : w.bank) b.mask = 0;
    for (int k = 0; k < 32; k++) {
      w.order[k] = k;
      w.lane[k] = &threads[32 * i + k];
    }
    shuffle(w);
  }
  for (int i = 0; i < thread_count; i++) {
    Thread& t = threads[i];
    t.number = i;
    t.lane = i & 31;
    t.warp = &warps[i / 32];
    t.index = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
    t.mmas = t.copies = t.groups = t.issued = t.wgmmas = t.wgmma_groups = 0;
    t.barrier = nullptr;
    t.wgmma_fenced = false;
    for (Flight& f : t.flight) f.acc = nullptr;
    void** sp = (void**)(t.stack + kStack) - 2;
    *--sp = (void*)emu_start;
    for (int k = 0; k < 6; k++) *--sp = nullptr; // the callee-saved registers
    t.stack_pointer = sp;
  }
}

static void run_block() {
  start_block();
  while (alive) {
    int ready[kWarps], n = 0;
    for (int i = 0; i < warp_count; i++)
      if (warps[i].runnable) ready[n++] = i;
    // Copies by TMA come when nothing else can run, and now and then before, in any order.
    if (size_t copies = copies_under_way(); copies && (!n || !random(32))) {
      thread = nullptr;
      perform_copy(random(uint32_t(copies)));
      continue;
    }
    if (!n) {
      thread = nullptr;
      fail("deadlock: %d of %d threads wait at __syncthreads, %d at mbarriers, the others in a warp-wide operation", waiting, alive, at_barriers);
    }
    thread = next_lane(warps[ready[random(n)]]);
    emu_switch(&scheduler_stack, thread->stack_pointer);
  }
  thread = nullptr;
  if (copies_under_way()) fail("the block ends while TMA is under way");
}

// ---- a grid ----

static struct sigaction old_segv, old_bus;

// on_fault turns a touch of a guard page into an error that names the allocation. Faults outside a
// kernel are not ours: they go to whoever handled them before.
static void on_fault(int number, siginfo_t* info, void* context) {
  if (!running) {
    struct sigaction& old = number == SIGSEGV ? old_segv : old_bus;
    if (old.sa_flags & SA_SIGINFO) old.sa_sigaction(number, info, context);
    else signal(number, SIG_DFL);
    return;
  }
  uintptr_t a = (uintptr_t)info->si_addr;
  if (a >= (uintptr_t)stacks && a < (uintptr_t)stacks_end()) fail("the thread's stack overflows");
  if (const Allocation* m = allocation_near(a))
    fail("illegal address: %ld bytes after the start of an allocation of %zu bytes", long(a - (uintptr_t)m->start), m->bytes);
  fail("illegal address %p", info->si_addr);
}

static void reserve_memory() {
  if (stacks) return;
  auto map = [](size_t n) {
    return (char*)mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  };
  stacks = map(kThreads * (kStack + kGuard));
  for (int i = 0; i < kThreads; i++) {
    char* s = stacks + i * (kStack + kGuard);
    mprotect(s, kGuard, PROT_NONE);
    threads[i].stack = s + kGuard;
  }
  shared_memory = map(kSharedMax + kGuard);
  mprotect(shared_memory + kSharedMax, kGuard, PROT_NONE);
  shared_window = shared_memory;
}

bool run_grid(const Function* f, Index grid, Index block, size_t shared, const void* p, unsigned seed, const char** error) {
  reserve_memory();
  function = f;
  parameter = p;
  grid_size = grid;
  block_size = block;
  dynamic_shared_bytes = shared;
  dynamic_shared = shared_memory + (kSharedMax - shared) / 128 * 128;

  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, &old_segv);
  sigaction(SIGBUS, &action, &old_bus);
  running = true;
  volatile bool ok = true;
  if (!sigsetjmp(failure, 1)) {
    uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    seed_random(seed, 0);
    uint64_t first = random(blocks < 0xffffffff ? uint32_t(blocks) : 0xffffffff);
    for (uint64_t i = 0; i < blocks; i++) {
      uint64_t k = (i + first) % blocks; // the blocks in a rotated order
      seed_random(seed, k + 1);
      block_index = {unsigned(k % grid.x), unsigned(k / grid.x % grid.y), unsigned(k / grid.x / grid.y)};
      run_block();
    }
    thread = nullptr;
    if (const Allocation* m = damaged_allocation()) fail("something was written beside the allocation of %zu bytes at %p", m->bytes, m->start);
  } else {
    ok = false;
    *error = failure_text;
  }
  running = false;
  thread = nullptr;
  sigaction(SIGSEGV, &old_segv, nullptr);
  sigaction(SIGBUS, &old_bus, nullptr);
  return ok;
}

} // namespace emu
