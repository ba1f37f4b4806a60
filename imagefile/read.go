package imagefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"darkroom/recipe"
)

// Info is what an image file says of itself.
type Info struct {
	Format        Format
	Width, Height int   // pixels
	Size          int64 // bytes
	Lossless      bool  // the pixels are those that were written

	// Recipe is what the picture was made from: the one that this program wrote, if there is one, else what could be
	// translated from another program's description. nil: neither is there.
	Recipe *recipe.Recipe
	// Complete says that the recipe is this program's own, with every setting.
	Complete bool
	// Parameters is the description that other programs read and write, taken apart; nil if there is none.
	Parameters *recipe.Foreign

	// Texts are all texts in the file, in its order.
	Texts []Text
}

// Text is a text in an image file: a PNG text chunk, or an EXIF or XMP field under the key that the same text has in a PNG.
type Text struct {
	Key, Value string
	Problem    string // why Value is empty; "": it is not
}

// maxChunk is the longest text that is read, in bytes: some programs store a whole workflow. maxTexts is how much all texts of
// a file may have together: a small file can hold many that unpack to far more. maxParts is how many chunks or segments are
// walked over.
const (
	maxChunk = 4 << 20
	maxTexts = 16 << 20
	maxParts = 1 << 20
)

// addText keeps a text, unless those kept already are too many.
func (info *Info) addText(t Text) {
	total := len(t.Key) + len(t.Value)
	for _, old := range info.Texts {
		total += len(old.Key) + len(old.Value)
	}
	switch {
	case len(info.Texts) >= 1000:
		return
	case total > maxTexts:
		t = Text{Key: fmt.Sprintf("%.80s", t.Key), Problem: "too many texts to be read"}
	}
	info.Texts = append(info.Texts, t)
}

// Inspect reads what the file at path says of itself. The pixels are not decoded, unless it says nothing and they may hide a
// text.
func Inspect(path string) (Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	if !st.Mode().IsRegular() {
		return Info{}, fmt.Errorf("%s: not a file", path)
	}
	info, err := inspect(f, st.Size())
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", path, err)
	}
	return info, nil
}

// InspectData is Inspect for a file that is in memory.
func InspectData(data []byte) (Info, error) { return inspect(bytes.NewReader(data), int64(len(data))) }

func inspect(r io.ReaderAt, size int64) (Info, error) {
	info, err := Read(r, size)
	if err == nil && info.Recipe == nil && info.Lossless {
		info.takeHidden(r)
	}
	return info, err
}

// Read is Inspect for a file of the given size in bytes that is already open. It reads headers and texts only, and takes
// little memory whatever the file claims.
func Read(r io.ReaderAt, size int64) (Info, error) {
	info := Info{Size: size}
	var head [12]byte
	if err := readAt(r, head[:], 0); err != nil {
		return Info{}, ErrNotImage
	}
	var err error
	switch {
	case string(head[:8]) == pngSignature:
		info.Format, info.Lossless = PNG, true
		err = readPNG(r, size, &info)
	case head[0] == 0xff && head[1] == 0xd8:
		info.Format = JPEG
		err = readJPEG(r, &info)
	case string(head[:4]) == "RIFF" && string(head[8:]) == "WEBP":
		info.Format = WebP
		err = readWebP(r, size, &info)
	default:
		err = ErrNotImage
	}
	if err == nil && info.Width == 0 {
		err = errors.New("the file does not say how large the picture is: it is damaged")
	}
	if err == nil {
		err = info.findRecipe()
	}
	if err != nil {
		return Info{}, err
	}
	return info, nil
}

// findRecipe looks for a recipe among the texts. Where a key appears twice the last counts, as for other readers.
func (info *Info) findRecipe() error {
	var others []recipe.Field
	for _, t := range info.Texts {
		if t.Key != "darkroom" {
			others = append(others, recipe.Field{Key: t.Key, Value: t.Value})
			continue
		}
		var r recipe.Recipe
		if err := json.Unmarshal([]byte(t.Value), &r); err != nil {
			return fmt.Errorf("the recipe in the file cannot be read: %w", err)
		}
		info.Recipe, info.Complete = &r, true
	}
	if p, err := recipe.FromTexts(others); err == nil {
		info.Parameters = &p
	}
	if info.Recipe == nil && info.Parameters != nil {
		r := info.Parameters.Recipe
		info.Recipe = &r
	}
	return nil
}

// Text is the last text of that key, "" if there is none.
func (info Info) Text(key string) string {
	text := ""
	for _, t := range info.Texts {
		if t.Key == key {
			text = t.Value
		}
	}
	return text
}

func (info *Info) setSize(w, h uint32) error {
	if w == 0 || h == 0 || w > 1<<31-1 || h > 1<<31-1 {
		return fmt.Errorf("a picture of %d×%d pixels", w, h)
	}
	info.Width, info.Height = int(w), int(h)
	return nil
}

// readAt fills buf from r at an offset; a file that ends before is an error.
func readAt(r io.ReaderAt, buf []byte, at int64) error {
	n, err := r.ReadAt(buf, at)
	if n == len(buf) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
