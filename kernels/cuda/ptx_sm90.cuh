// ptx_sm90.cuh: the instructions that sm_90a alone has: mbarriers with transactions, copies by the tensor memory
// accelerator (TMA), matrix products by warpgroups (wgmma). With ptx.cuh the only assembly of this folder.
// The emulated device has twins of them in emu/ptx_emu_sm90.h.
//
// A warpgroup is 4 neighbouring warps. m64nNk16, k32 of bytes, computes 64×N; lane 4·g + t of warp w holds of it, in register
// 4·j + e, row 16·w + g + e/2·8, column 8·j + 2·t + e%2.
#pragma once
#include "ptx.cuh"
#ifdef CUDA_EMU
#include "ptx_emu_sm90.h"
#else

// TMA_KERNEL's parameter holds tensor maps. TMA reads these from the constant memory that the parameter lies in.
#define TMA_KERNEL(name, threads, Type, p) \
  extern "C" __global__ void __launch_bounds__(threads, 1) name(const __grid_constant__ Type p)

// TensorMap is what cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col write: a tensor, and the box that one copy brings.
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

// shared_offset is where in the block's window of shared memory a place lies: swizzles go by these addresses.
__device__ __forceinline__ uint32_t shared_offset(const void* p) { return shared_address(p); }
__device__ __forceinline__ uint32_t shared_offset(Shared at) { return at; }

// ---- mbarriers: 8 bytes of shared memory ----
//
// A phase ends when `count` arrivals have come and as many bytes as were expected. wait returns once the phase of that
// parity has ended; the first phase has parity 0, and the one before the first counts as ended.

__device__ __forceinline__ void barrier_init(Shared at, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}
// barrier_init_fence makes initialised barriers visible to TMA.
__device__ __forceinline__ void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void barrier_arrive(Shared at) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
}
// barrier_expect arrives, and expects so many bytes more.
__device__ __forceinline__ void barrier_expect(Shared at, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}
__device__ __forceinline__ bool barrier_try(Shared at, int parity) {
  uint32_t ended;
  asm volatile(
      "{\n.reg .pred %%ended;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 %%ended, [%1], %2;\n"
      "selp.u32 %0, 1, 0, %%ended;\n}"
      : "=r"(ended)
      : "r"(at), "r"(parity)
      : "memory");
  return ended;
}
// barrier_wait ends the kernel with an error after some 0.1 s: better than to hang, should one be wrong about the hardware.
__device__ __forceinline__ void barrier_wait(Shared at, int parity) {
  int tries = 0;
  while (!barrier_try(at, parity))
    if (++tries == 1 << 23) __trap();
}

// ---- TMA: one thread asks for a box, whose bytes arrive at the barrier ----

__device__ __forceinline__ void tma_load(Shared to, const TensorMap& map, Shared barrier, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4}], [%2];" ::"r"(to),
               "l"(&map), "r"(barrier), "r"(x), "r"(y)
               : "memory");
}
// tma_load_head brings columns from x on of one head's rows from `row` on.
__device__ __forceinline__ void tma_load_head(Shared to, const TensorMap& map, Shared barrier, int x, int head, int row, int image) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4,%5,%6}], [%2];" ::"r"(to),
               "l"(&map), "r"(barrier), "r"(x), "r"(head), "r"(row), "r"(image)
               : "memory");
}
// tma_load_im2col brings channels from c on, of consecutive places of a filter's corner, the first of which lies over (w, h)
// of image n; for each place it takes the pixel (right, down) of the corner.
__device__ __forceinline__ void tma_load_im2col(Shared to, const TensorMap& map, Shared barrier, int c, int w, int h, int n, int right, int down) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4,%5,%6}], [%2], {%7,%8};" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(c), "r"(w), "r"(h), "r"(n), "h"(uint16_t(right)), "h"(uint16_t(down))
      : "memory");
}

// ---- wgmma ----

// wgmma_fence orders the warpgroup's accesses to its accumulators before the products that follow.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// wgmma_wait waits until all but the n newest groups are done. Until then the accumulators hold nothing.
template <int n>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
}

// done_before keeps the computation of x, which is not negative, ahead of the wait that follows it. Else ptxas moves the wait
// up, and what was to be done during the products is done after them. It does not move it over a branch.
__device__ __forceinline__ void done_before(float x) {
  if (x < 0) __trap();
}

// registers_give and registers_take change how many registers each thread of a warpgroup may use.
template <int n>
__device__ __forceinline__ void registers_give() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n)); }
template <int n>
__device__ __forceinline__ void registers_take() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n)); }

