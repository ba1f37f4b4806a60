// memory.cc: device memory. Each allocation ends at a guard page (to 16 bytes, the alignment that
// kernels may rely on), begins after one, and is filled with 0xff, which is NaN in every floating-point
// type. The bytes beside it, up to the guard page and 64 before, are looked at after each launch.
#include <string.h>
#include <sys/mman.h>

#include <map>

#include "emu.h"

namespace emu {

static constexpr size_t kPage = 4096;
static constexpr unsigned char kPoison = 0xff;
static std::map<uint64_t, Allocation> allocations; // by start
static size_t total;

bool allocate(size_t bytes, uint64_t* address) {
  size_t body = (bytes + kPage - 1) / kPage * kPage, mapped = body + 2 * kPage;
  char* m = (char*)mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m == MAP_FAILED) return false;
  mprotect(m + kPage, body, PROT_READ | PROT_WRITE);
  memset(m + kPage, kPoison, body);
  char* start = m + kPage + (body - bytes) / 16 * 16;
  *address = (uint64_t)start;
  allocations[*address] = {m, mapped, start, bytes};
  total += bytes;
  return true;
}

bool release(uint64_t address) {
  auto i = allocations.find(address);
  if (i == allocations.end()) return false;
  total -= i->second.bytes;
  munmap(i->second.mapping, i->second.mapped);
  allocations.erase(i);
  return true;
}

size_t allocated_bytes() { return total; }

const Allocation* allocation_at(uint64_t address) {
  auto i = allocations.upper_bound(address);
  if (i == allocations.begin()) return nullptr;
  const Allocation& a = (--i)->second;
  return address < (uint64_t)a.start + a.bytes ? &a : nullptr;
}

const Allocation* allocation_near(uint64_t address) {
  auto holds = [&](const Allocation& a) { return address >= (uint64_t)a.mapping && address < (uint64_t)a.mapping + a.mapped; };
  auto i = allocations.upper_bound(address);
  if (i != allocations.end() && holds(i->second)) return &i->second;
  if (i != allocations.begin() && holds((--i)->second)) return &i->second;
  return nullptr;
}

bool inside(uint64_t address, size_t bytes) {
  if (!bytes) return true;
  const Allocation* a = allocation_at(address);
  return a && address + bytes <= (uint64_t)a->start + a->bytes;
}

const Allocation* damaged_allocation() {
  for (auto& kv : allocations) {
    const Allocation& a = kv.second;
    for (char* c = a.start - 64 < a.mapping + kPage ? a.mapping + kPage : a.start - 64; c < a.start; c++)
      if ((unsigned char)*c != kPoison) return &a;
    for (char* c = a.start + a.bytes; c < a.mapping + a.mapped - kPage; c++)
      if ((unsigned char)*c != kPoison) return &a;
  }
  return nullptr;
}

} // namespace emu
