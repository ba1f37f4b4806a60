package checkpoint

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/tensor"
)

// expectedArray is what a golden script says about an array.
type expectedArray struct {
	Shape      tensor.Shape
	Type       string
	Contiguous bool
	Float32    []uint32 // bits
}

func readExpected(t *testing.T, file string) map[string]map[string]expectedArray {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]expectedArray
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// compareArray checks shape and bits, of the whole and of a part that begins and ends within rows.
func compareArray(t *testing.T, name string, a tensor.Array, want expectedArray) {
	t.Helper()
	if !a.Shape().Equal(want.Shape) {
		t.Errorf("%s is %v, want %v", name, a.Shape(), want.Shape)
		return
	}
	n := len(want.Float32)
	for _, part := range [][2]int{{0, n}, {n / 3, n - n/4}, {n / 2, n/2 + min(1, n)}} {
		got := make([]float32, part[1]-part[0])
		if err := a.Decode(got, part[0]); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		for i, v := range got {
			if w := want.Float32[part[0]+i]; math.Float32bits(v) != w {
				t.Errorf("%s[%d] = %v, the reference gives %v (of %d from %d on)", name, part[0]+i, v, math.Float32frombits(w), len(got), part[0])
				return
			}
		}
	}
}

// What torch.save wrote must be read as torch reads it, bit by bit.
func TestTorchFiles(t *testing.T) {
	for file, want := range readExpected(t, "testdata/torch/expected.json") {
		t.Run(file, func(t *testing.T) {
			s, err := OpenSource(filepath.Join("testdata/torch", file))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if len(s.Names()) != len(want) {
				t.Errorf("names %v, want %d", s.Names(), len(want))
			}
			for name, w := range want {
				a, ok := s.Array(name)
				if !ok {
					t.Errorf("%s is missing from %v", name, s.Names())
					continue
				}
				compareArray(t, name, a, w)
				p, plain := a.Plain()
				isFloat := strings.Contains(w.Type, "float") && !strings.Contains(w.Type, "float8")
				if wantPlain := w.Contiguous && isFloat && file != "deflated.ckpt"; plain != wantPlain {
					t.Errorf("%s: plain is %v, want %v", name, plain, wantPlain)
				} else if plain {
					got := make([]float32, p.Len())
					p.Float32(got)
					for i, v := range got {
						if math.Float32bits(v) != w.Float32[i] {
							t.Errorf("%s: plain[%d] = %v", name, i, v)
							break
						}
					}
				}
				a.Release()
				compareArray(t, name, a, w) // after the pages were given back
			}
		})
	}
}

// What stands around the weights is kept as metadata: prediction rules read global_step, embeddings have names.
func TestTorchMetadata(t *testing.T) {
	for file, want := range map[string]map[string]string{
		"training.ckpt": {"global_step": "875000", "epoch": "3", "lr": "0.0001", "best": "0.5", "pytorch-lightning_version": "1.4.2"},
		"embedding.pt":  {"name": "old paint", "step": "500", "string_to_token.*": "265"},
		"zip.ckpt":      {},
	} {
		s, err := OpenSource(filepath.Join("testdata/torch", file))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			if s.Metadata()[k] != v {
				t.Errorf("%s: %s is %q, want %q", file, k, s.Metadata()[k], v)
			}
		}
		if len(s.Metadata()) != len(want) {
			t.Errorf("%s: metadata %v, want %v", file, s.Metadata(), want)
		}
		s.Close()
	}
}

