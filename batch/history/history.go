// Package history remembers what was rendered on this machine: a file of JSON lines that is searched by prompt,
// model and date, and that knows how fast the machine is.
package history

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"darkroom/atomicfile"
	"darkroom/batch/jobs"
	"darkroom/recipe"
)

// History is an open history: a header, and a line for each picture. Several programs may have it open at once: a
// line is appended in one write.
type History struct {
	path string
	file *os.File // for appending
}

// Entry is a picture that was rendered.
type Entry struct {
	ID        int64        `json:"id"`
	At        time.Time    `json:"at"`
	File      string       `json:"file"` // where it was written: an absolute path, or s3://…
	SHA256    string       `json:"sha256"`
	Bytes     int64        `json:"bytes"`
	Seconds   float64      `json:"seconds"`
	Model     string       `json:"model"`
	ModelHash string       `json:"model_hash"`
	Backend   string       `json:"backend"`
	DType     string       `json:"dtype"`
	Steps     int          `json:"steps"`
	Width     int          `json:"width"`
	Height    int          `json:"height"`
	Request   jobs.Request `json:"request"`
	// Enlarged is set for a picture that an upscaler made from another one, which Request makes.
	Enlarged *Enlarged `json:"enlarged,omitempty"`
}

// Enlarged says from what a picture was enlarged.
type Enlarged struct {
	From     string `json:"from"` // a file; "": one that is not kept
	Upscaler string `json:"upscaler"`
}

// header is the first line.
type header struct {
	Version int `json:"darkroom_history"`
}

// version of the lines.
const version = 1

// stored is an entry as its line has it. A line's number is the entry's ID, which therefore is not in it.
type stored struct {
	Entry
	ID *int64 `json:"id,omitempty"`
}

// Open opens the history at path, and makes it if it is missing.
func Open(path string) (*History, error) {
	h, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("history %s: %w", path, err)
	}
	return h, nil
}

func open(path string) (*History, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		first, err := json.Marshal(header{version})
		if err != nil {
			return nil, err
		}
		if err := atomicfile.Create(atomicfile.OS{}, path, append(first, '\n')); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil && !errors.Is(err, fs.ErrPermission) { // prompts are nobody else's business
		f.Close()
		return nil, err
	}
	h := &History{path, f}
	if err := h.check(); err != nil {
		f.Close()
		return nil, err
	}
	return h, nil
}

// check reads the header, and ends a last line that a crash has cut.
func (h *History) check() error {
	first, err := bufio.NewReader(io.NewSectionReader(h.file, 0, 1<<10)).ReadBytes('\n')
	var have header
	if err != nil || json.Unmarshal(first, &have) != nil || have.Version < 1 {
		return fmt.Errorf("it is not a darkroom history: move it away, or name another file with DARKROOM_HISTORY")
	}
	if have.Version > version {
		return fmt.Errorf("it is from a newer darkroom (version %d; this one knows %d)", have.Version, version)
	}
	size, err := h.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	last := make([]byte, 1)
	if _, err := h.file.ReadAt(last, size-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		_, err = h.file.Write([]byte("\n"))
	}
	return err
}

// Close closes the file.
func (h *History) Close() error { return h.file.Close() }

