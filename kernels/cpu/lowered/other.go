//go:build !(cgo && (linux || darwin) && (amd64 || arm64))

package lowered

import "unsafe"

// Kernels has none on this platform.
func Kernels(string) unsafe.Pointer { return nil }
