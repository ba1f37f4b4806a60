// Package suite runs the checks of package conformance as subtests.
package suite

import (
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/conformance"
)

// Run checks the backend and fails t for each verdict that is an error, case by case.
func Run(t *testing.T, b kernels.Backend, o conformance.Options) {
	t.Helper()
	for name, check := range conformance.Cases(b, o) {
		t.Run(name, func(t *testing.T) {
			for _, v := range check() {
				if v.Err != nil {
					t.Errorf("%s: %s: %v", v.Case, v.Check, v.Err)
				}
			}
		})
	}
}

// Same fails t where two backends of the same element type do not give the same bits for a case that the options keep.
func Same(t *testing.T, a, b kernels.Backend, o conformance.Options) {
	t.Helper()
	verdicts := conformance.Same(a, b, o)
	if len(verdicts) == 0 {
		t.Error("the options keep no case")
	}
	for _, v := range verdicts {
		if v.Err != nil {
			t.Errorf("%s: %v", v.Case, v.Err)
		}
	}
}
