// Package machine says what the computer has: its processor, its memory, and places for a user's files.
package machine

import (
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"github.com/klauspost/cpuid/v2"
)

// Processor is the processor's name as its maker gives it, or the architecture's where it gives none.
func Processor() string {
	if name := strings.TrimSpace(cpuid.CPU.BrandName); name != "" {
		return name
	}
	return runtime.GOARCH
}

// Memory is what the machine has, in bytes. Known on Linux alone.
func Memory() (bytes uint64, known bool) { return meminfo("/proc/meminfo", "MemTotal:") }

// FreeMemory is what the system could still give, in bytes: what /proc/meminfo calls available, within
// the limit of the control group. Known on Linux alone.
func FreeMemory() (bytes uint64, known bool) {
	bytes, known = meminfo("/proc/meminfo", "MemAvailable:")
	if text, err := os.ReadFile("/proc/self/cgroup"); err == nil && known {
		bytes = min(bytes, groupLimit("/sys/fs/cgroup", string(text)))
	}
	return bytes, known
}

// meminfo reads a line such as "MemTotal:  131072 kB".
func meminfo(file, key string) (bytes uint64, known bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}

// groupLimit is how much a control group (version 2) may still take: the least of its own limit and those of the groups
// around it. membership is the text of /proc/self/cgroup.
func groupLimit(root, membership string) uint64 {
	limit := ^uint64(0)
	_, group, ok := strings.Cut(strings.TrimSpace(membership), "0::")
	if !ok {
		return limit
	}
	for dir := path.Join(root, group); len(dir) >= len(root); dir = path.Dir(dir) {
		most, err1 := readNumber(dir + "/memory.max")
		used, err2 := readNumber(dir + "/memory.current")
		if err1 == nil && err2 == nil {
			limit = min(limit, most-min(used, most))
		}
	}
	return limit
}

func readNumber(file string) (uint64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64) // "max" is an error: no limit
}
