//go:build !linux

package meter

import "errors"

// GPUs are none on this system.
type GPUs struct{}

// OpenGPUs finds no GPUs.
func OpenGPUs() *GPUs { return &GPUs{} }

// Read reads nothing.
func (*GPUs) Read() []Reading { return nil }

// Counter finds no counter.
func (*GPUs) Counter(int) *Counter { return nil }

// Counter is the energy counter of a GPU.
type Counter struct{}

// Joules is an error.
func (*Counter) Joules() (float64, error) { return 0, errors.ErrUnsupported }
