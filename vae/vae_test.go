package vae

import (
	"fmt"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/internal/golden"
	"darkroom/kernels"
	"darkroom/nn"
)

// Each operation rounds its result to float32, by at most 6·10⁻⁸ of it, after exact sums; the golden values are float64
// inside. Roundings add up as a random walk: a network of 50 operations in a row is off by 7 of them.
const tolerance = 1e-6

func TestAutoencoderAgainstDiffusers(t *testing.T) {
	file := golden.Open(t, "testdata/vae.safetensors")
	for _, name := range []string{"sd", "wide"} {
		t.Run(name, func(t *testing.T) {
			net := file.Network(t, name)
			c, err := ReadConfig(net.Config)
			if err != nil {
				t.Fatal(err)
			}
			d, err := NewDecoder(c, net.Loader)
			if err != nil {
				t.Fatal(err)
			}
			e, err := NewEncoder(c, net.Loader)
			if err != nil {
				t.Fatal(err)
			}
			net.AllRead(t)
			b := blockTest{t, net.Call("decode-small")}
			b.middle("decoder.mid_block", d.midBlock)
			for i, s := range d.upBlocks {
				b.stage(fmt.Sprint("decoder.up_blocks.", i), s, ".upsamplers.0")
			}
			b.call = net.Call("encode-small")
			b.middle("encoder.mid_block", e.midBlock)
			for i, s := range e.downBlocks {
				b.stage(fmt.Sprint("encoder.down_blocks.", i), s, ".downsamplers.0")
			}
			if name == "sd" {
				_, z := net.Call("decode-wrap").Floats(t, "latent")
				net.Call("decode-wrap").CheckNetwork(t, tolerance, d, nn.Sizes{Rows: z[0], H: z[1], W: z[2], Wrap: [2]bool{true, false}})
			}
			for _, call := range []string{"small", "two"} {
				for what, part := range map[[2]string]nn.Network{{"decode-", "latent"}: d, {"encode-", "image"}: e} {
					c := net.Call(what[0] + call)
					_, in := c.Floats(t, what[1])
					c.CheckNetwork(t, tolerance, part, nn.Sizes{Rows: in[0], H: in[1], W: in[2]})
				}

			}
		})
	}
}

func TestTinyAgainstDiffusers(t *testing.T) {
	file := golden.Open(t, "testdata/vae.safetensors")
	for _, name := range []string{"tiny", "tiny-wide"} {
		t.Run(name, func(t *testing.T) {
			net := file.Network(t, name)
			c, err := ReadTinyConfig(net.Config)
			if err != nil {
				t.Fatal(err)
			}
			d, err := NewTinyDecoder(c, net.Loader)
			if err != nil {
				t.Fatal(err)
			}
			e, err := NewTinyEncoder(c, net.Loader)
			if err != nil {
				t.Fatal(err)
			}
			net.AllRead(t)
			_, z := net.Call("decode").Floats(t, "latent")
			net.Call("decode").CheckNetwork(t, tolerance, d, nn.Sizes{Rows: z[0], H: z[1], W: z[2]})
			_, x := net.Call("encode").Floats(t, "image")
			net.Call("encode").CheckNetwork(t, tolerance, e, nn.Sizes{Rows: x[0], H: x[1], W: x[2]})
		})
	}
}

func TestTinyConfigRefusesWhatItCannotRun(t *testing.T) {
	for config, want := range map[string]string{
		`{"act_fn": "silu"}`:                               "act_fn",
		`{"num_decoder_blocks": [1, 1]}`:                   "num_decoder_blocks",
		`{"decoder_block_out_channels": [64, 64, 64, 32]}`: "decoder_block_out_channels",
		`{"num_encoder_blocks": []}`:                       "num_encoder_blocks",
		`{"latent_channels": 0}`:                           "latent_channels",
		`{"upsampling_scaling_factor": 3}`:                 "upsampling_scaling_factor",
		`{"scaling_factor": 0}`:                            "scaling_factor",
		`{"some_new_key": 1}`:                              "some_new_key",
	} {
		c, err := checkpoint.ParseConfig([]byte(config), "vae/config.json")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadTinyConfig(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that names %s", config, err, want)
		}
	}
}

type blockTest struct {
	t    *testing.T
	call golden.Call
}

func (b blockTest) check(path, input string, forward func(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor) {
	b.t.Run(path, func(t *testing.T) {
		b.call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
			return golden.Results{path + "@out": forward(g, in.Value(path+input, nil))}
		})
	})
}

func (b blockTest) resnets(path string, resnets []nn.ResBlock) {
	for i, r := range resnets {
		b.check(fmt.Sprint(path, ".resnets.", i), "@input_tensor", func(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
			return r.Forward(g, x, nil, nn.Time{})
		})
	}
}

func (b blockTest) middle(path string, m midBlock) {
	b.check(path, "@hidden_states", m.forward)
	b.resnets(path, m.resnets[:])
	if m.attention != nil {
		b.check(path+".attentions.0", "@hidden_states", m.attend)
	}
}

// stage checks a block of one resolution, from its ResBlocks to its change of size.
func (b blockTest) stage(path string, s stage, resize string) {
	b.check(path, "@hidden_states", s.forward)
	b.resnets(path, s.resnets)
	if s.resize != nil {
		b.check(path+resize, "@hidden_states", s.resized)
	}
}
