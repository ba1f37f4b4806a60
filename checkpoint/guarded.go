package checkpoint

import (
	"errors"
	"fmt"

	"darkroom/tensor"
)

// guarded is an array of a mapped file. Reading it after the file was cut is an error that names the file.
type guarded struct {
	tensor.Array
	file string
}

func (g guarded) Decode(dst []float32, start int) error {
	return guard(g.file, func() error { return g.Array.Decode(dst, start) })
}

// guard calls f, which reads the file's mapping.
func guard(file string, f func() error) error {
	err := tensor.Guard(f)
	if errors.Is(err, tensor.ErrFault) {
		return fmt.Errorf("%s: %w", file, err)
	}
	return err
}
