//go:build !(cuda && linux && (amd64 || arm64))

package cuda

import "darkroom/kernels"

// Open returns ErrNotBuilt.
func Open(Options) (kernels.Backend, error) { return nil, ErrNotBuilt }

// Devices returns ErrNotBuilt.
func Devices() ([]Device, error) { return nil, ErrNotBuilt }

// OpenTested returns ErrNotBuilt.
func OpenTested(Options, string, func(string)) (kernels.Backend, error) { return nil, ErrNotBuilt }

// SelfTest returns ErrNotBuilt.
func SelfTest(Options, string, bool) (Report, error) { return Report{}, ErrNotBuilt }

// Verdicts is empty.
func Verdicts(Device, string) []Verdict { return nil }
