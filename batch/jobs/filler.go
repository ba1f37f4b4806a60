package jobs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Filler fills in the templates of one prompt and one negative prompt, as a job file's are: {a|b}, __file__.
type Filler struct {
	texts  [2]string
	parsed [2]template
	plain  bool
}

// NewFiller parses both texts. folder holds the wildcards; "" is the folder wildcards in the current one, if there is any. Files are
// read here, and not again.
func NewFiller(prompt, negative, folder string) (*Filler, error) {
	t := &templates{folder: folder, parsed: map[string]template{}, files: map[string][]template{}}
	if folder == "" {
		t.folder = "wildcards"
	}
	if strings.Contains(prompt+negative, "__") {
		root, err := os.OpenRoot(t.folder) // links that lead out of it are not followed
		switch {
		case err == nil:
			defer root.Close()
			t.wildcards = root.FS()
		case folder != "" || !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("opening the folder of wildcards: %w", err)
		}
	}
	f := &Filler{texts: [2]string{prompt, negative}, plain: true}
	for i, name := range []string{"the prompt", "the negative prompt"} {
		var err error
		if f.parsed[i], err = t.parse(f.texts[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		f.plain = f.plain && f.parsed[i].plain()
	}
	return f, nil
}

// Plain reports whether there is nothing to choose.
func (f *Filler) Plain() bool { return f.plain }

// Fill fills in the templates for a picture. It chooses by the seed alone, so a batch gives the same words for a seed.
func (f *Filler) Fill(seed uint64) (prompt, negative string, err error) {
	var out [2]string
	for i, t := range f.parsed {
		if t.plain() { // backslashes in it are the prompt's own
			out[i] = f.texts[i]
			continue
		}
		work := budget(maxAllWork)
		if out[i], err = t.forSeed(f.texts[i], seed, &work); err != nil {
			return "", "", err
		}
	}
	return out[0], out[1], nil
}
