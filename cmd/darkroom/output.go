package main

import (
	"os"

	"darkroom/imagefile"
	sharing "darkroom/render"

	"golang.org/x/term"
)

// newTarget reads --out, --format and --quality. format "" is the extension's, or PNG.
func newTarget(e *env, out, format string, quality *int, count int) (*sharing.Target, error) {
	t := &sharing.Target{Count: count}
	if quality != nil {
		if *quality < 1 || *quality > 100 {
			return nil, usagef("--quality %d: it must be from 1 to 100", *quality)
		}
		t.Encode.Quality = *quality
	}
	switch {
	case out == "-":
		if count > 1 {
			return nil, usagef("-o - writes one picture, and --count asks for %d: name a folder", count)
		}
		if f, ok := unfiltered(e.stdout).(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return nil, usagef("-o - would write a picture to the terminal: send it elsewhere with > or |")
		}
		t.Stream = unfiltered(e.stdout)
	case out == "":
		t.Folder = "."
	case isFolder(out):
		t.Folder = out
	default:
		t.File = out
	}
	if format != "" {
		f, err := imagefile.FormatOf("." + format)
		if err != nil {
			return nil, usagef("--format %q: choose png, jpg or webp", format)
		}
		t.Encode.Format = f
	}
	if t.File != "" && !isDevice(t.File) {
		f, err := imagefile.FormatOf(t.File)
		if err != nil {
			return nil, usagef("-o %v, or name a folder with a / at the end", err)
		}
		if format != "" && f != t.Encode.Format {
			return nil, usagef("-o %s and --format %s contradict each other", out, format)
		}
		t.Encode.Format = f
	}
	if quality != nil && t.Encode.Format == imagefile.PNG {
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
