package kernels

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Trace writes what programs do as a Chrome trace (the JSON array format that chrome://tracing and Perfetto open): an
// event for each operation with its shape and arithmetic. Programs that are traced wait for each operation, so a whole
// run takes longer than without, and the times of operations are true on a GPU, too. Its methods may be called
// concurrently.
type Trace struct {
	mu    sync.Mutex
	w     *bufio.Writer
	close func() error
	begun time.Time
	rows  map[string]int // by name: a program's row in the picture
	err   error
}

// NewTrace begins a trace. Close ends it and closes w.
func NewTrace(w io.WriteCloser) *Trace {
	t := &Trace{w: bufio.NewWriter(w), close: w.Close, begun: time.Now(), rows: map[string]int{}}
	_, t.err = t.w.WriteString("[\n")
	return t
}

// event is one line of the format: times are in microseconds.
type event struct {
	Name  string         `json:"name"`
	Phase string         `json:"ph"` // X: an interval; M: the name of a row
	At    float64        `json:"ts"`
	Took  float64        `json:"dur,omitempty"`
	PID   int            `json:"pid"`
	Row   int            `json:"tid"`
	Args  map[string]any `json:"args,omitempty"`
}

// Span records an interval on a row of that name.
func (t *Trace) Span(row, name string, begun time.Time, args map[string]any) {
	took := time.Since(begun)
	t.mu.Lock()
	defer t.mu.Unlock()
	n, known := t.rows[row]
	if !known {
		n = len(t.rows) + 1
		t.rows[row] = n
		t.write(event{Name: "thread_name", Phase: "M", PID: 1, Row: n, Args: map[string]any{"name": row}})
	}
	t.write(event{name, "X", micros(begun.Sub(t.begun)), micros(took), 1, n, args})
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func (t *Trace) write(e event) {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = fmt.Fprintf(t.w, "%s,\n", line)
	}
	if t.err == nil {
		t.err = err
	}
}

// Close ends the file and returns the first error of all that was written.
func (t *Trace) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.w.WriteString("{}]\n")
	return errors.Join(t.err, err, t.w.Flush(), t.close())
}

// Trace has the program's runs recorded on a row of that name; nil ends it.
func (p *Program) Trace(t *Trace, row string) { p.trace, p.traceRow = t, row }

// runTraced is Run with an event for each operation, and one around them all.
func (p *Program) runTraced(ctx context.Context) error {
	all := time.Now()
	err := p.each(ctx, 0, func(s step) error {
		begun := time.Now()
		s.op.Run(p.backend, s.out)
		err := p.backend.Sync()
		p.trace.Span(p.traceRow, s.label, begun, map[string]any{"op": s.op.Kind(), "shape": s.out.Shape.String(), "MFLOP": s.op.FLOPs() / 1e6})
		return err
	})
	p.trace.Span("runs", p.traceRow, all, nil)
	return err
}
