#!/bin/sh
# build.sh compiles every kernel for every target and leaves one fatbin a source file in fatbin/, where
# the Go package embeds it under the build tag cuda. It fetches the compiler if NVCC names none.
#
#	NVCC=/usr/local/cuda/bin/nvcc   use this nvcc, of a CUDA 12 toolkit, and its ptxas; targets that it does not
#	                                know are left out (all are there from 12.8 on)
#	PTX_ONLY=1                      stop after the PTX files (build/cuda/ptx)
#
# The route: nvcc translates each source twice, for compute_75 and compute_80, to PTX. The fetched nvcc is
# of version 13.5, whose PTX and machine code need a driver from R580 on; but what the kernels use exists
# since PTX 7.8, so its version line is set to that (used_bytes_mask, a hint about loads, is newer and left out),
# and ptxas 12.9 makes machine code that drivers from R525 on load. A toolkit's own ptxas takes the same PTX. The PTX
# goes into the fatbin too, for GPUs that come later. Sources named *_sm90 are for sm_90a alone, from PTX 8.0.
set -e
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/build/cuda
if [ -n "$NVCC" ]; then
	bin=$(dirname "$(readlink -f "$NVCC")")
	nvcc=$NVCC ptxas=$bin/ptxas fatbinary=$bin/fatbinary
	"$here/fetch.sh"
else
	"$here/fetch.sh"
	bin=$(echo "$work"/venv/lib/python3*/site-packages/nvidia/cu13/bin)
	nvcc=$bin/nvcc ptxas=$work/cuda12/nvidia/cuda_nvcc/bin/ptxas fatbinary=$bin/fatbinary
fi
mkdir -p "$work/ptx" "$work/cubin" "$here/fatbin"

compile() { # compile STEM
	stem=$1 src=$here/$1.cu out=$here/fatbin/$1.fatbin
	fresh=yes
	for f in "$here"/*.cuh "$here/build.sh" "$src"; do [ "$out" -nt "$f" ] || fresh=; done
	[ -n "$fresh" ] && return 0
	images= sources="75 80" targets="75 80 86 89 90a 100 120"
	case $stem in *_sm90) sources=90a targets=90a ;; esac
	for arch in $sources; do
		ptx=$work/ptx/$stem.$arch.ptx
		version=7.8
		[ $arch = 90a ] && version=8.0
		"$nvcc" -ptx -arch=compute_$arch -O3 -std=c++17 -lineinfo "$src" -o "$ptx"
		sed -i -e "s/^\.version .*/.version $version/" -e '/^[[:space:]]*\.pragma "used_bytes_mask/d' "$ptx"
		images="$images --image3=kind=ptx,sm=$arch,file=$ptx"
	done
	[ -n "$PTX_ONLY" ] && return 0
	for arch in $targets; do
		"$ptxas" --help | grep -q "'sm_$arch'" || { echo "build.sh: $ptxas does not know sm_$arch, left out" >&2; continue; }
		from=${sources##* }
		[ $arch = 75 ] && from=75
		cubin=$work/cubin/$stem.$arch.cubin
		"$ptxas" -v -O3 -lineinfo -arch=sm_$arch "$work/ptx/$stem.$from.ptx" -o "$cubin" >"$cubin.log" 2>&1 ||
			{ cat "$cubin.log" >&2; return 1; }
		images="$images --image3=kind=elf,sm=$arch,file=$cubin"
	done
	"$fatbinary" --create="$out.tmp" -64 --compress-all $images
	mv "$out.tmp" "$out"
}

if [ -n "$1" ]; then
	compile "$1"
	exit
fi
# Two at a time: a compilation is one thread.
ls "$here"/*.cu | sed 's|.*/||; s|\.cu$||' | xargs -P 2 -n 1 "$0"
