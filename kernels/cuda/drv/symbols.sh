#!/bin/sh
# symbols.sh writes symbols.h: one line CU(name) for each driver function that gorgonia.org/cu or this
# package calls. Run it again after changing the version of either, or the headers (build.sh sets CGO_CFLAGS).
set -e
here=$(cd "$(dirname "$0")" && pwd)
archive=$(cd "$here" && go list -export -f '{{.Export}}' gorgonia.org/cu)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
(cd "$tmp" && ar x "$archive")
nm -u "$tmp"/*.o 2>/dev/null | grep -oE '\bcu[A-Z][A-Za-z0-9_]*' | sort -u >"$tmp/undefined"
nm --defined-only "$tmp"/*.o 2>/dev/null | awk '{print $3}' | grep -E '^cu[A-Z]' | sort -u >"$tmp/defined"
{
	echo "// Written by symbols.sh; do not edit."
	{
		comm -23 "$tmp/undefined" "$tmp/defined"
		printf '%s\n' cuFuncSetAttribute cuGetErrorName cuGetErrorString cuMemHostAlloc \
			cuStreamBeginCapture_v2 cuStreamEndCapture cuGraphInstantiateWithFlags cuGraphLaunch \
			cuTensorMapEncodeTiled cuTensorMapEncodeIm2col
	} | grep -v '^cuInit$' | sort -u | sed 's/.*/CU(&)/'
} >"$here/symbols.h"
