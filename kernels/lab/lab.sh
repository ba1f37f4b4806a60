#!/bin/sh
# lab.sh [VERSION...] proves and counts the versions of CUDA kernels in this folder: each is compiled for the emulated device,
# goes through the conformance suite there, is compiled by nvcc and ptxas for sm_80, and runs on the PTX interpreter. It
# prints the rows of README.md's table. The present kernels are the version "now". fp8, products in float8, is not a version
# of another kernel: it has tests of its own (fp8_test.go, and fp8_sm90_test.go for Hopper's), and is compiled for sm_89 and
# sm_90a.
set -e
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cuda=$root/kernels/cuda work=$root/build/cuda
"$cuda/build.sh"
"$cuda/emu/build.sh" --ptx
export CGO_CFLAGS="-O2 -g -I$work/cuda12/nvidia/cuda_runtime/include"
(cd "$root" && go test -c -tags cuda -o build/cuda/lab.test ./kernels/cuda)
bin=$(echo "$work"/venv/lib/python3*/site-packages/nvidia/cu13/bin)

float8() {
	lab=$root/build/lab/fp8 ptxas=$work/cuda12/nvidia/cuda_nvcc/bin/ptxas
	mkdir -p "$lab/ptx" "$lab/cubin"
	"$cuda/emu/build.sh" "$lab/emu" "$here/fp8"
	"$bin/nvcc" -ptx -arch=compute_89 -O3 -std=c++17 -I"$cuda" "$here/fp8/fp8.cu" -o "$lab/ptx/fp8.89.ptx"
	# mma of e4m3 exists since PTX 8.4.
	sed -i 's/^\.version .*/.version 8.4/; /^[[:space:]]*\.pragma "used_bytes_mask/d' "$lab/ptx/fp8.89.ptx"
	"$bin/nvcc" -ptx -arch=compute_90a -O3 -std=c++17 -I"$cuda" "$here/fp8/fp8_sm90.cu" -o "$lab/ptx/fp8_sm90.90a.ptx"
	sed -i 's/^\.version .*/.version 8.0/; /^[[:space:]]*\.pragma "used_bytes_mask/d' "$lab/ptx/fp8_sm90.90a.ptx"
	"$ptxas" -v -O3 -arch=sm_90a "$lab/ptx/fp8_sm90.90a.ptx" -o "$lab/cubin/fp8_sm90.90a.cubin" 2>"$lab/cubin/fp8_sm90.90a.cubin.log"
	"$bin/fatbinary" --create="$lab/fp8_sm90.fatbin" -64 --compress-all --image3=kind=elf,sm=90a,file="$lab/cubin/fp8_sm90.90a.cubin"
	cp "$work/ptx/gemm.80.ptx" "$work/ptx/gemm_sm90.90a.ptx" "$lab/ptx/" # float16's kernels, counted for comparison
	cp "$work/cubin/gemm.89.cubin"* "$work/cubin/gemm.90a.cubin"* "$work/cubin/gemm_sm90.90a.cubin"* "$lab/cubin/"
	images=--image3=kind=ptx,sm=89,file=$lab/ptx/fp8.89.ptx
	for arch in 89 90a; do
		"$ptxas" -v -O3 -arch=sm_$arch "$lab/ptx/fp8.89.ptx" -o "$lab/cubin/fp8.$arch.cubin" 2>"$lab/cubin/fp8.$arch.cubin.log"
		images="$images --image3=kind=elf,sm=$arch,file=$lab/cubin/fp8.$arch.cubin"
	done
	"$bin/fatbinary" --create="$lab/fp8.fatbin" -64 --compress-all $images
	on() { # on CAPABILITY LIBRARY TESTS...
		cc=$1 library=$2
		shift 2
		(cd "$cuda" && LAB=fp8 LAB_IMAGE=$lab/fp8.fatbin LAB_IMAGE_SM90=$lab/fp8_sm90.fatbin COUNTS=$lab/counts.$cc.json EMU_CC=$cc \
			EMU_PTX=$lab/ptx LD_LIBRARY_PATH=$library "$work/lab.test" -test.v -test.run "$@" >&2)
	}
	rows() { # rows CAPABILITY ARCHITECTURE
		(cd "$root" && go run ./kernels/cuda/report -tools "$work" -work "$lab" -blocks "$lab/counts.$1.json" -lab "fp8, sm_$2" -arch "$2")
	}
	on 89 "$lab/emu" '^TestFloat8(Conversion|Rows|Products|Loss|PlantedBugs)$'
	on 90 "$lab/emu" '^TestFloat8Hopper(Products|Small|Loss|PlantedBugs)$'
	on 89 "$root/build/emu-ptx" '^TestFloat8(Conversion|Rows|Products)$' -test.short
	on 90 "$root/build/emu-ptx" '^TestFloat8Hopper(Products|Small|Majors)$' -test.short
	on 89 "$root/build/emu-ptx" '^TestFloat8Counts$'
	on 90 "$root/build/emu-ptx" '^TestFloat8Counts$'
	rows 89 89
	rows 89 90a
	rows 90 90a
}

for version in ${*:-gemm1 gemm2 gemm attention1 attention fp8}; do
	if [ "$version" = fp8 ]; then
		float8
		continue
	fi
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
