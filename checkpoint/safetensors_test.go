package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"darkroom/tensor"
)

// file is a safetensors file of that header and body.
func file(header, body string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), body...)
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// What the safetensors library wrote must be read as it was, in every element type.
func TestAllTypes(t *testing.T) {
	text, err := os.ReadFile("testdata/all_types.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]struct {
		Shape   tensor.Shape
		SHA256  string
		Float32 []uint32
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	f, err := Open("testdata/all_types.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(f.Names()) != len(want) || len(want) < 19 {
		t.Errorf("%d names, want %d", len(f.Names()), len(want))
	}
	if m := f.Metadata(); m["format"] != "pt" || m["note"] != `naïve "quotes"` || len(m) != 2 {
		t.Errorf("metadata %v", m)
	}
	for name, w := range want {
		x, ok := f.Tensor(name)
		if !ok {
			t.Errorf("%q is missing", name)
			continue
		}
		if !x.Shape.Equal(w.Shape) || sum(x.Data) != w.SHA256 {
			t.Errorf("%q: %v of %v, or its bytes, differ from the library's", name, x.Shape, x.DType)
		}
		if x.DType.IsFloat() {
			got := make([]float32, x.Len())
			x.Float32(got)
			for i, v := range got {
				if math.Float32bits(v) != w.Float32[i] {
					t.Errorf("%q[%d] = %v, torch gives %v", name, i, v, math.Float32frombits(w.Float32[i]))
				}
			}
		} else if w.Float32 != nil {
			t.Errorf("%q: %v is not taken for floating point", name, x.DType)
		}
	}
	if _, ok := f.Tensor("no such"); ok {
		t.Error("found a tensor that is not there")
	}
}

// Every way in which a file may be wrong, and exactly what is said.
func TestParseRefuses(t *testing.T) {
	const ok = `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	if _, err := Parse(file(ok, "1234"), "m"); err != nil {
		t.Fatal(err)
	}
	one := func(fields string) string { return `{"a":{` + fields + `}}` }
	two := func(a, b string) string {
		return fmt.Sprintf(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[%s]},"b":{"dtype":"U8","shape":[4],"data_offsets":[%s]}}`, a, b)
	}
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, `0 bytes are too few for a safetensors file`},
		{"seven bytes", []byte("1234567"), `7 bytes are too few for a safetensors file`},
		{"pickle", []byte("PK\x03\x04\x00\x00\x08\x08........"), `not a safetensors file: its header would be 578712552184433488 bytes long, at most 100000000 are allowed`},
		{"length 2^64-1", []byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"), `not a safetensors file: its header would be 18446744073709551615 bytes long, at most 100000000 are allowed`},
		{"cut header", file(ok, "")[:30], `header of 54 bytes in a file of 30: cut off, fetch it again`},
		{"no header", file("", "1234"), `not a safetensors file: its header does not begin with {`},
		{"leading space", file(" "+ok, "1234"), `not a safetensors file: its header does not begin with {`},
		{"list", file(`[1]`, ""), `not a safetensors file: its header does not begin with {`},
		{"not UTF-8", file("{\"\xff\":1}", ""), `header: not UTF-8`},
		{"not JSON", file(`{"a":}`, ""), `header: not JSON: invalid character '}' looking for beginning of value`},
		{"comma", file(`{"__metadata__":{},}`, ""), `header: not JSON: invalid character '}' looking for beginning of object key string`},
		{"unfinished", file(`{"a":{"dtype":"F32"`, ""), `header: not JSON: unexpected end of JSON input`},
		{"two objects", file(ok+"{}", "1234"), `header: not JSON: invalid character '{' after top-level value`},
		{"same name twice", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "12"), `header: "a" appears twice`},
		{"escaped name twice", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "12"), `header: "a" appears twice`},
		{"metadata number", file(`{"__metadata__":{"a":1}}`, ""), `header: __metadata__: "a" is 1, not a string`},
		{"metadata null", file(`{"__metadata__":{"a":null}}`, ""), `header: __metadata__: "a" is null, not a string`},
		{"metadata list", file(`{"__metadata__":[ ]}`, ""), `header: __metadata__: is [], not an object`},
		{"entry number", file(`{"a":1}`, ""), `tensor "a": is 1, not an object`},
		{"entry null", file(`{"a":null}`, ""), `tensor "a": is null, not an object`},
		{"nothing in it", file(one(``), ""), `tensor "a": dtype, shape and data_offsets are needed, have 0 of them`},
		{"no offsets", file(one(`"dtype":"F32","shape":[1]`), "1234"), `tensor "a": dtype, shape and data_offsets are needed, have 2 of them`},
		{"dtype twice", file(one(`"dtype":"F32","dtype":"F32","shape":[1]`), "1234"), `tensor "a": "dtype" appears twice`},
		{"field unknown", file(one(`"dtype":"F32","shape":[1],"data_offsets":[0,4],"Shape":[2]`), "1234"), `tensor "a": unknown field "Shape"`},
		{"dtype unknown", file(one(`"dtype":"F4","shape":[1],"data_offsets":[0,4]`), "1234"), `tensor "a": unknown element type "F4"`},
		{"dtype number", file(one(`"dtype":4,"shape":[1],"data_offsets":[0,4]`), "1234"), `tensor "a": dtype is 4`},
		{"dtype null", file(one(`"dtype":null,"shape":[1],"data_offsets":[0,4]`), "1234"), `tensor "a": unknown element type ""`},
		{"shape negative", file(one(`"dtype":"F32","shape":[-1],"data_offsets":[0,4]`), "1234"), `tensor "a": shape is [-1]`},
		{"shape fraction", file(one(`"dtype":"F32","shape":[1.5],"data_offsets":[0,4]`), "1234"), `tensor "a": shape is [1.5]`},
		{"shape exponent", file(one(`"dtype":"F32","shape":[1e0],"data_offsets":[0,4]`), "1234"), `tensor "a": shape is [1e0]`},
		{"shape null", file(one(`"dtype":"F32","shape":null,"data_offsets":[0,4]`), "1234"), `tensor "a": shape is null`},
		{"shape 2^64", file(one(`"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]`), "1234"), `tensor "a": shape is [18446744073709551616]`},
		{"shape overflows", file(one(`"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]`), "1234"), `tensor "a": shape [4294967296 4294967296] is too large`},
		{"shape wraps to 4", file(one(`"dtype":"F32","shape":[9223372036854775809,2],"data_offsets":[0,8]`), "12345678"), `tensor "a": shape [9223372036854775809 2] is too large`},
		{"zero after overflow", file(one(`"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]`), ""), `tensor "a": shape [4294967296 4294967296 0] is too large`},
		{"axis overflows", file(one(`"dtype":"U8","shape":[0,9223372036854775808],"data_offsets":[0,0]`), ""), `tensor "a": shape [0 9223372036854775808] is too large`},
		{"axes", file(one(`"dtype":"U8","shape":[`+strings.Repeat("1,", 64)+`1],"data_offsets":[0,1]`), "1"), `tensor "a": 65 axes, at most 64 are allowed`},
		{"one offset", file(one(`"dtype":"F32","shape":[1],"data_offsets":[4]`), "1234"), `tensor "a": data_offsets is [4], not [begin, end]`},
		{"three offsets", file(one(`"dtype":"F32","shape":[1],"data_offsets":[0,4,4]`), "1234"), `tensor "a": data_offsets is [0 4 4], not [begin, end]`},
		{"offsets reversed", file(one(`"dtype":"F32","shape":[1],"data_offsets":[4,0]`), "1234"), `tensor "a": data_offsets is [4 0], not [begin, end]`},
		{"offset negative", file(one(`"dtype":"F32","shape":[1],"data_offsets":[-4,0]`), "1234"), `tensor "a": data_offsets is [-4,0]`},
		{"past the end", file(one(`"dtype":"F32","shape":[2],"data_offsets":[0,8]`), "1234"), `tensor "a": ends at byte 8 of 4: the file is cut off, fetch it again`},
		{"far past the end", file(one(`"dtype":"F32","shape":[500000000],"data_offsets":[0,2000000000]`), "1234"), `tensor "a": ends at byte 2000000000 of 4: the file is cut off, fetch it again`},
		{"size", file(one(`"dtype":"F32","shape":[1],"data_offsets":[0,8]`), "12345678"), `tensor "a": 1 of F32 takes 4 bytes, data_offsets give it 8`},
		{"scalar size", file(one(`"dtype":"F32","shape":[],"data_offsets":[0,2]`), "12"), `tensor "a": scalar of F32 takes 4 bytes, data_offsets give it 2`},
		{"same bytes", file(two("0,4", "0,4"), "1234"), `tensors "a" and "b" overlap at byte 0`},
		{"overlap", file(two("0,4", "2,6"), "123456"), `tensors "a" and "b" overlap at byte 2`},
		{"hole", file(two("0,4", "6,10"), "1234567890"), `bytes 4 to 6, before tensor "b", belong to no tensor`},
		{"hole in front", file(two("6,10", "2,6"), "1234567890"), `bytes 0 to 2, before tensor "b", belong to no tensor`},
		{"trailing", file(ok, "12345"), `1 bytes after the last tensor belong to none: fetch the file again; if they are intended, load and save the file with the safetensors library`},
		{"only trailing", file(`{}`, "12345"), `5 bytes after the last tensor belong to none: fetch the file again; if they are intended, load and save the file with the safetensors library`},
	} {
		_, err := Parse(c.data, "m.safetensors")
		if want := "m.safetensors: " + c.want; err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", c.name, err, want)
		}
	}
}

