#!/bin/sh
# lab.sh [VERSION...] proves and counts the versions of CUDA kernels in this folder: each is compiled for the emulated device,
# goes through the conformance suite there, is compiled by nvcc and ptxas for sm_80, and runs on the PTX interpreter. It
# prints the rows of README.md's table. The present kernels are the version "now".
set -e
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cuda=$root/kernels/cuda work=$root/build/cuda
"$cuda/build.sh"
"$cuda/emu/build.sh" --ptx
export CGO_CFLAGS="-O2 -g -I$work/cuda12/nvidia/cuda_runtime/include"
(cd "$root" && go test -c -tags cuda -o build/cuda/lab.test ./kernels/cuda)
bin=$(echo "$work"/venv/lib/python3*/site-packages/nvidia/cu13/bin)
for version in ${*:-gemm1 gemm2 gemm attention1 attention}; do
	family=$(echo "$version" | tr -d 0-9)
	lab=$root/build/lab/$version
	mkdir -p "$lab/ptx" "$lab/cubin"
	if [ "$version" = "$family" ]; then
		cp "$work/ptx/$family".80.ptx "$lab/ptx/"
		cp "$work/cubin/$family".80.cubin* "$lab/cubin/"
	else
		"$cuda/emu/build.sh" "$lab/emu" "$here/$version"
		(cd "$cuda" && LAB=$version LD_LIBRARY_PATH=$lab/emu "$work/lab.test" -test.run '^TestLab$' >&2)
		"$bin/nvcc" -ptx -arch=compute_80 -O3 -std=c++17 -I"$cuda" "$here/$version/$family.cu" -o "$lab/ptx/$family.80.ptx"
		sed -i 's/^\.version .*/.version 7.8/; /^[[:space:]]*\.pragma "used_bytes_mask/d' "$lab/ptx/$family.80.ptx"
		"$work/cuda12/nvidia/cuda_nvcc/bin/ptxas" -v -O3 -arch=sm_80 "$lab/ptx/$family.80.ptx" -o "$lab/cubin/$family.80.cubin" 2>"$lab/cubin/$family.80.cubin.log"
	fi
	(cd "$cuda" && LAB=$version COUNTS=$lab/counts.json EMU_PTX=$lab/ptx LD_LIBRARY_PATH=$root/build/emu-ptx "$work/lab.test" -test.run '^TestCounts$' >&2)
	(cd "$root" && go run ./kernels/cuda/report -tools "$work" -work "$lab" -blocks "$lab/counts.json" -lab "$version")
done
