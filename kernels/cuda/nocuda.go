//go:build !(cuda && linux && amd64)

package cuda

import "darkroom/kernels"

// Open returns ErrNotBuilt.
func Open(Options) (kernels.Backend, error) { return nil, ErrNotBuilt }

// Devices returns ErrNotBuilt.
func Devices() ([]Device, error) { return nil, ErrNotBuilt }

// OpenTested returns ErrNotBuilt.
func OpenTested(Options, string, func(string)) (kernels.Backend, error) { return nil, ErrNotBuilt }
