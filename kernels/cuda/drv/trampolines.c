//go:build cuda && linux && amd64

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

// drv_first resolves the function named by r10, stores it in the slot at r11 and jumps to it with every
// argument register as it was (System V: rdi rsi rdx rcx r8 r9, xmm0-3; the driver takes no more floats).
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

#define CU(name)                                                                        \
  __asm__(".text\n.globl " #name "\n.type " #name ",@function\n" #name ":\n"            \
          " movq slot_" #name "(%rip),%rax\n testq %rax,%rax\n jz 1f\n jmp *%rax\n"     \
          "1: leaq text_" #name "(%rip),%r10\n leaq slot_" #name "(%rip),%r11\n"        \
          " jmp drv_first\n.size " #name ",.-" #name "\n"                               \
          ".section .rodata\ntext_" #name ": .asciz \"" #name "\"\n"                    \
          ".bss\n.balign 8\nslot_" #name ": .zero 8\n.text\n");
#include "symbols.h"
