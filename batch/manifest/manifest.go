// Package manifest keeps a batch's records: manifest.jsonl, a line of JSON for each image that was finished or
// failed. It is the truth about a batch: a line is written and synced when its file is under its final name, and
// what has no line is rendered.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"darkroom/batch/jobs"
	"darkroom/machine"
)

// Name is the file's name in the output folder.
const Name = "manifest.jsonl"

// The outcomes of an image.
const (
	Done      = "done"
	Failed    = "failed"
	Cancelled = "cancelled"
)

// Record is a line: the outcome of a request. Only the last line of each hash counts.
type Record struct {
	Hash   string `json:"hash"` // of the request
	Status string `json:"status"`
	Index  int    `json:"index"` // in the job file, from 0

	File   string `json:"file,omitempty"`   // slash-separated, below the folder
	SHA256 string `json:"sha256,omitempty"` // of the file
	Bytes  int64  `json:"bytes,omitempty"`
	Pixels string `json:"pixels,omitempty"` // SHA-256 of the pixels, as in the recipe

	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Seconds  float64   `json:"seconds"` // of rendering

	Worker    string `json:"worker,omitempty"`
	Device    string `json:"device,omitempty"`
	Backend   string `json:"backend,omitempty"`
	DType     string `json:"dtype,omitempty"`
	ModelHash string `json:"model_hash,omitempty"`
	Numerics  string `json:"numerics,omitempty"`
	Steps     int    `json:"steps,omitempty"` // that were run, and the size that was made:
	Width     int    `json:"width,omitempty"` // the request may leave them to the model
	Height    int    `json:"height,omitempty"`

	Attempts int    `json:"attempts"`
	Error    string `json:"error,omitempty"`

	Request jobs.Request `json:"request"`
}

// Manifest is an open manifest. Methods may be called concurrently.
type Manifest struct {
	path string

	mu      sync.Mutex
	file    *os.File
	size    int64 // of whole lines
	records map[string]Record
	draw    *uint64
	notes   []string
}

// Open opens the manifest of an output folder, or begins one. A last line that a crash cut short is taken off. The
// manifest is locked: a second program that opens it gets ErrLocked.
func Open(folder string) (*Manifest, error) {
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, fmt.Errorf("the output folder: %w", err)
	}
	path := filepath.Join(folder, Name)
	if st, err := os.Lstat(path); err == nil && !st.Mode().IsRegular() { // a link's target is not a manifest of this folder
		return nil, fmt.Errorf("opening the manifest: %s is not a plain file: remove it, or choose another folder", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("opening the manifest: %w", err)
	}
	m := &Manifest{path: path, file: f}
	if machine.Lock(f) != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrLocked)
	}
	if err := m.load(); err != nil {
		f.Close()
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return m, nil
}

// ErrLocked says that another program writes to the manifest.
var ErrLocked = errors.New("another darkroom is using this folder: wait for it, or choose another folder")

// Read reads the records of a folder without locking it; none if there is no manifest.
func Read(folder string) (map[string]Record, []string, error) {
	data, err := os.ReadFile(filepath.Join(folder, Name))
	if errors.Is(err, os.ErrNotExist) {
		return map[string]Record{}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	c := parse(data)
	return c.records, c.notes, nil
}

// ReadDraw is the number that a folder's batch draws its seeds from, if it has one.
func ReadDraw(folder string) (draw uint64, ok bool) {
	data, err := os.ReadFile(filepath.Join(folder, Name))
	if err != nil {
		return 0, false
	}
	if c := parse(data); c.draw != nil {
		return *c.draw, true
	}
	return 0, false
}

func (m *Manifest) load() error {
	data, err := os.ReadFile(m.path)
	if err != nil {
		return err
	}
	c := parse(data)
	m.records, m.draw, m.notes = c.records, c.draw, c.notes
	m.size = int64(c.whole)
	if c.whole < len(data) {
		if err := m.file.Truncate(m.size); err != nil {
			return err
		}
	}
	_, err = m.file.Seek(m.size, 0)
	return err
}

// content is what a manifest's text says.
type content struct {
	records map[string]Record
	draw    *uint64
	whole   int // bytes of whole lines
	notes   []string
}

// drawLine is a line that says what the batch draws its seeds from.
type drawLine struct {
	Draw *uint64 `json:"draw"`
}

// parse reads all whole lines. A damaged line is noted and left out: its image is rendered again.
func parse(data []byte) content {
	c := content{records: map[string]Record{}}
	for n := 1; ; n++ {
		end := bytes.IndexByte(data[c.whole:], '\n')
		if end < 0 {
			return c
		}
		line := data[c.whole : c.whole+end]
		c.whole += end + 1
		var d drawLine
		if err := json.Unmarshal(line, &d); err == nil && d.Draw != nil {
			c.draw = d.Draw
			continue
		}
		var r Record
		if err := json.Unmarshal(line, &r); err != nil || r.Hash != r.Request.Hash() {
			if len(c.notes) < 10 {
				c.notes = append(c.notes, fmt.Sprintf("line %d of %s is damaged and ignored: its picture is made again if a job asks for it", n, Name))
			}
			continue
		}
		c.records[r.Hash] = r
	}
}

// Notes list the damage that was found.
func (m *Manifest) Notes() []string { return m.notes }

// Get is the last record of a request.
func (m *Manifest) Get(hash string) (Record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[hash]
	return r, ok
}

// Records calls visit for the last record of every request, in no order, until it returns false.
func (m *Manifest) Records(visit func(Record) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		if !visit(r) {
			return
		}
	}
}

// Append writes records and waits until they are on disk. After an error (a full disk), nothing of them remains and
// Append may be retried.
func (m *Manifest) Append(records ...Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	lines := make([]any, len(records))
	for i, r := range records {
		lines[i] = r
	}
	if err := m.write(lines...); err != nil {
		return err
	}
	for _, r := range records {
		m.records[r.Hash] = r
	}
	return nil
}

// KeepDraw writes down what the batch draws its seeds from, before the first of them is used. Another number than the one
// that is there is an error: another program has begun the batch meanwhile.
func (m *Manifest) KeepDraw(draw uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.draw == nil:
		m.draw = &draw
		return m.write(drawLine{&draw})
	case *m.draw != draw:
		return fmt.Errorf("%s: another program has drawn its seeds in the meantime: run the command again", m.path)
	}
	return nil
}

// write appends lines and waits until they are on the disk.
func (m *Manifest) write(lines ...any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for _, line := range lines {
		if err := enc.Encode(line); err != nil {
			return fmt.Errorf("writing %s: %w", m.path, err)
		}
	}
	err := m.inPlace()
	if err == nil {
		_, err = m.file.WriteAt(buf.Bytes(), m.size)
	}
	if err == nil {
		err = m.file.Sync()
	}
	if err != nil {
		_ = m.file.Truncate(m.size) // a cut line is taken off by the next Open too
		return fmt.Errorf("writing %s: %w", m.path, err)
	}
	m.size += int64(buf.Len())
	return nil
}

// inPlace reports whether the open file still is the manifest, with what was written to it.
func (m *Manifest) inPlace() error {
	own, err := m.file.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(m.path); err != nil || !os.SameFile(own, now) || own.Size() < m.size {
		return errors.New("another program has removed, replaced or cut it while the batch ran")
	}
	return nil
}

// Close closes the file and gives back the lock.
func (m *Manifest) Close() error { return m.file.Close() }
