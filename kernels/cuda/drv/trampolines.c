//go:build cuda && linux && (amd64 || arm64)

// One stub for each driver function of symbols.h. The first call of a stub finds the function in the
// driver and remembers it; later calls jump straight there. So the program links without a driver,
// starts without one, and loads it when it is first asked for something.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

// CUresult values of cuda.h.
enum { CU_NO_DEVICE = 100, CU_NOT_FOUND = 500 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void *library;
static int status = CU_NO_DEVICE;
static char reason[512];

static void open_driver(void) {
  library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *e = dlerror();
    snprintf(reason, sizeof reason, "no NVIDIA driver is installed (%s)", e ? e : "libcuda.so.1 not found");
    return;
  }
  int (*init)(unsigned) = (int (*)(unsigned))dlsym(library, "cuInit");
  status = init ? init(0) : CU_NOT_FOUND;
  if (status) {
    const char *name = 0;
    int (*describe)(int, const char **) = (int (*)(int, const char **))dlsym(library, "cuGetErrorString");
    if (describe) describe(status, &name);
    snprintf(reason, sizeof reason, "the NVIDIA driver does not start: CUDA error %d, %s", status, name ? name : "unknown");
  }
}

// drv_status opens the driver if that has not been tried. It returns 0 or a CUresult with its reason.
int drv_status(const char **text) {
  pthread_once(&once, open_driver);
  *text = reason;
  return status;
}

// gorgonia.org/cu calls cuInit when the program starts and ends the process if it fails. So this
// always succeeds and does nothing; open_driver makes the real call, and its error is what every
// other function then returns.
int cuInit(unsigned flags) { return 0; }

static int failed(void) { return status; }
static int missing(void) { return CU_NOT_FOUND; }

__attribute__((visibility("hidden"))) void *drv_resolve(const char *name) {
  pthread_once(&once, open_driver);
  if (status) return (void *)failed;
  void *f = dlsym(library, name);
  return f ? f : (void *)missing;
}

// A stub jumps to what its slot holds. While that is nothing, it goes to drv_first with the function's name and the slot's address
// in two registers that calls do not use; drv_first resolves the name, fills the slot and jumps there with every
// argument register as it was. The driver takes no more than four floats.
#if defined(__x86_64__)
// System V: arguments in rdi rsi rdx rcx r8 r9 and xmm0-3; name in r10, slot in r11.
__asm__(
    ".text\n"
    "drv_first:\n"
    " pushq %rbp\n movq %rsp,%rbp\n andq $-16,%rsp\n subq $128,%rsp\n"
    " movq %rdi,0(%rsp)\n movq %rsi,8(%rsp)\n movq %rdx,16(%rsp)\n movq %rcx,24(%rsp)\n"
    " movq %r8,32(%rsp)\n movq %r9,40(%rsp)\n movq %r11,48(%rsp)\n"
    " movups %xmm0,64(%rsp)\n movups %xmm1,80(%rsp)\n movups %xmm2,96(%rsp)\n movups %xmm3,112(%rsp)\n"
    " movq %r10,%rdi\n call drv_resolve\n"
    " movq 48(%rsp),%r11\n movq %rax,(%r11)\n"
    " movq 0(%rsp),%rdi\n movq 8(%rsp),%rsi\n movq 16(%rsp),%rdx\n movq 24(%rsp),%rcx\n"
    " movq 32(%rsp),%r8\n movq 40(%rsp),%r9\n"
    " movups 64(%rsp),%xmm0\n movups 80(%rsp),%xmm1\n movups 96(%rsp),%xmm2\n movups 112(%rsp),%xmm3\n"
    " leave\n jmp *%rax\n");

#define STUB(name)                                                                      \
  " movq slot_" #name "(%rip),%rax\n testq %rax,%rax\n jz 1f\n jmp *%rax\n"            \
  "1: leaq text_" #name "(%rip),%r10\n leaq slot_" #name "(%rip),%r11\n"               \
  " jmp drv_first\n"
#elif defined(__aarch64__)
// AAPCS64: arguments in x0-x7 and d0-3 (x8 is the address of a large result); name in x16, slot in x17.
__asm__(
    ".text\n"
    "drv_first:\n"
    " stp x29,x30,[sp,#-128]!\n mov x29,sp\n"
    " stp x0,x1,[sp,#16]\n stp x2,x3,[sp,#32]\n stp x4,x5,[sp,#48]\n stp x6,x7,[sp,#64]\n stp x8,x17,[sp,#80]\n"
    " stp d0,d1,[sp,#96]\n stp d2,d3,[sp,#112]\n"
    " mov x0,x16\n bl drv_resolve\n mov x16,x0\n"
    " ldp x8,x17,[sp,#80]\n str x16,[x17]\n"
    " ldp x0,x1,[sp,#16]\n ldp x2,x3,[sp,#32]\n ldp x4,x5,[sp,#48]\n ldp x6,x7,[sp,#64]\n"
    " ldp d0,d1,[sp,#96]\n ldp d2,d3,[sp,#112]\n"
    " ldp x29,x30,[sp],#128\n br x16\n");

#define STUB(name)                                                                      \
  " adrp x17,slot_" #name "\n ldr x16,[x17,#:lo12:slot_" #name "]\n cbz x16,1f\n br x16\n" \
  "1: add x17,x17,#:lo12:slot_" #name "\n adrp x16,text_" #name "\n"                   \
  " add x16,x16,#:lo12:text_" #name "\n b drv_first\n"
#endif

#define CU(name)                                                                        \
  __asm__(".text\n.balign 4\n.globl " #name "\n.type " #name ",%function\n" #name ":\n"  \
          STUB(name) ".size " #name ",.-" #name "\n"                                    \
          ".section .rodata\ntext_" #name ": .asciz \"" #name "\"\n"                   \
          ".bss\n.balign 8\nslot_" #name ": .zero 8\n.text\n");
#include "symbols.h"
