//go:build !linux

package compare

import "darkroom/pipeline"

// openMeter finds no energy counter on this system.
func openMeter(pipeline.Options) meter { return nil }
