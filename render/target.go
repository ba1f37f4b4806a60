package render

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"darkroom/atomicfile"
	"darkroom/imagefile"
	"darkroom/pipeline"
)

// Target is where pictures go: a file, a folder, or a stream.
//
// A named file is replaced; with several pictures, NAME.png becomes NAME-1.png, NAME-2.png, … In a folder, pictures are
// named by prompt and seed and never replace another file: if the name is taken, a number is added, unless the existing
// file is identical byte for byte.
type Target struct {
	Encode imagefile.Options
	File   string // "" for a folder and for a stream
	Folder string
	Stream io.Writer // nil: not there
	Count  int       // pictures; 0 is 1
}

// Check checks that pictures can be written, before they are made.
func (t *Target) Check() error {
	switch {
	case t.File != "":
		return atomicfile.Check(t.path(0))
	case t.Folder != "":
		return atomicfile.Check(filepath.Join(t.Folder, "darkroom.png"))
	}
	return nil
}

// path is the name of picture i where a file was named.
func (t *Target) path(i int) string {
	if t.Count <= 1 {
		return t.File
	}
	ext := filepath.Ext(t.File)
	return fmt.Sprintf("%s-%d%s", strings.TrimSuffix(t.File, ext), i+1, ext)
}

// Preview returns the preview of picture i, with that prompt and seed.
func (t *Target) Preview(i int, prompt string, seed uint64) *Preview {
	base := filepath.Join(t.Folder, BaseName(prompt, seed))
	if t.File != "" {
		base = strings.TrimSuffix(t.path(i), filepath.Ext(t.File))
	}
	return &Preview{base: base + ".preview"}
}

// Write writes picture i and returns its path, "-" for a stream, and what is in the file.
func (t *Target) Write(i int, picture *pipeline.Image) (path string, data []byte, err error) {
	var buf bytes.Buffer
	if err := imagefile.Encode(&buf, picture.Pixels, picture.Recipe, picture.Options(t.Encode)); err != nil {
		return "", nil, err
	}
	data = buf.Bytes()
	switch {
	case t.Stream != nil:
		if _, err = t.Stream.Write(data); err != nil {
			err = fmt.Errorf("writing the picture to stdout: %w", err)
		}
		return "-", data, err
	case t.File != "":
		return t.path(i), data, atomicfile.WriteData(t.path(i), data)
	}
	ext := map[imagefile.Format]string{imagefile.PNG: ".png", imagefile.JPEG: ".jpg", imagefile.WebP: ".webp"}[t.Encode.Format]
	base := filepath.Join(t.Folder, BaseName(picture.Recipe.Prompt, picture.Recipe.Seed))
	path, err = createFree(base, ext, data)
	return path, data, err
}

// createFree creates BASE.EXT, BASE-2.EXT, … whichever is the first that nobody has. A file with these very bytes is
// taken for the one that was to be written. Of several programs that write at once, each gets a name of its own.
func createFree(base, ext string, data []byte) (path string, err error) {
	path = base + ext
	for n := 2; ; n++ {
		if sameFile(path, data) {
			return path, nil
		}
		err := atomicfile.Create(atomicfile.OS{}, path, data)
		if !errors.Is(err, fs.ErrExist) {
			return path, atomicfile.Explain(path, err)
		}
		if sameFile(path, data) { // written meanwhile
			return path, nil
		}
		path = fmt.Sprintf("%s-%d%s", base, n, ext)
	}
}

// sameFile reports whether a plain file has that content.
func sameFile(path string, data []byte) bool {
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() != int64(len(data)) {
		return false
	}
	old, err := os.ReadFile(path)
	return err == nil && bytes.Equal(old, data)
}

// BaseName is a file name from the prompt's first words and the seed: "a-red-apple-42".
func BaseName(prompt string, seed uint64) string {
	const most = 48 // bytes
	words := strings.FieldsFunc(strings.ToLower(prompt[:min(len(prompt), 1000)]), func(c rune) bool {
		vowel := unicode.In(c, unicode.Mn, unicode.Mc) && !unicode.Is(unicode.Variation_Selector, c) // of Thai, Hindi and others
		return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !vowel
	})
	name := ""
	for _, w := range words {
		if name == "" && len(w) > most { // scripts without spaces
			w = strings.ToValidUTF8(w[:most], "")
		}
		if len(name)+len(w) > most {
			break
		}
		name += w + "-"
	}
	if name == "" {
		name = "picture-"
	}
	return fmt.Sprintf("%s%d", name, seed)
}
