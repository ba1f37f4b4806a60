package suite

import (
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/conformance"
	"darkroom/kernels/ref"
)

func TestReference(t *testing.T) {
	Run(t, ref.New(2), conformance.Options{Short: true, WithThreads: func(n int) kernels.Backend { return ref.New(n) }})
}
