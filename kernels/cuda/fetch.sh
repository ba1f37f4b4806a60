#!/bin/sh
# fetch.sh puts the CUDA compiler and headers into build/cuda: about 350 MB of Python wheels that pip
# fetches from wherever it is configured to. Nothing is installed on the system, and no driver is needed.
#
#	build/cuda/venv    nvcc 13.5 with its own headers, cuobjdump, nvdisasm
#	build/cuda/cuda12  ptxas 12.9 (code for drivers from R525 on) and the CUDA 12.9 headers that cgo reads
#
# With NVCC set to the nvcc of an installed toolkit nothing is fetched, if its headers are CUDA 12's: they are linked to.
#
# The two header sets never meet: nvcc finds its own, gorgonia.org/cu is compiled against 12.9.
set -e
root=$(cd "$(dirname "$0")/../.." && pwd)
to=$root/build/cuda
[ -e "$to/done" ] && exit 0
if [ -n "$NVCC" ]; then
	headers=$to/cuda12/nvidia/cuda_runtime/include
	[ -e "$headers/cuda.h" ] && exit 0
	installed=$(dirname "$(readlink -f "$NVCC")")/../include
	if ! grep -q '^#define CUDA_VERSION 12' "$installed/cuda.h" 2>/dev/null; then
		echo "fetch.sh: $NVCC has no CUDA 12 headers in $installed, which gorgonia.org/cu needs: unset NVCC" >&2
		exit 1
	fi
	mkdir -p "$(dirname "$headers")"
	ln -sfn "$(readlink -f "$installed")" "$headers"
	exit 0
fi
mkdir -p "$to"
python3 -m venv "$to/venv" || { echo "fetch.sh: python3 with its venv module is needed to fetch the CUDA compiler" >&2; exit 1; }
pip="$to/venv/bin/pip --disable-pip-version-check -q"
$pip install 'nvidia-cuda-nvcc==13.5.*' nvidia-cuda-cccl nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm
$pip install --no-deps --upgrade --target "$to/cuda12" nvidia-cuda-nvcc-cu12==12.9.86 nvidia-cuda-runtime-cu12==12.9.79
touch "$to/done"
