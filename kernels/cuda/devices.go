//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"darkroom/kernels/cuda/drv"
)

// Numbers of CUdevice_attribute that gorgonia.org/cu has no name for.
const sharedMemoryOptIn cu.DeviceAttribute = 97 // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN

// minDriver is the CUDA version of the oldest driver that loads the machine code in the fatbins
// (R525). Older ones from R520 on could translate the PTX, but nothing has tried.
const minDriver = 12000

func driverText(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// Devices lists the GPUs. The error says why there is none: no driver, or one that does not start.
func Devices() ([]Device, error) {
	if err := drv.Status(); err != nil {
		return nil, fmt.Errorf("CUDA is not available: %w", err)
	}
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("CUDA is not available: %w", err)
	}
	all := make([]Device, n)
	for i := range all {
		if all[i], err = describe(i); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func describe(i int) (Device, error) {
	d := Device{Index: i}
	dev, err := cu.GetDevice(i)
	if err != nil {
		return d, fmt.Errorf("cuda:%d: %w", i, err)
	}
	if d.Name, err = dev.Name(); err != nil {
		return d, fmt.Errorf("name of cuda:%d: %w", i, err)
	}
	major, minor, err := dev.ComputeCapability()
	if err != nil {
		return d, fmt.Errorf("compute capability of cuda:%d: %w", i, err)
	}
	total, err := dev.TotalMem()
	if err != nil {
		return d, fmt.Errorf("memory of cuda:%d: %w", i, err)
	}
	d.Capability, d.Memory = [2]int{major, minor}, int(total)
	if d.Processors, err = dev.Attribute(cu.MultiprocessorCount); err != nil {
		return d, fmt.Errorf("processors of cuda:%d: %w", i, err)
	}
	version := cu.Version()
	d.Driver = driverText(version)
	switch {
	case version < minDriver:
		d.Unusable = fmt.Sprintf("the driver supports CUDA %s, and darkroom needs CUDA %s: install driver R525 or newer", d.Driver, driverText(minDriver))
	case major >= 10 && version < 12080:
		d.Unusable = fmt.Sprintf("the driver supports CUDA %s, and this GPU needs CUDA 12.8: install driver R570 or newer", d.Driver)
	case 10*major+minor < 75:
		d.Unusable = fmt.Sprintf("its compute capability is %d.%d, and darkroom needs 7.5 (Turing) or newer", major, minor)
	}
	return d, nil
}
