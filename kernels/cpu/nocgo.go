//go:build !(cgo && (linux || darwin || windows) && (amd64 || arm64))

// Package cpu is the backend for the host's processor. This build has none: it was made without cgo or
// for another platform. kernels/ref runs everywhere, slowly.
package cpu

import (
	"errors"

	"darkroom/kernels"
	"darkroom/tensor"
)

// Available says whether New can work in this build.
const Available = false

// Backend cannot be made in this build.
type Backend struct{ kernels.Backend }

// New fails: see Available.
func New(Options) (*Backend, error) {
	return nil, errors.New("this program was built without the CPU kernels: build it with CGO_ENABLED=1 and a C compiler")
}

// Instructions lists the sets of kernels that can run, and Int8Instructions those for weights of 8 bits: none.
func Instructions(tensor.DType) []string { return nil }
func Int8Instructions() []string         { return nil }

func (*Backend) Instructions() string       { return "" }
func (*Backend) Threads() int               { return 0 }
func (*Backend) Allocated() int             { return 0 }
func (*Backend) Peak(flops float64) float64 { return 0 }
