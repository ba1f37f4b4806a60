// check.cc is the checker. The kernels are compiled with -fsanitize=thread, so that g++ puts a call
// before each load and store, but not linked with its run-time library: these functions answer the calls.
//
// Shared memory: two accesses to the same bytes by different threads, one of them a write, must have a
// barrier between them (or, within a warp, a __syncwarp). Global memory: every access must lie inside an
// allocation, to the byte. Everything: aligned.
#include <string.h>

#include <vector>

#include "device.h"

extern char __start_emu_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_emu_shared[] __attribute__((weak, visibility("hidden")));

namespace emu {

// Cell remembers who touched two bytes of shared memory since the last barrier of the block.
struct Cell {
  unsigned block, barrier;
  int writer, reader; // thread numbers, -1 none, kMany several warps
  unsigned writer_sync, reader_sync;
};
static constexpr int kMany = 1 << 20;

static void note(std::vector<Cell>& cells, size_t offset, size_t bytes, bool write, const char* what) {
  if (cells.size() <= (offset + bytes) / 2) cells.resize((offset + bytes) / 2 + 1);
  int me = thread->number, warp = me / 32;
  unsigned sync = warp_syncs[warp];
  // other says whether an earlier access by thread t, at its warp's sync s, is unordered with this one.
  auto other = [&](int t, unsigned s) { return t >= 0 && t != me && !(t != kMany && t / 32 == warp && s != sync); };
  for (size_t i = offset / 2; i <= (offset + bytes - 1) / 2; i++) {
    Cell& c = cells[i];
    if (c.block != block_number || c.barrier != barrier_number) c = {block_number, barrier_number, -1, -1, 0, 0};
    if (bytes < 2) continue; // neighbouring single bytes share a cell
    if (other(c.writer, c.writer_sync))
      fail("race: %s of %s shared memory at offset %zu, %zu bytes, which thread %d has written, with no barrier between",
           write ? "write" : "read", what, offset, bytes, c.writer);
    if (write && other(c.reader, c.reader_sync))
      fail("race: write of %s shared memory at offset %zu, %zu bytes, which thread %d has read, with no barrier between", what, offset,
           bytes, c.reader == kMany ? -1 : c.reader);
    if (write) {
      c.writer = me;
      c.writer_sync = sync;
    } else if (c.reader < 0 || c.reader == me || c.reader / 32 == warp) {
      c.reader = me;
      c.reader_sync = sync;
    } else {
      c.reader = kMany;
    }
  }
}

void check_access(const void* p, size_t bytes, bool write, size_t align) {
  static std::vector<Cell> dynamic_cells, fixed_cells;
  const char* c = (const char*)p;
  if (!thread || (c >= stacks_begin() && c < stacks_end())) return;
  const char* kind = write ? "write" : "read";
  if (c >= dynamic_shared - 4096 && c < dynamic_shared + dynamic_shared_bytes + 4096) {
    if (c < dynamic_shared || c + bytes > dynamic_shared + dynamic_shared_bytes)
      fail("shared %s out of bounds: offset %ld, %zu bytes of %zu", kind, long(c - dynamic_shared), bytes, dynamic_shared_bytes);
    if ((uintptr_t)p % align) fail("misaligned shared %s of %zu bytes at offset %ld", kind, bytes, long(c - dynamic_shared));
    note(dynamic_cells, c - dynamic_shared, bytes, write, "dynamic");
    return;
  }
  if (c >= __start_emu_shared && c < __stop_emu_shared) {
    note(fixed_cells, c - __start_emu_shared, bytes, write, "fixed");
    return;
  }
  uint64_t a = (uint64_t)p;
  static Allocation last; // most accesses follow one to the same allocation
  if (a >= (uint64_t)last.start && a + bytes <= (uint64_t)last.start + last.bytes && inside(a, 1)) {
    if (a % align) fail("misaligned global %s of %zu bytes at %p", kind, bytes, p);
    return;
  }
  const Allocation* m = allocation_near(a);
  if (!m) return; // constants and variables of the emulation
  if (!inside(a, bytes))
    fail("global %s out of bounds: offset %ld, %zu bytes of an allocation of %zu", kind, long(a - (uint64_t)m->start), bytes, m->bytes);
  if (a % align) fail("misaligned global %s of %zu bytes at %p", kind, bytes, p);
  last = *m;
}

} // namespace emu

using emu::check_access;

extern "C" {
#define ACCESS(n)                                                                      \
  void __tsan_read##n(void* p) { check_access(p, n, false, n); }                       \
  void __tsan_write##n(void* p) { check_access(p, n, true, n); }                       \
  void __tsan_unaligned_read##n(void* p) { check_access(p, n, false, 1); }             \
  void __tsan_unaligned_write##n(void* p) { check_access(p, n, true, 1); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void* p, size_t n) { check_access(p, n, false, 1); }
void __tsan_write_range(void* p, size_t n) { check_access(p, n, true, 1); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
unsigned char __tsan_atomic8_load(const unsigned char* p, int) { return *p; }

// The undefined-behaviour sanitizer's calls, with the place in the source.
struct Place {
  const char* file;
  uint32_t line, column;
};
struct TypeMismatch {
  Place place;
  void* type;
  unsigned char log_align, kind;
};
void __ubsan_handle_type_mismatch_v1(TypeMismatch* d, uintptr_t p) {
  emu::fail("%s:%u: address %#lx is not %u-byte aligned", d->place.file, d->place.line, (long)p, 1u << d->log_align);
}
void __ubsan_handle_out_of_bounds(Place* d, uintptr_t i) { emu::fail("%s:%u: array index %ld out of bounds", d->file, d->line, (long)i); }
void __ubsan_handle_shift_out_of_bounds(Place* d, uintptr_t, uintptr_t) { emu::fail("%s:%u: shift out of range", d->file, d->line); }
}
