package pull

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"darkroom/atomicfile"
	"darkroom/checkpoint"
	"darkroom/machine"
	"darkroom/models/library"
)

// Options say how to fetch a model.
type Options struct {
	// Name is the name it gets here; "" is that of the repository or the file.
	Name string
	// Variant chooses weights such as fp16 or bf16; fp32 is the plain ones. "" is fp16 where there is that.
	Variant string
}

// Plan lists what will be fetched.
type Plan struct {
	Source
	Name    string // "" where only the answer to the request tells
	Files   []File
	Licence string // "" where it is not known
	Commit  string
	Place   string // the folder that it will lie in, below the models'; "" where its content decides

	folder bool // of several files; false: one file
}

// Bytes is the length of all files, -1 where one is not known.
func (p *Plan) Bytes() (sum int64) {
	for _, f := range p.Files {
		if f.Size < 0 {
			return -1
		}
		sum += f.Size
	}
	return sum
}

// Plan finds out what to fetch. It writes nothing.
func (p *Puller) Plan(ctx context.Context, s Source, o Options) (*Plan, error) {
	if o.Name != "" && !safeElement(o.Name) {
		return nil, fmt.Errorf("--name %.100q cannot be the name of a file or a folder", o.Name)
	}
	plan := &Plan{Source: s, Name: o.Name}
	if s.Short != nil {
		plan.Licence = s.Short.Licence
	}
	switch {
	case s.Repo == "":
		f := File{Path: "file", URL: s.URL, Size: -1, naming: true, named: o.Name != ""}
		if s.Short != nil {
			f.naming, f.Size, f.SHA256, plan.Name = false, s.Short.Size, s.Short.SHA256, cmp.Or(o.Name, path.Base(s.URL))
		}
		plan.Files = []File{f}
		return plan, nil
	case s.File != "":
		f := File{}
		err := p.again(ctx, func() (err error) { f, err = p.head(ctx, s); return err })
		plan.Files, plan.Name = []File{f}, cmp.Or(o.Name, path.Base(s.File))
		return plan, err
	}
	repo, err := p.repository(ctx, s)
	if err != nil {
		return nil, err
	}
	plan.Licence, plan.Commit = cmp.Or(plan.Licence, repo.licence), repo.commit
	index, err := p.text(ctx, s, repo, "model_index.json")
	if err != nil {
		return nil, err
	}
	if plan.Files, err = choose(repo.files, index, o.Variant); err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	if err := p.settle(ctx, s, repo.commit, plan.Files); err != nil {
		return nil, err
	}
	if index == nil && len(plan.Files) == 1 && weightEnding(plan.Files[0].Path) {
		plan.Name = cmp.Or(o.Name, path.Base(plan.Files[0].Path))
		plan.Files[0].Path = path.Base(plan.Files[0].Path)
		return plan, nil
	}
	plan.folder, plan.Name = true, cmp.Or(o.Name, path.Base(s.Repo))
	if s.Short != nil && o.Name == "" {
		plan.Name = s.Short.Name
	}
	if index == nil {
		config, err := p.text(ctx, s, repo, "config.json")
		if err != nil {
			return nil, err
		}
		if plan.Place, err = placeOf(config); err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
	}
	return plan, nil
}

