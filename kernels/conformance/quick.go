package conformance

import "strings"

// quick are prefixes of the names of cases that reach every kernel of every backend once, at sizes that a device is
// done with in a moment: what takes time is the reference on the CPU.
var quick = []string{
	"conv2d/3×8×8×4 to 48", "conv2d/2×8×8×16 to 16, 3×3 stride 2", "conv2d/2×6×6×16+16", "conv2d/1×4×4×1280 to 64",
	"conv2d/2×8×8×64+32", "conv2d/2×8×8×320 to 176", "conv2d/1×16×16×320 to 320", "conv2d/2×9×14×40+37",
	"linear/2×77×64", "linear/2×31×33", "linear/2×13×40 to 64 geglu", "linear/2×64×320 to 256 geglu",
	"attention/2×64 queries, 77 keys, 2×40", "attention/2×64 queries, 64 keys, 1×64", "attention/1×65 queries, 65 keys, 2×80",
	"attention/1×17 queries, 129 keys, 2×160", "attention/2×6 queries, 10 keys, 1×512", "attention/1×24 queries, 24 keys, 4×32 causal",
	"attention/2×19 queries", "groupnorm/3×8×8×64+0", "groupnorm/2×5×7×5+7", "layernorm/2×5×320", "layernorm/3×7×13", "embed/3×77",
	"rotary/2×33", "cut/3×17×20", "layernorm/3×5×13", "layernorm/rms 3×5×33", "attention/2×17 queries, 70 keys, 2×128 share 1", "linear/2×13×40 to 33 swiglu", "pointwise/3×7×40", "pointwise/3×5×7×13", "pointwise/2×8×8×64", "pointwise/3×4×6×11", "pointwise/2×4×4×64", "concat/3×5×4×3", "pixelshuffle/2×3×5×12", "surround/2×3×4×16", "swap/3×16×7×20", "memory/copies",
}

// Quick is an Options.Match for the part of the suite that a program can run at its start.
func Quick(name string) bool {
	for _, q := range quick {
		if strings.HasPrefix(name, q) {
			return true
		}
	}
	return false
}
