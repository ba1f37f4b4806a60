package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAutoV3(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	write := func(name, header, body string) string {
		data := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+body...)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hash := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])[:12]
	}
	own := strings.Repeat("AB", 32)
	plain := filepath.Join(dir, "x.pt")
	if err := os.WriteFile(plain, []byte("\x80\x02 a pickle"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{write("a.safetensors", `{"__metadata__":{"ss_title":"a"}}`, "the tensors"), hash("the tensors")},
		{write("b.safetensors", `{"__metadata__":{"ss_title":"another header"}}`, "the tensors"), hash("the tensors")},
		{write("c.safetensors", `{"__metadata__":{"sshs_model_hash":"`+own+`"}}`, "the tensors"), strings.ToLower(own)[:12]},
		{write("d.safetensors", `{"__metadata__":{"sshs_model_hash":"none"}}`, "x"), hash("x")},
		{plain, hash("\x80\x02 a pickle")},
	} {
		for range 2 { // the second time from the cache
			if got, err := AutoV3(c.path, cache); err != nil || got != c.want {
				t.Errorf("%s: %s, %v; want %s", filepath.Base(c.path), got, err, c.want)
			}
		}
	}
	if got, err := HashFile(plain, cache); err != nil || len(got) != 64 || got[:12] != hash("\x80\x02 a pickle") {
		t.Errorf("the file's own hash is %s, %v", got, err)
	}
}
