//go:build cgo && (linux || darwin) && (amd64 || arm64)

// Package lowered has kernels of instruction sets that a processor may lack, compiled for AVX2 or NEON with the missing
// instructions in plain C: slow, and the same bits. It is for tests, which prove the logic of AVX-512, AVX512-BF16,
// AMX and arm64's extensions on processors without them; the program does not import it. Its headers are links to those of kernels/cpu, so that the go
// command sees when they change.
package lowered

// #cgo CFLAGS: -std=c11 -D_GNU_SOURCE -O2 -Wall -Wno-psabi
// #cgo LDFLAGS: -lm
// #include <string.h>
// #include "jobs.h"
//
// extern const isa isa_lowered_neonbf16, isa_lowered_neondot;
// #if defined(__x86_64__)
// extern const isa isa_wide, isa_lowered_avx512bf16, isa_lowered_amx;
// #endif
//
// static const isa *lowered(const char *name) {
// 	const isa *all[] = {
// 		&isa_lowered_neonbf16, &isa_lowered_neondot,
// #if defined(__x86_64__)
// 		&isa_wide, &isa_lowered_avx512bf16, &isa_lowered_amx,
// #endif
// 	};
// #if defined(__x86_64__)
// 	__builtin_cpu_init();
// 	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return NULL;
// #endif
// 	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
// 		if (!strcmp(all[i]->name, name)) return all[i];
// 	return NULL;
// }
import "C"

import "unsafe"

// Kernels is a set for cpu.Options.Kernels. "lowered_neonbf16" and "lowered_neondot" are arm64's sets for bfloat16. On amd64
// "wide" is AVX-512 in float32, "lowered_avx512bf16" and "lowered_amx" are the sets for bfloat16; there it is nil if the
// processor lacks AVX2.
func Kernels(name string) unsafe.Pointer {
	n := append([]byte(name), 0)
	return unsafe.Pointer(C.lowered((*C.char)(unsafe.Pointer(&n[0]))))
}
