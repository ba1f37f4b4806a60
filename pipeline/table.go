package pipeline

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"darkroom/kernels"
	"darkroom/scheduler"
)

// table is where the pictures of a batch meet to ask the U-Net. Each has a sampler of its own, in a goroutine of its
// own; what they ask is gathered until all that are seated wait, answered by one run of the U-Net on all rows together,
// and handed out. A picture that is finished or has failed leaves, and the others go on without it.
//
// The kernels compute each image of a batch as they compute it alone, so that nobody's picture depends on the company.
type table struct {
	p    *Pipeline
	most int // rows of a run; fewer after one that did not fit

	mu     sync.Mutex
	seated int
	asked  []*question

	prog    *unetProgram
	written []seat    // whose text is in the program
	input   []float32 // [rows,h,w,C]
	time    []float32 // [rows,width]
	output  []float32 // [rows,h,w,C]
}

// question is what a picture asks: the model's output for x at a level, with the first rows of its text. The answer
// is put into the denoiser's rows.
type question struct {
	seat
	x      []float32
	at     scheduler.Level
	answer chan error
}

type seat struct {
	d    *denoiser
	rows int
}

// PanicError is a panic while pictures were made: a programmer's mistake that ends these pictures and not the program.
// The pipeline may be half broken by it and should be closed.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("rendering broke off: %v\n%s", e.Value, e.Stack)
}

// NewPanicError is for a deferred function, with what recover gave.
func NewPanicError(value any) *PanicError {
	const lines = 12 // the rest is of no use to anybody
	stack := debug.Stack()
	end := 0
	for n := 0; n < lines && end < len(stack); n++ {
		next := slices.Index(stack[end:], '\n')
		if next < 0 {
			end = len(stack)
			break
		}
		end += next + 1
	}
	return &PanicError{value, stack[:max(end-1, 0)]}
}

// ask waits until all others have asked too, and for the answer.
func (t *table) ask(ctx context.Context, d *denoiser, rows int, x []float32, at scheduler.Level) error {
	q := &question{seat{d, rows}, x, at, make(chan error, 1)}
	t.mu.Lock()
	t.asked = append(t.asked, q)
	t.serveIfAll(ctx)
	t.mu.Unlock()
	return <-q.answer
}

// leave tells that a picture will ask no more.
func (t *table) leave(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seated--
	t.serveIfAll(ctx)
}

func (t *table) serveIfAll(ctx context.Context) {
	if len(t.asked) < t.seated || len(t.asked) == 0 {
		return
	}
	all := t.asked
	t.asked = nil
	slices.SortFunc(all, func(a, b *question) int { return a.d.number - b.d.number })
	for len(all) > 0 {
		some := all[:t.fitting(all)]
		err := t.serve(ctx, some)
		if err != nil && len(some) > 1 && t.tooMany(err, some) {
			continue
		}
		for _, q := range some {
			if err != nil {
				q.answer <- err
			}
		}
		all = all[len(some):]
	}
}

// fitting is how many of the questions one run may answer, at least one.
func (t *table) fitting(all []*question) (n int) {
	rows := 0
	for n < len(all) && (n == 0 || rows+all[n].rows <= t.most) {
		rows += all[n].rows
		n++
	}
	return n
}

// tooMany says whether there was no room for the program of these questions, and makes the next ones smaller.
func (t *table) tooMany(err error, some []*question) bool {
	if t.prog != nil { // it was made: the error is of its run
		return false
	}
	t.most = rowsOf(some) / 2
	return true
}

func rowsOf(some []*question) (rows int) {
	for _, q := range some {
		rows += q.rows
	}
	return rows
}

// serve answers the questions in one run of the U-Net. With an error none of them is answered.
func (t *table) serve(ctx context.Context, some []*question) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = NewPanicError(v)
		}
	}()
	if err := t.use(some); err != nil {
		return err
	}
	prog, config := t.prog, t.p.unet.Config
	n := some[0].d.plan.latentValues
	t.time = t.time[:0]
	at := 0 // the next row
	for _, q := range some {
		scaled := q.d.rows[condRow] // free until the output comes
		scale := float32(q.d.prediction.InputScale(q.at))
		for i, v := range q.x {
			scaled[i] = v * scale
		}
		proj := config.TimeProj(q.at.T)
		for range q.rows {
			toNHWC(t.input[at*n:(at+1)*n], scaled, config.InChannels)
			t.time = append(t.time, proj...)
			at++
		}
	}
	if err := prog.program.Write(prog.in.Sample, t.input); err != nil {
		return err
	}
	if err := prog.program.Write(prog.in.Time, t.time); err != nil {
		return err
	}
	if err := prog.program.Run(ctx); err != nil {
		return err
	}
	if err := prog.program.Read(t.output, prog.out); err != nil {
		return err
	}
	answers := make([]error, len(some))
	at = 0
	for i, q := range some {
		own := t.output[at*n : (at+q.rows)*n]
		at += q.rows
		if kernels.NonFinite(own) >= 0 {
			answers[i] = diagnose(ctx, prog.program, fmt.Sprintf("the U-Net at timestep %.4g", q.at.T))
			continue
		}
		for r := range q.rows {
			toNCHW(q.d.rows[r], own[r*n:(r+1)*n], config.InChannels)
		}
	}
	for i, q := range some {
		q.answer <- answers[i]
	}
	return nil
}

// use makes the program for the questions ready and writes their text into it, where another was.
func (t *table) use(some []*question) error {
	rows, d := rowsOf(some), some[0].d
	if t.prog == nil || t.prog.batch != rows {
		t.prog, t.written = nil, nil
		prog, err := t.p.unetProgram(rows, d.plan.latentH, d.plan.latentW, d.tokens)
		if err != nil {
			return err
		}
		t.prog = prog
		t.input, t.output = make([]float32, rows*d.plan.latentValues), make([]float32, prog.out.Shape.Len())
	}
	seats := make([]seat, len(some))
	for i, q := range some {
		seats[i] = q.seat
	}
	if slices.Equal(seats, t.written) {
		return nil
	}
	t.written = nil
	width := d.tokens * t.p.text.Config.HiddenSize
	text := make([]float32, 0, rows*width)
	for _, s := range seats {
		text = append(text, s.d.text[:s.rows*width]...)
	}
	if err := t.prog.program.Write(t.prog.in.Text, text); err != nil {
		return err
	}
	t.written = seats
	return nil
}
