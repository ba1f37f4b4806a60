package compare

import (
	"fmt"
	"runtime"

	"darkroom/machine"
)

// deviceText is a recipe's device with what its speed depends on: of a processor, its name and number.
func deviceText(device string) string {
	if device != runtime.GOOS+"/"+runtime.GOARCH {
		return device // a GPU has a name
	}
	return fmt.Sprintf("%s, %d processors, %s", machine.Processor(), runtime.NumCPU(), device)
}
