package control

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"darkroom/checkpoint"
	"darkroom/config"
	"darkroom/nn"
	"darkroom/tensor"
	"darkroom/unet"
)

// published are the networks of real sizes, by the names that their files have.
type published struct {
	UNets map[string]json.RawMessage
	Nets  map[string]struct {
		UNet, Kind string
		Arrays     map[string]tensor.Shape
		Config     json.RawMessage
	}
}

func readPublished(t *testing.T) (all published) {
	t.Helper()
	f, err := os.Open("testdata/shapes.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// sparse writes a safetensors file of zeros, which takes no room on the disk.
func sparse(t *testing.T, path string, arrays map[string]tensor.Shape) {
	t.Helper()
	type entry struct {
		DType   string       `json:"dtype"`
		Shape   tensor.Shape `json:"shape"`
		Offsets [2]int       `json:"data_offsets"`
	}
	header, at := map[string]entry{}, 0
	for name, s := range arrays {
		end := at + 2*s.Len()
		header[name] = entry{"F16", s, [2]int{at, end}}
		at = end
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := binary.Write(f, binary.LittleEndian, uint64(len(text))); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(8 + len(text) + at)); err != nil {
		t.Fatal(err)
	}
}

// Files of the published networks, of their sizes and with the names that they have, are opened by their content and fit their
// U-Nets; what is derived from shapes is what diffusers' config.json says.
func TestPublishedNetworks(t *testing.T) {
	all := readPublished(t)
	units := map[string]*unet.Model{}
	for name, text := range all.UNets {
		raw, err := config.Parse(text, name)
		if err != nil {
			t.Fatal(err)
		}
		c, err := unet.ReadConfig(raw)
		if err != nil {
			t.Fatal(err)
		}
		if units[name], err = unet.New(c, nn.NewLoader("unet", nn.Random{ShapesOnly: true})); err != nil {
			t.Fatal(err)
		}
	}
	if len(all.Nets) < 16 {
		t.Errorf("only %d networks", len(all.Nets))
	}
	families := map[string]string{"sd1": "Stable Diffusion 1", "sd2": "Stable Diffusion 2", "xl": "SDXL"}
	for name, net := range all.Nets {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "net.safetensors")
			sparse(t, path, net.Arrays)
			f, err := checkpoint.OpenControl(path, "")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if want := families[net.UNet]; string(f.Kind) != net.Kind || f.Family != want && !(f.Kind == checkpoint.KindT2IAdapter && f.Family == "" && net.UNet == "sd1") {
				t.Errorf("it is %s for %q, want %s for %s", f.Kind, f.Family, net.Kind, want)
			}
			u, l := units[net.UNet], nn.NewLoader("control", f.Weights)
			size := nn.Sizes{Rows: 1, H: 64, W: 64, Tokens: 77}
			switch f.Kind {
			case checkpoint.KindControlNet:
				c, err := ConfigOf(f.Weights, u.Config)
				if err != nil {
					t.Fatal(err)
				}
				m, err := New(c, l)
				if err != nil {
					t.Fatal(err)
				}
				var types []int
				if c.Types > 0 {
					types = []int{3}
				}
				whole, err := On(u, Net{Model: m, Types: types})
				if err != nil {
					t.Fatal(err)
				}
				nn.Graph(whole, tensor.F32, size)
				sameConfig(t, c, net.Config)
			case checkpoint.KindT2IAdapter:
				c, err := AdapterConfigOf(f.Weights)
				if err != nil {
					t.Fatal(err)
				}
				a, err := NewAdapter(c, l)
				if err != nil {
					t.Fatal(err)
				}
				with, err := u.WithFeatures(c.Features())
				if err != nil {
					t.Fatal(err)
				}
				gives, takes := nn.Graph(a, tensor.F32, nn.Sizes{Rows: 1, H: 512, W: 512}), nn.Graph(with, tensor.F32, size)
				for i := range c.Features() {
					if g, k := gives.Out(unet.FeatureName(i)).Shape, takes.In(unet.FeatureName(i)).Shape; !g.Equal(k) {
						t.Errorf("feature %d is %v, the U-Net takes %v", i, g, k)
					}
				}
			case checkpoint.KindIPAdapter:
				p, err := NewImageProjection(f.Weights, l.At("image_proj"), u.Config.CrossAttentionDim[0])
				if err != nil {
					t.Fatal(err)
				}
				with, err := u.WithImage(l.At("ip_adapter"), p.Tokens())
				if err != nil {
					t.Fatal(err)
				}
				nn.Graph(with, tensor.F32, size)
				nn.Graph(p, tensor.F32, nn.Sizes{Rows: 1, Tokens: 257})
			}
			if rest := l.Unused(f.Weights.Names()); len(rest) > 0 {
				t.Errorf("%d arrays are not read, such as %s", len(rest), rest[0])
			}
		})
	}
}

