#!/bin/sh
# build.sh builds the emulated device, build/emu/libcuda.so.1, from the kernels' own source.
#
#	build.sh [--check | --ptx] [OUT [KERNELS]]
#
# --ptx builds the interpreter of what nvcc made of the kernels (build/emu-ptx); it needs the PTX files of
# ../build.sh. --check builds the checker: slower, and finds races on shared memory and accesses out of bounds by the
# byte (build/emu-check). OUT is the folder for the library; KERNELS is the folder of the .cu files, if it
# is not kernels/cuda: the tests build copies with planted bugs. CXX is another compiler, for another processor (arm64) too.
set -e
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
check= ptx=
[ "$1" = --check ] && { check=yes; shift; }
[ "$1" = --ptx ] && { ptx=yes; shift; }
out=${1:-$root/build/emu${check:+-check}${ptx:+-ptx}}
kernels=${2:-$here/..}
"$here/../fetch.sh"
mkdir -p "$out"
cxx=${CXX:-g++}
case $($cxx -dumpmachine) in
x86_64*) processor=-march=x86-64-v3 ;;
*) processor= ;;
esac
flags="-std=c++17 -O2 $processor -fPIC -fvisibility=hidden -DCUDA_EMU -Wall -I$here -I$root/build/cuda/cuda12/nvidia/cuda_runtime/include"

newer() { # newer TARGET SOURCE...: whether the target is there and newer than each source
	target=$1
	shift
	for f; do [ "$target" -nt "$f" ] || return 1; done
}
build() { # build OBJECT SOURCE FLAGS...
	object=$1 source=$2
	shift 2
	newer "$object" "$source" "$here"/*.h "$here"/../*.cuh "$kernels"/*.cuh && return # kernels/lab includes the former too
	$cxx $flags "$@" -c "$source" -o "$object"
}
link() {
	$cxx -shared -Wl,-soname,libcuda.so.1 -o "$out/libcuda.so.1.tmp" "$out"/*.o
	mv "$out/libcuda.so.1.tmp" "$out/libcuda.so.1"
}
for f in memory driver async; do build "$out/$f.o" "$here/$f.cc"; done
if [ -n "$ptx" ]; then
	for f in parse ops run; do build "$out/ptx_$f.o" "$here/ptx_$f.cc" -std=c++20 "-DPTX_FOLDER=\"$root/build/cuda/ptx\""; done
	link
	exit
fi
build "$out/block.o" "$here/block.cc"
instrument=
if [ -n "$check" ]; then
	build "$out/check.o" "$here/check.cc"
	# Of the tensor cores' types float16 alone (OLD_GPU): the others are the same source, and compiling it so takes long.
	instrument="-fsanitize=thread -fsanitize=alignment,bounds,shift -DOLD_GPU"
fi
compile() { build "$out/$(basename "$1" .cu).cu.o" "$1" -x c++ -I"$kernels" -I"$here/.." -fno-strict-aliasing -Wno-unknown-pragmas -Wno-unused-function $instrument; }
first= # two compilers at a time
for cu in "$kernels"/*.cu; do
	compile "$cu" &
	if [ -n "$first" ]; then
		wait $first
	fi
	first=$!
done
wait $first
link
