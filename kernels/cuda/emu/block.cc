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

#include "fiber.h"

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

#include "warp.h"

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
    w.arrived = w.paused = 0;
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
    void** sp = (void**)(t.stack + kStack) - 2 - kSavedWords;
    std::fill(sp, sp + kSavedWords, nullptr);
    sp[kReturnWord] = (void*)emu_start;
    t.stack_pointer = sp;
  }
}

static void run_block() {
  start_block();
  while (alive) {
    int ready[kWarps], n = 0;
    for (int i = 0; i < warp_count; i++)
      if (warps[i].runnable | warps[i].paused) ready[n++] = i;
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
    Warp& w = warps[ready[random(n)]];
    w.runnable |= w.paused;
    w.paused = 0;
    thread = next_lane(w);
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