// WgAcc is a lane's part of 64×N results.
template <int N>
struct WgAcc {
  float v[N / 2];
  __device__ __forceinline__ float operator[](int i) const { return v[i]; }
};

// settled keeps the compiler from reading the accumulators, or reusing A's registers, before the wait that it follows.
template <int N>
__device__ __forceinline__ void settled(WgAcc<N>& c) {
#pragma unroll
  for (int i = 0; i < N / 2; i++) asm volatile("" : "+f"(c.v[i])::"memory");
}
template <int n>
__device__ __forceinline__ void settled(uint32_t (&a)[n][4]) {
#pragma unroll
  for (int i = 0; i < n; i++)
#pragma unroll
    for (int e = 0; e < 4; e++) asm volatile("" : "+r"(a[i][e])::"memory");
}

// wgmma adds A·Bᵀ to c, or with add 0 sets c to it: 16 columns of 64 rows of A and of N rows of B, or 32 of e4m3. Bytes are
// always K-major: their instruction has no operand that could say otherwise, where `majors` stand for 16 bits.
// With A from registers, as ptx.cuh's mma has them for 16 rows a warp, B's descriptor is column_descriptor's.
#define F4(i) "+f"(c.v[i]), "+f"(c.v[i + 1]), "+f"(c.v[i + 2]), "+f"(c.v[i + 3])
#define F8(i) F4(i), F4(i + 4)
#define F16(i) F8(i), F8(i + 8)
#define F32(i) F16(i), F16(i + 16)
#define WGMMA(N, T, types, majors, numbers, registers, a_at, b_at, add_at)                                        \
  __device__ __forceinline__ void wgmma(WgAcc<N>& c, uint64_t a, uint64_t b, int add, T) {                        \
    asm volatile("{\n.reg .pred %%add;\nsetp.ne.b32 %%add, " add_at ", 0;\n"                                     \
                 "wgmma.mma_async.sync.aligned.m64n" #N types " {" numbers "}, " a_at ", " b_at                   \
                 ", %%add, 1, 1" majors ";\n}"                                                                    \
                 : registers                                                                                      \
                 : "l"(a), "l"(b), "r"(add));                                                                     \
  }
#define WGMMA_REGISTERS(N, T, type, numbers, registers, a0, a1, a2, a3, b_at, add_at)                             \
  __device__ __forceinline__ void wgmma(WgAcc<N>& c, const uint32_t (&a)[4], uint64_t b, int add, T) {            \
    asm volatile("{\n.reg .pred %%add;\nsetp.ne.b32 %%add, " add_at ", 0;\n"                                     \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" numbers "}, {" a0 "," a1 "," \
                 a2 "," a3 "}, " b_at ", %%add, 1, 1, 1;\n}"                                                      \
                 : registers                                                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));                                 \
  }
#define NUMBERS20 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19"
#define NUMBERS32 \
  NUMBERS20 "," \
  "%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define NUMBERS40 \
  NUMBERS32 "," \
  "%32,%33,%34,%35,%36,%37,%38,%39"
#define NUMBERS64 \
  NUMBERS40 "," \
  "%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59," \
  "%60,%61,%62,%63"
#define NUMBERS80 \
  NUMBERS64 "," \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define NUMBERS128 \
  NUMBERS80 "," \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99," \
  "%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119," \
  "%120,%121,%122,%123,%124,%125,%126,%127"
