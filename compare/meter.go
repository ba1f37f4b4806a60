package compare

import (
	"strings"

	"darkroom/machine/meter"
	"darkroom/pipeline"
)

// openMeter finds the energy counter of the GPU that the engine computes on; nil on a CPU, and where it cannot be told which of
// several GPUs that is.
func openMeter(o pipeline.Options) meterReader {
	if !strings.HasPrefix(o.Backend, pipeline.CUDA) && o.Backend != pipeline.Auto && o.Backend != "" {
		return nil
	}
	if c := meter.OpenGPUs().Counter(o.Device); c != nil {
		return c
	}
	return nil
}
