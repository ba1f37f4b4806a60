#!/bin/sh
# test.sh runs the CUDA backend's tests on the emulated device, once for each seed: SEEDS="1 2 3".
# Further arguments go to go test.
set -e
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
"$here/build.sh"
"$here/emu/build.sh"
export CGO_CFLAGS="-I$root/build/cuda/cuda12/nvidia/cuda_runtime/include"
go test -c -tags cuda -o build/cuda/cuda.test ./kernels/cuda
cd "$here"
for seed in ${SEEDS:-1 2 3}; do
	echo "emulated device, seed $seed"
	EMU_SEED=$seed LD_LIBRARY_PATH="$root/build/emu" "$root/build/cuda/cuda.test" "$@"
done
