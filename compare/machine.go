package compare

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// machine is a recipe's device with what its speed depends on: of a processor, its name and number.
func machine(device string) string {
	if device != runtime.GOOS+"/"+runtime.GOARCH {
		return device // a GPU has a name
	}
	text := fmt.Sprintf("%d processors, %s", runtime.NumCPU(), device)
	if name := processor(); name != "" {
		text = name + ", " + text
	}
	return text
}

// processor is the name that Linux gives it; "" where it cannot be told.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
