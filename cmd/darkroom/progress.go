package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how far a picture is: a bar on a terminal, a line now and then elsewhere, nothing if quiet.
type progress interface {
	// start begins a picture of so many steps.
	start(title string, steps int)
	step(n int)
	// end ends the picture, finished or not.
	end()
	// note shows a line without disturbing the bar.
	note(text string)
	// above is where a line of results goes so that it does not disturb the bar, nil: to its own place.
	above() io.Writer
}

func newProgress(w io.Writer, quiet bool) progress {
	switch {
	case quiet:
		return &silent{w}
	case isTerminal(w):
		return &bar{w: w}
	}
	return &lines{w: w, every: 2 * time.Second}
}

// isTerminal reports whether a bar can be drawn: some terminals do not know their width.
func isTerminal(w io.Writer) bool {
	f, ok := unfiltered(w).(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	return err == nil && width > 0
}

// silent shows only warnings.
type silent struct{ w io.Writer }

func (p *silent) start(string, int) {}
func (p *silent) step(int)          {}
func (p *silent) end()              {}
func (p *silent) note(text string)  { fmt.Fprintln(p.w, printable(text)) }

// pace is the speed of the steps done so far.
type pace struct {
	elapsed     time.Duration
	steps, done int
}

// String is "2.31 it/s, ETA 12s", with seconds a step where a step takes longer than one.
func (p pace) String() string {
	if p.done == 0 || p.elapsed <= 0 {
		return "…"
	}
	rate := float64(p.done) / p.elapsed.Seconds()
	speed := fmt.Sprintf("%.2f it/s", rate)
	if rate < 1 {
		speed = fmt.Sprintf("%.2f s/it", 1/rate)
	}
	if p.done == p.steps {
		return speed
	}
	eta := time.Duration(float64(p.steps-p.done) / rate * float64(time.Second))
	return speed + ", ETA " + eta.Round(time.Second).String()
}

// lines is for logs: the first step, the last, and in between a line every so often.
type lines struct {
	w     io.Writer
	every time.Duration
	title string
	steps int
	begun time.Time
	last  time.Time
}

func (p *lines) start(title string, steps int) {
	p.title, p.steps, p.begun, p.last = title, steps, time.Now(), time.Time{}
}

func (p *lines) step(n int) {
	if now := time.Now(); n == p.steps || now.Sub(p.last) >= p.every {
		p.last = now
		fmt.Fprintf(p.w, "%s: step %d/%d, %v\n", p.title, n, p.steps, pace{now.Sub(p.begun), p.steps, n})
	}
}

func (p *lines) end()             {}
func (p *lines) note(text string) { fmt.Fprintln(p.w, printable(text)) }

// bar is for terminals.
type bar struct {
	w    io.Writer
	pool *mpb.Progress
	bar  *mpb.Bar
	auto bool // draws although w is not a terminal: for the test
}

func (p *bar) start(title string, steps int) {
	options := []mpb.ContainerOption{mpb.WithOutput(unfiltered(p.w)), mpb.WithWidth(40)}
	if p.auto {
		options = append(options, mpb.WithAutoRefresh())
	}
	p.pool = mpb.New(options...)
	begun := time.Now()
	p.bar = p.pool.AddBar(int64(steps),
		mpb.PrependDecorators(decor.Name(title+" "), decor.CountersNoUnit("%d/%d")),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
			return pace{time.Since(begun), int(s.Total), int(s.Current)}.String()
		})))
}

func (p *bar) step(n int) { p.bar.SetCurrent(int64(n)) }

func (p *bar) end() {
	if p.pool == nil {
		return
	}
	if !p.bar.Completed() {
		p.bar.Abort(false)
	}
	p.pool.Wait()
	p.pool = nil
}

func (p *bar) note(text string) {
	text = printable(text)
	if p.pool != nil && !p.bar.Completed() {
		if _, err := fmt.Fprintln(p.pool, text); err == nil {
			return
		}
	}
	fmt.Fprintln(p.w, text)
}

func (p *silent) above() io.Writer { return nil }
func (p *lines) above() io.Writer  { return nil }

func (p *bar) above() io.Writer {
	if p.pool == nil || p.bar.Completed() {
		return nil
	}
	return p.pool
}

// printLine writes a line of results to w, or above the bar where both are on a terminal: there a line of its own would
// be drawn over.
func printLine(above, w io.Writer, line string) error {
	if above != nil && isTerminal(w) {
		if _, err := fmt.Fprintln(above, string(visible([]byte(line)))); err == nil {
			return nil
		}
	}
	return println(w, line)
}
