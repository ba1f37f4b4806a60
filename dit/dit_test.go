package dit

import (
	"testing"

	"darkroom/internal/golden"
	"darkroom/kernels"
)

// The references turn heads, and the time, in float32, and torch's exponential errs by an ulp: angles of up to 1000 by as
// many.
const tolerance = 5e-6

func zimage(t *testing.T, f *golden.File, name string) (*golden.Network, *ZImage) {
	t.Helper()
	net := f.Network(t, name)
	c, err := ReadZImageConfig(net.Config)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewZImage(c, net.Loader)
	if err != nil {
		t.Fatal(err)
	}
	net.AllRead(t)
	return net, m
}

// zValues are the conditions of a golden call, all rows of a batch after one another.
func zValues(t *testing.T, c ZImageConfig, call golden.Call) (values map[string][]float32, rows int) {
	t.Helper()
	_, shape := call.Floats(t, "sample")
	_, text := call.Floats(t, "text")
	lengths, _ := call.IDs(t, "lengths")
	times, _ := call.Floats(t, "timestep")
	values = map[string][]float32{}
	for i, n := range lengths {
		row, err := c.Conditions(shape[1], shape[2], int(n), text[1])
		if err != nil {
			t.Fatal(err)
		}
		row["time"] = c.Time(float64(times[i]))
		for name, v := range row {
			values[name] = append(values[name], v...)
		}
	}
	return values, len(lengths)
}

func TestZImage(t *testing.T) {
	f := golden.Open(t, "testdata/dit.safetensors")
	for _, name := range []string{"zimage", "zimage-wide", "zimage-plain"} {
		net, m := zimage(t, f, name)
		c := m.Config
		for _, call := range net.Calls() {
			t.Run(name+"/"+call, func(t *testing.T) {
				call := net.Call(call)
				values, n := zValues(t, c, call)
				call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
					x, text := in.Value("sample", nil), in.Value("text", nil)
					tokens, most := c.tokens(x.Shape[1], x.Shape[2]), text.Shape[1]
					whole := func(name string, shape ...int) *kernels.Tensor { return in.Whole(values[name], shape...) }
					z := zInputs{
						sample: x, text: text, time: in.Given(values["time"], n, 256), textPads: whole("text_pads", n, most), textLength: whole("text_length", n), length_: whole("length", n),
						angles:        in.Given(values["angles"], n, Padded(tokens)+most, c.width()),
						pictureAngles: in.Given(values["picture_angles"], n, Padded(tokens), c.width()), textAngles: in.Given(values["text_angles"], n, most, c.width()),
					}
					if Padded(tokens) > tokens {
						z.picturePads = whole("picture_pads", n, Padded(tokens)-tokens)
					}
					return golden.Results{"prediction": m.forward(g, z)}
				})
			})
		}
	}
}

// One layer of each kind by itself.
func TestZImageLayers(t *testing.T) {
	f := golden.Open(t, "testdata/dit.safetensors")
	for _, name := range []string{"zimage", "zimage-wide"} {
		net, m := zimage(t, f, name)
		c, call := m.Config, net.Call("both")
		values, n := zValues(t, c, call)
		for path, b := range map[string]zLayer{"noise_refiner.0": m.noiseRefiner[0], "context_refiner.0": m.textRefiner[0], "layers.0": m.layers[0]} {
			angles, length := map[string]string{"noise_refiner.0": "picture_angles", "context_refiner.0": "text_angles", "layers.0": "angles"}[path], ""
			switch path {
			case "context_refiner.0":
				length = "text_length"
			case "layers.0":
				length = "length"
			}
			t.Run(name+"/"+path, func(t *testing.T) {
				call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
					x := in.Value(path+"@x", nil)
					var time, lengths *kernels.Tensor
					if b.modulation != nil {
						time = in.Value(path+"@adaln_input", nil)
					}
					if length != "" {
						lengths = in.Whole(values[length], n)
					}
					return golden.Results{path + "@out": b.forward(g, x, in.Given(values[angles], n, x.Shape[1], c.width()), time, lengths)}
				})
			})
		}
	}
}

