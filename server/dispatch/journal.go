package dispatch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"darkroom/atomicfile"
	"darkroom/batch/jobs"
)

// The journal is a file of JSON lines: what was accepted, and how it ended. Which pictures of a job are finished, the manifest
// says. A job without an end is gone on with when the server starts.
const journalName = "jobs.jsonl"

// accepted is a job as it was accepted: all that is needed to make its pictures.
type accepted struct {
	ID       string    `json:"id"`
	Created  time.Time `json:"created"`
	Priority int       `json:"priority,omitempty"`
	Origin   string    `json:"origin"`
	Client   string    `json:"client,omitempty"` // who asked: see Submission
	Key      string    `json:"key,omitempty"`    // of idempotency
	Body     string    `json:"body,omitempty"`   // hash of what came with the key
	Trace    string    `json:"trace,omitempty"`  // of the request, for spans
	Items    []item    `json:"items"`
}

// item is a picture of a job.
type item struct {
	Request jobs.Request `json:"request"`
	File    string       `json:"file"`
}

// ending is how a job ended. Pictures that are not named are in the manifest.
type ending struct {
	ID      string         `json:"id"`
	State   string         `json:"state"`
	Started *time.Time     `json:"started,omitempty"`
	Ended   time.Time      `json:"ended"`
	Errors  map[int]string `json:"errors,omitempty"`
}

// line is one of these.
type line struct {
	Accept   *accepted `json:"accept,omitempty"`
	End      *ending   `json:"end,omitempty"`
	Priority *struct {
		ID string `json:"id"`
		To int    `json:"to"`
	} `json:"priority,omitempty"`
}

// journal writes lines. Those that are handed over while others are written to the disk are written together after them.
type journal struct {
	path  string
	open  sync.RWMutex // held for reading while a line is handed over
	ended bool         // nothing is handed over any more
	lines chan entry
	done  chan struct{}
	size  int64 // bytes of whole lines
	file  *os.File
	count int // of lines in the file

	// compact gives the lines that are worth keeping, when there are many more than those.
	compact func() []line
	warn    func(string)
}

type entry struct {
	text   []byte
	answer chan error
}

// openJournal opens the journal in a folder and hands every whole line to read. A last line that a crash has cut is taken off; a
// damaged line is reported and skipped.
func openJournal(folder string, read func(line), warn func(string)) (*journal, error) {
	j := &journal{path: filepath.Join(folder, journalName), lines: make(chan entry, 1024), done: make(chan struct{}), warn: warn}
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the journal of jobs: %w", err)
	}
	j.file = f
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the journal of jobs: %w", err), f.Close())
	}
	for n := 1; ; n++ {
		end := bytes.IndexByte(data[j.size:], '\n')
		if end < 0 {
			break
		}
		var l line
		if err := json.Unmarshal(data[j.size:j.size+int64(end)], &l); err != nil {
			warn(fmt.Sprintf("line %d of %s is damaged and ignored: %v", n, j.path, err))
		} else {
			read(l)
		}
		j.size += int64(end) + 1
		j.count++
	}
	if err := f.Truncate(j.size); err != nil {
		return nil, errors.Join(fmt.Errorf("the journal of jobs: %w", err), f.Close())
	}
	return j, nil
}

// run writes what is handed over until close.
func (j *journal) run() {
	defer close(j.done)
	for first := range j.lines {
		all := []entry{first}
		for more := true; more && len(all) < cap(j.lines); {
			select {
			case e, ok := <-j.lines:
				if more = ok; ok {
					all = append(all, e)
				}
			default:
				more = false
			}
		}
		err := j.write(all)
		for _, e := range all {
			if e.answer != nil {
				e.answer <- err
			} else if err != nil {
				j.warn(err.Error())
			}
		}
		if err == nil {
			j.shorten()
		}
	}
}

// write appends lines and waits until they are on the disk. After an error nothing of them is left.
func (j *journal) write(all []entry) error {
	var buf bytes.Buffer
	for _, e := range all {
		buf.Write(e.text)
	}
	_, err := j.file.WriteAt(buf.Bytes(), j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		_ = j.file.Truncate(j.size)
		return fmt.Errorf("writing %s: %w", j.path, err)
	}
	j.size += int64(buf.Len())
	j.count += len(all)
	return nil
}

// add hands a line over, and waits until it is on the disk.
func (j *journal) add(l line) error {
	e, err := encoded(l)
	if err != nil {
		return err
	}
	e.answer = make(chan error, 1)
	if !j.hand(e) {
		return ErrStopping
	}
	return <-e.answer
}

// hand hands a line to run; false: it has ended.
func (j *journal) hand(e entry) bool {
	j.open.RLock()
	defer j.open.RUnlock()
	if !j.ended {
		j.lines <- e
	}
	return !j.ended
}

// note hands a line over without waiting: what it says can be found out again.
func (j *journal) note(l line) {
	if e, err := encoded(l); err == nil {
		j.hand(e)
	}
}

func encoded(l line) (entry, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(l)
	return entry{text: buf.Bytes()}, err
}

// shorten writes the journal anew when most of it is of jobs that nobody remembers.
func (j *journal) shorten() {
	if j.compact == nil || j.count < 1000 {
		return
	}
	keep := j.compact()
	if keep == nil || j.count < 4*len(keep) {
		return
	}
	if err := j.rewrite(keep); err != nil {
		j.warn("shortening the journal of jobs: " + err.Error())
		j.count = 0 // not again soon
	}
}

func (j *journal) rewrite(keep []line) error {
	var buf bytes.Buffer
	for _, l := range keep {
		e, err := encoded(l)
		if err != nil {
			return err
		}
		buf.Write(e.text)
	}
	if err := atomicfile.WriteData(j.path, buf.Bytes()); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	j.file.Close()
	j.file, j.size, j.count = f, int64(buf.Len()), len(keep)
	return nil
}

// close writes what was handed over.
func (j *journal) close() error {
	j.open.Lock()
	j.ended = true
	close(j.lines)
	j.open.Unlock()
	<-j.done
	return j.file.Close()
}
