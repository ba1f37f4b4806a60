package dit

import (
	"fmt"
	"testing"

	"darkroom/internal/golden"
	"darkroom/kernels"
)

// open puts a network of the golden file together.
func openNet[C, M any](t *testing.T, name string, read func(*golden.Network) (C, error), build func(C, *golden.Network) (M, error)) (*golden.Network, M) {
	t.Helper()
	net := golden.Open(t, "testdata/mmdit.safetensors").Network(t, name)
	c, err := read(net)
	if err != nil {
		t.Fatal(err)
	}
	m, err := build(c, net)
	if err != nil {
		t.Fatal(err)
	}
	net.AllRead(t)
	return net, m
}

func openFlux1(t *testing.T, name string) (*golden.Network, *Flux1) {
	return openNet(t, name, func(n *golden.Network) (Flux1Config, error) { return ReadFlux1Config(n.Config) }, func(c Flux1Config, n *golden.Network) (*Flux1, error) { return NewFlux1(c, n.Loader) })
}

func openSD3(t *testing.T, name string) (*golden.Network, *SD3) {
	return openNet(t, name, func(n *golden.Network) (SD3Config, error) { return ReadSD3Config(n.Config) }, func(c SD3Config, n *golden.Network) (*SD3, error) { return NewSD3(c, n.Loader) })
}

// rows are the conditions of a golden call, those of the picture once for each row.
func rows(t *testing.T, call golden.Call, time func(float64) []float32, places map[string][]float32) (values map[string][]float32, n int) {
	t.Helper()
	times, _ := call.Floats(t, "timestep")
	values = map[string][]float32{}
	for _, at := range times {
		for name, v := range places {
			values[name] = append(values[name], v...)
		}
		values["time"] = append(values["time"], time(float64(at))...)
		values["guidance"] = append(values["guidance"], time(3500)...)
	}
	return values, len(times)
}

func flux1Values(t *testing.T, c Flux1Config, call golden.Call) (values map[string][]float32, n int) {
	t.Helper()
	_, shape := call.Floats(t, "sample")
	_, text := call.Floats(t, "text")
	return rows(t, call, c.Time, c.Conditions(text[1], Grid{shape[1] / flux1Square, shape[2] / flux1Square}, nil))
}

func TestFlux1(t *testing.T) {
	for _, name := range []string{"flux1", "flux1-plain"} {
		net, m := openFlux1(t, name)
		c := m.Config
		for _, call := range net.Calls() {
			t.Run(name+"/"+call, func(t *testing.T) {
				call := net.Call(call)
				values, n := flux1Values(t, c, call)
				call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
					given := func(name string) *kernels.Tensor {
						return in.Given(values[name], n, len(values[name])/n/c.HeadDim, c.HeadDim)
					}
					z := flux1Inputs{sample: in.Value("sample", nil), text: in.Value("text", nil), pooled: in.Value("pooled", nil), time: in.Given(values["time"], n, timeWidth),
						angles: given("angles"), textAngles: given("text_angles"), pictureAngles: given("picture_angles")}
					if c.Guidance {
						z.guidance = in.Given(values["guidance"], n, timeWidth)
					}
					return golden.Results{"prediction": m.forward(g, z)}
				})
			})
		}
	}
}

// silu is what layers read of the time's embedding.
func silu(g *kernels.Graph, in *golden.Inputs, key string) *kernels.Tensor {
	return g.Add("", &kernels.Pointwise{A: in.Value(key, nil), Act: kernels.SiLU})
}

func TestFlux1Layers(t *testing.T) {
	for _, name := range []string{"flux1", "flux1-plain"} {
		net, m := openFlux1(t, name)
		c, call := m.Config, net.Call("wide")
		values, _ := flux1Values(t, c, call)
		given := func(in *golden.Inputs, name string) *kernels.Tensor {
			return in.Given(values[name], 1, len(values[name])/c.HeadDim, c.HeadDim)
		}
		t.Run(name+"/double", func(t *testing.T) {
			const path = "transformer_blocks.0"
			call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
				picture, words := m.layers[0].mods(g, silu(g, in, path+"@temb"))
				x, text := m.layers[0].forward(g, in.Value(path+"@hidden_states", nil), in.Value(path+"@encoder_hidden_states", nil), picture, words,
					given(in, "picture_angles"), given(in, "text_angles"))
				return golden.Results{path + "@out": text, path + "@out1": x}
			})
		})
		t.Run(name+"/single", func(t *testing.T) {
			const path = "single_transformer_blocks.0"
			call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
				b, text := m.singles[0], in.Value(path+"@encoder_hidden_states", nil)
				x := g.Add("", &kernels.Concat{Parts: []*kernels.Tensor{text, in.Value(path+"@hidden_states", nil)}, Axis: 1})
				x = b.forward(g, x, modulate(g, b.modulation, silu(g, in, path+"@temb"), 3), given(in, "angles"))
				first := text.Shape[1]
				return golden.Results{path + "@out": g.Add("", &kernels.Cut{In: x, Axis: 1, To: first}), path + "@out1": g.Add("", &kernels.Cut{In: x, Axis: 1, From: first, To: x.Shape[1]})}
			})
		})
	}
}

func sd3Values(t *testing.T, c SD3Config, call golden.Call) (values map[string][]float32, n int) {
	t.Helper()
	_, shape := call.Floats(t, "sample")
	places, err := c.Conditions(shape[1], shape[2])
	if err != nil {
		t.Fatal(err)
	}
	return rows(t, call, c.Time, places)
}

func TestSD3(t *testing.T) {
	for _, name := range []string{"sd3", "sd3-dual"} {
		net, m := openSD3(t, name)
		for _, call := range net.Calls() {
			t.Run(name+"/"+call, func(t *testing.T) {
				call := net.Call(call)
				values, n := sd3Values(t, m.Config, call)
				call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
					places := in.Whole(values["positions"], n, len(values["positions"])/n)
					return golden.Results{"prediction": m.forward(g, sd3Inputs{sample: in.Value("sample", nil), text: in.Value("text", nil), pooled: in.Value("pooled", nil),
						time: in.Given(values["time"], n, timeWidth), positions: places})}
				})
			})
		}
	}
	_, m := openSD3(t, "sd3")
	if _, err := m.Config.Conditions(20, 8); err == nil {
		t.Error("a picture beyond the positions was taken")
	}
}

// The first layer, with a second attention where there is one, and the last, whose text ends.
func TestSD3Layers(t *testing.T) {
	for _, name := range []string{"sd3", "sd3-dual"} {
		net, m := openSD3(t, name)
		call := net.Call("wide")
		for i, b := range m.layers {
			path := fmt.Sprint("transformer_blocks.", i)
			if !call.Has(path + "@temb") {
				continue
			}
			t.Run(name+"/"+path, func(t *testing.T) {
				call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
					picture, words := b.mods(g, silu(g, in, path+"@temb"))
					x, text := b.forward(g, in.Value(path+"@hidden_states", nil), in.Value(path+"@encoder_hidden_states", nil), picture, words, nil, nil)
					out := golden.Results{path + "@out1": x}
					if text != nil {
						out[path+"@out"] = text
					}
					return out
				})
			})
		}
	}
}
