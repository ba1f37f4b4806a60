#!/bin/sh
# fetch.sh puts the CUDA compiler and headers into build/cuda: about 350 MB of Python wheels that pip
# fetches from wherever it is configured to. Nothing is installed on the system, and no driver is needed.
#
#	build/cuda/venv    nvcc 13.5 with its own headers, cuobjdump, nvdisasm
#	build/cuda/cuda12  ptxas 12.9 (code for drivers from R525 on) and the CUDA 12.9 headers that cgo reads
#
# The two header sets never meet: nvcc finds its own, gorgonia.org/cu is compiled against 12.9.
set -e
root=$(cd "$(dirname "$0")/../.." && pwd)
to=$root/build/cuda
[ -e "$to/done" ] && exit 0
mkdir -p "$to"
python3 -m venv "$to/venv" || { echo "fetch.sh: python3 with its venv module is needed to fetch the CUDA compiler" >&2; exit 1; }
pip="$to/venv/bin/pip --disable-pip-version-check -q"
$pip install 'nvidia-cuda-nvcc==13.5.*' nvidia-cuda-cccl nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm
$pip install --no-deps --upgrade --target "$to/cuda12" nvidia-cuda-nvcc-cu12==12.9.86 nvidia-cuda-runtime-cu12==12.9.79
touch "$to/done"
