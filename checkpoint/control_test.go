package checkpoint

import (
	"strings"
	"testing"

	"darkroom/tensor"
)

// Whatever the names are, a control network gets names of diffusers or an error, never a crash; and so does one that is
// completed from a base model.
func FuzzControlNames(f *testing.F) {
	for _, s := range []string{
		"zero_convs.0.0.weight input_hint_block.0.weight input_hint_block.2.weight input_blocks.0.0.weight middle_block_out.0.weight",
		"lora_controlnet input_blocks.0.0.up input_blocks.0.0.down zero_convs.0.0.weight input_blocks.1.0.in_layers.0.weight",
		"difference control_model.zero_convs.0.0.weight control_model.input_blocks.0.0.weight",
		"body.0.block1.weight body.1.block1.weight body.0.in_conv.weight conv_in.weight",
		"adapter.body.0.resnets.0.block1.weight", "body.0.body.0.block1.weight body.0.in_conv.weight", "image_proj_model.proj.weight ip_adapter.1.to_k_ip.weight",
		"input_hint_block.x.weight zero_convs.0.0.weight", "input_hint_block.1.weight zero_convs.0.0.weight zero_convs.",
	} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(3))
	}
	base := table{}
	for _, name := range []string{"conv_in.weight", "down_blocks.0.resnets.0.norm1.weight", "mid_block.attentions.0.norm.weight"} {
		base[name] = tensor.Stored(tensor.Tensor{DType: tensor.F32, Shape: tensor.Shape{2, 2}, Data: make([]byte, 16)})
	}
	shapes := []tensor.Shape{{2, 2}, {2, 2, 1, 1}, {}, {0}, {4}, {2, 0}}
	f.Fuzz(func(t *testing.T, text string, shape uint8) {
		all := table{}
		for i, name := range strings.Fields(text) {
			s := shapes[(i+int(shape))%len(shapes)]
			all[name] = tensor.Stored(tensor.Tensor{DType: tensor.F32, Shape: s, Data: make([]byte, 4*s.Len())})
		}
		c, err := controlOf(all, Describe(&Source{contents: contents{arrays: all}}))
		if err != nil || c.Over(base) != nil {
			return
		}
		for _, name := range c.Weights.Names() {
			a, ok := c.Weights.Array(name)
			if !ok || a == nil {
				t.Fatalf("%q: %s is listed and not there", text, name)
			}
			_ = a.Decode(make([]float32, a.Shape().Len()), 0)
		}
	})
}

// A file of something else is told for what it is.
func TestControlRefusesOthers(t *testing.T) {
	for path, want := range map[string]string{
		"testdata/adapters/kohya-sdxl.safetensors": "give it with --lora",
		"testdata/kinds.json.gz":                   "gzip",
		"testdata/none":                            "no such file",
		"testdata":                                 "a folder without config.json",
	} {
		if _, err := OpenControl(path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", path, err, want)
		}
	}
}
