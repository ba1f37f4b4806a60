//go:build cgo && (linux || darwin) && amd64

// Package lowered has kernels of instruction sets that a processor may lack, compiled for AVX2 with the missing
// instructions in plain C: slow, and the same bits. It is for tests, which prove the logic of AVX-512, AVX512-BF16
// and AMX everywhere; the program does not import it. Its headers are links to those of kernels/cpu, so that the go
// command sees when they change.
package lowered

// #cgo CFLAGS: -std=c11 -D_GNU_SOURCE -O2 -Wall -Wno-psabi
// #cgo LDFLAGS: -lm
// #include <string.h>
// #include "jobs.h"
//
// extern const isa isa_wide, isa_lowered_avx512bf16, isa_lowered_amx;
//
// static const isa *lowered(const char *name) {
// 	__builtin_cpu_init();
// 	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return NULL;
// 	const isa *all[] = {&isa_wide, &isa_lowered_avx512bf16, &isa_lowered_amx};
// 	for (int i = 0; i < 3; i++)
// 		if (!strcmp(all[i]->name, name)) return all[i];
// 	return NULL;
// }
import "C"

import "unsafe"

// Kernels is a set for cpu.Options.Kernels, nil if the processor lacks AVX2: "wide" is AVX-512 in float32,
// "lowered_avx512bf16" and "lowered_amx" are the sets for bfloat16.
func Kernels(name string) unsafe.Pointer {
	n := append([]byte(name), 0)
	return unsafe.Pointer(C.lowered((*C.char)(unsafe.Pointer(&n[0]))))
}
