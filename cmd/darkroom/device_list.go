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
}

func deviceFlag() cli.Flag {
	return &cli.StringFlag{Name: "device", Aliases: []string{"devices"}, Usage: "which GPU, counting from 0; several for commands that share out pictures: 0,1, or all", DefaultText: "0"}
}

// readDevices reads --device.
func readDevices(c *cli.Context) (deviceList, error) {
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

// engines are the options for a renderer on each device.
func (d deviceList) engines(o pipeline.Options) ([]pipeline.Options, error) {
	if d.single() {
		return []pipeline.Options{o}, nil
	}
	numbers, err := d.resolve()
	if err != nil {
		return nil, err
	}
	var all []pipeline.Options
	for _, n := range numbers {
		if o.Device = n; o.Backend != pipeline.Ref { // which is where sharing is tested without a GPU
			o.Backend = pipeline.CUDA // auto would put what fails on one device onto the CPU
		}
		all = append(all, o)
	}
	return all, nil
}
