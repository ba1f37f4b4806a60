package compare

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"darkroom/atomicfile"
	"darkroom/tensor"
)

// The report folder:
//
//	journal.jsonl    what was rendered: one JSON object a line, appended and synced
//	images/ID.png    pictures, named by a hash of their recipe
//	latents/ID.f32   their latents, float32, little-endian, NCHW
//	index.html, results.csv, results.json, plots/, sheets/   the report, made from these
//	earlier/N/       reports of other grids, set aside by --new-grid
//
// A picture is finished in three steps, of which any may be the last before the power goes: its files are written and synced
// under names of their own; its line is appended to the journal and synced; its files are renamed. Before the second
// step it was never made, after it it never is again: opening the folder renames what was not.
const (
	journalFile = "journal.jsonl"
	imagesDir   = "images"
	latentsDir  = "latents"
	earlierDir  = "earlier"
	unfinished  = ".part"
)

// header says which grid the folder holds.
type header struct {
	Grid     Grid              `json:"grid"`
	Hashes   map[string]string `json:"modelHashes"` // of the weights, by Grid.Models' names
	Backend  string            `json:"backend"`
	Numerics string            `json:"numerics"`
}

// Record is a line of the journal: a rendered picture.
type Record struct {
	Key     string  `json:"key"`               // of the job: see jobKey
	ID      string  `json:"id"`                // of the recipe: the file's name
	Image   string  `json:"image,omitempty"`   // SHA-256 of the picture's file; "" in journals of older versions
	Latents string  `json:"latents,omitempty"` // of the latents' file
	Setting Setting `json:"setting"`
	Item    Item    `json:"item"`

	Scheduler  string  `json:"scheduler"` // without aliases and suffixes
	Sigmas     string  `json:"sigmas,omitempty"`
	Stochastic bool    `json:"stochastic,omitempty"`
	Calls      int     `json:"calls"` // of the model
	Seconds    float64 `json:"seconds"`
	Joules     float64 `json:"joules,omitempty"` // of the GPU; 0: not measured
	// Processor is the seconds of all of the processor's threads together, which other work on the machine hardly changes; 0:
	// not measured, or a GPU computed.
	Processor float64 `json:"processorSeconds,omitempty"`
	Device    string  `json:"device"`
}

// line is one of these, by its only field.
type line struct {
	Grid    *header `json:"grid,omitempty"`
	Picture *Record `json:"picture,omitempty"`
}

// folder is an open report folder.
type folder struct {
	dir      string
	journal  *os.File
	unlock   func()
	pictures map[string]*Record // by key
}

// openFolder opens the folder for a grid, or makes it. With another grid it is an error, unless another is true: then the
// report is set aside, and pictures that both grids have are kept.
func openFolder(dir string, h header, another bool) (*folder, error) {
	if err := atomicfile.Check(filepath.Join(dir, journalFile)); err != nil {
		return nil, err
	}
	unlock, err := lockFolder(filepath.Join(dir, journalFile))
	if err != nil {
		return nil, fmt.Errorf("%s: another darkroom compare is at work in this folder: %w", dir, err)
	}
	f := &folder{dir: dir, unlock: unlock, pictures: map[string]*Record{}}
	if err := f.open(h, another); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *folder) open(h header, another bool) error {
	path := filepath.Join(f.dir, journalFile)
	old, end, err := f.read(path)
	if err != nil {
		return err
	}
	if old == nil {
		if err := f.mustBeEmpty(); err != nil {
			return err
		}
	}
	if old != nil && !reflect.DeepEqual(roundTrip(*old), roundTrip(h)) {
		if !another {
			return usagef("%s holds another comparison (%s): choose another folder for -o, or add --new-grid to set that report aside and keep the pictures that both have",
				f.dir, strings.Join(changes(*old, h), "; "))
		}
		if err := f.setAside(); err != nil {
			return err
		}
		old = nil
	}
	if f.journal, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644); err != nil {
		return err
	}
	// What follows the last whole line was being written when the program was killed.
	if err := f.journal.Truncate(end); err != nil {
		return err
	}
	if _, err := f.journal.Seek(end, io.SeekStart); err != nil {
		return err
	}
	for _, d := range []string{imagesDir, latentsDir} {
		if err := os.MkdirAll(filepath.Join(f.dir, d), 0o755); err != nil {
			return err
		}
	}
	if old == nil {
		if err := f.append(line{Grid: &h}); err != nil {
			return err
		}
	}
	return f.finishRenames()
}

// read takes in the journal. It returns the latest grid, nil if there is none, and where the last whole line ends.
func (f *folder) read(path string) (h *header, end int64, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	r := bufio.NewReader(file)
	for n := 1; ; n++ {
		text, err := r.ReadBytes('\n')
		if err == io.EOF {
			return h, end, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", path, err)
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, 0, fmt.Errorf("%s, line %d: the line is damaged (%w): remove it, and its picture is made again", path, n, err)
		}
		switch {
		case l.Grid != nil:
			h = l.Grid
		case l.Picture != nil:
			if !safeName(l.Picture.ID) {
				return nil, 0, fmt.Errorf("%s, line %d: the picture's id %.40q is not one: remove the line, and the picture is made again", path, n, l.Picture.ID)
			}
			f.pictures[l.Picture.Key] = l.Picture
		}
		end += int64(len(text))
	}
}

