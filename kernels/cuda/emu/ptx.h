// ptx.h: a kernel as nvcc compiled it, decoded for interpretation. ptx_parse.cc reads the text,
// ptx_ops.cc holds an instruction's meaning, ptx_run.cc runs warps of them.
//
// Every operand is a register: immediates, the parameter's address and special registers (%tid.x …) are registers that
// are filled before the first instruction. A register is 64 bits a lane, of which narrower types use the low ones.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "emu.h"

namespace ptx {

struct Op;
using Handler = void (*)(const Op& op);

enum Kind : uint8_t { kPlain, kBranch, kReturn, kBarrier, kWarpWide };
enum Space : uint8_t { kGeneric, kGlobal, kShared, kLocal, kParameter };

struct Op {
  Handler run;
  Kind kind = kPlain;
  Space space = kGeneric;
  uint8_t bytes = 0, guard_is = 1; // an element's size; the guard's value that executes
  int guard = -1;                  // predicate register
  int target = -1;                 // of a branch
  int64_t offset = 0;              // of an address
  uint8_t count[8] = {};           // elements of each operand
  uint16_t arg[8][4] = {};         // their registers
  std::vector<uint16_t> list;      // those of a longer operand, or of a tensor's coordinates
  int line = 0;
  const char* name = "";
};

struct Fill { // a register with the same value in every lane
  uint16_t reg;
  uint64_t value;
};

struct Kernel {
  std::string name;
  std::vector<Op> ops;
  int registers = 0, threads = 1024;
  size_t local_bytes = 0, parameter_bytes = 0;
  std::vector<Fill> immediates;
  int parameter = -1;  // register that holds the address of the kernel's one parameter; -1: not read
  int local_base = -1; // that of the lane's local memory
  int special[13];     // registers of tid.xyz, ntid.xyz, ctaid.xyz, laneid, nctaid.xyz; -1: not read
};

// parse decodes the entry `name`, whose text begins at `body` in the file. It throws std::runtime_error with the line.
Kernel parse(const std::string& name, const std::string& text, size_t body, int line);

// handler is the meaning of an instruction by its full name, and fills in what the name says of the op; null if the
// interpreter does not know it.
Handler handler(const std::string& name, Op& op);

// ---- what handlers see: the warp that executes, and which of its lanes do ----

struct Lane {
  emu::PendingCopy copy[emu::kMaxCopies];
  int copies = 0, group_end[emu::kMaxGroups], groups = 0;
};
// Products of a warpgroup that are under way. Until they are waited for, each of their accumulators holds a tag in the
// upper half of its 64 bits, and NaN in the lower; the tag goes along with a mov.
struct Wgmma {
  int flight;
  emu::Product product;
  uint16_t registers[4];               // of A
  std::vector<uint32_t> was;           // [4][32], if A comes from them
};
struct Flight {
  int n = 0;                // columns of the results; 0: free
  std::vector<float> value; // [16][n]
};
struct Warp {
  std::vector<Wgmma> wgmma;
  std::vector<size_t> wgmma_groups; // ends of the committed ones
  Flight flight[2];
  bool wgmma_fenced;
  std::vector<uint64_t> regs; // [registers][32]
  std::vector<char> local;    // [32][local_bytes]
  int pc[32];
  uint32_t alive, waiting;
  int number;
  Lane lanes[32];
};
extern Warp* warp;
extern uint32_t mask;
extern emu::Counters& counters;
extern bool gave_way;         // the warp waits in vain, let others run
extern const char* parameter; // of the launch
extern size_t parameter_bytes;

} // namespace ptx