// placeOf is the folder for a network by itself.
func placeOf(text []byte) (string, error) {
	var c struct {
		Class  string          `json:"_class_name"`
		Vision json.RawMessage `json:"vision_config"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return "", fmt.Errorf("config.json: %w", err)
	}
	switch {
	case strings.HasPrefix(c.Class, "Autoencoder"):
		return library.VAEs.Folders()[0], nil
	case strings.HasPrefix(c.Class, "ControlNet"), c.Class == "T2IAdapter":
		return "controlnet", nil
	case c.Vision != nil:
		return library.Judges.Folders()[0], nil
	}
	return "", fmt.Errorf("it is a single network (%.80q) that this program does not use", c.Class)
}

// text reads a small file of a repository; nil where there is none.
func (p *Puller) text(ctx context.Context, s Source, repo *repository, name string) ([]byte, error) {
	i := slices.IndexFunc(repo.files, func(f File) bool { return f.Path == name })
	if i < 0 {
		return nil, nil
	}
	var raw json.RawMessage
	if err := p.api(ctx, s, repo.files[i].URL, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return raw, nil
}

// record is written into a folder that was fetched: where it is from.
type record struct {
	Source string            `json:"source"`
	Commit string            `json:"commit"`
	Files  map[string]string `json:"files"` // hash, or size, by path
}

const recordName = ".pulled.json"

func (p *Plan) record() record {
	r := record{Source: p.Source.String(), Commit: p.Commit, Files: map[string]string{}}
	for _, f := range p.Files {
		r.Files[f.Path] = cmp.Or(f.SHA256, f.GitOID, fmt.Sprint(f.Size))
	}
	return r
}

// ErrThere means that the model is already here and the same as on the server.
var ErrThere = errors.New("it exists already")

// Run fetches what was planned and returns the path of the result. With ErrThere, it is the path of the existing model. What
// was fetched before an error is kept for the next Run of the same source.
func (p *Puller) Run(ctx context.Context, plan *Plan) (where string, err error) {
	if path, err := p.there(plan); err != nil {
		return path, err
	}
	if err := os.MkdirAll(p.Folder, 0o777); err != nil {
		return "", atomicfile.Explain(filepath.Join(p.Folder, plan.Name), err)
	}
	key := sha256.Sum256([]byte(plan.Source.String()))
	stage := filepath.Join(p.Folder, ".pull-"+hex.EncodeToString(key[:6]))
	if err := os.MkdirAll(stage, 0o777); err != nil {
		return "", atomicfile.Explain(stage, err)
	}
	unlock, err := lock(stage)
	if err != nil {
		return "", err
	}
	defer unlock()
	root, err := os.OpenRoot(stage)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if err := p.fetchAll(ctx, root, plan); err != nil {
		return "", err
	}
	if plan.folder {
		where, err = p.placeFolder(root, stage, plan)
	} else {
		where, err = p.placeFile(stage, plan)
	}
	if err != nil {
		return where, err
	}
	return where, os.RemoveAll(stage)
}

// lock keeps two programs from fetching the same thing at once.
func lock(stage string) (unlock func(), err error) {
	f, err := os.OpenFile(stage+".lock", os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, atomicfile.Explain(stage, err)
	}
	if err := machine.Lock(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("another darkroom is fetching this: %w", err)
	}
	return func() {
		_ = os.Remove(f.Name())
		f.Close()
	}, nil
}

func (p *Puller) fetchAll(ctx context.Context, root *os.Root, plan *Plan) error {
	all := plan.Bytes()
	var before, here int64
	whole := make([]bool, len(plan.Files))
	for i, f := range plan.Files {
		if whole[i] = wholeIn(root, f); whole[i] {
			here += f.Size
		} else if st, err := root.Stat(partName(f.Path)); err == nil {
			here += st.Size()
		}
	}
	if err := p.room(root.Name(), all-here); err != nil {
		return err
	}
	for i, f := range plan.Files {
		if !whole[i] {
			if err := p.fetch(ctx, root, f, before, all); err != nil {
				return err
			}
		}
		before += max(f.Size, 0)
	}
	return nil
}

// wholeIn reports whether a file was fetched by an earlier run.
func wholeIn(root *os.Root, f File) bool {
	if !f.verified() {
		return false
	}
	st, err := root.Lstat(f.Path)
	if err != nil || !st.Mode().IsRegular() || f.Size >= 0 && st.Size() != f.Size {
		return false
	}
	file, err := root.Open(f.Path)
	if err != nil {
		return false
	}
	defer file.Close()
	return f.verify(file) == nil
}

// there looks for what an earlier pull left: ErrThere if it is the same, another error if its name is taken.
func (p *Puller) there(plan *Plan) (string, error) {
	if !plan.folder {
		return "", nil
	}
	dir := filepath.Join(p.Folder, plan.Place, plan.Name)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	text, err := os.ReadFile(filepath.Join(dir, recordName))
	var r record
	if err == nil && json.Unmarshal(text, &r) == nil && r.equal(plan.record()) {
		return dir, ErrThere
	}
	return dir, fmt.Errorf("%s exists already and is different: darkroom models rm %s removes it, --name gives this one another name", dir, plan.Name)
}

// equal compares contents: a commit that changes nothing of what is needed is the same.
func (r record) equal(other record) bool {
	if len(r.Files) != len(other.Files) {
		return false
	}
	for name, hash := range r.Files {
		if other.Files[name] != hash {
			return false
		}
	}
	return true
}

func (p *Puller) placeFolder(root *os.Root, stage string, plan *Plan) (string, error) {
	text, err := json.MarshalIndent(plan.record(), "", "  ")
	if err != nil {
		return "", err
	}
	if err := root.WriteFile(recordName, append(text, '\n'), 0o666); err != nil {
		return "", atomicfile.Explain(plan.Name, err)
	}
	if err := dropOthers(stage, plan.Files); err != nil {
		return "", err
	}
	dir := filepath.Join(p.Folder, plan.Place, plan.Name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return "", atomicfile.Explain(dir, err)
	}
	if _, err := os.Lstat(dir); err == nil {
		return "", fmt.Errorf("%s was created in the meantime: remove it, or choose another --name", dir)
	}
	return dir, atomicfile.Rename(stage, dir)
}

// dropOthers removes what an earlier run of another variant or commit left.
func dropOthers(stage string, files []File) error {
	keep := map[string]bool{recordName: true}
	for _, f := range files {
		keep[f.Path] = true
	}
	return filepath.WalkDir(stage, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(stage, name)
		if err != nil || keep[filepath.ToSlash(rel)] {
			return err
		}
		return os.Remove(name)
	})
}

// placeFile puts a single file where its kind is looked for, which its content tells.
func (p *Puller) placeFile(stage string, plan *Plan) (string, error) {
	file := filepath.Join(stage, filepath.FromSlash(plan.Files[0].Path))
	name := plan.Name
	if !weightEnding(name) {
		b, err := os.ReadFile(filepath.Join(stage, nameFile))
		called := string(b)
		if err != nil { // it is known by other means
			called = path.Base(plan.Source.File)
		}
		if name == "" {
			name = called
		} else {
			name += cmp.Or(path.Ext(called), ".safetensors")
		}
	}
	if !safeElement(name) || !weightEnding(name) {
		return "", fmt.Errorf("the file has no name: give one with --name")
	}
	s, err := checkpoint.OpenSource(file)
	if err != nil {
		_ = os.Remove(file)
		return "", fmt.Errorf("the download is not a file of weights and is not kept: %w", err)
	}
	d := checkpoint.Describe(s)
	if err := s.Close(); err != nil {
		return "", err
	}
	folders := placesOf(d.Kind)
	if folders == nil {
		return "", fmt.Errorf("the download is %s, which this program does not use: it is in %s", d.What, file)
	}
	where := filepath.Join(library.Place(p.Folder, folders), name)
	if plan.Place, err = filepath.Rel(p.Folder, filepath.Dir(where)); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(where), 0o777); err != nil {
		return "", atomicfile.Explain(where, err)
	}
	if err := os.Link(file, where); err == nil { // a link, unlike a rename, does not replace
		return where, nil
	} else if !errors.Is(err, fs.ErrExist) {
		if _, err := os.Lstat(where); errors.Is(err, fs.ErrNotExist) {
			return where, atomicfile.Rename(file, where)
		}
	}
	if same, err := sameContent(file, where); err != nil || !same {
		return "", errors.Join(err, fmt.Errorf("%s exists already and is a different file: --name gives this one another name", where))
	}
	return where, errors.Join(os.RemoveAll(stage), ErrThere)
}

// placesOf are the folders in which files of a kind are looked for; nil for those of no use.
func placesOf(k checkpoint.Kind) []string {
	switch k {
	case checkpoint.KindModel:
		return []string{"checkpoints", "Stable-diffusion"}
	case checkpoint.KindTransformer:
		return []string{"diffusion_models", "unet"}
	case checkpoint.KindText:
		return []string{"text_encoders", "text_encoder", "clip"}
	case checkpoint.KindVAE, checkpoint.KindTAESD:
		return library.VAEs.Folders()
	case checkpoint.KindAdapter:
		return library.LoRAs.Folders()
	case checkpoint.KindEmbedding:
		return library.Embeddings.Folders()
	case checkpoint.KindUpscaler:
		return library.Upscalers.Folders()
	case checkpoint.KindControlNet, checkpoint.KindT2IAdapter:
		return []string{"controlnet", "ControlNet"}
	case checkpoint.KindIPAdapter:
		return []string{"ipadapter", "ip-adapter"}
	case checkpoint.KindVision:
		return library.Visions.Folders()
	}
	return nil
}

func sameContent(a, b string) (bool, error) {
	x, err := checkpoint.HashFile(a, "")
	if err != nil {
		return false, err
	}
	y, err := checkpoint.HashFile(b, "")
	return x == y, err
}
