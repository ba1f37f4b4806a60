// Package drv stands between gorgonia.org/cu and the NVIDIA driver. It lets one binary run with and
// without a driver (trampolines.c), and makes the few calls that gorgonia.org/cu lacks: pinned host
// memory, more than 48 KiB of shared memory, and the capture and replay of graphs.
package drv
