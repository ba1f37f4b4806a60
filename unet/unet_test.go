package unet

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/internal/golden"
	"darkroom/kernels"
	"darkroom/nn"
)

// Each operation rounds its result to float32, by at most 6·10⁻⁸ of it, after exact sums; the golden values are float64
// inside. Roundings add up as a random walk: a network of 100 operations in a row is off by 10 of them.
const tolerance = 1e-6

func open(t *testing.T, file, name string) (*Model, *golden.Network) {
	t.Helper()
	net := golden.Open(t, "testdata/"+file+".safetensors").Network(t, name)
	c, err := ReadConfig(net.Config)
	if err != nil {
		t.Fatal(err)
	}
	return build(t, c, net), net
}

func build(t *testing.T, c Config, net *golden.Network) *Model {
	t.Helper()
	m, err := New(c, net.Loader)
	if err != nil {
		t.Fatal(err)
	}
	net.AllRead(t)
	return m
}

func checkNetwork(t *testing.T, m *Model, net *golden.Network) {
	for _, call := range net.Calls() {
		c := net.Call(call)
		_, sample := c.Floats(t, "sample")
		_, text := c.Floats(t, "text")
		axes, _ := strings.CutPrefix(call, "wrap-")
		wrap := [2]bool{axes == "yx", axes == "yx" || axes == "x"}
		c.CheckNetwork(t, tolerance, m, nn.Sizes{Rows: sample[0], H: sample[1], W: sample[2], Tokens: text[1], Wrap: wrap})
	}
}

// One block of each kind, and the whole network at even and uneven sizes, against diffusers.
func TestBlocksAgainstDiffusers(t *testing.T) {
	for _, name := range golden.Open(t, "testdata/blocks.safetensors").Networks() {
		t.Run(name, func(t *testing.T) {
			m, net := open(t, "blocks", name)
			b := blockTest{t, net.Call("small"), m.Half.times, m.times}
			for i, d := range m.downBlocks {
				b.down(fmt.Sprint("down_blocks.", i), d)
			}
			b.middle("mid_block", m.midBlock)
			for i, u := range m.upBlocks {
				b.up(fmt.Sprint("up_blocks.", i), u)
			}
			checkNetwork(t, m, net)
		})
	}
}

type blockTest struct {
	t              *testing.T
	call           golden.Call
	times, upTimes *nn.Times
}

func (b blockTest) check(path string, write func(g *kernels.Graph, in *golden.Inputs) *kernels.Tensor) {
	b.t.Run(path, func(t *testing.T) {
		b.call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
			return golden.Results{path + "@out": write(g, in)}
		})
	})
}

// time is the time embedding that a block of diffusers reads: SiLU, which each applies to it, is done once here.
func (b blockTest) time(g *kernels.Graph, in *golden.Inputs, path string) nn.Time {
	times := b.times
	if strings.HasPrefix(path, "up_blocks") {
		times = b.upTimes
	}
	return times.Forward(g, in.Value(path+"@temb", silu))
}

func silu(v float32) float32 { return float32(float64(v) / (1 + math.Exp(-float64(v)))) }

func (b blockTest) text(in *golden.Inputs, path string) context {
	if !b.call.Has(path + "@encoder_hidden_states") {
		return context{}
	}
	return context{text: in.Value(path+"@encoder_hidden_states", nil)}
}

func (b blockTest) down(path string, d downBlock) {
	b.t.Run(path, func(t *testing.T) {
		b.call.Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
			var skips []*kernels.Tensor
			out := d.forward(g, in.Value(path+"@hidden_states", nil), b.time(g, in, path), b.text(in, path), func(x *kernels.Tensor) *kernels.Tensor { return x }, filmed{}, &skips, math.MaxInt)
			results := golden.Results{path + "@out": out}
			for i, s := range skips {
				results[fmt.Sprintf("%s@left%d", path, i)] = s
			}
			if b.call.Has(fmt.Sprintf("%s@left%d", path, len(skips))) {
				t.Errorf("%d skips: too few", len(skips))
			}
			return results
		})
	})
	b.resnets(path, d.resnets, nil)
	b.attentions(path, d.attentions)
	if d.downsampler != nil {
		path += ".downsamplers.0"
		b.check(path, func(g *kernels.Graph, in *golden.Inputs) *kernels.Tensor {
			return d.downsampler.Forward(g, in.Value(path+"@hidden_states", nil), nn.Conv{})
		})
	}
}

