package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"darkroom/batch"
	"darkroom/batch/manifest"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// batchProgress shows how far a batch is: a bar on a terminal, a line now and then elsewhere, JSON lines on stdout with
// --json. Without --json, the path of each finished picture goes to stdout.
type batchProgress struct {
	mu       sync.Mutex
	out      io.Writer
	errs     io.Writer
	json     bool
	quiet    bool
	begun    time.Time
	first    time.Time // when the first picture was begun: models are open by then
	last     time.Time // when a line was shown
	pool     *mpb.Progress
	bar      *mpb.Bar
	sum      batch.Summary
	underway map[string]float64 // hash → share of the steps that is done, of pictures on their way
	warned   map[string]bool
}

func newBatchProgress(e *env, quiet, json bool, total int) *batchProgress {
	p := &batchProgress{out: e.stdout, errs: e.stderr, json: json, quiet: quiet, begun: time.Now(), underway: map[string]float64{}, warned: map[string]bool{}}
	if !quiet && isTerminal(e.stderr) {
		p.pool = mpb.New(mpb.WithOutput(unfiltered(e.stderr)), mpb.WithWidth(40))
		p.bar = p.pool.AddBar(int64(total), mpb.PrependDecorators(decor.CountersNoUnit("%d/%d pictures")),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return p.rate() })))
	}
	return p
}

// rate is "31.5/min, ETA 2m10s, 1 failed".
func (p *batchProgress) rate() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rateLocked()
}

func (p *batchProgress) rateLocked() string {
	text := ""
	if perMinute := p.perMinute(); perMinute > 0 {
		text = fmt.Sprintf("%.1f/min", perMinute)
		if left := float64(p.sum.Left()) - p.shares(); left > 0 {
			text += fmt.Sprintf(", ETA %v", time.Duration(left/perMinute*float64(time.Minute)).Round(time.Second))
		}
	}
	if p.sum.Failed > 0 {
		text += fmt.Sprintf(", %d failed", p.sum.Failed)
	}
	return text
}

// perMinute is the speed since the first picture started. Unfinished pictures count by their steps, because pictures
// rendered together also finish together, and the speed would otherwise be 0 until then.
func (p *batchProgress) perMinute() float64 {
	done := float64(p.sum.Finished+p.sum.Failed) + p.shares()
	elapsed := time.Since(p.first).Minutes()
	if p.first.IsZero() || done == 0 || elapsed <= 0 {
		return 0
	}
	return done / elapsed
}

func (p *batchProgress) shares() (sum float64) {
	for _, share := range p.underway {
		sum += share
	}
	return sum
}

// batchEvent is a line of batch --json.
type batchEvent struct {
	Event     string           `json:"event"`
	Hash      string           `json:"hash,omitempty"`
	Index     *int             `json:"index,omitempty"`
	Step      int              `json:"step,omitempty"`
	Steps     int              `json:"steps,omitempty"`
	Text      string           `json:"text,omitempty"`
	Device    string           `json:"device,omitempty"`
	Record    *manifest.Record `json:"record,omitempty"`
	Total     int              `json:"total"`
	Kept      int              `json:"kept"`
	Rendered  int              `json:"rendered"`
	Failed    int              `json:"failed"`
	PerMinute float64          `json:"per_minute,omitempty"`
}

func (p *batchProgress) event(ev batch.Event) {
	p.mu.Lock()
	p.sum = ev.Summary
	switch {
	case ev.Kind == batch.Step && ev.Steps > 0:
		p.underway[ev.Image.Hash] = float64(ev.Step) / float64(ev.Steps)
	case ev.Image != nil && ev.Kind != batch.Warning:
		delete(p.underway, ev.Image.Hash)
	}
	if p.first.IsZero() && ev.Kind != batch.Kept && ev.Kind != batch.Warning {
		p.first = time.Now()
		if ev.Kind != batch.Started { // workers elsewhere do not tell when they begin
			p.first = p.begun
		}
	}
	p.mu.Unlock()
	if p.bar != nil {
		p.bar.SetCurrent(int64(ev.Kept + ev.Finished + ev.Failed))
	}
	if p.json {
		p.writeJSON(ev)
		return
	}
	switch ev.Kind {
	case batch.Finished:
		_ = printLine(p.above(), p.out, ev.Record.File)
	case batch.Failed:
		p.note(fmt.Sprintf("failed: %s (line %d): %s", ev.Image.File, ev.Image.Line, ev.Record.Error))
	case batch.Retrying:
		p.note(fmt.Sprintf("tried again: %s: %s", ev.Image.File, ev.Text))
	case batch.Warning:
		if !p.warned[ev.Text] && len(p.warned) < 1000 { // the same for many pictures
			p.warned[ev.Text] = true
			p.note("warning: " + ev.Text)
		}
	}
	if counted := ev.Kind == batch.Finished || ev.Kind == batch.Failed; counted && p.bar == nil && !p.quiet && (time.Since(p.last) > 5*time.Second || ev.Left() == 0) {
		p.last = time.Now()
		p.note(fmt.Sprintf("%d/%d pictures, %s", ev.Kept+ev.Finished+ev.Failed, ev.Total, p.rate()))
	}
}

func (p *batchProgress) writeJSON(ev batch.Event) {
	line := batchEvent{Event: ev.Kind, Step: ev.Step, Steps: ev.Steps, Text: ev.Text, Device: ev.Device, Total: ev.Total, Kept: ev.Kept, Rendered: ev.Finished, Failed: ev.Failed}
	if ev.Image != nil {
		line.Hash, line.Index = ev.Image.Hash, &ev.Image.Index
	}
	if ev.Record.Hash != "" {
		line.Record = &ev.Record
	}
	p.mu.Lock()
	line.PerMinute = p.perMinute()
	p.mu.Unlock()
	var text bytes.Buffer
	_ = printJSON(&text, line)
	_ = printLine(p.above(), p.out, strings.TrimSuffix(text.String(), "\n"))
}

func (p *batchProgress) above() io.Writer {
	if p.pool == nil { // in an interface, it would not be nil
		return nil
	}
	return p.pool
}

// note shows a line without disturbing the bar.
func (p *batchProgress) note(text string) {
	text = printable(text)
	if p.pool != nil {
		if _, err := fmt.Fprintln(p.pool, text); err == nil {
			return
		}
	}
	fmt.Fprintln(p.errs, text)
}

func (p *batchProgress) end() {
	if p.pool == nil {
		return
	}
	if !p.bar.Completed() {
		p.bar.Abort(false)
	}
	p.pool.Wait()
	p.pool, p.bar = nil, nil
}
