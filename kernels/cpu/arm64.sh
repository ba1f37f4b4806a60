#!/bin/sh
# arm64.sh builds the tests of the CPU kernels for linux/arm64 and runs them: every set that the processor has against the
# reference, and against what the set is in plain C. On another machine it needs a cross compiler and qemu's user emulation:
#
#	apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
#
# Emulation takes its time; RUN narrows it to some tests: RUN='TestInt8/neonbf16'. With MACOS=1 and zig it also compiles the kernels for
# macOS on Apple silicon. SYSROOT is where the loader and libc of arm64 lie (/usr/aarch64-linux-gnu). Without these tools it
# says so and succeeds, unless REQUIRE_ARM64 is set.
set -e
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/build/arm64
emulator=
export CC=${CC:-gcc}
if [ "$(uname -m)" != aarch64 ]; then
	CC=aarch64-linux-gnu-gcc
	emulator="qemu-aarch64-static -cpu max -L ${SYSROOT:-/usr/aarch64-linux-gnu}"
	for tool in $CC ${emulator%% *}; do
		command -v "$tool" >/dev/null && continue
		echo "SKIPPED: the arm64 tests need $tool (apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static)" >&2
		[ -z "$REQUIRE_ARM64" ]
		exit
	done
fi
mkdir -p "$out"
cd "$root"
GOOS=linux GOARCH=arm64 CGO_ENABLED=1 ${GO:-go} test -c -o "$out/cpu.test" ./kernels/cpu
if [ -n "$MACOS" ]; then
	CC="zig cc -target aarch64-macos" GOOS=darwin GOARCH=arm64 CGO_ENABLED=1 ${GO:-go} build ./kernels/cpu ./kernels/cpu/lowered
fi
cd "$here"
$emulator "$out/cpu.test" -test.short -test.timeout 3h -test.run "${RUN:-.}"