func (b blockTest) middle(path string, m *midBlock) {
	b.check(path, func(g *kernels.Graph, in *golden.Inputs) *kernels.Tensor {
		return m.forward(g, in.Value(path+"@hidden_states", nil), b.time(g, in, path), b.text(in, path), filmed{})
	})
	b.resnets(path, m.resnets, nil)
	if m.attention != nil {
		b.attentions(path, []transformer{*m.attention})
	}
}

func (b blockTest) up(path string, u upBlock) {
	var widths []int // of the skips, in the order in which the block takes them
	b.check(path, func(g *kernels.Graph, in *golden.Inputs) *kernels.Tensor {
		var skips []*kernels.Tensor
		if u.upsampler != nil { // what the next block will take tells the size
			_, shape := b.call.Floats(b.t, path+"@out")
			skips = append(skips, g.Input("next", g.DType, shape...))
		}
		for i := range u.resnets {
			skips = append(skips, in.Value(fmt.Sprintf("%s@skip%d", path, i), nil))
		}
		for i := range u.resnets {
			widths = append(widths, skips[len(skips)-1-i].Shape[3])
		}
		x := in.Value(path+"@hidden_states", nil)
		for i := range u.resnets {
			x = u.layer(g, i, x, b.time(g, in, path), b.text(in, path), filmed{}, &skips)
		}
		return x
	})
	b.resnets(path, u.resnets, widths)
	b.attentions(path, u.attentions)
	if u.upsampler != nil {
		path += ".upsamplers.0"
		b.check(path, func(g *kernels.Graph, in *golden.Inputs) *kernels.Tensor {
			_, shape := b.call.Floats(b.t, path+"@out")
			return u.upsampler.Forward(g, in.Value(path+"@hidden_states", nil), nn.Conv{Upsample: [2]int{shape[1], shape[2]}})
		})
	}
}

// resnets checks ResBlocks; skips are the widths of their second inputs, nil where there are none.
func (b blockTest) resnets(path string, resnets []nn.ResBlock, skips []int) {
	for i, r := range resnets {
		path := fmt.Sprint(path, ".resnets.", i)
		b.check(path, func(g *kernels.Graph, in *golden.Inputs) *kernels.Tensor {
			if skips == nil {
				return r.Forward(g, in.Value(path+"@input_tensor", nil), nil, b.time(g, in, path))
			}
			_, shape := b.call.Floats(b.t, path+"@input_tensor")
			both := shape[3]
			x, skip := in.Part(path+"@input_tensor", 0, both-skips[i]), in.Part(path+"@input_tensor", both-skips[i], both)
			return r.Forward(g, x, skip, b.time(g, in, path))
		})
	}
}

func (b blockTest) attentions(path string, attentions []transformer) {
	for i, a := range attentions {
		path := fmt.Sprint(path, ".attentions.", i)
		b.check(path, func(g *kernels.Graph, in *golden.Inputs) *kernels.Tensor {
			return a.forward(g, in.Value(path+"@hidden_states", nil), b.text(in, path))
		})
		for k, block := range a.blocks {
			path := fmt.Sprint(path, ".transformer_blocks.", k)
			b.check(path, func(g *kernels.Graph, in *golden.Inputs) *kernels.Tensor {
				return block.forward(g, in.Value(path+"@hidden_states", nil), b.text(in, path), nil)
			})
			for name, attn := range map[string]nn.Attention{".attn1": bareAttention(block.attn1), ".attn2": bareAttention(block.attn2)} {
				path := path + name
				b.check(path, func(g *kernels.Graph, in *golden.Inputs) *kernels.Tensor {
					return attn.Forward(g, in.Value(path+"@hidden_states", nil), b.text(in, path).text, nil)
				})
			}
			path += ".ff"
			b.check(path, func(g *kernels.Graph, in *golden.Inputs) *kernels.Tensor {
				h := bare(block.ff[0]).Forward(g, in.Value(path+"@hidden_states", nil), kernels.GEGLU, nil)
				return block.ff[1].Forward(g, h, kernels.Identity, nil)
			})
		}
	}
}

// bare is a layer without the norm that the block has put before it.
func bare(y nn.Linear) nn.Linear {
	w := *y.Weight
	w.Norm = nil
	y.Weight = &w
	return y
}

func bareAttention(a nn.Attention) nn.Attention {
	if a.ToQKV == nil {
		a.ToQ = bare(a.ToQ)
		return a
	}
	all := bare(*a.ToQKV)
	a.ToQKV = &all
	return a
}

