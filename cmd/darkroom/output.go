package main

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

	"golang.org/x/term"
)

// target is where pictures go: a file, a folder, or stdout.
//
// A file that was named is replaced; with several pictures, NAME.png stands for NAME-1.png, NAME-2.png, … In
// a folder, pictures are named by prompt and seed, and never replace another: a name that is taken gets a number, unless the file
// there is the same byte for byte.
type target struct {
	encode imagefile.Options
	file   string // "" for a folder and for stdout
	folder string
	stdout io.Writer // nil: not there
	count  int
}

// newTarget reads --out, --format and --quality. format "" is the extension's, or PNG.
func newTarget(e *env, out, format string, quality *int, count int) (*target, error) {
	t := &target{count: count}
	if quality != nil {
		if *quality < 1 || *quality > 100 {
			return nil, usagef("--quality %d: it must be from 1 to 100", *quality)
		}
		t.encode.Quality = *quality
	}
	switch {
	case out == "-":
		if count > 1 {
			return nil, usagef("-o - writes one picture, and --count asks for %d: name a folder", count)
		}
		if f, ok := e.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return nil, usagef("-o - would write a picture to the terminal: send it elsewhere with > or |")
		}
		t.stdout = e.stdout
	case out == "":
		t.folder = "."
	case isFolder(out):
		t.folder = out
	default:
		t.file = out
	}
	if format != "" {
		f, err := imagefile.FormatOf("." + format)
		if err != nil {
			return nil, usagef("--format %q: choose png, jpg or webp", format)
		}
		t.encode.Format = f
	}
	if t.file != "" && !isDevice(t.file) {
		f, err := imagefile.FormatOf(t.file)
		if err != nil {
			return nil, usagef("-o %v, or name a folder with a / at the end", err)
		}
		if format != "" && f != t.encode.Format {
			return nil, usagef("-o %s and --format %s contradict each other", out, format)
		}
		t.encode.Format = f
	}
	if quality != nil && t.encode.Format == imagefile.PNG {
		return nil, usagef("--quality %d: PNG has no quality: write .jpg or .webp, or leave it out", *quality)
	}
	return t, nil
}

func isFolder(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir() || os.IsPathSeparator(path[len(path)-1])
}

func isDevice(path string) bool {
	st, err := os.Stat(path)
	return err == nil && !st.IsDir() && !st.Mode().IsRegular()
}

// check finds out whether pictures can be written, before they are made.
func (t *target) check() error {
	switch {
	case t.file != "":
		return atomicfile.Check(t.path(0))
	case t.folder != "":
		return atomicfile.Check(filepath.Join(t.folder, "darkroom.png"))
	}
	return nil
}

// path is the name of picture i where a file was named.
func (t *target) path(i int) string {
	if t.count == 1 {
		return t.file
	}
	ext := filepath.Ext(t.file)
	return fmt.Sprintf("%s-%d%s", strings.TrimSuffix(t.file, ext), i+1, ext)
}

// previewPath is where the picture-to-be of picture i is shown.
func (t *target) previewPath(i int, r pipeline.Request) string {
	base := filepath.Join(t.folder, baseName(r.Prompt, r.Seed))
	if t.file != "" {
		base = strings.TrimSuffix(t.path(i), filepath.Ext(t.file))
	}
	return base + ".preview.png"
}

// write writes picture i and returns its path, "-" for stdout, and what is in the file.
func (t *target) write(i int, picture *pipeline.Image) (path string, data []byte, err error) {
	var buf bytes.Buffer
	if err := imagefile.Encode(&buf, picture.Pixels, picture.Recipe, t.encode); err != nil {
		return "", nil, err
	}
	if t.stdout != nil {
		_, err := t.stdout.Write(buf.Bytes())
		if err != nil {
			err = fmt.Errorf("writing the picture to stdout: %w", err)
		}
		return "-", buf.Bytes(), err
	}
	if t.file != "" {
		return t.path(i), buf.Bytes(), atomicfile.WriteData(t.path(i), buf.Bytes())
	}
	for {
		path, same := t.freeName(picture, buf.Bytes())
		if same {
			return path, buf.Bytes(), nil
		}
		err := atomicfile.Create(atomicfile.OS{}, path, buf.Bytes())
		if errors.Is(err, fs.ErrExist) { // another program was faster
			continue
		}
		return path, buf.Bytes(), atomicfile.Explain(path, err)
	}
}

// freeName is a name in the folder that no file has, or, with same, that of a file with these very bytes.
func (t *target) freeName(picture *pipeline.Image, data []byte) (path string, same bool) {
	ext := map[imagefile.Format]string{imagefile.PNG: ".png", imagefile.JPEG: ".jpg", imagefile.WebP: ".webp"}[t.encode.Format]
	base := filepath.Join(t.folder, baseName(picture.Recipe.Prompt, picture.Recipe.Seed))
	path = base + ext
	for n := 2; ; n++ {
		st, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path, false
		}
		if err == nil && st.Mode().IsRegular() && st.Size() == int64(len(data)) {
			if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
				return path, true
			}
		}
		path = fmt.Sprintf("%s-%d%s", base, n, ext)
	}
}

// baseName is a file name from the prompt's first words and the seed: "a-red-apple-42".
func baseName(prompt string, seed uint64) string {
	words := strings.FieldsFunc(strings.ToLower(prompt), func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c)
	})
	name := ""
	for _, w := range words {
		if len(name)+len(w) > 48 {
			break
		}
		name += w + "-"
	}
	if name == "" {
		name = "picture-"
	}
	return fmt.Sprintf("%s%d", name, seed)
}