#define FLOATS20 F16(0), F4(16)
#define FLOATS32 F32(0)
#define FLOATS40 F32(0), F8(32)
#define FLOATS64 F32(0), F32(32)
#define FLOATS80 F32(0), F32(32), F16(64)
#define FLOATS128 F32(0), F32(32), F32(64), F32(96)
WGMMA(64, half_t, "k16.f32.f16.f16", ", 0, 0", NUMBERS32, FLOATS32, "%32", "%33", "%34")
WGMMA(64, bfloat_t, "k16.f32.bf16.bf16", ", 0, 0", NUMBERS32, FLOATS32, "%32", "%33", "%34")
WGMMA(64, E4M3, "k32.f32.e4m3.e4m3", "", NUMBERS32, FLOATS32, "%32", "%33", "%34")
WGMMA(80, half_t, "k16.f32.f16.f16", ", 0, 0", NUMBERS40, FLOATS40, "%40", "%41", "%42")
WGMMA(80, bfloat_t, "k16.f32.bf16.bf16", ", 0, 0", NUMBERS40, FLOATS40, "%40", "%41", "%42")
WGMMA(80, E4M3, "k32.f32.e4m3.e4m3", "", NUMBERS40, FLOATS40, "%40", "%41", "%42")
WGMMA(128, half_t, "k16.f32.f16.f16", ", 0, 0", NUMBERS64, FLOATS64, "%64", "%65", "%66")
WGMMA(128, bfloat_t, "k16.f32.bf16.bf16", ", 0, 0", NUMBERS64, FLOATS64, "%64", "%65", "%66")
WGMMA(128, E4M3, "k32.f32.e4m3.e4m3", "", NUMBERS64, FLOATS64, "%64", "%65", "%66")
WGMMA(160, half_t, "k16.f32.f16.f16", ", 0, 0", NUMBERS80, FLOATS80, "%80", "%81", "%82")
WGMMA(160, bfloat_t, "k16.f32.bf16.bf16", ", 0, 0", NUMBERS80, FLOATS80, "%80", "%81", "%82")
WGMMA(160, E4M3, "k32.f32.e4m3.e4m3", "", NUMBERS80, FLOATS80, "%80", "%81", "%82")
WGMMA(256, half_t, "k16.f32.f16.f16", ", 0, 0", NUMBERS128, FLOATS128, "%128", "%129", "%130")
WGMMA(256, bfloat_t, "k16.f32.bf16.bf16", ", 0, 0", NUMBERS128, FLOATS128, "%128", "%129", "%130")
WGMMA(256, E4M3, "k32.f32.e4m3.e4m3", "", NUMBERS128, FLOATS128, "%128", "%129", "%130")
WGMMA_REGISTERS(40, half_t, "f16", NUMBERS20, FLOATS20, "%20", "%21", "%22", "%23", "%24", "%25")
WGMMA_REGISTERS(40, bfloat_t, "bf16", NUMBERS20, FLOATS20, "%20", "%21", "%22", "%23", "%24", "%25")
WGMMA_REGISTERS(64, half_t, "f16", NUMBERS32, FLOATS32, "%32", "%33", "%34", "%35", "%36", "%37")
WGMMA_REGISTERS(64, bfloat_t, "bf16", NUMBERS32, FLOATS32, "%32", "%33", "%34", "%35", "%36", "%37")
WGMMA_REGISTERS(80, half_t, "f16", NUMBERS40, FLOATS40, "%40", "%41", "%42", "%43", "%44", "%45")
WGMMA_REGISTERS(80, bfloat_t, "bf16", NUMBERS40, FLOATS40, "%40", "%41", "%42", "%43", "%44", "%45")
WGMMA_REGISTERS(128, half_t, "f16", NUMBERS64, FLOATS64, "%64", "%65", "%66", "%67", "%68", "%69")
WGMMA_REGISTERS(128, bfloat_t, "bf16", NUMBERS64, FLOATS64, "%64", "%65", "%66", "%67", "%68", "%69")
WGMMA_REGISTERS(160, half_t, "f16", NUMBERS80, FLOATS80, "%80", "%81", "%82", "%83", "%84", "%85")
WGMMA_REGISTERS(160, bfloat_t, "bf16", NUMBERS80, FLOATS80, "%80", "%81", "%82", "%83", "%84", "%85")
#undef WGMMA
#undef WGMMA_REGISTERS
#undef F4
#undef F8
#undef F16
#undef F32
#endif

// matrix_descriptor describes rows of 128 bytes in shared memory, permuted as TMA does with SWIZZLE_128B: 8 rows are
// 1024 bytes, and begin at a multiple of that. Columns further on are bytes further on, in units of 16.
__device__ __forceinline__ uint64_t matrix_descriptor(Shared at) {
  return uint64_t(shared_offset(at) >> 4 & 0x3fff) | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

// column_descriptor describes B as rows of K: 16 of 128 bytes, or 64 columns, that lie as matrix_descriptor's do; the next
// 64 columns are `panel` bytes further on. Rows further on are 128 bytes further on.
__device__ __forceinline__ uint64_t column_descriptor(Shared at, int panel) {
  return uint64_t(shared_offset(at) >> 4 & 0x3fff) | uint64_t(panel >> 4) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

// Stage counts through the stages of a pipeline, and through the parities of their barriers' phases.
template <int stages>
struct Stage {
  int at = 0, parity = 0;
  __device__ __forceinline__ void next() {
    if (++at == stages) at = 0, parity ^= 1;
  }
};
