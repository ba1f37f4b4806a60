#!/bin/sh
# bench.sh, on a machine with a GPU: the conformance suite on it, every Stable Diffusion 1.5 layer timed beside PyTorch's
# (bench_torch.py, if there is a python with torch: PYTHON=...), and compute-sanitizer if it is installed. The results
# are left in build/cuda/bench. It has not been run on a GPU yet.
set -e
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/build/cuda/bench
mkdir -p "$out"
GPU=1 "$here/test.sh" -test.v | tee "$out/conformance.txt" | grep -E '^(---|ok|PASS|FAIL)' || true
cd "$here"
"$root/build/cuda/cuda.test" -test.run '^$' -test.bench Layers | tee "$out/layers.txt"
python=${PYTHON:-python3}
if "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
	"$python" bench_torch.py | tee "$out/torch.txt"
else
	echo "SKIPPED: PyTorch's times: $python has no torch that sees a GPU" >&2
fi
if command -v compute-sanitizer >/dev/null; then
	for tool in memcheck racecheck synccheck; do
		compute-sanitizer --tool $tool "$root/build/cuda/cuda.test" -test.short -test.run Conformance >"$out/$tool.txt" 2>&1 || true
		tail -1 "$out/$tool.txt"
	done
else
	echo "SKIPPED: compute-sanitizer is not installed" >&2
fi