// Add records a picture. Its ID is the number of its line.
func (h *History) Add(e Entry) error {
	line, err := json.Marshal(stored{Entry: e})
	if err == nil {
		_, err = h.file.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

// lines are the lines after the header with their numbers, from 1. Reading stops when *failed is set.
func (h *History) lines(failed *error) iter.Seq2[int64, []byte] {
	return func(yield func(int64, []byte) bool) {
		f, err := os.Open(h.path)
		if err != nil {
			*failed = fmt.Errorf("history: %w", err)
			return
		}
		defer f.Close()
		r := bufio.NewReaderSize(f, 1<<16)
		for id := int64(0); ; id++ {
			line, err := r.ReadBytes('\n')
			if err == io.EOF {
				return // a line without an end is being written
			}
			if err != nil {
				*failed = fmt.Errorf("history: %w", err)
				return
			}
			if id > 0 && !yield(id, line) {
				return
			}
		}
	}
}

// entry reads a line. Lines that a crash has cut are not entries.
func entry(id int64, line []byte) (e Entry, ok bool) {
	ok = len(bytes.TrimSpace(line)) > 0 && json.Unmarshal(line, &e) == nil
	e.ID = id
	return e, ok
}

// Mark is a place in the history: before its first picture, or after one.
type Mark struct{ at, lines int64 }

// After calls visit with the pictures after a mark, and returns the mark after the last of them.
func (h *History) After(m Mark, visit func(Entry)) (Mark, error) {
	f, err := os.Open(h.path)
	if err != nil {
		return m, fmt.Errorf("history: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(io.NewSectionReader(f, m.at, 1<<62), 1<<16)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return m, nil // a line without an end is being written
		}
		if err != nil {
			return m, fmt.Errorf("history: %w", err)
		}
		if e, ok := entry(m.lines, line); ok && m.lines > 0 {
			visit(e)
		}
		m.at, m.lines = m.at+int64(len(line)), m.lines+1
	}
}

// Query says what to look for. Zero fields match everything.
type Query struct {
	Text         string // words that the prompt has, all of them, in any case
	Model        string // part of the model's name
	Since, Until time.Time
	Limit        int // 0: all
}

// matches reports whether the query finds the entry.
func (q Query) matches(e Entry) bool {
	has := func(text, part string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(part)) }
	for _, word := range strings.Fields(q.Text) {
		if !has(e.Request.Prompt, word) {
			return false
		}
	}
	return has(e.Model, q.Model) && (q.Since.IsZero() || !e.At.Before(q.Since)) && (q.Until.IsZero() || e.At.Before(q.Until))
}

// Find lists pictures, the latest first.
func (h *History) Find(q Query) ([]Entry, error) {
	var found []Entry
	latest := func() {
		slices.SortFunc(found, func(a, b Entry) int {
			if c := b.At.Compare(a.At); c != 0 {
				return c
			}
			return int(b.ID - a.ID)
		})
		if q.Limit > 0 {
			found = found[:min(q.Limit, len(found))]
		}
	}
	var failed error
	for id, line := range h.lines(&failed) {
		if e, ok := entry(id, line); ok && q.matches(e) {
			found = append(found, e)
			if q.Limit > 0 && len(found) > 2*q.Limit+1000 {
				latest() // a long history is not held in memory
			}
		}
	}
	latest()
	return found, failed
}

// Get returns the picture with that ID.
func (h *History) Get(id int64) (Entry, error) {
	var failed error
	for at, line := range h.lines(&failed) {
		if at != id {
			continue
		}
		if e, ok := entry(id, line); ok {
			return e, nil
		}
		break
	}
	if failed == nil {
		failed = fmt.Errorf("history: there is no picture %d", id)
	}
	return Entry{}, failed
}

// Speed is what was measured of the latest pictures of a model ("" any) on a backend ("" any).
type Speed struct {
	Pictures      int
	SecondsPerPix float64 // seconds of a step on a pixel, the median
	BytesPerPix   float64 // of the file, the median
}

// Seconds estimates a picture.
func (s Speed) Seconds(steps, width, height int) float64 {
	return s.SecondsPerPix * float64(steps) * float64(width) * float64(height)
}

// Speed reads the latest hundred pictures.
func (h *History) Speed(model, backend string) (Speed, error) {
	var seconds, sizes []float64
	var failed error
	for _, line := range h.lines(&failed) {
		var e struct { // what is needed of an Entry
			Model, Backend       string
			Seconds              float64
			Bytes                int64
			Steps, Width, Height int
		}
		if json.Unmarshal(line, &e) != nil || model != "" && e.Model != model || backend != "" && e.Backend != backend || e.Steps <= 0 || e.Width <= 0 || e.Height <= 0 {
			continue
		}
		pixels := float64(e.Width) * float64(e.Height)
		seconds, sizes = append(seconds, e.Seconds/float64(e.Steps)/pixels), append(sizes, float64(e.Bytes)/pixels)
	}
	const most = 100
	seconds, sizes = seconds[max(0, len(seconds)-most):], sizes[max(0, len(sizes)-most):]
	if len(seconds) == 0 {
		return Speed{}, failed
	}
	return Speed{len(seconds), median(seconds), median(sizes)}, failed
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// Command is the command line that makes the picture again.
func (e *Entry) Command() string {
	if e.Enlarged != nil {
		return "darkroom upscale " + recipe.ShellWord(cmp.Or(e.Enlarged.From, "FILE")) + " --upscaler " + recipe.ShellWord(e.Enlarged.Upscaler)
	}
	g := e.Request.Given
	for name, value := range map[string]string{"backend": e.Backend, "dtype": e.DType} {
		if !g.Has(name) && value != "" {
			g.Set(name, value)
		}
	}
	return g.Command()
}