// safeName refuses ids that are not hashes: a hostile journal must not name files elsewhere.
func safeName(id string) bool {
	return len(id) == 16 && strings.Trim(id, "0123456789abcdef") == ""
}

// mustBeEmpty refuses a folder with other things in it: a report would mix with them.
func (f *folder) mustBeEmpty() error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case journalFile, journalFile + ".lock":
		default:
			return usagef("%s holds other files (%s) and no comparison: name a new or an empty folder with -o", f.dir, e.Name())
		}
	}
	return nil
}

// setAside moves the report's files, but not the pictures, to earlier/N.
func (f *folder) setAside() error {
	base := filepath.Join(f.dir, earlierDir)
	to := ""
	for n := 1; ; n++ {
		to = filepath.Join(base, fmt.Sprint(n))
		if _, err := os.Stat(to); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case journalFile, journalFile + ".lock", imagesDir, latentsDir, featuresDir, earlierDir:
			continue
		}
		if err := os.Rename(filepath.Join(f.dir, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return fmt.Errorf("setting the earlier report aside: %w", err)
		}
	}
	return nil
}

// append writes a line and syncs it.
func (f *folder) append(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := f.journal.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	if err := f.journal.Sync(); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	if l.Picture != nil {
		f.pictures[l.Picture.Key] = l.Picture
	}
	return nil
}

func (f *folder) image(id string) string   { return filepath.Join(f.dir, imagesDir, id+".png") }
func (f *folder) latents(id string) string { return filepath.Join(f.dir, latentsDir, id+".f32") }

// save finishes a picture.
func (f *folder) save(r *Record, png []byte, latents []float32) error {
	files := map[string][]byte{f.image(r.ID): png, f.latents(r.ID): tensor.Bytes(latents)}
	r.Image, r.Latents = hexSum(png), hexSum(tensor.Bytes(latents))
	for name, data := range files {
		if err := atomicfile.Synced(name+unfinished, data); err != nil {
			return err
		}
	}
	if err := f.append(line{Picture: r}); err != nil {
		return err
	}
	for name := range files {
		if err := atomicfile.Rename(name+unfinished, name); err != nil {
			return err
		}
	}
	return nil
}

// finishRenames gives finished files their names, and forgets pictures whose files are gone or are not what was written:
// they are made again.
func (f *folder) finishRenames() error {
	for key, r := range f.pictures {
		for _, name := range []string{f.image(r.ID), f.latents(r.ID)} {
			if _, err := os.Stat(name); err == nil {
				continue
			}
			if err := atomicfile.Rename(name+unfinished, name); errors.Is(err, fs.ErrNotExist) {
				delete(f.pictures, key)
			} else if err != nil {
				return err
			}
		}
		for name, want := range map[string]string{f.image(r.ID): r.Image, f.latents(r.ID): r.Latents} {
			if data, err := os.ReadFile(name); f.pictures[key] != nil && want != "" && (err != nil || hexSum(data) != want) {
				delete(f.pictures, key)
			}
		}
	}
	return nil
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Close gives the folder to others.
func (f *folder) Close() error {
	var err error
	if f.journal != nil {
		err = f.journal.Close()
	}
	f.unlock()
	return err
}

// roundTrip is what a value becomes when written and read: nil and empty lists are one.
func roundTrip(h header) map[string]any {
	text, err := json.Marshal(h)
	if err != nil {
		panic("compare: " + err.Error())
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		panic("compare: " + err.Error())
	}
	return m
}

// changes says in which axes two grids differ.
func changes(old, now header) []string {
	a, b := roundTrip(old), roundTrip(now)
	ga, gb := a["grid"].(map[string]any), b["grid"].(map[string]any)
	var out []string
	for _, name := range gridNames(ga, gb) {
		if !reflect.DeepEqual(ga[name], gb[name]) {
			out = append(out, fmt.Sprintf("%s there: %s, here: %s", name, brief(ga[name]), brief(gb[name])))
		}
	}
	if !reflect.DeepEqual(a["modelHashes"], b["modelHashes"]) {
		out = append(out, "the model's weights are others")
	}
	if old.Backend != now.Backend {
		out = append(out, fmt.Sprintf("backend there: %s, here: %s", old.Backend, now.Backend))
	}
	if old.Numerics != now.Numerics {
		out = append(out, "it was made by a version of darkroom that computes otherwise")
	}
	return out
}

func brief(v any) string {
	if v == nil {
		return "the model's own"
	}
	list, ok := v.([]any)
	if !ok {
		return fmt.Sprintf("%.60v", v)
	}
	var words []string
	for i, e := range list {
		if i == 6 {
			words = append(words, fmt.Sprintf("… (%d)", len(list)))
			break
		}
		words = append(words, fmt.Sprintf("%.40v", e))
	}
	return strings.Join(words, ",")
}
