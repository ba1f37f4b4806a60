// Whether the compiler knows arm64's products of bfloat16 and bytes: GCC from 10 on, clang from 16 (Apple's from 15),
// whose intrinsics ask for what the function is compiled for and not what the file is. On Windows the processor is not
// asked for them.
#if defined(__aarch64__) && !defined(_WIN32)
#if defined(__apple_build_version__)
#define NEON_SETS (__clang_major__ >= 15)
#elif defined(__clang__)
#define NEON_SETS (__clang_major__ >= 16)
#else
#define NEON_SETS (__GNUC__ >= 10)
#endif
#else
#define NEON_SETS 0
#endif
