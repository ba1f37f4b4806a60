//go:build linux

package compare

import (
	"fmt"
	"os"
	"strings"

	"darkroom/pipeline"

	"github.com/ebitengine/purego"
)

// nvml reads the energy counter of an NVIDIA GPU (Volta and later) from the driver's management library.
type nvml struct {
	device uintptr
	energy func(device uintptr, millijoules *uint64) int32
}

// openMeter finds the counter of the GPU that the engine computes on; nil on a CPU, and where it cannot be told which of several
// GPUs that is.
func openMeter(o pipeline.Options) meter {
	if !strings.HasPrefix(o.Backend, pipeline.CUDA) && o.Backend != pipeline.Auto && o.Backend != "" {
		return nil
	}
	lib, err := purego.Dlopen("libnvidia-ml.so.1", purego.RTLD_NOW)
	if err != nil {
		return nil
	}
	var start func() int32
	var count func(*uint32) int32
	var handle func(uint32, *uintptr) int32
	m := &nvml{}
	for name, f := range map[string]any{
		"nvmlInit_v2": &start, "nvmlDeviceGetCount_v2": &count,
		"nvmlDeviceGetHandleByIndex_v2": &handle, "nvmlDeviceGetTotalEnergyConsumption": &m.energy,
	} {
		if _, err := purego.Dlsym(lib, name); err != nil {
			return nil
		}
		purego.RegisterLibFunc(f, lib, name)
	}
	var gpus uint32
	if start() != 0 || count(&gpus) != 0 {
		return nil
	}
	// The management library counts in the order of the bus. CUDA does so only when told to.
	ordered := os.Getenv("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" && os.Getenv("CUDA_VISIBLE_DEVICES") == ""
	if gpus != 1 && !ordered || handle(uint32(o.Device), &m.device) != 0 {
		return nil
	}
	if _, err := m.Joules(); err != nil {
		return nil
	}
	return m
}

func (m *nvml) Joules() (float64, error) {
	var mJ uint64
	if status := m.energy(m.device, &mJ); status != 0 {
		return 0, fmt.Errorf("reading the GPU's energy counter: NVML status %d", status)
	}
	return float64(mJ) / 1000, nil
}
