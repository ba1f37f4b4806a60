package stage

import "darkroom/kernels"

// narrower is a backend that keeps some weights in fewer bits than it multiplies, and unpacks them one at a time.
type narrower interface {
	kernels.Backend
	// NarrowBytes is what Load takes for such a weight, and UnpackedBytes what it takes beside that while it is used; 0 for others.
	NarrowBytes(w *kernels.Weight) int
	UnpackedBytes(w *kernels.Weight) int
}

// packed is the memory that a weight takes on a backend.
func packed(b kernels.Backend, w *kernels.Weight) int {
	if b, ok := b.(narrower); ok && b.NarrowBytes(w) > 0 {
		return b.NarrowBytes(w)
	}
	return b.PackedBytes(w)
}

// unpacked is the memory for the weight at hand, the largest.
func unpacked(b kernels.Backend, g *kernels.Graph) (most int) {
	if b, ok := b.(narrower); ok {
		for _, w := range g.Weights() {
			most = max(most, b.UnpackedBytes(w))
		}
	}
	return most
}
