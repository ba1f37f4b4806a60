// Memory from the system, alike everywhere.
#pragma once
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <malloc.h>
// As in the system's windows.h, whose name a header of this folder has.
__declspec(dllimport) void *__stdcall VirtualAlloc(void *, size_t, unsigned long, unsigned long);
__declspec(dllimport) int __stdcall VirtualFree(void *, size_t, unsigned long);
enum { RESERVE_AND_COMMIT = 0x3000, READ_AND_WRITE = 4, RELEASE = 0x8000 };
static inline void *map_pages(size_t n) { return VirtualAlloc(NULL, n, RESERVE_AND_COMMIT, READ_AND_WRITE); }
static inline void unmap_pages(void *p, size_t n) { (void)n; VirtualFree(p, 0, RELEASE); }
static inline void *aligned(size_t n) { return _aligned_malloc(n, 64); }
static inline void free_aligned(void *p) { _aligned_free(p); }
#else
#include <sys/mman.h>

// map_pages takes zeroed pages, in huge ones where the system has them: weights and activations are hundreds of megabytes, and every
// page costs a place in the TLB.
static inline void *map_pages(size_t n) {
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
	if (p == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
	madvise(p, n, MADV_HUGEPAGE);
#endif
	return p;
}
static inline void unmap_pages(void *p, size_t n) { munmap(p, n); }

// aligned takes memory that begins with a cache line.
static inline void *aligned(size_t n) {
	void *p;
	return posix_memalign(&p, 64, n) ? NULL : p;
}
static inline void free_aligned(void *p) { free(p); }
#endif