func TestZImageSizes(t *testing.T) {
	f := golden.Open(t, "testdata/dit.safetensors")
	_, m := zimage(t, f, "zimage")
	if _, err := m.Config.Conditions(66, 8, 5, 32); err == nil {
		t.Error("a picture beyond the positions was taken")
	}
	if _, err := m.Config.Conditions(8, 8, 500, 512); err == nil {
		t.Error("a text beyond the positions was taken")
	}
}

func flux2(t *testing.T, f *golden.File, name string) (*golden.Network, *Flux2) {
	t.Helper()
	net := f.Network(t, name)
	c, err := ReadFlux2Config(net.Config)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewFlux2(c, net.Loader)
	if err != nil {
		t.Fatal(err)
	}
	net.AllRead(t)
	return net, m
}

// flux2References are the sizes of the reference pictures of the call "edit".
var flux2References = []Grid{{2, 3}, {4, 2}}

func flux2Values(t *testing.T, c Flux2Config, call golden.Call) map[string][]float32 {
	t.Helper()
	_, shape := call.Floats(t, "sample")
	_, text := call.Floats(t, "text")
	times, _ := call.Floats(t, "timestep")
	var references []Grid
	if call.Has("references") {
		references = flux2References
	}
	values := map[string][]float32{}
	for _, at := range times {
		for name, v := range c.Conditions(text[1], Grid{shape[1], shape[2]}, references) {
			values[name] = append(values[name], v...)
		}
		values["time"] = append(values["time"], c.Time(float64(at))...)
		values["guidance"] = append(values["guidance"], c.Time(3500)...)
	}
	return values
}

func TestFlux2(t *testing.T) {
	f := golden.Open(t, "testdata/dit.safetensors")
	for _, name := range []string{"flux2", "flux2-guided"} {
		net, m := flux2(t, f, name)
		c := m.Config
		for _, call := range net.Calls() {
			t.Run(name+"/"+call, func(t *testing.T) {
				call := net.Call(call)
				values := flux2Values(t, c, call)
				call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
					x, text := in.Value("sample", nil), in.Value("text", nil)
					n := x.Shape[0]
					given := func(name string) *kernels.Tensor {
						return in.Given(values[name], n, len(values[name])/n/c.HeadDim, c.HeadDim)
					}
					z := flux2Inputs{sample: x, text: text, time: in.Given(values["time"], n, c.TimeChannels),
						angles: given("angles"), textAngles: given("text_angles"), pictureAngles: given("picture_angles")}
					if c.Guidance {
						z.guidance = in.Given(values["guidance"], n, c.TimeChannels)
					}
					if call.Has("references") {
						z.references = in.Value("references", nil)
					}
					return golden.Results{"prediction": m.forward(g, z)}
				})
			})
		}
	}
}

func TestFlux2Layers(t *testing.T) {
	f := golden.Open(t, "testdata/dit.safetensors")
	for _, name := range []string{"flux2", "flux2-guided"} {
		net, m := flux2(t, f, name)
		c, call := m.Config, net.Call("wide")
		values := flux2Values(t, c, call)
		given := func(in *golden.Inputs, name string) *kernels.Tensor {
			return in.Given(values[name], 1, len(values[name])/c.HeadDim, c.HeadDim)
		}
		modulated := func(in *golden.Inputs, key string, parts int) (mod modulation) {
			for i := range parts {
				mod = append(mod, in.Part(key, i*c.inner(), (i+1)*c.inner()))
			}
			return mod
		}
		t.Run(name+"/double", func(t *testing.T) {
			const path = "transformer_blocks.0"
			call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
				x, text := m.layers[0].forward(g, in.Value(path+"@hidden_states", nil), in.Value(path+"@encoder_hidden_states", nil),
					modulated(in, path+"@temb_mod_img", 6), modulated(in, path+"@temb_mod_txt", 6), given(in, "picture_angles"), given(in, "text_angles"))
				return golden.Results{path + "@out": text, path + "@out1": x}
			})
		})
		t.Run(name+"/single", func(t *testing.T) {
			const path = "single_transformer_blocks.0"
			call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
				return golden.Results{path + "@out": m.singles[0].forward(g, in.Value(path+"@hidden_states", nil), modulated(in, path+"@temb_mod", 3), given(in, "angles"))}
			})
		})
	}
}
