package unet

import (
	"strings"
	"testing"

	"darkroom/internal/golden"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

var motionConfigs = map[string]MotionConfig{
	"sd1": {Heads: []int{2, 2}, Groups: 4, Frames: 6, Levels: 2},
	"xl":  {Heads: []int{1, 4}, Groups: 4, Frames: 6, Levels: 2},
}

// Twice as many operations in a row as without a module: see tolerance.
const motionTolerance = 2 * tolerance

// A film's frames attend to each other; what the module does not touch sees each frame as a picture.
func TestMotionAgainstDiffusers(t *testing.T) {
	file := golden.Open(t, "testdata/motion.safetensors")
	for name, c := range motionConfigs {
		t.Run(name, func(t *testing.T) {
			u, net := open(t, "motion", name)
			module := file.Network(t, name+"-module")
			m, err := u.WithMotion(c, module.Loader)
			if err != nil {
				t.Fatal(err)
			}
			module.AllRead(t)
			sizes := func(call string) (golden.Call, nn.Sizes) {
				at := net.Call(call)
				_, sample := at.Floats(t, "sample")
				_, text := at.Floats(t, "text")
				return at, nn.Sizes{Rows: text[0], Frames: sample[0] / text[0], H: sample[1], W: sample[2], Tokens: text[1]}
			}
			for _, call := range []string{"film", "two"} {
				at, s := sizes(call)
				at.CheckNetwork(t, motionTolerance, m, s)
			}
			if name == "sd1" {
				with, err := m.WithImage(file.Network(t, name+"-ip").Loader.At("ip_adapter"), 4)
				if err != nil {
					t.Fatal(err)
				}
				at, s := sizes("film-image")
				at.CheckNetwork(t, motionTolerance, with, s)
			}
			if _, err := m.WithMotion(c, module.Loader); err == nil {
				t.Error("a second module is taken")
			}
			c.Levels = 3
			if _, err := u.WithMotion(c, module.Loader); err == nil || !strings.Contains(err.Error(), "another kind") {
				t.Errorf("a module of 3 levels: error %v", err)
			}
		})
	}
}

// One module alone.
func TestMotionModuleAgainstDiffusers(t *testing.T) {
	net := golden.Open(t, "testdata/motion.safetensors").Network(t, "sd1-module")
	m := newMotion(net.Loader.At("down_blocks.0.motion_modules.0"), 8, 2, motionConfigs["sd1"])
	if err := net.Loader.Err(); err != nil {
		t.Fatal(err)
	}
	const path = "down_blocks.0.motion_modules.0@"
	for call, frames := range map[string]int{"film": 5, "two": 2} {
		net.Call(call).Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
			x := in.Value(path+"hidden_states", nil)
			var numbers []float32
			for i := range x.Shape[0] {
				numbers = append(numbers, float32(i%frames))
			}
			return golden.Results{path + "out": m.forward(g, x, in.Whole(numbers, x.Shape[0], 1), frames)}
		})
	}
}

// A network that is asked for a picture is the one without a module; frames are repeated in the order of the batch.
func TestEach(t *testing.T) {
	g := kernels.NewGraph(tensor.F32)
	x := g.Input("x", tensor.F32, 2, 3)
	if Each(g, x, 0) != x || Each(g, x, 1) != x {
		t.Error("a picture is repeated")
	}
	if got := Each(g, x, 4).Shape; !got.Equal(tensor.Shape{8, 3}) {
		t.Errorf("2 rows of 4 frames are %v", got)
	}
}
