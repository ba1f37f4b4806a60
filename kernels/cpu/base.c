// What every processor of an architecture has: NEON on arm64 (32 registers), SSE2 on amd64 (16), plain
// C elsewhere; all of them in vectors of 4 floats.
#include <math.h>
#include "jobs.h"

#define NAME base
#define W 4
#define NV 4
#if defined(__aarch64__)
#include <arm_neon.h>
#define MR 6
#define FMA_NATIVE
#else
#define MR 2
#endif
#include "isa.h"
