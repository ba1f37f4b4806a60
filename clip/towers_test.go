package clip

import (
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/internal/golden"
	"darkroom/kernels"
	"darkroom/nn"
)

// Each operation rounds its result to float32, by at most 6·10⁻⁸ of it, after exact sums; the golden values are float64
// inside. Roundings add up as a random walk: a tower of 40 operations in a row is off by 6 of them.
const towerTolerance = 1e-6

// The text encoders as SDXL reads them: states before the last layer, the text's embedding at its end token.
func TestProjectedTextAgainstTransformers(t *testing.T) {
	for _, name := range []string{"bigg", "legacy", "long", "single"} {
		t.Run(name, func(t *testing.T) {
			net := golden.Open(t, "testdata/towers.safetensors").Network(t, name)
			c, err := ReadTextConfig(net.Config)
			if err != nil {
				t.Fatal(err)
			}
			m, err := NewText(c, net.Loader)
			if err != nil {
				t.Fatal(err)
			}
			net.AllRead(t)
			net.Call("sd").CheckNetwork(t, towerTolerance, m, nn.Sizes{Rows: 3})
			m.Config.Penultimate = true
			for skip := range m.Layers() {
				net.Call("xl"+string(rune('0'+skip))).CheckNetwork(t, towerTolerance, m, nn.Sizes{Rows: 3, Skip: skip})
			}
			call := net.Call("xl")
			ids, shape := call.IDs(t, "ids")
			want, _ := call.Floats(t, "embeds")
			for skip := range m.Layers() { // the embedding is that of the whole encoder, whatever is left off
				pooled := call.Run(t, m, nn.Sizes{Rows: 3, Skip: skip})["pooled"]
				var got []float32
				for row := range shape[0] {
					end := row*shape[1] + c.EOS(ids[row*shape[1]:][:shape[1]])
					got = append(got, pooled[end*c.ProjectionDim:][:c.ProjectionDim]...)
				}
				golden.Compare(t, "embeds", got, want, towerTolerance)
			}
		})
	}
}

func TestVisionAgainstTransformers(t *testing.T) {
	for _, name := range []string{"vit", "vit-gelu"} {
		t.Run(name, func(t *testing.T) {
			net := golden.Open(t, "testdata/towers.safetensors").Network(t, name)
			c, err := ReadVisionConfig(net.Config)
			if err != nil {
				t.Fatal(err)
			}
			m, err := NewVision(c, net.Loader)
			if err != nil {
				t.Fatal(err)
			}
			net.AllRead(t)
			call := net.Call("see")
			pixels, shape := call.Floats(t, "pixels")
			call.Check(t, towerTolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
				var rows []float32
				for row := range shape[0] {
					rows = append(rows, c.Patches(pixels[row*len(pixels)/shape[0]:][:len(pixels)/shape[0]])...)
				}
				hidden, pooled := m.Forward(g, in.Given(rows, shape[0], c.Tokens(), c.patchWidth()))
				return golden.Results{"hidden": hidden, "pooled": pooled}
			})
		})
	}
}

// A graph that is only planned has no weights to put together.
func TestVisionIsPlannedWithoutWeights(t *testing.T) {
	c := VisionConfig{HiddenSize: 8, IntermediateSize: 16, NumHiddenLayers: 2, NumAttentionHeads: 2, ImageSize: 8, PatchSize: 4, ProjectionDim: 4}
	m, err := NewVision(c, nn.NewLoader("image_encoder", nn.Random{ShapesOnly: true}))
	if err != nil {
		t.Fatal(err)
	}
	g := nn.Graph(m, 0, nn.Sizes{Rows: 2})
	if got := g.Out("pooled").Shape.String(); got != "2×4" {
		t.Errorf("pooled is %s", got)
	}
}

func TestEOS(t *testing.T) {
	for _, c := range []struct {
		eos  int
		ids  []int32
		want int
	}{
		{49407, []int32{49406, 5, 49407, 49407, 49407}, 2},
		{49407, []int32{49406, 5, 49407, 0, 0}, 2},
		{49407, []int32{49406, 49408, 49407, 0, 0}, 2},
		{2, []int32{49406, 49408, 49407, 0, 0}, 1}, // a word added later, taken for the end
		{2, []int32{49406, 5, 49407, 49407, 2}, 2},
		{49407, []int32{49406, 5, 6, 7, 8}, 0},
	} {
		if got := (TextConfig{EOSTokenID: c.eos}).EOS(c.ids); got != c.want {
			t.Errorf("eos_token_id %d, %v: token %d, want %d", c.eos, c.ids, got, c.want)
		}
	}
}

func TestVisionConfigRefusesWhatItCannotRun(t *testing.T) {
	for config, want := range map[string]string{
		`{"num_channels": 4}`:      "num_channels",
		`{"image_size": 225}`:      "image_size",
		`{"patch_size": 0}`:        "patch_size",
		`{"hidden_act": "relu"}`:   "relu",
		`{"model_type": "siglip"}`: "siglip",
		`{"some_new_key": 1}`:      "some_new_key",
	} {
		c, err := checkpoint.ParseConfig([]byte(config), "image_encoder/config.json")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadVisionConfig(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that names %s", config, err, want)
		}
	}
}
