package checkpoint

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"darkroom/tensor"
)

const model = "testdata/model"

// embedded reads a folder into an Embedded.
func embedded(t testing.TB, dir string) Embedded {
	t.Helper()
	e := Embedded{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, p))
		e[p] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// digest is what train/goldens_checkpoint.py computes of a PyTorch model.
func digest(s *Set) string {
	var lines strings.Builder
	for _, n := range s.Names() {
		x, _ := s.Tensor(n)
		fmt.Fprintf(&lines, "%s %v %s\n", n, x.Shape, sum(x.Data))
	}
	return sum([]byte(lines.String()))
}

// Weights that diffusers and transformers saved, single, sharded and as fp16 variants, must be those of the model in
// PyTorch; on disk, in memory without a copy, and in any fs.FS.
func TestWeights(t *testing.T) {
	text, err := os.ReadFile(model + "/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]struct {
		Tensors int
		SHA256  string
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != 8 {
		t.Fatalf("%d parts", len(want))
	}
	disk, err := OpenFolder(model)
	if err != nil {
		t.Fatal(err)
	}
	for name, folder := range map[string]*Folder{
		"disk":     disk,
		"embedded": FromFS(embedded(t, model), "default"),
		"fs.FS":    FromFS(os.DirFS(model), "some"),
	} {
		for part, w := range want {
			s, err := folder.Weights(part)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if n := len(s.Names()); n != w.Tensors {
				t.Errorf("%s %s: %d tensors, want %d", name, part, n, w.Tensors)
			}
			if digest(s) != w.SHA256 {
				t.Errorf("%s %s: names, shapes or bytes are not PyTorch's", name, part)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// The plain file goes first; a variant is taken by name, or where there is nothing else.
func TestVariant(t *testing.T) {
	for _, c := range []struct {
		part, variant string
		want          tensor.DType
	}{
		{"both", "", tensor.F32}, {"both", "fp16", tensor.F16}, {"fp16_only", "", tensor.F16}, {"fp16_sharded", "fp16", tensor.F16},
		{"clip_fp16_sharded", "", tensor.F16}, {"sharded", "", tensor.F32},
	} {
		f, err := OpenFolder(model)
		if err != nil {
			t.Fatal(err)
		}
		f.Variant = c.variant
		s, err := f.Weights(c.part)
		if err != nil {
			t.Error(err)
			continue
		}
		if st := s.Stats(); len(st.ByType) != 1 || st.ByType[c.want.String()].Tensors == 0 {
			t.Errorf("%s, variant %q: %v, want %v", c.part, c.variant, st.ByType, c.want)
		}
		s.Close()
	}
}

func TestEmbeddedInPlace(t *testing.T) {
	files := embedded(t, model)
	s, err := FromFS(files, "default").Weights("vae")
	if err != nil {
		t.Fatal(err)
	}
	data, err := files.View("vae/diffusion_pytorch_model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if &s.Files()[0].data[0] != &data[0] {
		t.Error("the weights were copied")
	}
}

func TestEmbeddedFS(t *testing.T) {
	files := embedded(t, model)
	if err := fstest.TestFS(files, slices.Collect(maps.Keys(files))...); err != nil {
		t.Error(err)
	}
}

func TestIndex(t *testing.T) {
	f, err := OpenFolder(model)
	if err != nil {
		t.Fatal(err)
	}
	x, err := f.Index()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Component{"text_encoder": {"transformers", "CLIPTextModel"}, "vae": {"diffusers", "AutoencoderKL"}}
	if x.Class != "StableDiffusionPipeline" || !maps.Equal(x.Components, want) {
		t.Errorf("%+v", x)
	}
	_, err = FromFS(Embedded{"model_index.json": `{"vae": ["diffusers", "AutoencoderKL"]}`}, "m").Index()
	if err == nil || err.Error() != "m/model_index.json: _class_name is missing: a text is needed" {
		t.Error(err)
	}
}

func TestOpenFolderRefuses(t *testing.T) {
	dir := t.TempDir()
	one := filepath.Join(dir, "sd.safetensors")
	if err := os.WriteFile(one, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		one:                        "opening model: " + one + " is a file; a folder in the diffusers layout (with a model_index.json) is needed",
		dir:                        "opening model: " + dir + " has no model_index.json: a folder in the diffusers layout is needed",
		filepath.Join(dir, "none"): "opening model: ",
	} {
		if _, err := OpenFolder(path); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// shard is a file of one tensor.
func shard(name string) string {
	return string(file(`{"`+name+`":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "x"))
}

// What is missing or contradicts itself in a folder, and exactly what is said.
func TestWeightsRefuses(t *testing.T) {
	const index = "unet/diffusion_pytorch_model.safetensors.index.json"
	for _, c := range []struct {
		name    string
		files   Embedded
		variant string
		want    string
	}{
		{"nothing", Embedded{"vae/config.json": "{}"}, "", "there is no folder unet"},
		{"no weights", Embedded{"unet/config.json": "{}"}, "",
			"unet has no weights: looked for diffusion_pytorch_model.safetensors, model.safetensors, diffusion_pytorch_model.fp16.safetensors, model.fp16.safetensors"},
		{"pickle", Embedded{"unet/diffusion_pytorch_model.bin": "\x80\x02cos\nsystem\nU\x04truetR."}, "",
			"m/unet/diffusion_pytorch_model.bin: from byte 0 on: pickle, byte 2: os.system is refused: a pickle could run code through it, and no weights need it"},
		{"pickle of another name", Embedded{"unet/model.ckpt": ""}, "",
			"unet has model.ckpt, but none of diffusion_pytorch_model.safetensors, model.safetensors, " +
				"diffusion_pytorch_model.fp16.safetensors, model.fp16.safetensors: rename one of them, or fetch what is missing"},
		{"other variant", Embedded{"unet/pytorch_lora_weights.safetensors": ""}, "",
			"unet has pytorch_lora_weights.safetensors, but none of diffusion_pytorch_model.safetensors, model.safetensors, " +
				"diffusion_pytorch_model.fp16.safetensors, model.fp16.safetensors: rename one of them, or fetch what is missing"},
		{"no such variant", Embedded{"unet/diffusion_pytorch_model.safetensors": shard("a")}, "bf16",
			"unet has diffusion_pytorch_model.safetensors, but none of diffusion_pytorch_model.bf16.safetensors, model.bf16.safetensors: rename one of them, or fetch what is missing"},
		{"damaged", Embedded{"unet/diffusion_pytorch_model.safetensors": "1234"}, "",
			"m/unet/diffusion_pytorch_model.safetensors: 4 bytes are too few for a safetensors file"},
		{"index damaged", Embedded{index: `{"weight_map":`}, "", index + ": not JSON: unexpected end of JSON input"},
		{"index without map", Embedded{index: `{"metadata":{}}`}, "", index + ": weight_map is missing"},
		{"index name twice", Embedded{index: `{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}`}, "", index + `: weight_map: "a" appears twice`},
		{"index number", Embedded{index: `{"weight_map":{"a":1}}`}, "", index + `: weight_map: "a" is 1, not a string`},
		{"shard elsewhere", Embedded{index: `{"weight_map":{"a":"../../secret.safetensors"}}`}, "",
			index + `: tensor "a" is in "../../secret.safetensors", which is not the name of a .safetensors file beside it`},
		{"shard pickle", Embedded{index: `{"weight_map":{"a":"a.bin"}}`}, "",
			index + `: tensor "a" is in "a.bin", which is not the name of a .safetensors file beside it`},
		{"shards missing", Embedded{index: `{"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"3.safetensors"}}`, "unet/2.safetensors": shard("b")}, "",
			index + ": shards are missing: 1.safetensors, 3.safetensors"},
		{"shard damaged", Embedded{index: `{"weight_map":{"a":"1.safetensors"}}`, "unet/1.safetensors": ""}, "",
			"m/unet/1.safetensors: 0 bytes are too few for a safetensors file"},
		{"tensor missing", Embedded{index: `{"weight_map":{"a":"1.safetensors","b":"1.safetensors"}}`, "unet/1.safetensors": shard("a")}, "",
			index + `: tensor "b" is not in 1.safetensors`},
		{"tensor not listed", Embedded{index: `{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`, "unet/1.safetensors": shard("a"), "unet/2.safetensors": shard("c")}, "",
			index + `: tensor "b" is not in 2.safetensors, tensor "c" of 2.safetensors is not listed`},
		{"tensor in another", Embedded{index: `{"weight_map":{"a":"2.safetensors","b":"1.safetensors"}}`, "unet/1.safetensors": shard("a"), "unet/2.safetensors": shard("b")}, "",
			index + `: tensor "a" is not in 2.safetensors, tensor "b" is not in 1.safetensors`},
		{"tensor in both", Embedded{index: `{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`, "unet/1.safetensors": shard("a"), "unet/2.safetensors": shard("a")}, "",
			`unet: tensor "a" is in 1.safetensors and in 2.safetensors`},
	} {
		f := FromFS(c.files, "m")
		f.Variant = c.variant
		_, err := f.Weights("unet")
		if want := "model m: " + c.want; err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", c.name, err, want)
		}
	}
}

func TestReadFileLimits(t *testing.T) {
	f := FromFS(fstest.MapFS{"tokenizer/vocab.json": {Data: make([]byte, maxConfig+1)}}, "m")
	_, err := f.ReadFile("tokenizer/vocab.json")
	if err == nil || err.Error() != "reading model m: tokenizer/vocab.json is longer than 67108864 bytes" {
		t.Error(err)
	}
	_, err = f.ReadFile("tokenizer/merges.txt")
	if err == nil || err.Error() != "reading model m: open tokenizer/merges.txt: file does not exist" {
		t.Error(err)
	}
}

func TestSet(t *testing.T) {
	f, err := Parse(file(`{"w":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"v":{"dtype":"F32","shape":[4],"data_offsets":[12,28]},`+
		`"ids":{"dtype":"I64","shape":[1,2],"data_offsets":[28,44]}}`, strings.Repeat("x", 44)), "dir/model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSet("unet", f)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Unused()); got != "[ids v w]" {
		t.Errorf("unused %s", got)
	}
	for _, c := range []struct {
		name  string
		shape []int
		want  string // "" for success
	}{
		{"w", []int{2, 3}, ""},
		{"w", []int{-1, 3}, ""},
		{"w", []int{3, 2}, `unet: tensor "w" is 2×3, its config.json makes it 3×2`},
		{"w", []int{2, 3, 1, 1}, `unet: tensor "w" is 2×3, its config.json makes it 2×3×1×1`},
		{"w", []int{-1, 4}, `unet: tensor "w" is 2×3, its config.json makes it any×4`},
		{"w2", []int{2, 3}, `unet: tensor "w2" is missing from model.safetensors`},
		{"ids", []int{1, 2}, `unet: tensor "ids" is of I64: weights of F32, F16, BF16 or F64 are needed`},
	} {
		_, err := s.Get(c.name, c.shape...)
		if got := fmt.Sprint(err); err == nil && c.want != "" || err != nil && got != c.want {
			t.Errorf("got  %v\nwant %s", got, c.want)
		}
	}
	if got := fmt.Sprint(s.Unused()); got != "[v]" || !s.Has("v") || s.Has("w2") {
		t.Errorf("unused %s, want [v]", got)
	}
	st := s.Stats()
	if st.Tensors != 3 || st.Parameters != 12 || st.Bytes != 44 {
		t.Errorf("%+v", st)
	}
	if st.ByType["F16"] != (TypeStats{1, 6, 12}) || st.ByType["I64"] != (TypeStats{1, 2, 16}) {
		t.Errorf("%+v", st)
	}
	if a, b := st.BytesAs(tensor.F32), st.BytesAs(tensor.BF16); a != 10*4+16 || b != 10*2+16 {
		t.Errorf("as F32 %d bytes, as BF16 %d", a, b)
	}
}

// The hash of one file is what sha256sum prints, of shards that of all their bytes, on disk and in memory.
func TestHash(t *testing.T) {
	disk, err := OpenFolder(model)
	if err != nil {
		t.Fatal(err)
	}
	files := embedded(t, model)
	for part, parts := range map[string][]string{
		"vae": {"vae/diffusion_pytorch_model.safetensors"},
		"sharded": {"sharded/diffusion_pytorch_model-00001-of-00003.safetensors", "sharded/diffusion_pytorch_model-00002-of-00003.safetensors",
			"sharded/diffusion_pytorch_model-00003-of-00003.safetensors"},
	} {
		all := ""
		for _, p := range parts {
			all += files[p]
		}
		for _, f := range []*Folder{disk, FromFS(files, "m")} {
			s, err := f.Weights(part)
			if err != nil {
				t.Fatal(err)
			}
			if h, err := s.Hash(); err != nil || h != sum([]byte(all)) {
				t.Errorf("%s: hash %s, want %s (%v)", part, h, sum([]byte(all)), err)
			}
			s.Close()
		}
	}
}

// A kept hash is used while path, size and time stay; a damaged or unwritable cache is as none.
func TestHashCache(t *testing.T) {
	dir, cache := t.TempDir(), filepath.Join(t.TempDir(), "hashes")
	path := filepath.Join(dir, "unet", "model.safetensors")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(body string, when time.Time) string {
		t.Helper()
		data := file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, body)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
		return sum(data)
	}
	if err := os.WriteFile(filepath.Join(dir, "model_index.json"), []byte(`{}`), 0o644); err != nil {
		t.Fatal(err)
	}
	hash := func(cache string) string {
		t.Helper()
		f, err := OpenFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		f.HashCache = cache
		s, err := f.Weights("unet")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		h, err := s.Hash()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	monday, tuesday := time.Unix(1_700_000_000, 0), time.Unix(1_700_086_400, 0)
	x := write("x", monday)
	if h := hash(cache); h != x {
		t.Errorf("hash %s, want %s", h, x)
	}
	y := write("y", monday) // same size and time: the cache cannot know
	if h := hash(cache); h != x {
		t.Errorf("the cache was not used: hash %s, want the kept %s", h, x)
	}
	if h := hash(""); h != y {
		t.Errorf("without a cache %s, want %s", h, y)
	}
	write("y", tuesday)
	if h := hash(cache); h != y {
		t.Errorf("changed file: hash %s, want %s", h, y)
	}
	entries, err := os.ReadDir(cache)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d kept hashes, want 2 (%v)", len(entries), err)
	}
	for _, e := range entries {
		if err := os.WriteFile(filepath.Join(cache, e.Name()), []byte("nonsense"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if h := hash(cache); h != y {
		t.Errorf("damaged cache: hash %s, want %s", h, y)
	}
	if h := hash(filepath.Join(path, "not a folder")); h != y {
		t.Errorf("unwritable cache: hash %s, want %s", h, y)
	}
}

func TestSub(t *testing.T) {
	for _, f := range []*Folder{FromFS(os.DirFS(model), "m"), FromFS(embedded(t, model), "m")} {
		got, err := fs.ReadFile(f.Sub("vae"), "config.json")
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(model + "/vae/config.json")
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Error("vae/config.json through Sub is another file")
		}
	}
}

// A configuration that diffusers wrote, read in full through a folder.
func TestFolderConfig(t *testing.T) {
	f, err := OpenFolder(model)
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Config("vae")
	if err != nil {
		t.Fatal(err)
	}
	if v := c.Ints("block_out_channels", 0); len(v) != 1 || v[0] != 2 {
		t.Errorf("block_out_channels %v, want [2]", v)
	}
	if v := c.Float("scaling_factor"); v != 0.18215 {
		t.Errorf("scaling_factor %v", v)
	}
	if err := c.Done(); err == nil || !strings.HasPrefix(err.Error(), c.Name()+`: act_fn is "silu": not supported`) {
		t.Errorf("keys left unread: %v", err)
	}
	_, err = f.Config("scheduler")
	if err == nil || !strings.HasPrefix(err.Error(), "reading model testdata/model: open scheduler/scheduler_config.json: ") {
		t.Error(err)
	}
}

// Where there is no plain file, a variant does.
func TestVariantsAreFound(t *testing.T) {
	for _, c := range []struct {
		files Embedded
		want  string // a tensor
	}{
		{Embedded{"unet/diffusion_pytorch_model.non_ema.safetensors": shard("non_ema")}, "non_ema"},
		{Embedded{"unet/diffusion_pytorch_model.bf16.safetensors": shard("bf16"), "unet/diffusion_pytorch_model.aa.safetensors": shard("aa")}, "bf16"},
		{Embedded{"unet/diffusion_pytorch_model.bf16.safetensors": shard("bf16"), "unet/diffusion_pytorch_model.fp16.safetensors": shard("fp16")}, "fp16"},
		{Embedded{"unet/diffusion_pytorch_model.non_ema.safetensors": shard("non_ema"), "unet/diffusion_pytorch_model.safetensors": shard("plain")}, "plain"},
		{Embedded{"unet/model.bf16.safetensors": shard("bf16")}, "bf16"},
		{Embedded{"unet/diffusion_pytorch_model.safetensors.index.bf16.json": `{"weight_map":{"a":"x.safetensors"}}`, "unet/x.safetensors": shard("a")}, "a"},
		{Embedded{"unet/diffusion_pytorch_model.non_ema.safetensors.index.json": `{"weight_map":{"a":"x.safetensors"}}`, "unet/x.safetensors": shard("a")}, "a"},
	} {
		set, err := FromFS(c.files, "m").Weights("unet")
		if err != nil {
			t.Errorf("%s: %v", c.want, err)
			continue
		}
		if names := set.Names(); len(names) != 1 || names[0] != c.want {
			t.Errorf("%v, want %s", names, c.want)
		}
	}
}
