#!/bin/sh
# test.sh compiles the CUDA kernels for every target and tests the backend without a GPU:
#
#	on the emulated device, with threads in two random orders, seed 1 with the planted bugs: each of these is found in
#	that order alone, so a second one suffices for what nobody planted (SEEDS="1 2 3" names others)
#	on the checker: races and bounds to the byte, on the short cases
#	on the PTX interpreter: what nvcc made of the kernels, on the short cases
#	each of these as a Hopper GPU too, with its products by wgmma
#
# CUDA_LONG=1 tries five orders, interprets the simple kernels in every type, and draws the default model's pictures too.
#
# It fetches the compiler if there is none. Where that cannot be, it says so and succeeds, unless REQUIRE_CUDA is set.
# On a machine with a GPU: GPU=1 test.sh runs the suite on that instead.
set -e
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
if ! "$here/fetch.sh"; then
	echo "SKIPPED: the CUDA tests need a compiler, which could not be fetched (see above)" >&2
	[ -z "$REQUIRE_CUDA" ]
	exit
fi
"$here/build.sh"
export CGO_CFLAGS="-O2 -g -I$root/build/cuda/cuda12/nvidia/cuda_runtime/include"
(cd "$root" && go vet -tags cuda ./kernels/cuda/... && go test -c -tags cuda -o build/cuda/cuda.test ./kernels/cuda)
cd "$here"
if [ -n "$GPU" ]; then
	exec "$root/build/cuda/cuda.test" "$@"
fi
emu/build.sh
(cd "$root" && go test -c -tags cuda -o build/cuda/darkroom.test ./cmd/darkroom)
emu/build.sh --check
emu/build.sh --ptx
[ -n "$CUDA_LONG" ] && SEEDS=${SEEDS:-1 2 3 4 5}

# The runs share nothing, and an emulated device uses one core: as many at a time as there are cores. What one prints follows
# its name once it has ended.
export root extra="$*"
plan=$(mktemp)
trap 'rm -f "$plan"' EXIT
later() { # later LIBRARY SEED ARGUMENTS [VARIABLE=VALUE]
	printf '%s\0' "$4 EMU_SEED=$2 LD_LIBRARY_PATH=\"\$root/build/$1\" \"\$root/build/cuda/cuda.test\" $3 $extra" >>"$plan"
}
for seed in ${SEEDS:-1 2}; do
	short="-test.short -test.skip '^Test(.*Pictures|SelfTest.*)$'" # the large shapes, whole pictures and the planted bugs once
	[ "$seed" = 1 ] && short=
	later emu "$seed" "$short"
done
# The simple kernels in one type: they are one source, and take three quarters of the interpreter's time.
types='F32|F16|BF16'
[ -n "$CUDA_LONG" ] && types='.*'
later emu-ptx 1 "-test.short -test.run '^TestConformance$/^($types)$'" 'EMU_REPORT="$root/build/cuda/counts.json"'
later emu-check 1 "-test.short -test.run '^TestConformance$/^F16$'"
later emu-check 1 "-test.short -test.run '^TestFamilySubject$'" FAMILY=128x64_8w # whose loop is another
later emu-check 1 "-test.short -test.run '^TestHopperSubject$/^f16_128x256'" EMU_CC=90
later emu-ptx 1 "-test.short -test.run '^TestTF32$'"
later emu-ptx 1 "-test.short -test.run '^TestHopperSubject$/^(f16|bf16_128x256)'" EMU_CC=90
later emu-ptx 1 "-test.short -test.run '^TestFamilies$/^f16_128x(128|64)'" # the larger tiles, which the suite's shapes do not lead to
# The program, on emulated devices.
printf '%s\0' "cd \"\$root/cmd/darkroom\" && LD_LIBRARY_PATH=\"\$root/build/emu\" \"\$root/build/cuda/darkroom.test\" -test.run '^TestCUDA' $extra" >>"$plan"
xargs -0 -n 1 -P "${CUDA_JOBS:-$(nproc)}" sh -c '
	began=$(date +%s)
	out=$(eval "$1" 2>&1) && failed= || failed=yes
	echo "cuda: $1: $(($(date +%s) - began)) s"
	[ -z "$out" ] || echo "$out"
	[ -z "$failed" ] || { echo "FAILED: $1"; exit 1; }' sh <"$plan"
