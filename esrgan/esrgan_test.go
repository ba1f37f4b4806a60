package esrgan

import (
	"strings"
	"testing"

	"darkroom/internal/golden"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// Each operation rounds its result to float32, by at most 6·10⁻⁸ of it, after exact sums; the golden values are float64
// inside. Roundings add up as a random walk: a network of 60 operations in a row is off by 8 of them.
const tolerance = 1e-6

func TestUpscalersAgainstTorch(t *testing.T) {
	file := golden.Open(t, "testdata/upscalers.safetensors")
	for _, name := range file.Networks() {
		t.Run(name, func(t *testing.T) {
			net := file.Network(t, name)
			c, err := ReadConfig(net.Source())
			if err != nil {
				t.Fatal(err)
			}
			if want := net.Config.Int("scale"); c.Scale != want {
				t.Errorf("the scale is %d, want %d", c.Scale, want)
			}
			m, err := New(c, net.Loader)
			if err != nil {
				t.Fatal(err)
			}
			net.AllRead(t)
			net.Call("up").Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
				return golden.Results{"image": m.Forward(g, in.Value("in", nil))}
			})
			g := nn.Graph(m, tensor.F32, nn.Sizes{Rows: 2, H: 4, W: 8})
			if in, out := g.In("image"), g.Out("image"); in == nil || out == nil || out.Shape[1] != 4*c.Scale {
				t.Errorf("the graph's image: %v to %v", in, out)
			}
		})
	}
}

// shapes is a checkpoint without numbers.
type shapes map[string]tensor.Shape

func (s shapes) Array(name string) (tensor.Array, bool) {
	shape, ok := s[name]
	return tensor.Stored(tensor.Tensor{Shape: shape}), ok
}

func TestReadConfigRefusesOtherNetworks(t *testing.T) {
	for want, s := range map[string]shapes{
		"is not known":           {"layers.0.weight": {8, 8}},
		"is not an RRDBNet":      {"conv_first.weight": {64, 3, 3, 3}},
		"reads 4 channels":       {"conv_first.weight": {64, 4, 3, 3}, "body.0.rdb1.conv1.weight": {32, 64, 3, 3}},
		"3·scale² output":        {"body.0.weight": {64, 3, 3, 3}, "body.1.weight": {64}, "body.2.weight": {47, 64, 3, 3}},
		"conv_first.weight is 9": {"conv_first.weight": {9, 48, 3, 3}, "body.0.rdb1.conv1.weight": {32, 9, 3, 3}, "conv_up1.weight": {9, 9, 3, 3}},
	} {
		if _, err := ReadConfig(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one with %q", s, err, want)
		}
	}
}
