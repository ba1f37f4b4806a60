// ptx_run.cc takes block.cc's place: it runs a grid by interpreting the PTX that nvcc made, which is what
// GPUs get, instead of the kernels' source compiled by g++.
//
// The lanes of a warp have a program counter each. The lowest one runs, for all lanes that are there: lanes
// that part at a branch meet again where the code does. Warps take turns of random length.
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>

#include "async.h"
#include "ptx.h"

namespace emu {
char *shared_window, *dynamic_shared;
size_t dynamic_shared_bytes;
Counters counters;
} // namespace emu

namespace ptx {

Warp* warp;
uint32_t mask;
emu::Counters& counters = emu::counters;
bool gave_way;
const char* parameter;
size_t parameter_bytes;

// ---- the kernels: every entry of the .ptx files of a folder ----

struct Entry {
  std::shared_ptr<std::string> text;
  size_t at;
  int line;
  std::unique_ptr<Kernel> kernel; // once it was asked for
  emu::Function function;
};

static std::map<std::string, Entry>& entries() {
  static std::map<std::string, Entry> all;
  if (!all.empty()) return all;
  const char* folder = getenv("EMU_PTX");
  if (!folder) folder = PTX_FOLDER;
  std::string ending = emu::compute_capability < 80 ? ".75.ptx" : ".80.ptx", hopper = "_sm90.90a.ptx", ada = ".89.ptx";
  DIR* d = opendir(folder);
  while (dirent* f = d ? readdir(d) : nullptr) {
    std::string name = f->d_name;
    if (!name.ends_with(ending) && !(emu::compute_capability == 90 && name.ends_with(hopper)) && !(emu::compute_capability >= 89 && name.ends_with(ada))) continue;
    std::stringstream body;
    body << std::ifstream(std::string(folder) + "/" + name).rdbuf();
    auto text = std::make_shared<std::string>(body.str());
    const std::string key = ".visible .entry ";
    int line = 1;
    size_t counted = 0;
    for (size_t at = 0; (at = text->find(key, at)) != std::string::npos; at++) {
      line += int(std::count(text->begin() + counted, text->begin() + at, '\n'));
      counted = at;
      size_t open = text->find('(', at);
      std::string entry = text->substr(at + key.size(), open - at - key.size());
      all[entry] = Entry{text, open, line, nullptr, {}};
    }
  }
  if (d) closedir(d);
  return all;
}

// ---- a block ----

static const Kernel* kernel;
static std::vector<Warp> warps;
static uint64_t state;
static uint32_t random(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return uint32_t(state >> 32) % below;
}

static int spins; // of warps that waited in vain since the last phase of an mbarrier ended

static void start_block(emu::Index block) {
  memset(emu::dynamic_shared, 0xff, emu::dynamic_shared_bytes);
  emu::forget_copies();
  spins = 0;
  int threads = emu::block_size.x * emu::block_size.y * emu::block_size.z;
  warps.resize((threads + 31) / 32);
  for (size_t i = 0; i < warps.size(); i++) {
    Warp& w = warps[i];
    w.number = int(i);
    int n = std::min(32, threads - 32 * int(i));
    w.alive = n == 32 ? ~0u : (1u << n) - 1;
    w.waiting = 0;
    w.wgmma.clear();
    w.wgmma_groups.clear();
    for (Flight& f : w.flight) f.n = 0;
    w.wgmma_fenced = false;
    std::fill(std::begin(w.pc), std::end(w.pc), 0);
    for (auto& l : w.lanes) l.copies = l.groups = 0;
    w.regs.assign(size_t(kernel->registers) * 32, 0xfff0dead0badf00d); // no value that a kernel should rely on
    w.local.assign(32 * kernel->local_bytes, char(0xff));
    auto fill = [&](int reg, auto value) {
      if (reg < 0) return;
      for (int l = 0; l < 32; l++) w.regs[size_t(reg) * 32 + l] = uint64_t(value(l));
    };
    for (const Fill& f : kernel->immediates) fill(f.reg, [&](int) { return f.value; });
    fill(kernel->parameter, [&](int) { return (uint64_t)parameter; });
    fill(kernel->local_base, [&](int l) { return (uint64_t)(w.local.data() + l * kernel->local_bytes); });
    auto thread = [&](int l) { return unsigned(32 * i + l); };
    emu::Index s = emu::block_size;
    fill(kernel->special[0], [&](int l) { return thread(l) % s.x; });
    fill(kernel->special[1], [&](int l) { return thread(l) / s.x % s.y; });
    fill(kernel->special[2], [&](int l) { return thread(l) / (s.x * s.y); });
    fill(kernel->special[3], [&](int) { return s.x; });
    fill(kernel->special[4], [&](int) { return s.y; });
    fill(kernel->special[5], [&](int) { return s.z; });
    fill(kernel->special[6], [&](int) { return block.x; });
    fill(kernel->special[7], [&](int) { return block.y; });
    fill(kernel->special[8], [&](int) { return block.z; });
    fill(kernel->special[9], [&](int l) { return l; });
    fill(kernel->special[10], [&](int) { return emu::grid_size.x; });
    fill(kernel->special[11], [&](int) { return emu::grid_size.y; });
    fill(kernel->special[12], [&](int) { return emu::grid_size.z; });
  }
}

// step executes one instruction for the lanes that are furthest behind. It says whether the warp can go on.
static bool step(Warp& w) {
  uint32_t ready = w.alive & ~w.waiting;
  if (!ready) return false;
  int pc = 0x7fffffff;
  for (int l = 0; l < 32; l++)
    if (ready >> l & 1) pc = std::min(pc, w.pc[l]);
  uint32_t here = 0;
  for (int l = 0; l < 32; l++) here |= uint32_t((ready >> l & 1) && w.pc[l] == pc) << l;

  const Op& o = kernel->ops[pc];
  warp = &w;
  mask = here;
  if (o.guard >= 0) {
    mask = 0;
    for (int l = 0; l < 32; l++) mask |= uint32_t((here >> l & 1) && (w.regs[size_t(o.guard) * 32 + l] & 1) == o.guard_is) << l;
  }
  counters.instructions++;
  uint32_t taken = mask;
  for (int l = 0; l < 32; l++)
    if (here >> l & 1) w.pc[l] = o.kind == kBranch && (taken >> l & 1) ? o.target : pc + 1;
  switch (o.kind) {
  case kPlain:
    if (mask) o.run(o);
    break;
  case kBranch:
    break;
  case kReturn:
    w.alive &= ~taken;
    if (!w.wgmma.empty()) emu::fail("the warp ends while wgmma is under way");
    break;
  case kBarrier:
    counters.barriers++;
    w.waiting |= taken;
    break;
  case kWarpWide:
    if (mask != w.alive) emu::fail("lanes %08x of %08x come to %s (line %d): the warp diverges", mask, w.alive, o.name, o.line);
    o.run(o);
    break;
  }
  return true;
}

static void run_block(emu::Index block) {
  start_block(block);
  for (;;) {
    int ready[32], n = 0;
    bool alive = false;
    for (Warp& w : warps) {
      alive = alive || w.alive;
      if (w.alive & ~w.waiting) ready[n++] = w.number;
    }
    if (!alive && emu::copies_under_way()) emu::fail("the block ends while TMA is under way");
    if (!alive) return;
    if (!n) { // all that live are at the barrier
      for (Warp& w : warps) w.waiting = 0;
      continue;
    }
    Warp& w = warps[ready[random(n)]];
    gave_way = false;
    for (int turns = 1 + random(64); turns > 0 && !gave_way && step(w); turns--) {
    }
    // Copies by TMA come when warps have waited in vain, and now and then before, in any order.
    size_t copies = emu::copies_under_way();
    if (gave_way && ++spins > 100000 && !copies) emu::fail("deadlock: no copy is under way, and the warps that live wait at mbarriers");
    if (copies && (spins > 2 * int(warps.size()) || !random(64))) {
      emu::perform_copy(random(uint32_t(copies)));
      spins = 0;
    }
  }
}

} // namespace ptx

