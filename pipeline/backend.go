package pipeline

import (
	"fmt"
	"slices"

	"darkroom/kernels"
	"darkroom/kernels/cpu"
	"darkroom/kernels/cuda"
	"darkroom/kernels/ref"
	"darkroom/machine"
	"darkroom/recipe"
	"darkroom/tensor"
)

// The names that --backend takes.
const (
	Auto = "auto"
	CPU  = "cpu"
	CUDA = "cuda"
	Ref  = "ref"
)

// newBackend makes the backend that o asks for and chooses the activations' type. It warns about kernels
// that failed a GPU's self-test.
func newBackend(o Options, warn func(string)) (kernels.Backend, tensor.DType, error) {
	if o.Threads < 0 {
		return nil, 0, usagef("--threads %d: it must not be negative", o.Threads)
	}
	if o.Device < 0 {
		return nil, 0, usagef("--device %d: devices are numbered from 0", o.Device)
	}
	if _, err := parseDType(o.DType); err != nil {
		return nil, 0, err
	}
	b, err := openBackend(o, warn)
	if err != nil {
		return nil, 0, err
	}
	dtype, err := chooseDType(b, o.DType)
	if err != nil {
		b.Close()
		return nil, 0, err
	}
	return b, dtype, nil
}

func openBackend(o Options, warn func(string)) (kernels.Backend, error) {
	switch o.Backend {
	case Ref:
		return ref.New(o.Threads), nil
	case CPU:
		return newCPU(o)
	case CUDA:
		return openCUDA(o, warn)
	case Auto, "":
		b, err := openCUDA(o, warn)
		if err == nil {
			return b, nil
		}
		if o.Device > 0 { // a GPU was asked for
			return nil, err
		}
		if found, none := cuda.Devices(); none == nil && len(found) > 0 {
			warn(fmt.Sprintf("using the CPU although there is a GPU: %v", err))
		} // why there is none is for "darkroom devices" to tell
		return openCPU(o)
	}
	return nil, usagef("--backend %q: choose %s, %s, %s or %s", o.Backend, Auto, CPU, CUDA, Ref)
}

// openCPU opens the processor, with whatever kernels this build has for it.
func openCPU(o Options) (kernels.Backend, error) {
	if !cpu.Available {
		return ref.New(o.Threads), nil
	}
	return newCPU(o)
}

