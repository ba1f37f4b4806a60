package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// AutoV3 is the hash that other programs call a LoRA by: the first 12 hex digits of the SHA-256 of what follows a safetensors file's
// header, or what the header itself says it is (sshs_model_hash); of other files, of the whole. It is kept in the folder cache as HashFile's is.
func AutoV3(path, cache string) (string, error) {
	key := cacheKey([]content{{path: path}})
	if key != "" {
		key += "-autov3"
	}
	if h, ok := readHash(cache, key); ok {
		return h[:12], nil
	}
	h, err := autoV3(path)
	if err != nil {
		return "", fmt.Errorf("hashing %s: %w", path, err)
	}
	writeHash(cache, key, h)
	return h[:12], nil
}

func autoV3(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var head [9]byte
	start := int64(0)
	if n, err := io.ReadFull(f, head[:]); err == nil && isSafetensors(head[:n]) {
		size := int64(binary.LittleEndian.Uint64(head[:]))
		var header struct {
			Metadata map[string]any `json:"__metadata__"`
		}
		if err := json.NewDecoder(io.NewSectionReader(f, 8, size)).Decode(&header); err == nil {
			own, _ := header.Metadata["sshs_model_hash"].(string)
			if own = strings.ToLower(own); len(own) == 2*sha256.Size && strings.Trim(own, "0123456789abcdef") == "" {
				return own, nil
			}
		}
		start = 8 + size
	}
	if _, err := f.Seek(start, io.SeekStart); err != nil {
		return "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
