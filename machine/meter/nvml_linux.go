package meter

import (
	"fmt"
	"os"
	"strings"

	"github.com/ebitengine/purego"
)

// GPUs are NVIDIA's, as the driver's management library tells of them. Their methods may be called concurrently.
type GPUs struct {
	handles []uintptr
	names   []string
	energy  func(device uintptr, millijoules *uint64) int32
	memory  func(device uintptr, m *memory) int32
}

// memory is nvmlMemory_t, in bytes; the second is what is free.
type memory struct{ total, _, used uint64 }

// OpenGPUs finds the GPUs; none where there is no driver.
func OpenGPUs() *GPUs {
	g := &GPUs{}
	lib, err := purego.Dlopen("libnvidia-ml.so.1", purego.RTLD_NOW)
	if err != nil {
		return g
	}
	var start func() int32
	var count func(*uint32) int32
	var handle func(uint32, *uintptr) int32
	var name func(uintptr, *byte, uint32) int32
	for symbol, f := range map[string]any{
		"nvmlInit_v2": &start, "nvmlDeviceGetCount_v2": &count, "nvmlDeviceGetHandleByIndex_v2": &handle, "nvmlDeviceGetName": &name,
		"nvmlDeviceGetTotalEnergyConsumption": &g.energy, "nvmlDeviceGetMemoryInfo": &g.memory,
	} {
		if _, err := purego.Dlsym(lib, symbol); err != nil {
			return &GPUs{}
		}
		purego.RegisterLibFunc(f, lib, symbol)
	}
	var n uint32
	if start() != 0 || count(&n) != 0 {
		return &GPUs{}
	}
	for i := range n {
		var h uintptr
		if handle(i, &h) != 0 {
			return &GPUs{}
		}
		text := make([]byte, 96)
		if name(h, &text[0], uint32(len(text))) != 0 {
			text = nil
		}
		g.handles = append(g.handles, h)
		g.names = append(g.names, strings.TrimRight(string(text), "\x00"))
	}
	return g
}

// Read reads all GPUs.
func (g *GPUs) Read() (all []Reading) {
	for i, h := range g.handles {
		r := Reading{Device: fmt.Sprintf("gpu:%d", i), Name: g.names[i]}
		var m memory
		if g.memory(h, &m) == 0 {
			r.MemoryUsed, r.MemoryTotal = m.used, m.total
		}
		var mJ uint64
		if g.energy(h, &mJ) == 0 { // Volta and later
			r.Joules, r.Energy = float64(mJ)/1000, true
		}
		all = append(all, r)
	}
	return all
}

// Counter is the energy counter of the GPU that CUDA calls n; nil where it has none, or cannot be told apart from others.
func (g *GPUs) Counter(n int) *Counter {
	// The management library counts in the order of the bus. CUDA does so only when told to.
	ordered := os.Getenv("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" && os.Getenv("CUDA_VISIBLE_DEVICES") == ""
	if len(g.handles) != 1 && !ordered || n < 0 || n >= len(g.handles) {
		return nil
	}
	c := &Counter{g, n}
	if _, err := c.Joules(); err != nil {
		return nil
	}
	return c
}

// Counter is the energy counter of a GPU.
type Counter struct {
	g *GPUs
	n int
}

// Joules is the energy that was used since some time in the past.
func (c *Counter) Joules() (float64, error) {
	var mJ uint64
	if status := c.g.energy(c.g.handles[c.n], &mJ); status != 0 {
		return 0, fmt.Errorf("reading the GPU's energy counter: NVML status %d", status)
	}
	return float64(mJ) / 1000, nil
}
