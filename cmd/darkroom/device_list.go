package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"darkroom/kernels/cuda"
	"darkroom/pipeline"

	"github.com/urfave/cli/v2"
)

// deviceList is what --device names.
type deviceList struct {
	given   bool  // the flag was there
	all     bool  // every GPU that can be used
	numbers []int // else these, in this order; none is device 0
	pairs   bool  // each picture is computed by two
}

func deviceFlag() cli.Flag {
	return &cli.StringFlag{Name: "device", Aliases: []string{"devices"}, Usage: "which GPU, counting from 0; several for commands that share out pictures: 0,1, or all", DefaultText: "0"}
}

// parallelCFG is the value of --parallel.
const parallelCFG = "cfg"

func parallelFlag() cli.Flag {
	return &cli.StringFlag{Name: "parallel", Usage: "cfg: two GPUs of --device compute each picture together, one with the prompt and one with the negative prompt", DefaultText: "none: a picture is computed by one"}
}

// readDevices reads --device and --parallel.
func readDevices(c *cli.Context) (deviceList, error) {
	d, err := readNumbers(c)
	if err != nil || !c.IsSet("parallel") {
		return d, err
	}
	switch {
	case c.String("parallel") != parallelCFG:
		return d, &usageError{c.Command.Name, fmt.Sprintf("--parallel %q: it must be %s", c.String("parallel"), parallelCFG)}
	case d.single():
		return d, &usageError{c.Command.Name, "--parallel cfg needs two GPUs: --device 0,1"}
	case len(d.numbers)%2 != 0:
		return d, &usageError{c.Command.Name, fmt.Sprintf("--parallel cfg --device %s: GPUs are used in pairs, and %d are listed", c.String("device"), len(d.numbers))}
	}
	d.pairs = true
	return d, nil
}

// readNumbers reads --device.
func readNumbers(c *cli.Context) (deviceList, error) {
	text := c.String("device")
	d := deviceList{given: c.IsSet("device"), all: text == "all"}
	if !d.given || d.all {
		return d, nil
	}
	for _, word := range strings.Split(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		switch {
		case err != nil:
			return d, &usageError{c.Command.Name, fmt.Sprintf("--device %q: it must be a whole number, several with commas between, or all", text)}
		case n < 0:
			return d, &usageError{c.Command.Name, fmt.Sprintf("--device %s: devices count from 0", text)}
		case slices.Contains(d.numbers, n):
			return d, &usageError{c.Command.Name, fmt.Sprintf("--device %s: %d is listed twice", text, n)}
		}
		d.numbers = append(d.numbers, n)
	}
	return d, nil
}

// single reports whether the list names one device.
func (d deviceList) single() bool { return !d.all && len(d.numbers) < 2 }

// first is the device for those who need but one.
func (d deviceList) first() int {
	if len(d.numbers) > 0 {
		return d.numbers[0]
	}
	return 0
}

// resolve lists the devices' numbers. all means every usable GPU; none is an error.
func (d deviceList) resolve() ([]int, error) {
	if !d.all {
		if len(d.numbers) == 0 {
			return []int{0}, nil
		}
		return d.numbers, nil
	}
	found, err := cuda.Devices()
	if err != nil {
		return nil, fmt.Errorf("--device all: %w", err)
	}
	var numbers []int
	for _, g := range found {
		if g.Unusable == "" {
			numbers = append(numbers, g.Index)
		}
	}
	if len(numbers) == 0 {
		return nil, errNoDevice
	}
	return numbers, nil
}

var errNoDevice = errors.New("no GPU can be used: darkroom devices says why")

// engines are the options for a renderer on each device, or on each pair.
func (d deviceList) engines(o pipeline.Options) ([]pipeline.Options, error) {
	if d.single() {
		return []pipeline.Options{o}, nil
	}
	numbers, err := d.resolve()
	if err != nil {
		return nil, err
	}
	if d.pairs && len(numbers)%2 != 0 {
		return nil, fmt.Errorf("--parallel cfg --device all: GPUs are used in pairs, and %d can be used: name those to use", len(numbers))
	}
	var all []pipeline.Options
	for i, n := range numbers {
		if d.pairs {
			if i%2 != 0 {
				continue
			}
			o.Second = &numbers[i+1]
		}
		if o.Device = n; o.Backend != pipeline.Ref { // which is where sharing is tested without a GPU
			o.Backend = pipeline.CUDA // auto would put what fails on one device onto the CPU
		}
		all = append(all, o)
	}
	return all, nil
}
