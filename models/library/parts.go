package library

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"darkroom/machine"
	"darkroom/similar"
)

// Kind is what is used beside a model, with the folders that it lies in: this program's, AUTOMATIC1111's and ComfyUI's.
type Kind struct {
	Name    string // "lora"
	Plural  string
	folders []string
}

var (
	LoRAs      = Kind{"lora", "loras", []string{"loras", "Lora", "lora", "LyCORIS"}}
	Embeddings = Kind{"embedding", "embeddings", []string{"embeddings", "../embeddings"}}
	VAEs       = Kind{"vae", "autoencoders", []string{"vae", "VAE"}}
	TextModels = Kind{"text-encoder", "text encoders", []string{"text_encoders", "clip"}}
	Upscalers  = Kind{"upscaler", "upscalers", []string{"upscale_models", "ESRGAN", "RealESRGAN"}}
	Judges     = Kind{"judge", "judges", []string{"judges"}}
	Controls   = Kind{"control", "control networks", []string{"controlnet", "ControlNet", "ipadapter", "ip-adapter", "t2i_adapter", "T2IAdapter", "../extensions/sd-webui-controlnet/models"}}
	Motions    = Kind{"motion", "motion modules", []string{"animatediff_models", "AnimateDiff", "../custom_nodes/ComfyUI-AnimateDiff-Evolved/models", "../extensions/sd-webui-animatediff/model"}}
	Visions    = Kind{"vision", "image encoders", []string{"clip_vision"}}
	models     = Kind{"model", "models", []string{".", "checkpoints", "Stable-diffusion", "diffusers", "diffusion_models", "unet"}}
)

// Folders are the names of the folders that files of the kind lie in, this program's own first.
func (k Kind) Folders() []string { return k.folders }

// Kinds lists what is used beside a model.
func Kinds() []Kind {
	return []Kind{LoRAs, Embeddings, VAEs, TextModels, Upscalers, Judges, Controls, Motions, Visions}
}

// Place is the folder of root for one kind of files: of those names the first that is there below it, or else the first.
func Place(root string, names []string) string {
	for _, name := range names {
		if !filepath.IsLocal(name) {
			continue // where files are found, and none are put
		}
		if st, err := os.Stat(filepath.Join(root, name)); err == nil && st.IsDir() {
			return filepath.Join(root, name)
		}
	}
	return filepath.Join(root, names[0])
}

// weightFiles are the endings of files of weights. What a file is, its content says.
var weightFiles = []string{".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf"}

// Parts are the paths of all files of a kind in the folders of models, subfolders included; of one name, the first. Folders may be
// links: many keep their weights on another disk.
func Parts(k Kind) []string {
	var paths []string
	seen := map[string]bool{}
	add := func(path, name string) {
		if !seen[name] {
			seen[name] = true
			paths = append(paths, path)
		}
	}
	for _, root := range machine.ModelFolders() {
		for _, folder := range k.folders {
			walk(filepath.Join(root, folder), func(path string, isDir bool) (enter bool) {
				switch ext := strings.ToLower(filepath.Ext(path)); {
				case isDir && (folder == "." || strings.HasPrefix(filepath.Base(path), ".")):
					return false // of the root its own files only
				case isDir && (isNetwork(path) || k.Name == models.Name && isModel(path)):
					add(path, filepath.Base(path))
					return false
				case !isDir && slices.Contains(weightFiles, ext):
					add(path, PartName(path))
				}
				return true
			})
		}
	}
	return paths
}

// walk visits what is in a folder, in the order of names, and in those of its folders for which visit says so. It follows links, but
// enters no folder twice: links may lead in circles.
func walk(folder string, visit func(path string, isDir bool) (enter bool)) {
	entered := map[string]bool{}
	var enter func(folder string)
	enter = func(folder string) {
		real, err := filepath.EvalSymlinks(folder)
		if err != nil || entered[real] {
			return
		}
		entered[real] = true
		entries, _ := os.ReadDir(folder) // what cannot be read has no models
		for _, e := range entries {
			path := filepath.Join(folder, e.Name())
			isDir := e.IsDir()
			if e.Type()&fs.ModeSymlink != 0 {
				target, err := os.Stat(path)
				if err != nil {
					continue // it leads nowhere
				}
				isDir = target.IsDir()
			}
			if visit(path, isDir) && isDir {
				enter(path)
			}
		}
	}
	enter(folder)
}

// isModel says whether a folder is a whole model in the diffusers layout.
func isModel(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "model_index.json"))
	return err == nil
}

// isNetwork says whether a folder is one network by itself, as diffusers and transformers write it.
func isNetwork(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "config.json"))
	return err == nil
}

// adapterFiles are the names that PEFT and diffusers give the file of every adapter, each in a folder of its own.
var adapterFiles = []string{"adapter_model", "pytorch_lora_weights"}

// PartName is what a file is called by: its name without folder and ending. A folder has no ending. Adapters whose files have the
// same name everywhere are called by their folder.
func PartName(path string) string {
	if !slices.Contains(weightFiles, strings.ToLower(filepath.Ext(path))) {
		return filepath.Base(path)
	}
	if parent := filepath.Base(filepath.Dir(path)); slices.Contains(adapterFiles, stem(path)) && len(parent) > 1 && parent != ".." && !slices.Contains(LoRAs.folders, parent) {
		return parent
	}
	return stem(path)
}

func stem(path string) string { return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)) }

// FindPart turns a path or a name into the path of a file of that kind. Upper and lower case of names are one. A folder as PEFT and
// diffusers write it stands for the adapter in it.
func FindPart(k Kind, name string) (string, error) {
	st, err := os.Stat(name)
	if err == nil && st.IsDir() && k.Name == LoRAs.Name {
		for _, file := range adapterFiles {
			for _, ending := range weightFiles {
				path := filepath.Join(name, file+ending)
				if _, err := os.Stat(path); err == nil {
					return path, nil
				}
			}
		}
	}
	if err == nil {
		return name, nil
	}
	return NamedPart(k, name)
}

// NamedPart is FindPart for names alone: it takes no paths, and is for names that others send.
func NamedPart(k Kind, name string) (string, error) {
	all := Parts(k)
	for _, same := range []func(path string) bool{
		func(p string) bool { return PartName(p) == name || filepath.Base(p) == name },
		func(p string) bool {
			return strings.EqualFold(PartName(p), name) || strings.EqualFold(filepath.Base(p), name) || strings.EqualFold(stem(p), name)
		},
	} {
		if i := slices.IndexFunc(all, same); i >= 0 {
			return all[i], nil
		}
	}
	var names []string
	for _, p := range all {
		names = append(names, PartName(p))
	}
	return "", fmt.Errorf("there is no such file, and no %s of that name in the folder %s of %s%s",
		k.Name, k.folders[0], strings.Join(machine.ModelFolders(), ", "), similar.Hint(name, names))
}
