package control

import (
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/internal/golden"
	"darkroom/nn"
	"darkroom/unet"
)

// Each operation rounds its result to float32, by at most 6·10⁻⁸ of it, after exact sums; the golden values are float64
// inside. Roundings add up as a random walk: two networks of 100 operations in a row are off by 14 of them, and the worst
// of some hundred values by two to three times as much.
const tolerance = 2e-6

func openUNet(t *testing.T, file *golden.File, name string) (*unet.Model, *golden.Network) {
	t.Helper()
	net := file.Network(t, name)
	c, err := unet.ReadConfig(net.Config)
	if err != nil {
		t.Fatal(err)
	}
	u, err := unet.New(c, net.Loader)
	if err != nil {
		t.Fatal(err)
	}
	return u, net
}

func openNet(t *testing.T, file *golden.File, name string) *Model {
	t.Helper()
	net := file.Network(t, name)
	c, err := ReadConfig(net.Config)
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(c, net.Loader)
	if err != nil {
		t.Fatal(err)
	}
	net.AllRead(t)
	return m
}

func TestControlledAgainstDiffusers(t *testing.T) {
	file := golden.Open(t, "testdata/control.safetensors")
	for _, name := range []string{"sd1", "xl"} {
		u, net := openUNet(t, file, name)
		first, second := openNet(t, file, name+"-net"), openNet(t, file, name+"-net2")
		for call, nets := range map[string][]Net{
			"one":   {{Model: first}},
			"two":   {{Model: first}, {Model: second}},
			"guess": {{Model: first, Guess: true}},
		} {
			t.Run(name+" "+call, func(t *testing.T) {
				c, err := On(u, nets...)
				if err != nil {
					t.Fatal(err)
				}
				at := net.Call(call)
				_, sample := at.Floats(t, "sample")
				_, text := at.Floats(t, "text")
				at.CheckNetwork(t, tolerance, c, nn.Sizes{Rows: sample[0], H: sample[1], W: sample[2], Tokens: text[1]})
			})
		}
	}
}

// An image prompt: its tokens, and the U-Net that reads them.
func TestImagePromptAgainstDiffusers(t *testing.T) {
	file := golden.Open(t, "testdata/control.safetensors")
	for _, name := range []string{"sd1", "xl"} {
		t.Run(name, func(t *testing.T) {
			u, net := openUNet(t, file, name)
			adapter := file.Network(t, name+"-ip")
			p, err := NewImageProjection(adapter.Source(), adapter.Loader.At("image_proj"), u.Config.CrossAttentionDim[0])
			if err != nil {
				t.Fatal(err)
			}
			adapter.Call("project").CheckNetwork(t, tolerance, p, nn.Sizes{Rows: 2})
			with, err := u.WithImage(adapter.Loader.At("ip_adapter"), p.Tokens())
			if err != nil {
				t.Fatal(err)
			}
			adapter.AllRead(t)
			for _, call := range []string{"image", "image-full"} {
				at := net.Call(call)
				_, sample := at.Floats(t, "sample")
				_, text := at.Floats(t, "text")
				at.CheckNetwork(t, tolerance, with, nn.Sizes{Rows: sample[0], H: sample[1], W: sample[2], Tokens: text[1]})
			}
			if _, err := NewImageProjection(adapter.Source(), adapter.Loader, 13); err == nil || !strings.Contains(err.Error(), "another kind") {
				t.Errorf("an adapter of another width: error %v", err)
			}
		})
	}
}