// Every structure that a config.json can describe besides.
func TestVariantsAgainstDiffusers(t *testing.T) {
	for _, name := range golden.Open(t, "testdata/variants.safetensors").Networks() {
		t.Run(name, func(t *testing.T) {
			net := golden.Open(t, "testdata/variants.safetensors").Network(t, name)
			c, err := ReadConfig(net.Config)
			if err != nil {
				t.Fatal(err)
			}
			if name == "refiner" {
				c.TimeIDs = 5
			}
			checkNetwork(t, build(t, c, net), net)
		})
	}
}

// What the host computes of numbers: timesteps, sizes, guidance.
func TestSinusoidsAgainstDiffusers(t *testing.T) {
	check := func(name, from, to string, proj func(c Config, v []float64) []float32) {
		t.Run(name+" "+to, func(t *testing.T) {
			m, net := open(t, "variants", name)
			call := net.Call("one")
			numbers, shape := call.Floats(t, from)
			want, _ := call.Floats(t, to)
			var got []float32
			for row := range slices.Chunk(numbers, len(numbers)/shape[0]) {
				var v []float64
				for _, x := range row {
					v = append(v, float64(x))
				}
				got = append(got, proj(m.Config, v)...)
			}
			if len(got) != len(want) {
				t.Fatalf("%d numbers, want %d", len(got), len(want))
			}
			for i := range got {
				// Angles are float32 of up to some thousands: rounded by 1.2e-4.
				if d := math.Abs(float64(got[i] - want[i])); !(d < 1.5e-4) {
					t.Errorf("number %d is %v, want %v", i, got[i], want[i])
				}
			}
		})
	}
	check("xl", "timestep", "time", func(c Config, v []float64) []float32 { return c.TimeProj(v[0]) })
	check("xl", "ids", "time_ids", Config.TimeIDsProj)
	check("lcm", "cfg", "guidance", func(c Config, v []float64) []float32 { return c.GuidanceProj(v[0]) })
}

func TestConfigRefusesWhatItCannotRun(t *testing.T) {
	for config, want := range map[string]string{
		`{"mid_block_scale_factor": 2}`:                                        "mid_block_scale_factor",
		`{"resnet_time_scale_shift": "scale_shift"}`:                           "resnet_time_scale_shift",
		`{"encoder_hid_dim": 1024}`:                                            "encoder_hid_dim",
		`{"norm_num_groups": 0}`:                                               "norm_num_groups",
		`{"down_block_types": "AttnDownBlock2D"}`:                              "AttnDownBlock2D",
		`{"cross_attention_dim": [320, 640, 1280, 1280]}`:                      "cross_attention_dim",
		`{"conv_in_kernel": 4}`:                                                "conv_in_kernel",
		`{"block_out_channels": [321, 640, 1280, 1280]}`:                       "block_out_channels",
		`{"attention_type": "gated"}`:                                          "attention_type",
		`{"only_cross_attention": [true, false]}`:                              "only_cross_attention",
		`{"time_embedding_type": "fourier"}`:                                   "time_embedding_type",
		`{"some_new_key": 3}`:                                                  "some_new_key",
		`{"transformer_layers_per_block": [1, 2, 10, -1]}`:                     "transformer_layers_per_block",
		`{"layers_per_block": -1}`:                                             "layers_per_block",
		`{"transformer_layers_per_block": [1, 2, 3, [4, 5]]}`:                  "reverse_transformer_layers_per_block",
		`{"reverse_transformer_layers_per_block": [1, 2, 3]}`:                  "reverse_transformer_layers_per_block",
		`{"addition_embed_type": "image"}`:                                     "addition_embed_type",
		`{"addition_embed_type": "text_time", "addition_time_embed_dim": 256}`: "projection_class_embeddings_input_dim",
		`{"addition_embed_type": "text_time"}`:                                 "addition_time_embed_dim",
		`{"class_embed_type": "projection"}`:                                   "projection_class_embeddings_input_dim",
		`{"num_class_embeds": -4}`:                                             "num_class_embeds",
		`{"time_cond_proj_dim": -1}`:                                           "time_cond_proj_dim",
		`{"time_embedding_act_fn": "silu"}`:                                    "time_embedding_act_fn",
	} {
		c, err := checkpoint.ParseConfig([]byte(config), "unet/config.json")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadConfig(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that names %s", config, err, want)
		}
	}
}
