package checkpoint

import "darkroom/tensor"

// Weights are arrays by name.
type Weights interface {
	Array(name string) (tensor.Array, bool)
	Names() []string
}