// T2I-Adapters: their features, and the U-Net that reads them.
func TestAdaptersAgainstDiffusers(t *testing.T) {
	file := golden.Open(t, "testdata/control.safetensors")
	for name, of := range map[string]string{"sd1-adapter": "sd1", "xl-adapter": "xl", "light": ""} {
		t.Run(name, func(t *testing.T) {
			net := file.Network(t, name)
			c, err := ReadAdapterConfig(net.Config)
			if err != nil {
				t.Fatal(err)
			}
			a, err := NewAdapter(c, net.Loader)
			if err != nil {
				t.Fatal(err)
			}
			net.AllRead(t)
			_, hint := net.Call("features").Floats(t, "hint")
			if hint[1]%c.Multiple() != 0 || hint[2]%c.Multiple() != 0 {
				t.Errorf("a hint of %v is accepted although its sides are not multiples of %d", hint, c.Multiple())
			}
			net.Call("features").CheckNetwork(t, tolerance, a, nn.Sizes{Rows: hint[0], H: hint[1], W: hint[2]})
			if of == "" {
				return
			}
			u, unetNet := openUNet(t, file, of)
			with, err := u.WithFeatures(c.Features())
			if err != nil {
				t.Fatal(err)
			}
			at := unetNet.Call("adapter")
			_, sample := at.Floats(t, "sample")
			_, text := at.Floats(t, "text")
			at.CheckNetwork(t, tolerance, with, nn.Sizes{Rows: sample[0], H: sample[1], W: sample[2], Tokens: text[1]})
			if _, err := u.WithFeatures(4); err == nil || !strings.Contains(err.Error(), "room for 3") {
				t.Errorf("4 features: error %v", err)
			}
		})
	}
}

// Tokens made of a picture's patches.
func TestResamplerAgainstDiffusers(t *testing.T) {
	net := golden.Open(t, "testdata/control.safetensors").Network(t, "plus")
	p, err := NewImageProjection(net.Source(), net.Loader.At("image_proj"), 12)
	if err != nil {
		t.Fatal(err)
	}
	net.AllRead(t)
	if p.Reads() != "hidden" || p.Tokens() != 3 {
		t.Errorf("it reads %q and makes %d tokens", p.Reads(), p.Tokens())
	}
	net.Call("project").CheckNetwork(t, tolerance, p, nn.Sizes{Rows: 2, Tokens: 6})
}

// A Union, which takes hints of several types.
func TestUnionAgainstDiffusers(t *testing.T) {
	file := golden.Open(t, "testdata/control.safetensors")
	u, net := openUNet(t, file, "xl")
	union := openNet(t, file, "xl-union")
	for call, types := range map[string][]int{"union-one": {2}, "union-two": {0, 3}} {
		t.Run(call, func(t *testing.T) {
			c, err := On(u, Net{Model: union, Types: types})
			if err != nil {
				t.Fatal(err)
			}
			at := net.Call(call)
			_, sample := at.Floats(t, "sample")
			_, text := at.Floats(t, "text")
			at.CheckNetwork(t, tolerance, c, nn.Sizes{Rows: sample[0], H: sample[1], W: sample[2], Tokens: text[1]})
			want, _ := at.Floats(t, "control_type")
			golden.Compare(t, "control_type", union.Config.TypesProj(types), want, tolerance)
		})
	}
	for _, types := range [][]int{nil, {4}, {-1}, {1, 1}} {
		if _, err := On(u, Net{Model: union, Types: types}); err == nil || !strings.Contains(err.Error(), "types") {
			t.Errorf("types %v: error %v", types, err)
		}
	}
}

// A net of another family is found before it is put on, and the error says what differs.
func TestOnRefusesOtherFamilies(t *testing.T) {
	file := golden.Open(t, "testdata/control.safetensors")
	u, _ := openUNet(t, file, "sd1")
	if _, err := On(u, Net{Model: openNet(t, file, "xl-net")}); err == nil || !strings.Contains(err.Error(), "layers_per_block") {
		t.Errorf("error %v", err)
	}
}

func TestConfigRefusesWhatItCannotRun(t *testing.T) {
	for config, want := range map[string]string{
		`{"conditioning_embedding_out_channels": []}`:        "conditioning_embedding_out_channels",
		`{"conditioning_channels": 0}`:                       "conditioning_channels",
		`{"controlnet_conditioning_channel_order": "grey"}`:  "controlnet_conditioning_channel_order",
		`{"num_control_type": 6}`:                            "addition_embed_type",
		`{"num_control_type": 0}`:                            "num_control_type",
		`{"num_control_type": 6, "num_trans_channel": 64}`:   "num_trans_channel",
		`{"num_control_type": 6, "num_trans_head": 7}`:       "num_trans_head",
		`{"norm_num_groups": 0}`:                             "norm_num_groups",
		`{"conditioning_embedding_out_channels": [16, "x"]}`: "conditioning_embedding_out_channels",
	} {
		c, err := checkpoint.ParseConfig([]byte(config), "controlnet/config.json")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadConfig(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that names %s", config, err, want)
		}
	}
}
