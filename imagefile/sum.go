package imagefile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Sum is the SHA-256 of a picture's file, in hex, which may then be given to Load: it is read to its end, and begins as a
// picture of a size that is taken. What follows may still be damaged.
func Sum(path string) (string, error) {
	data, err := readPicture(path)
	if err != nil {
		return "", err
	}
	if _, _, _, err := Measure(data); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// readPicture reads a file of a size that pictures have.
func readPicture(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	case info.Size() == 0:
		return nil, fmt.Errorf("%s is empty", path)
	case info.Size() > maxInput:
		return nil, fmt.Errorf("%s has %d MiB: pictures to start from have at most %d", path, info.Size()>>20, maxInput>>20)
	}
	return os.ReadFile(path)
}

// inputs are the endings of files that Load reads.
var inputs = []string{".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp"}

// IsInput says whether a file's name ends as those of pictures do that Load reads.
func IsInput(name string) bool {
	return slices.ContainsFunc(inputs, func(ext string) bool { return strings.HasSuffix(strings.ToLower(name), ext) })
}
