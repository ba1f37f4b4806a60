// async.h is what Hopper's asynchronous parts know of each other, on the emulated device and in the PTX interpreter: tensor
// maps, mbarriers, copies by TMA, and the products of warpgroups.
#pragma once
#include "emu.h"

namespace emu {

// Map is what the emulated driver writes into the 128 bytes of a CUtensorMap.
struct Map {
  uint32_t magic;
  uint8_t rank, im2col, step[4];
  int8_t lower[2], upper[2]; // of the filter's corner: width, height
  uint16_t box[4];           // im2col: [0] channels, [1] places
  char* address;
  uint32_t size[4];
  uint64_t pitch[4]; // bytes; [0] is an element's
};
constexpr uint32_t kMapMagic = 0x7e4504a9;
static_assert(sizeof(Map) <= 128);

// ---- mbarriers. A phase ends when no arrival is missing and no byte. ----

void barrier_init(void* at, int count);
void barrier_fence();
void barrier_arrive(void* at, int bytes); // and expects so many bytes more
bool barrier_ended(const void* at, int parity);
void barrier_flipped(void* at); // called when a phase ends; block.cc and ptx_run.cc define it

// ---- TMA ----

// copy_tensor asks for a box; at is the place of its first element, right and down belong to im2col. Until the copy is done
// the target holds poison.
void copy_tensor(void* to, const void* map, void* barrier, const int* at, int rank, int right, int down, bool im2col);
size_t copies_under_way();
void perform_copy(size_t which);
void forget_copies(); // of a block that failed

// ---- wgmma ----

// multiply_rows does what one warp of a warpgroup has of it: 16 rows of A times B, added to c[16][n].
void multiply_rows(int warp, const Product& p, const uint16_t (*rows)[16], float* c);

// put_fragment puts a lane's registers of A into the warp's rows (PTX manual, "Register fragments for wgmma.m64nNk16").
void put_fragment(uint16_t (*rows)[16], int lane, const uint32_t* a);

} // namespace emu
