//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

import (
	"fmt"
	"strings"
	"sync"

	"darkroom/kernels/conformance"
)

// tested holds what selfTest found, a *sync.Once's result by the name of a set: the processor does not change while
// the program runs.
var tested sync.Map

// selfTest runs each kernel of a set once on small operands and compares with kernels/ref, before the set is used:
// processors with these instructions are rare, and hypervisors and emulators have been wrong about them.
func selfTest(name string) error {
	f, _ := tested.LoadOrStore(name, sync.OnceValue(func() error {
		b := start(find(name), Options{Threads: 1})
		defer b.Close()
		for _, v := range conformance.Check(b, conformance.Options{Match: quick}) {
			if v.Err != nil {
				return fmt.Errorf("the %s kernels do not work on this processor: %v", name, v)
			}
		}
		return nil
	}))
	return f.(func() error)()
}

// quick keeps one case for each kernel that takes the reference a few milliseconds.
func quick(name string) bool {
	for _, prefix := range []string{
		"conv2d/3×7×11×13 to 17", "conv2d/2×8×8×64+32", "conv2d/2×8×16×32+64", "linear/2×31×33", "linear/2×40×96", "linear/2×13×40 to 64 geglu",
		"attention/2×19 queries", "attention/1×65 queries, 65 keys, 2×80", "groupnorm/2×5×7×5+7", "layernorm/3×7×13", "embed/2×7",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
