// fiber.h: the switch from one thread of a block to another, in assembly of the host.
#pragma once

// emu_switch saves the callee-saved registers on the stack, stores the stack pointer in *save and goes on
// where `to` was saved. It ends in a jump, not a return, because the CPU's prediction of returns would be
// wrong every time. A new fiber's stack holds kSavedWords words, of which kReturnWord is emu_start.
extern "C" void emu_switch(void** save, void* to);
extern "C" void emu_start();

#if defined(__x86_64__)
constexpr int kSavedWords = 7, kReturnWord = 6;
__asm__(
    ".text\n"
    "emu_switch:\n"
    " push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    " mov %rsp,(%rdi)\n mov %rsi,%rsp\n"
    " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n"
    " pop %rcx\n jmp *%rcx\n"
    "emu_start:\n and $-16,%rsp\n call emu_thread_main\n ud2\n");
#elif defined(__aarch64__)
constexpr int kSavedWords = 20, kReturnWord = 11;
__asm__(
    ".text\n"
    "emu_switch:\n"
    " sub sp,sp,#160\n"
    " stp x19,x20,[sp,#0]\n stp x21,x22,[sp,#16]\n stp x23,x24,[sp,#32]\n stp x25,x26,[sp,#48]\n"
    " stp x27,x28,[sp,#64]\n stp x29,x30,[sp,#80]\n"
    " stp d8,d9,[sp,#96]\n stp d10,d11,[sp,#112]\n stp d12,d13,[sp,#128]\n stp d14,d15,[sp,#144]\n"
    " mov x9,sp\n str x9,[x0]\n mov sp,x1\n"
    " ldp x19,x20,[sp,#0]\n ldp x21,x22,[sp,#16]\n ldp x23,x24,[sp,#32]\n ldp x25,x26,[sp,#48]\n"
    " ldp x27,x28,[sp,#64]\n ldp x29,x30,[sp,#80]\n"
    " ldp d8,d9,[sp,#96]\n ldp d10,d11,[sp,#112]\n ldp d12,d13,[sp,#128]\n ldp d14,d15,[sp,#144]\n"
    " add sp,sp,#160\n br x30\n"
    "emu_start:\n bl emu_thread_main\n brk #1\n");
#else
#error "fiber.h knows amd64 and arm64"
#endif
