// Package meter reads what drivers tell of devices: memory in use, and energy. What a driver does not tell is left out.
package meter

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Reading is what a device says of itself.
type Reading struct {
	Device string // "gpu:0" in the order of the management library, or "cpu:0" for a processor package
	Name   string

	MemoryUsed, MemoryTotal uint64 // bytes of the whole device, whoever uses them; 0: not told

	Joules float64 // energy that was used since some time in the past; it only grows
	Energy bool    // Joules is told
}

// Powercap is where Linux tells of the energy of processors. Only root may read it on most systems.
const Powercap = "/sys/class/powercap"

// Processors are the energy counters of the processor packages. Their methods may be called concurrently.
type Processors struct {
	mu  sync.Mutex
	all []*processor
}

// processor is a package with its counter, which begins again at 0 after max.
type processor struct {
	file      string
	name      string
	max, last uint64 // microjoules
	sum       uint64
}

// OpenProcessors finds the counters that can be read below a folder, Powercap.
func OpenProcessors(folder string) *Processors {
	p := &Processors{}
	zones, err := filepath.Glob(filepath.Join(folder, "intel-rapl:*")) // AMD's, too
	if err != nil {
		return p
	}
	slices.Sort(zones)
	for _, zone := range zones {
		name, err := os.ReadFile(filepath.Join(zone, "name"))
		if err != nil || !strings.HasPrefix(string(name), "package-") { // others are parts of packages
			continue
		}
		c := &processor{file: filepath.Join(zone, "energy_uj"), name: strings.TrimSpace(string(name))}
		if c.last, err = number(c.file); err != nil {
			continue
		}
		c.sum = c.last
		if c.max, err = number(filepath.Join(zone, "max_energy_range_uj")); err == nil {
			p.all = append(p.all, c)
		}
	}
	return p
}

// Read reads the counters. A counter that began again since the last call goes on; it must be read more often than it does so:
// minutes apart on large machines.
func (p *Processors) Read() (all []Reading) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.all {
		now, err := number(c.file)
		if err != nil {
			continue
		}
		if now < c.last {
			c.sum += c.max
		}
		c.sum += now - c.last // which may be below 0: sums of uint64 wrap around
		c.last = now
		all = append(all, Reading{Device: "cpu:" + strings.TrimPrefix(c.name, "package-"), Name: c.name, Joules: float64(c.sum) / 1e6, Energy: true})
	}
	return all
}

func number(file string) (uint64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}
