#!/bin/sh
# bench.sh, on a machine with a GPU: everything that wants one, in one run.
#
#	1. the conformance suite on the GPU, all kernels, all types
#	2. every layer of a step of Stable Diffusion 1.5's and XL's U-Net, and the whole step, timed, beside PyTorch's (eager and
#	   compiled, float16, channels_last; PYTHON=... names a python with torch and diffusers) and the roofline
#	3. compute-sanitizer over the suite, if it is installed
#
# It leaves build/cuda/bench/results.json and table.md, and the tools' own output beside them. A part that cannot
# run is said to be skipped; a part that fails makes the exit code 1, after the others have run.
#
#	DRY_RUN=1   on the emulated device instead: the smallest layers only, whose times mean nothing
#
# It has not been run on a GPU yet.
set -e
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/build/cuda/bench
python=${PYTHON:-python3}
mkdir -p "$out"
rm -f "$out"/*.json "$out"/*.md "$out"/*.txt
failed=

"$here/build.sh"
export CGO_CFLAGS="-O2 -g -I$root/build/cuda/cuda12/nvidia/cuda_runtime/include"
(cd "$root" && go test -c -tags cuda -o build/cuda/cuda.test ./kernels/cuda)
cd "$here"
test=$root/build/cuda/cuda.test short=
if [ -n "$DRY_RUN" ]; then
	emu/build.sh
	export LD_LIBRARY_PATH="$root/build/emu"
	short=-test.short
fi

echo "== conformance" >&2
if "$test" $short -test.v -test.run '^Test(Conformance|Families|TF32)$' >"$out/conformance.txt" 2>&1; then
	echo "conformance: passed, $(grep -c -- '--- PASS' "$out/conformance.txt") tests" >&2
else
	failed="$failed conformance"
	grep -E -- '--- FAIL|SKIPPED' "$out/conformance.txt" | head -20 >&2
fi
if grep -q SKIPPED "$out/conformance.txt"; then
	echo "bench.sh: there is no GPU here: $(grep -m1 SKIPPED "$out/conformance.txt")" >&2
	exit 1
fi

echo "== layers and steps" >&2
BENCH_JSON=$out/darkroom.json "$test" -test.run '^TestBenchSteps$' -test.timeout 30m >"$out/layers.txt" 2>&1 || { failed="$failed layers"; tail -20 "$out/layers.txt" >&2; }

echo "== PyTorch" >&2
if [ -n "$DRY_RUN" ]; then
	"$python" bench_torch.py --list "$out/darkroom.json" >"$out/torch.txt" 2>&1 || { failed="$failed torch"; tail -3 "$out/torch.txt" >&2; }
elif "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
	"$python" bench_torch.py "$out/darkroom.json" "$out/torch.json" 2>&1 | tee "$out/torch.txt" >&2 || failed="$failed torch"
	[ -s "$out/torch.json" ] || failed="$failed torch"
else
	echo "SKIPPED: PyTorch's times: $python has no torch that sees a GPU; name another with PYTHON=" >&2
fi

echo "== compute-sanitizer" >&2
if [ -z "$DRY_RUN" ] && command -v compute-sanitizer >/dev/null; then
	for tool in memcheck racecheck synccheck; do
		if compute-sanitizer --tool $tool --error-exitcode 7 "$test" -test.short -test.run '^TestConformance$' >"$out/$tool.txt" 2>&1; then
			echo "$tool: nothing found" >&2
		else
			failed="$failed $tool"
			tail -3 "$out/$tool.txt" >&2
		fi
	done
else
	echo "SKIPPED: compute-sanitizer is not installed" >&2
fi

(cd "$root" && go run ./kernels/cuda/report -darkroom "$out/darkroom.json" -torch "$out/torch.json" -json "$out/results.json" -table "$out/table.md")
cat "$out/table.md"
if [ -n "$failed" ]; then
	echo "bench.sh: failed:$failed; see $out" >&2
	exit 1
fi
