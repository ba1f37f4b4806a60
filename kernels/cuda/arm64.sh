#!/bin/sh
# arm64.sh builds the program with CUDA for linux/arm64 (Grace, Jetson) and runs it there on the emulated device: `darkroom devices`,
# and a few cases of the conformance suite on the PTX interpreter, through the driver's stubs. On another machine it needs a cross compiler and qemu's user
# emulation:
#
#	apt install gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
#
# SYSROOT is where the loader and libc of arm64 lie (/usr/aarch64-linux-gnu). Without these tools it says so and succeeds,
# unless REQUIRE_ARM64 is set.
set -e
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/build/arm64
emulator=
export CC=${CC:-gcc} CXX=${CXX:-g++}
if [ "$(uname -m)" != aarch64 ]; then
	CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++
	emulator="qemu-aarch64-static -L ${SYSROOT:-/usr/aarch64-linux-gnu}"
	for tool in $CC $CXX ${emulator%% *}; do
		command -v "$tool" >/dev/null && continue
		echo "SKIPPED: the arm64 tests need $tool (apt install gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static)" >&2
		[ -z "$REQUIRE_ARM64" ]
		exit
	done
fi
"$here/build.sh"
"$here/emu/build.sh" --ptx "$out/emu"
export GOOS=linux GOARCH=arm64 CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -I$root/build/cuda/cuda12/nvidia/cuda_runtime/include"
cd "$root"
${GO:-go} build -tags cuda -o "$out/darkroom" ./cmd/darkroom
${GO:-go} test -c -tags cuda -o "$out/cuda.test" ./kernels/cuda
run() { $emulator ${emulator:+-E LD_LIBRARY_PATH="$out/emu"} "$@"; }
[ -z "$emulator" ] && export LD_LIBRARY_PATH="$out/emu"
run "$out/darkroom" devices | tee "$out/devices"
grep -q 'cuda:0' "$out/devices" || { echo "arm64.sh: darkroom devices shows no GPU" >&2; exit 1; }
# Without a driver it starts as well, and says what is missing.
(unset LD_LIBRARY_PATH; $emulator "$out/darkroom" devices) | grep -i 'driver'
cd "$here"
run "$out/cuda.test" -test.short -test.run '^(TestConformance$/^F16$/^(linear|layernorm|embed)|TestLayout)'
