// Package defaultmodel embeds the small model that Darkroom draws with until the user brings another:
// what it is made from and what it can draw is in README.md beside this file.
package defaultmodel

import (
	"embed"
	"io/fs"

	"darkroom/checkpoint"
)

// The weights are strings, which stay where the operating system mapped the program: nothing is
// copied at start.
var (
	//go:embed text_encoder/model.safetensors
	textEncoder string
	//go:embed unet/diffusion_pytorch_model.safetensors
	unet string
	//go:embed vae/diffusion_pytorch_model.safetensors
	vae string

	//go:embed *.json */*.json tokenizer
	small embed.FS
)

// Name is what --model and recipes call it.
const Name = "default"

// Folder is the embedded model in the diffusers layout.
func Folder() (*checkpoint.Folder, error) {
	files := checkpoint.Embedded{
		"text_encoder/model.safetensors":           textEncoder,
		"unet/diffusion_pytorch_model.safetensors": unet,
		"vae/diffusion_pytorch_model.safetensors":  vae,
	}
	err := fs.WalkDir(small, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := small.ReadFile(name)
		files[name] = string(text)
		return err
	})
	return checkpoint.FromFS(files, Name), err
}
