package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"darkroom/atomicfile"
)

// cacheKey names the files by what changes when they do: path, size and time of change. It is "" when one of them is
// not a file on disk.
func cacheKey(files []content) string {
	sum := sha256.New()
	for _, f := range files {
		if f.path == "" {
			return ""
		}
		path, err := filepath.Abs(f.path)
		if err != nil {
			return ""
		}
		info, err := os.Stat(path)
		if err != nil {
			return ""
		}
		fmt.Fprintf(sum, "%s\x00%d\x00%d\x00", path, info.Size(), info.ModTime().UnixNano())
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// readHash finds a hash that was kept. A cache that cannot be read is an empty one.
func readHash(dir, key string) (string, bool) {
	if dir == "" || key == "" {
		return "", false
	}
	b, err := readLimited(filepath.Join(dir, key), 2*sha256.Size)
	if err != nil {
		return "", false
	}
	if raw, err := hex.DecodeString(string(b)); err != nil || len(raw) != sha256.Size {
		return "", false
	}
	return string(b), true
}

// writeHash keeps a hash, if it can.
func writeHash(dir, key, hash string) {
	if dir != "" && key != "" {
		_ = atomicfile.WriteData(filepath.Join(dir, key), []byte(hash))
	}
}

func readLimited(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", path, info.Size(), most)
	}
	return os.ReadFile(path)
}