namespace emu {

Index block_index, block_size, grid_size;

void barrier_flipped(void*) { ptx::spins = 0; }

const Function* find_function(const char* name) {
  auto e = ptx::entries().find(name);
  if (e == ptx::entries().end()) return nullptr;
  ptx::Entry& entry = e->second;
  if (!entry.kernel) {
    try {
      entry.kernel = std::make_unique<ptx::Kernel>(ptx::parse(name, *entry.text, entry.at, entry.line));
    } catch (const std::exception& error) {
      fprintf(stderr, "PTX interpreter: %s\n", error.what());
      return nullptr;
    }
    entry.function = {e->first.c_str(), nullptr, entry.kernel->parameter_bytes, entry.kernel->threads};
  }
  return &entry.function;
}

void fail(const char* format, ...) {
  char text[400];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  throw std::runtime_error(text);
}

bool run_grid(const Function* f, Index grid, Index block, size_t shared, const void* p, unsigned seed, const char** error) {
  static char* memory = (char*)mmap(nullptr, 228 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  static std::string message;
  ptx::kernel = ptx::entries().at(f->name).kernel.get();
  ptx::parameter = (const char*)p;
  ptx::parameter_bytes = f->parameter_bytes;
  grid_size = grid;
  block_size = block;
  shared_window = dynamic_shared = memory;
  dynamic_shared_bytes = shared;
  uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
  try {
    for (uint64_t k = 0; k < blocks; k++) {
      ptx::state = (seed + 1) * 0x9E3779B97F4A7C15ull + k * 0xD1B54A32D192ED03ull + 1;
      block_index = {unsigned(k % grid.x), unsigned(k / grid.x % grid.y), unsigned(k / grid.x / grid.y)};
      ptx::run_block(block_index);
    }
  } catch (const std::exception& e) {
    std::ostringstream s;
    s << f->name << " block (" << block_index.x << "," << block_index.y << "," << block_index.z << ") warp " << ptx::warp->number << ": " << e.what();
    message = s.str();
    *error = message.c_str();
    return false;
  }
  if (damaged_allocation()) return *error = "something was written beside an allocation", false;
  return true;
}

} // namespace emu
