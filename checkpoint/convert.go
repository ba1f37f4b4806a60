package checkpoint

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"darkroom/atomicfile"
)

// Export is an open model that is written in another layout.
type Export struct {
	Folder *Folder
	Parts  map[string]Weights // what is written: the folder's own, or with adapters over them
	Type   string             // "F16", "BF16", "F32"; "": as they are
	Files  map[string]string  // further files by name, such as "tokenizer/vocab.json"
}

// partOrder is that of the data.
var partOrder = []string{"text_encoder", "text_encoder_2", "text_encoder_3", "unet", "transformer", "vae"}

// OpenParts opens the weights of all parts that the index names and this program knows.
func OpenParts(f *Folder) (map[string]*Set, error) {
	index, err := f.Index()
	if err != nil {
		return nil, err
	}
	sets := map[string]*Set{}
	lacks := f.Lacks()
	for _, part := range partOrder {
		if c, ok := index.Components[part]; !ok || c.Class == "" || slices.Contains(lacks, part) {
			continue
		}
		s, err := f.Weights(part)
		if err != nil {
			for _, other := range sets {
				err = errors.Join(err, other.Close())
			}
			return nil, err
		}
		sets[part] = s
	}
	return sets, nil
}

// FamilyOf tells the family of a model's U-Net or transformer.
func FamilyOf(parts map[string]Weights) (Family, error) {
	whole := func(w Weights) table {
		t := table{}
		if w != nil {
			for _, name := range w.Names() {
				t[name], _ = w.Array(name)
			}
		}
		return t
	}
	p := &modelParts{unet: whole(parts["unet"])}
	if parts["text_encoder"] != nil {
		p.text = whole(parts["text_encoder"])
	}
	if parts["text_encoder_2"] != nil {
		p.text2 = whole(parts["text_encoder_2"])
	}
	if parts["transformer"] != nil {
		if f := ditFamily(parts["transformer"].Names()); f != "" {
			return f, nil
		}
	}
	if parts["unet"] == nil {
		return "", fmt.Errorf("the model has no U-Net, and no transformer of a family that is known")
	}
	p.openCLIP = p.text2 == nil && p.linear() // as Stable Diffusion 2, whose encoder is open_clip's under other names
	f, _, err := p.family()
	if err == nil && f == SDXL && p.text == nil && p.text2 != nil {
		f = Refiner // its one encoder is SDXL's second
	}
	return f, err
}

// files are the model's configurations and tokenizers.
func (e *Export) files() (map[string]string, error) {
	all := map[string]string{}
	err := fs.WalkDir(e.Folder.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		part, last, nested := strings.Cut(name, "/")
		switch filepath.Ext(name) {
		case ".json", ".txt", ".model":
		default:
			return nil
		}
		if strings.HasSuffix(name, ".index.json") || strings.Contains(last, "/") {
			return nil
		}
		if nested && e.Parts[part] == nil && part != "scheduler" && !strings.HasPrefix(part, "tokenizer") {
			return nil
		}
		b, err := e.Folder.ReadFile(name)
		all[name] = string(b)
		return err
	})
	for name, text := range e.Files {
		all[name] = text
	}
	return all, err
}

// SaveFolder writes the model as a folder in the diffusers layout, which must not exist yet.
func (e *Export) SaveFolder(dir string) (err error) {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%s exists already", dir)
	}
	if lacks := e.Folder.Lacks(); len(lacks) > 0 {
		return fmt.Errorf("%s lacks parts that a folder needs: %s. Write a single file, with a name that ends in .safetensors", e.Folder.Name(), strings.Join(lacks, ", "))
	}
	files, err := e.files()
	if err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return err
	}
	beside, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(beside))
		}
	}()
	for name, text := range files {
		if err := atomicfile.WriteData(filepath.Join(beside, filepath.FromSlash(name)), []byte(text)); err != nil {
			return err
		}
	}
	for part, w := range e.Parts {
		stem := "diffusion_pytorch_model"
		if strings.HasPrefix(part, "text_encoder") {
			stem = "model"
		}
		if err := Save(filepath.Join(beside, part, stem+".safetensors"), w, e.Type, map[string]string{"format": "pt"}); err != nil {
			return err
		}
	}
	if err := os.Chmod(beside, 0o755); err != nil {
		return err
	}
	return os.Rename(beside, dir)
}

// SaveFile writes the model as a single file with the original code's names.
func (e *Export) SaveFile(path string) error {
	family, err := FamilyOf(e.Parts)
	if s := e.Folder.Single(); s != nil {
		family, err = s.Family, nil
	}
	if err != nil {
		return err
	}
	files, err := e.files()
	if err != nil {
		return err
	}
	var sampling struct {
		Prediction string `json:"prediction_type"`
		ZeroSNR    bool   `json:"rescale_betas_zero_snr"`
	}
	if err := json.Unmarshal([]byte(files["scheduler/scheduler_config.json"]), &sampling); err != nil {
		return fmt.Errorf("scheduler/scheduler_config.json: %w", err)
	}
	meta := map[string]string{"format": "pt", "modelspec.sai_model_spec": "1.0.0", "modelspec.prediction_type": "epsilon"}
	var marks []string
	if e.Parts["transformer"] != nil {
		delete(meta, "modelspec.prediction_type")
	}
	if sampling.Prediction == VPrediction {
		meta["modelspec.prediction_type"] = "v"
		marks = append(marks, "v_pred")
	}
	if sampling.ZeroSNR {
		marks = append(marks, "ztsnr")
	}
	carried := map[string]string{}
	for name, text := range files {
		if !utf8.ValidString(text) { // SentencePiece's models are no text
			name, text = name+encodedEnd, base64.StdEncoding.EncodeToString([]byte(text))
		}
		carried[name] = text
	}
	text, err := json.Marshal(carried)
	if err != nil {
		return err
	}
	meta[ConfigKey] = string(text)
	w, err := Joined(family, e.Parts, marks...)
	if err != nil {
		return err
	}
	return Save(path, w, e.Type, meta)
}
