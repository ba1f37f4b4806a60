package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// What bench.sh measured on a GPU: TestBenchSteps's file, bench_torch.py's, and both together.
type (
	layerTime struct {
		Model string         `json:"model"`
		Kind  string         `json:"kind"`
		Shape string         `json:"shape"`
		Count int            `json:"count"`
		Micro float64        `json:"us"`
		FLOPs float64        `json:"flops"`
		Bytes float64        `json:"bytes"`
		Dims  map[string]int `json:"dims"`

		Eager    float64 `json:"torch_eager_us,omitempty"`
		Compiled float64 `json:"torch_compiled_us,omitempty"`
		Roofline float64 `json:"roofline_us,omitempty"`
	}
	darkroomTimes struct {
		Device string      `json:"device"`
		Driver string      `json:"driver"`
		DType  string      `json:"dtype"`
		Torch  string      `json:"torch,omitempty"`
		Rows   []layerTime `json:"rows"`
		Steps  []stepTime  `json:"steps"`
	}
	stepTime struct {
		Model    string  `json:"model"`
		Layers   float64 `json:"us"` // the sum over the layers
		Roofline float64 `json:"roofline_us,omitempty"`
		Eager    float64 `json:"torch_eager_us,omitempty"`
		Compiled float64 `json:"torch_compiled_us,omitempty"`
	}
	torchTimes struct {
		Torch string `json:"torch"`
		Rows  []struct {
			Model, Kind, Shape string
			Bias               int
			Eager, Compiled    float64
		} `json:"rows"`
		Steps []struct {
			Model           string
			Eager, Compiled float64
		} `json:"steps"`
	}
)

func readJSON(path string, to any) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, to); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeBench joins the measurements and writes them as JSON and as a table. PyTorch's may be missing.
func writeBench(darkroom, torch, jsonTo, tableTo string) error {
	var r darkroomTimes
	if err := readJSON(darkroom, &r); err != nil {
		return err
	}
	var t torchTimes
	if err := readJSON(torch, &t); err != nil && !os.IsNotExist(err) {
		return err
	}
	r.Torch = t.Torch
	var card *gpu
	for i, g := range gpus {
		if strings.Contains(r.Device, strings.Fields(strings.TrimPrefix(g.name, "RTX "))[0]) {
			card = &gpus[i]
		}
	}
	steps := map[string]*stepTime{}
	var order []string
	for i := range r.Rows {
		l := &r.Rows[i]
		if card != nil {
			l.Roofline = 1e6 * max(l.FLOPs/card.flops, l.Bytes/card.bandwidth)
		}
		for _, o := range t.Rows {
			if o.Model == l.Model && o.Kind == l.Kind && o.Shape == l.Shape && o.Bias == l.Dims["bias"] {
				l.Eager, l.Compiled = o.Eager, o.Compiled
			}
		}
		s := steps[l.Model]
		if s == nil {
			s = &stepTime{Model: l.Model}
			steps[l.Model] = s
			order = append(order, l.Model)
		}
		s.Layers += float64(l.Count) * l.Micro
		s.Roofline += float64(l.Count) * l.Roofline
	}
	for _, o := range t.Steps {
		if s := steps[o.Model]; s != nil {
			s.Eager, s.Compiled = o.Eager, o.Compiled
		}
	}
	for _, name := range order {
		r.Steps = append(r.Steps, *steps[name])
	}
	body, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(jsonTo, append(body, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(tableTo, []byte(benchTable(r)), 0o644)
}

func benchTable(r darkroomTimes) string {
	var b strings.Builder
	cell := func(v float64) string {
		if v == 0 {
			return "–"
		}
		return fmt.Sprintf("%.1f", v)
	}
	row := func(name string, times int, us, eager, compiled, roofline float64) {
		ratio := "–"
		if compiled > 0 {
			ratio = fmt.Sprintf("%.2f", us/compiled)
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %s |\n", name, times, cell(us), cell(eager), cell(compiled), ratio, cell(roofline))
	}
	fmt.Fprintf(&b, "%s, driver for CUDA %s, %s; PyTorch %s. Microseconds of one.\n\n", r.Device, r.Driver, r.DType, r.Torch)
	fmt.Fprintf(&b, "| layer | times | darkroom | torch eager | torch compiled | darkroom / compiled | roofline |\n|---|---|---|---|---|---|---|\n")
	for _, s := range r.Steps {
		row("**"+s.Model+": a step of two** (darkroom and roofline: sum of the layers)", 1, s.Layers, s.Eager, s.Compiled, s.Roofline)
		for _, l := range r.Rows {
			if l.Model == s.Model {
				row(l.Kind+" "+l.Shape, l.Count, l.Micro, l.Eager, l.Compiled, l.Roofline)
			}
		}
	}
	return b.String()
}