func TestTorchRefuses(t *testing.T) {
	for file, want := range map[string]string{
		"hostile_system.ckpt":  "posix.system is refused",
		"hostile_eval.ckpt":    "__builtin__.eval is refused",
		"hostile_getattr.ckpt": "__builtin__.getattr is refused",
		"hostile_popen.ckpt":   "Popen is refused",
		"hostile_legacy.ckpt":  "posix.system is refused",
		"module.pt":            "torch.nn.modules.linear.Linear: a whole module was saved",
		"script.pt":            "TorchScript",
		"complex.pt":           "torch.ComplexFloatStorage",
	} {
		_, err := OpenSource(filepath.Join("testdata/torch", file))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

// zipped is a torch zip of that pickle and one storage.
func zipped(t testing.TB, pickle string, storage []byte, method uint16) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, data := range map[string][]byte{"a/data.pkl": []byte(pickle), "a/data/0": storage} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tensorPickle is {"w": a tensor}: offset, shape and strides of a float storage of numel elements, as pickled numbers.
func tensorPickle(numel, offset, shape, stride string) string {
	return "\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu" + numel + "tQ" +
		offset + shape + stride + "\x89N" + "tRs."
}

func long(n int64) string {
	b := []byte{0x8a, 8, 0, 0, 0, 0, 0, 0, 0, 0}
	for i := range 8 {
		b[2+i] = byte(n >> (8 * i))
	}
	return string(b)
}

func TestTorchBounds(t *testing.T) {
	storage := make([]byte, 16)
	for name, c := range map[string]struct{ pickle, want string }{
		"good":               {tensorPickle("K\x04", "K\x00", "K\x04\x85", "K\x01\x85"), ""},
		"storage too short":  {tensorPickle("K\x05", "K\x00", "K\x04\x85", "K\x01\x85"), "16 bytes, 20 are needed"},
		"past the end":       {tensorPickle("K\x04", "K\x01", "K\x04\x85", "K\x01\x85"), "reaches beyond storage"},
		"stride too long":    {tensorPickle("K\x04", "K\x00", "K\x02K\x02\x86", "K\x03K\x01\x86"), "reaches beyond storage"},
		"offset overflows":   {tensorPickle("K\x04", long(math.MaxInt64), "K\x02\x85", "K\x01\x85"), "too large"},
		"stride overflows":   {tensorPickle("K\x04", "K\x00", "K\x03\x85", long(math.MaxInt64/2+1)+"\x85"), "too large"},
		"negative offset":    {tensorPickle("K\x04", long(-1), "K\x01\x85", "K\x01\x85"), "make no tensor"},
		"negative stride":    {tensorPickle("K\x04", "K\x03", "K\x02\x85", long(-1)+"\x85"), "make no tensor"},
		"shape overflows":    {tensorPickle("K\x04", "K\x00", long(1<<40)+long(1<<40)+"\x86", "K\x00K\x00\x86"), "too large"},
		"repeats for ever":   {tensorPickle("K\x04", "K\x00", long(1<<40)+"\x85", "K\x00\x85"), "repeats"},
		"storage overflows":  {tensorPickle(long(math.MaxInt64), "K\x00", "K\x01\x85", "K\x01\x85"), "too large"},
		"negative storage":   {tensorPickle(long(-4), "K\x00", "K\x01\x85", "K\x01\x85"), "a storage of"},
		"ranks differ":       {tensorPickle("K\x04", "K\x00", "K\x04\x85", "K\x01K\x01\x86"), "make no tensor"},
		"nothing on stack":   {"\x80\x02.", "too few values"},
		"no end":             {"\x80\x02}", "ends within"},
		"unknown opcode":     {"\x80\x02\xff.", "opcode 0xff"},
		"memo unwritten":     {"\x80\x02h\x07.", "memo 7"},
		"traversal":          {strings.ReplaceAll(tensorPickle("K\x04", "K\x00", "K\x04\x85", "K\x01\x85"), "U\x010", "U\x0a../../etc/"), "missing from the zip"},
		"module by source":   {strings.Replace(tensorPickle("K\x04", "K\x00", "K\x04\x85", "K\x01\x85"), "}", "}(U\x06modulectorch\nFloatStorage\nU\x04a.pyU\x04codetQ0", 1), ""},
		"hostile module":     {"\x80\x02(U\x06modulecos\nsystem\nU\x04a.pyU\x04codetQ.", "os.system is refused"},
		"list of itself":     {"\x80\x02]q\x00h\x00a.", "no tensors"},
		"dict of itself":     {"\x80\x02}q\x00U\x0astate_dicth\x00s.", "no tensors"},
		"class named by int": {"\x80\x04K\x01K\x02\x93.", "not two texts"},
	} {
		for _, method := range []uint16{zip.Store, zip.Deflate} {
			s, err := ParseSource(zipped(t, c.pickle, storage, method), name)
			if c.want == "" {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else if err := must(s.Array("w")).Decode(make([]float32, 4), 0); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		}
	}
}

func must[T any](v T, ok bool) T {
	if !ok {
		panic("missing")
	}
	return v
}

// Much from little is refused before it is unpacked.
func TestTorchZipBomb(t *testing.T) {
	zeros := make([]byte, 48<<20)
	b := zipped(t, tensorPickle(long(12<<20), "K\x00", long(12<<20)+"\x85", "K\x01\x85"), zeros, zip.Deflate)
	if _, err := ParseSource(b, "bomb"); err == nil || !strings.Contains(err.Error(), "zip bomb") {
		t.Errorf("%v, want a zip bomb", err)
	}
}

// Each prefix of a file is an error or the same weights, never a crash.
func TestTorchCutOff(t *testing.T) {
	for _, file := range []string{"training.ckpt", "parameters.pt", "numpy.pt"} {
		b, err := os.ReadFile(filepath.Join("testdata/torch", file))
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(b) {
			if s, err := ParseSource(b[:n], file); err == nil {
				readAll(t, s)
			}
		}
	}
}

// readAll decodes what a file says it has.
func readAll(t testing.TB, s *Source) {
	t.Helper()
	for _, name := range s.Names() {
		a, ok := s.Array(name)
		if !ok {
			t.Fatalf("%q is listed, and not there", name)
		}
		n := a.Shape().Len()
		if n > 1<<24 {
			continue
		}
		_ = a.Decode(make([]float32, n), 0)
		if p, ok := a.Plain(); ok && len(p.Data) != n*p.DType.Size() {
			t.Fatalf("%q: %d bytes for %v", name, len(p.Data), p.Shape)
		}
		a.Release()
	}
}

func FuzzTorch(f *testing.F) {
	files, err := filepath.Glob("testdata/torch/*.*t*")
	if err != nil || len(files) < 10 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 20<<10 {
			f.Add(b)
		}
	}
	f.Add(zipped(f, tensorPickle("K\x04", "K\x00", "K\x04\x85", "K\x01\x85"), make([]byte, 16), zip.Store))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSource(b, "fuzz"); err == nil {
			readAll(t, s)
		}
	})
}

// FuzzUnpickle gives the opcodes alone, without the checksums of a zip around them.
func FuzzUnpickle(f *testing.F) {
	f.Add([]byte(tensorPickle("K\x04", "K\x00", "K\x04\x85", "K\x01\x85")))
	f.Add([]byte("\x80\x02]q\x00h\x00a."))
	f.Add([]byte("(dp0\nS'a'\np1\nI1\nsS'b'\nF1.5\nsV\\u1234\nL12L\ns."))
	f.Add([]byte("\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s."))
	f.Add([]byte("\x80\x02ccollections\nOrderedDict\n)R(U\x01aK\x01u}b."))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := &torchHost{keys: map[string]*torchStorage{}, storage: func(_ string, size int) (*blob, error) {
			if size > 1<<16 {
				return nil, errStack
			}
			return &blob{size: size, data: make([]byte, size)}, nil
		}}
		value, _, err := unpickle(b, h)
		if err != nil {
			return
		}
		if c, err := torchContents(value, "", false); err == nil {
			for _, a := range c.arrays {
				if n := a.Shape().Len(); n < 1<<20 {
					_ = a.Decode(make([]float32, n), 0)
				}
			}
		}
	})
}