// Padding after the header's object, as the library writes it, an empty file of tensors, and tensors in any order.
func TestParseAccepts(t *testing.T) {
	for _, c := range []struct {
		data  []byte
		names string
	}{
		{file(`{}`, ""), "[]"},
		{file(`{"__metadata__":{}}      `, ""), "[]"},
		{file(`{"__metadata__":null}`, ""), "[]"},
		{file(`{"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"dtype":"I8","shape":[],"data_offsets":[0,1]}}  `, "123"), "[a b]"},
		{file(`{"z":{"dtype":"F64","shape":[0,7],"data_offsets":[0,0]},"y":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "1"), "[z y]"},
	} {
		f, err := Parse(c.data, "m")
		if err != nil {
			t.Error(err)
		} else if got := fmt.Sprint(f.Names()); got != c.names {
			t.Errorf("names %s, want %s", got, c.names)
		}
	}
}

// A small hostile file must not make the parser reserve much.
func TestParseAllocates(t *testing.T) {
	data := file(`{"a":{"dtype":"F64","shape":[1000000000000],"data_offsets":[0,8000000000000]}}`, "1234")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Parse(data, "m"); err == nil {
		t.Fatal("accepted")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("reserved %d bytes for a file of %d", n, len(data))
	}
}

// Tensors must point into the data, not into a copy.
func TestParseInPlace(t *testing.T) {
	data := file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "x")
	f, err := Parse(data, "m")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := f.Tensor("a")
	if &a.Data[0] != &data[len(data)-1] || cap(a.Data) != 1 {
		t.Error("the tensor's bytes are not the data's own, or reach beyond it")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.safetensors")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent"): "opening weights: ",
		dir:                          "opening weights: " + dir + " is not a regular file",
		empty:                        empty + ": 0 bytes are too few for a safetensors file",
	} {
		if _, err := Open(path); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", path, err, want)
		}
	}
}

// Released pages leave the process's memory and come back, unchanged, when read.
func TestRelease(t *testing.T) {
	const size = 32 << 20
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i >> 12)
	}
	path := filepath.Join(t.TempDir(), "big.safetensors")
	if err := os.WriteFile(path, file(fmt.Sprintf(`{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}`, size, size), string(body)), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a, _ := f.Tensor("a")
	total := func() (n int) {
		for _, b := range a.Data {
			n += int(b)
		}
		return n
	}
	want, held := total(), resident(t)
	f.Release("a")
	freed := held - resident(t)
	if got := total(); got != want {
		t.Errorf("after Release the bytes add up to %d, before to %d", got, want)
	}
	if held == 0 {
		t.Skip("how much memory is resident is known on Linux only")
	}
	if freed < size*3/4 {
		t.Errorf("Release freed %d of %d bytes", freed, size)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// resident is the memory of this process in bytes, 0 where that is not known.
func resident(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// Whatever the bytes, there is an error or a set of tensors that lie in them, as long as their shapes say.
func FuzzParse(f *testing.F) {
	real, err := os.ReadFile("testdata/all_types.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real)
	f.Add(file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "1234"))
	f.Add(file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, ""))
	f.Add(file(`{"__metadata__":{"a":"b"},"a":{"dtype":"BOOL","shape":[0],"data_offsets":[0,0]}}`, ""))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data, "m")
		if err != nil {
			return
		}
		total := 0
		for _, n := range file.Names() {
			x, ok := file.Tensor(n)
			if !ok || len(x.Data) != x.Len()*x.DType.Size() {
				t.Fatalf("%q: %v of %v in %d bytes", n, x.Shape, x.DType, len(x.Data))
			}
			total += len(x.Data)
		}
		if total > len(data) {
			t.Fatalf("tensors of %d bytes in a file of %d", total, len(data))
		}
	})
}

// A header as long as that of Stable Diffusion XL's U-Net: 1,680 tensors.
func BenchmarkParse(b *testing.B) {
	var entries []string
	for i := range 1680 {
		entries = append(entries, fmt.Sprintf(`"down_blocks.1.attentions.0.transformer_blocks.%d.attn1.to_q.weight":{"dtype":"F16","shape":[1,2],"data_offsets":[%d,%d]}`, i, 4*i, 4*i+4))
	}
	data := file("{"+strings.Join(entries, ",")+"}", strings.Repeat("x", 4*1680))
	for b.Loop() {
		if _, err := Parse(data, "m"); err != nil {
			b.Fatal(err)
		}
	}
}
