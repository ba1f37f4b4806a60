package checkpoint

import "regexp"

// xlabsName is an array of a LoRA by XLabs' trainer for FLUX.1 (x-flux): double_blocks.0.processor.qkv_lora1.down.weight.
var xlabsName = regexp.MustCompile(`^(?:diffusion_model\.)?((?:double|single)_blocks\.\d+)\.processor\.((?:qkv|proj)_lora[12]?)\.(down|up)\.weight$`)

// xlabsLayers are the layers in Black Forest Labs' names: 1 is the picture's stream, 2 the text's. Of the blocks with one stream,
// qkv_lora changes a part of linear1 that has no name, so it is not here.
var xlabsLayers = map[string]string{
	"qkv_lora1": "img_attn.qkv", "proj_lora1": "img_attn.proj", "qkv_lora2": "txt_attn.qkv", "proj_lora2": "txt_attn.proj",
	"proj_lora": "linear2",
}

// xlabsPart is the layer and the part that such an array belongs to; "" if it is none.
func xlabsPart(name string) (base, part string) {
	m := xlabsName.FindStringSubmatch(name)
	if m == nil {
		return "", ""
	}
	layer, known := xlabsLayers[m[2]]
	if !known {
		layer = "processor." + m[2] // which a warning names
	}
	return m[1] + "." + layer, m[3]
}
