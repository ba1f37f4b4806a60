#!/bin/sh
# report.sh writes the compiler's and the PTX interpreter's findings into docs/performance-gpu.md.
set -e
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
"$here/build.sh"
"$here/emu/build.sh" --ptx
export CGO_CFLAGS="-O2 -g -I$root/build/cuda/cuda12/nvidia/cuda_runtime/include"
cd "$root"
go test -c -tags cuda -o build/cuda/cuda.test ./kernels/cuda
EMU_REPORT=$root/build/cuda/counts.json LD_LIBRARY_PATH=$root/build/emu-ptx build/cuda/cuda.test -test.short -test.run '^TestConformance$/^F(16|32)$' >/dev/null
(cd kernels/cuda && COUNTS=$root/build/cuda/blocks.json LD_LIBRARY_PATH=$root/build/emu-ptx ../../build/cuda/cuda.test -test.run '^TestCounts$' >/dev/null)
go run ./kernels/cuda/report -counts build/cuda/counts.json -blocks build/cuda/blocks.json -into docs/performance-gpu.md