// sameConfig compares what shapes say with a config.json.
func sameConfig(t *testing.T, got Config, text json.RawMessage) {
	t.Helper()
	raw, err := config.Parse(text, "config.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := ReadConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.HintWidths, want.HintWidths) || got.HintChannels != want.HintChannels || got.Types != want.Types || got.UnionLayers != want.UnionLayers ||
		!slices.Equal(got.BlockOutChannels, want.BlockOutChannels) || !slices.Equal(got.DownBlockTypes, want.DownBlockTypes) || got.MidBlockType != want.MidBlockType ||
		!slices.Equal(got.AttentionHeads, want.AttentionHeads) || got.AddedDim != want.AddedDim || got.AddedTimeDim != want.AddedTimeDim ||
		got.FlipSinToCos != want.FlipSinToCos || got.NormNumGroups != want.NormNumGroups || got.DownsamplePadding != want.DownsamplePadding {
		t.Errorf("shapes say\n%+v\nconfig.json\n%+v", got, want)
	}
	for i, kind := range want.DownBlockTypes {
		if kind == "CrossAttnDownBlock2D" && !slices.Equal(got.DownTransformerLayers[i], want.DownTransformerLayers[i]) {
			t.Errorf("level %d has transformers of %v, config.json says %v", i, got.DownTransformerLayers[i], want.DownTransformerLayers[i])
		}
	}
	if want.MidBlockType == "UNetMidBlock2DCrossAttn" && got.MidTransformerLayers != want.MidTransformerLayers {
		t.Errorf("the middle has %d blocks, config.json says %d", got.MidTransformerLayers, want.MidTransformerLayers)
	}
}

// drawn are arrays of shapes without values.
type drawn map[string]tensor.Shape

func (d drawn) Names() (names []string) {
	for n := range d {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (d drawn) Array(name string) (tensor.Array, bool) {
	s, ok := d[name]
	return tensor.Stored(tensor.Tensor{DType: tensor.F16, Shape: s}), ok
}

// FuzzShapes: whatever a file's arrays look like, there is a network or an error, never a crash.
func FuzzShapes(f *testing.F) {
	nets := map[string]drawn{
		"net": {"conv_in.weight": {8, 4, 3, 3}, "controlnet_cond_embedding.conv_in.weight": {4, 3, 3, 3}, "controlnet_cond_embedding.blocks.0.weight": {4, 4, 3, 3},
			"controlnet_cond_embedding.blocks.1.weight": {6, 4, 3, 3}, "down_blocks.0.resnets.0.conv1.weight": {8, 8, 3, 3}, "down_blocks.0.attentions.0.norm.weight": {8},
			"down_blocks.0.attentions.0.transformer_blocks.0.norm1.weight": {8}, "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": {8, 12},
			"mid_block.resnets.0.conv1.weight": {8, 8, 3, 3}, "task_embedding": {4, 8}, "add_embedding.linear_1.weight": {32, 58}},
		"adapter": {"adapter.conv_in.weight": {8, 192, 3, 3}, "adapter.body.0.resnets.0.block1.weight": {8, 8, 3, 3}, "adapter.body.1.resnets.0.block1.weight": {16, 16, 3, 3}},
		"light":   {"adapter.body.0.in_conv.weight": {4, 192, 1, 1}, "adapter.body.0.resnets.0.block1.weight": {4, 4, 3, 3}, "adapter.body.0.out_conv.weight": {16, 4, 1, 1}},
		"prompt":  {"image_proj.proj.weight": {48, 14}, "image_proj.latents": {1, 3, 10}, "image_proj.layers.0.0.to_q.weight": {64, 10}},
	}
	for name := range nets {
		f.Add(name, uint8(0), uint8(0), 8, "")
		f.Add(name, uint8(1), uint8(1), 0, "down_blocks.1.resnets.0.conv1.weight")
		f.Add(name, uint8(2), uint8(0), -1, "adapter.body.2.resnets.0.block1.weight")
	}
	u := unet.Config{
		InChannels: 4, OutChannels: 4, BlockOutChannels: []int{8}, DownBlockTypes: []string{"CrossAttnDownBlock2D"}, UpBlockTypes: []string{"CrossAttnUpBlock2D"},
		LayersPerBlock: []int{1}, AttentionHeads: []int{2}, CrossAttentionDim: []int{12}, OnlyCrossAttention: []bool{false}, NormNumGroups: 4, ConvInKernel: 3, ConvOutKernel: 3,
		DownTransformerLayers: [][]int{{1}}, UpTransformerLayers: [][]int{{1, 1}}, FlipSinToCos: true, AddedTimeDim: 8, AddedDim: 58, TimeIDs: 6,
	}
	f.Fuzz(func(t *testing.T, name string, which, axis uint8, length int, extra string) {
		arrays := drawn{}
		for n, s := range nets[name] {
			arrays[n] = slices.Clone(s)
		}
		if len(arrays) == 0 || length < 0 || length > 1<<20 {
			return
		}
		names := arrays.Names()
		if s := arrays[names[int(which)%len(names)]]; int(axis) < len(s) {
			s[axis] = length
		} else {
			delete(arrays, names[int(which)%len(names)])
		}
		if extra != "" {
			arrays[extra] = tensor.Shape{length, 8, 3, 3}
		}
		if c, err := ConfigOf(arrays, u); err == nil && c.Fits(u) == nil {
			_, _ = New(c, nn.NewLoader("control", arrays))
		}
		if c, err := AdapterConfigOf(arrays); err == nil {
			if c.Multiple() < 1 {
				t.Errorf("hints of multiples of %d: %+v", c.Multiple(), c)
			}
			_, _ = NewAdapter(c, nn.NewLoader("control", arrays))
		}
		_, _ = NewImageProjection(arrays, nn.NewLoader("control", arrays).At("image_proj"), 12)
	})
}