// newCPU opens the processor in float32 unless bfloat16 or int8 is asked for.
func newCPU(o Options) (kernels.Backend, error) {
	c := cpu.Options{Threads: o.Threads}
	switch o.DType {
	case tensor.BF16.Name():
		c.DType = tensor.BF16
	case int8Name:
		c.DType, c.Int8 = tensor.BF16, true
	}
	b, err := cpu.New(c)
	if err != nil && c.DType != tensor.F32 {
		return nil, usagef("--dtype %s: %v", o.DType, err)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// openDevice opens the backend that o asks for. Auto is a usable GPU with enough memory for a picture, else
// the CPU.
func (p *Pipeline) openDevice(o Options) error {
	warn := func(text string) { p.warnings = append(p.warnings, text) }
	var err error
	o.wide = p.model.Wide
	if p.device.Backend, p.device.DType, err = newBackend(o, warn); err != nil {
		return err
	}
	info := p.device.Backend.Info()
	if info.Free == nil {
		return nil
	}
	p.free = info.Free
	if o.Backend != Auto && o.Backend != "" || o.Device > 0 {
		return nil
	}
	short := p.shortOfMemory(o.Width, o.Height)
	if short == nil {
		return nil
	}
	o.Backend = CPU
	if !cpu.Available {
		o.Backend = Ref
	}
	b, dtype, err := newBackend(o, warn)
	if err != nil {
		return short // a type that the CPU does not compute in
	}
	warn(fmt.Sprintf("using the CPU because %s has too little memory: %v", info.Name, short))
	err = p.device.Backend.Close()
	p.device.Backend, p.device.DType, p.free = b, dtype, machine.FreeMemory
	return err
}

// shortOfMemory says that a picture of that size (0: the model's own) does not fit into what is free, nil if it does.
func (p *Pipeline) shortOfMemory(width, height int) error {
	r := p.NewRequest("")
	if width == 0 {
		width = r.Width
	}
	if height == 0 {
		height = r.Height
	}
	rows := 1
	if p.guided(r) {
		rows = 2
	}
	free, known := p.free()
	if f := p.model.Latent.Step(); !known || width < f || height < f || width > recipe.MaxSide || height > recipe.MaxSide {
		return nil // plan reports a bad size
	}
	if n := p.need(width, height, rows, p.device.LowMemory); n.Total() > free {
		if p.canBeFrugal() && p.model.NeedFrugal(width, height, rows, false).Total() <= free {
			return nil // the first picture's plan sees to it
		}
		return p.memoryError(n, free, p.model.Need(width, height, rows, true, true))
	}
	return nil
}

// half is the type of half precision that fits the model.
func (o Options) half() tensor.DType {
	if o.wide {
		return tensor.BF16
	}
	return tensor.F16
}

// openCUDA opens a GPU in half precision unless another type is asked for: most models' weights are stored in it, and tensor
// cores compute in it.
func openCUDA(o Options, warn func(string)) (kernels.Backend, error) {
	dtype, err := parseDType(o.DType)
	if err != nil {
		return nil, err
	}
	if dtype == nil {
		half := o.half()
		dtype = &half
	}
	if o.DType == int8Name {
		*dtype = o.half()
	}
	b, err := cuda.OpenTested(cuda.Options{Device: o.Device, DType: *dtype, TF32: o.DType == tf32, Int8: o.DType == int8Name}, o.HashCache, warn)
	if err != nil {
		return nil, fmt.Errorf("--backend cuda: %w", err)
	}
	return b, nil
}

// dtypes are those that can be asked for.
var dtypes = []tensor.DType{tensor.F32, tensor.BF16, tensor.F16}

// tf32 is float32 whose products a GPU's tensor cores may round to TF32.
const tf32 = "tf32"

// int8Name has the weights that bear it in 8 bits: on processors with bfloat16, and what they are multiplied with in 8 bits too; on
// GPUs with the half precision that fits the model.
const int8Name = "int8"

// dtypeName is what the pipeline computes in.
func (p *Pipeline) dtypeName() string {
	switch info := p.device.Backend.Info(); {
	case info.TF32:
		return tf32
	case info.Int8:
		return int8Name
	}
	return p.device.DType.Name()
}

// parseDType reads the name of a type; nil is auto.
func parseDType(name string) (*tensor.DType, error) {
	switch name {
	case tf32:
		name = tensor.F32.Name()
	case int8Name:
		name = tensor.BF16.Name()
	}
	if name == Auto || name == "" {
		return nil, nil
	}
	for _, d := range dtypes {
		if d.Name() == name {
			return &d, nil
		}
	}
	return nil, usagef("--dtype %q: choose auto, fp32, tf32, bf16, fp16 or int8", name)
}

func chooseDType(b kernels.Backend, name string) (tensor.DType, error) {
	info := b.Info()
	dtype, err := parseDType(name)
	switch {
	case err != nil:
		return 0, err
	case name == tf32 && !info.TF32:
		return 0, usagef("--dtype tf32 is for GPUs; the %s backend computes in fp32", info.Name)
	case name == int8Name && !info.Int8:
		return 0, usagef("--dtype int8 is for CPUs and GPUs; the %s backend computes in %s", info.Name, info.DTypes[0].Name())
	case dtype == nil, name == int8Name:
		return info.DTypes[0], nil
	case slices.Contains(info.DTypes, *dtype):
		return *dtype, nil
	}
	var names []string
	for _, s := range info.DTypes {
		names = append(names, s.Name())
	}
	return 0, usagef("--dtype %s: the %s backend computes in %v only", name, info.Name, names)
}
