package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"darkroom/compare"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// gridProgress shows how far a comparison is: a bar on a terminal, a line now and then elsewhere, warnings alone if quiet.
type gridProgress struct {
	w     io.Writer
	quiet bool
	pool  *mpb.Progress // nil: lines
	bar   *mpb.Bar
	last  time.Time

	mu  sync.Mutex // guards now, which the bar's own goroutine reads
	now compare.Progress
}

func newGridProgress(w io.Writer, quiet bool) *gridProgress {
	p := &gridProgress{w: w, quiet: quiet}
	if !quiet && isTerminal(w) {
		p.pool = mpb.New(mpb.WithOutput(unfiltered(w)), mpb.WithWidth(40))
	}
	return p
}

func (p *gridProgress) update(now compare.Progress) {
	p.mu.Lock()
	began := p.now.Doing != now.Doing
	p.now = now
	p.mu.Unlock()
	switch {
	case p.quiet:
	case p.pool == nil:
		const every = 5 * time.Second
		if began || now.Done == now.Total || time.Since(p.last) >= every {
			p.last = time.Now()
			fmt.Fprintf(p.w, "%s\n", p.text())
		}
	default:
		if began {
			if p.bar != nil {
				p.bar.SetTotal(-1, true)
			}
			p.bar = p.pool.AddBar(int64(now.Total), mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return p.text() })))
		}
		p.bar.SetCurrent(int64(now.Done))
	}
}

// text is "rendering: 12 of 640 pictures, 3m20s left".
func (p *gridProgress) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := fmt.Sprintf("%s: %d of %d pictures", p.now.Doing, p.now.Done, p.now.Total)
	if p.now.Left > 0 {
		s += fmt.Sprintf(", %v left", p.now.Left.Round(time.Second))
	}
	return s
}

func (p *gridProgress) note(text string) {
	text = printable(text)
	if p.pool != nil {
		fmt.Fprintln(p.pool, text)
		return
	}
	fmt.Fprintln(p.w, text)
}

// end leaves the terminal as it should be, finished or not.
func (p *gridProgress) end() {
	if p.pool == nil {
		return
	}
	if p.bar != nil && !p.bar.Completed() {
		p.bar.Abort(false)
	}
	p.pool.Wait()
	p.pool = nil
}
