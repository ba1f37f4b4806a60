// emu.h is what the parts of the emulated device know of each other.
//
//	device.h, ptx_emu*.h  what the kernels are compiled against
//	block.cc              runs one block: threads as fibers, barriers, warp-wide operations
//	memory.cc             allocations with red zones, guard pages and poison
//	driver.cc             the functions of libcuda.so.1: contexts, streams, events, graphs, launches
//	async.cc              Hopper: tensor maps, mbarriers, TMA, wgmma
//	check.cc              the checker: races on shared memory, exact bounds (a build of its own)
//	ptx_*.cc              instead of block.cc: an interpreter of the PTX that nvcc makes (a build of its own)
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd.h"

namespace emu {

struct Index { unsigned x, y, z; };
struct Warp;

// Operations that the lanes of a warp perform together.
enum Collective { kSyncWarp = 1, kShuffle, kLoadMatrix, kMma, kPause, kWgmma };
enum MmaKind { kF16K16, kBF16K16, kF16K8, kBF16K8, kTF32K8, kE4M3K32 };

// A multiplication that a lane has asked for and not yet seen the result of. Its operands are values,
// so it can be done later, when all lanes have met: 32 at once, for a fraction of the fiber switches.
struct PendingMma {
  MmaKind kind;
  float* acc;
  uint32_t a[4], b[2];
};

struct PendingCopy {
  void* to;
  const void* from;
  bool valid; // else zeros are written
};

// A product of a warpgroup that is under way, and accumulators that such products go to. Until these are waited for the
// accumulators hold poison, and what they will hold is in Flight. A's registers are read when the product is done: they
// must hold then what they held when it was asked for.
enum Operands { kHalves, kBfloats, kFloat8s }; // 16 columns of K, or 32 of e4m3
struct Product {
  int n;
  Operands of;
  bool add;            // without add the product takes the sums' place
  bool from_registers; // A, and B is N-major; else both are K-major in shared memory
  uint64_t a, b;       // descriptors
  bool operator==(const Product& o) const {
    return n == o.n && of == o.of && add == o.add && from_registers == o.from_registers && a == o.a && b == o.b;
  }
};
struct PendingWgmma {
  float* acc;
  Product product;
  const uint32_t* registers; // of A, or null
  uint32_t was[4];
};
struct Flight {
  float* acc; // null: free
  int n;
  float value[128];
};

constexpr int kMaxWgmma = 64, kMaxWgmmaGroups = 16, kMaxFlights = 2;
constexpr int kMaxPendingMma = 64, kMaxCopies = 512, kMaxGroups = 64;

struct Thread {
  void* stack_pointer;
  char* stack;
  Index index;
  int lane, number;
  Warp* warp;
  // the collective that the lane waits in
  int kind;
  uint32_t mask, in, out;
  int from;             // shuffle: the lane to read
  const void* row;      // ldmatrix: the row that this lane names
  PendingMma mma[kMaxPendingMma];
  int mmas;
  // cp.async: the copies under way, and how many of them each committed group ends with
  PendingCopy copy[kMaxCopies];
  int copies, group_end[kMaxGroups], groups, issued;
  // the mbarrier that the lane waits for, and the parity
  const void* barrier;
  int parity;
  PendingWgmma wgmma[kMaxWgmma];
  Flight flight[kMaxFlights];
  int wgmmas, wgmma_group_end[kMaxWgmmaGroups], wgmma_groups;
  bool wgmma_fenced; // since the last products were waited for
};

struct Warp {
  uint32_t alive, runnable, arrived, paused; // paused: could run, but others may come first
  uint8_t order[32], turn;
  Thread* lane[32];
  alignas(16) uint16_t rows[32][8]; // ldmatrix: the 8×8 matrices' rows
  struct { uint32_t mask; uintptr_t to[32]; } bank[64];
};

extern Thread* thread; // the running one
extern Index block_index, block_size, grid_size;
extern char* shared_window; // what addresses of shared memory count from
extern char* dynamic_shared;
extern size_t dynamic_shared_bytes;
extern unsigned block_number, barrier_number;
extern unsigned warp_syncs[32];
extern int compute_capability; // 75, 80, …

void collective(int kind, uint32_t mask);
void barrier();
void settle_mma();
void copy_async(void* to, const void* from, int bytes, bool valid);
void commit_copies();
void wait_copies(int newest);
void barrier_wait(const void* at, int parity);
void wgmma(float* acc, const Product& p, const uint32_t* a);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int newest);
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// A kernel has one parameter, a struct of some bytes.
struct Function {
  const char* name;
  void (*run)(const void* parameter);
  size_t parameter_bytes;
  int threads;
};
struct Register {
  Register(const char* name, void (*run)(const void*), size_t parameter_bytes, int threads);
};
const Function* find_function(const char* name);

// Counted over a launch.
struct Counters {
  uint64_t mma, ldmatrix, ldmatrix_conflicts, copies, copy_conflicts, barriers, wgmma, tensor_copies;
  // by the PTX interpreter only, for warps: instructions; requests to shared memory and the cycles that bank conflicts
  // add; requests to global memory, the 32-byte sectors that they touch, and the fewest that their bytes fit in
  uint64_t instructions, shared_requests, shared_conflicts, global_requests, sectors, sectors_least;
};
extern Counters counters;

// block.cc. The message of a failed launch is in *error.
bool run_grid(const Function* f, Index grid, Index block, size_t shared, const void* parameter, unsigned seed, const char** error);

// memory.cc
struct Allocation {
  char* mapping; // with a guard page at either end
  size_t mapped;
  char* start;
  size_t bytes;
};
bool allocate(size_t bytes, uint64_t* address);
bool release(uint64_t address);
const Allocation* allocation_at(uint64_t address);       // that holds the address
const Allocation* allocation_near(uint64_t address);     // whose mapping, guard pages too, holds it
const Allocation* damaged_allocation();                  // whose surroundings were written
bool inside(uint64_t address, size_t bytes);
size_t allocated_bytes();

// check.cc, in the checker's build only.
void check_access(const void* p, size_t bytes, bool write, size_t align) __attribute__((weak));
char *stacks_begin(), *stacks_end();

} // namespace emu
