package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"darkroom/family"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/scheduler"
	"darkroom/stage"
	"darkroom/tensor"
)

// batcher runs the denoiser for several pictures at once. Each has its own sampler in its own goroutine. The batcher
// gathers their requests until every picture waits, answers them with one run over all rows, and hands the results out. A
// picture that is finished or has failed leaves, and the others continue without it.
//
// The kernels compute each row of a batch exactly as they would alone, so no picture depends on its batch.
type batcher struct {
	p    *Pipeline
	most int // rows of a run; fewer after one that did not fit

	mu       sync.Mutex
	pictures int // that may still ask
	waiting  []*request

	ready   bool               // there is a program for the rows of the latest run
	part    *stage.Part        // whose program that is
	written map[nn.Form][]rows // whose conditions are in the program of that form

	sample []float32 // [rows,h,w,C]
	output []float32 // what the program wrote, [rows,…]
}

// rows are n conditions of a picture, from the first or another one, as they are since its latest change.
type rows struct {
	d     *denoiser
	from  int
	n     int
	epoch int
}

// request asks for the denoiser's output for x at a level. The answer is put into the picture's rows; of a cut denoiser,
// into inner and first.
type request struct {
	rows
	form   nn.Form
	x      []float32
	at     scheduler.Level
	answer chan error
}

// ask waits until all others have asked too, and for the answer.
func (b *batcher) ask(ctx context.Context, d *denoiser, n int, form nn.Form, x []float32, at scheduler.Level) error {
	r := &request{rows{d, d.from(form), n, d.epoch}, form, x, at, make(chan error, 1)}
	b.mu.Lock()
	b.waiting = append(b.waiting, r)
	b.runIfAll(ctx)
	b.mu.Unlock()
	return <-r.answer
}

// leave removes a picture that will ask no more.
func (b *batcher) leave(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pictures--
	b.runIfAll(ctx)
}

func (b *batcher) runIfAll(ctx context.Context) {
	if len(b.waiting) < b.pictures || len(b.waiting) == 0 {
		return
	}
	all := b.waiting
	b.waiting = nil
	slices.SortFunc(all, func(a, b *request) int {
		return cmp.Or(int(a.form-b.form), a.d.cache.Layers()-b.d.cache.Layers(), a.d.number-b.d.number)
	})
	for len(all) > 0 {
		some := all[:b.fitting(all)]
		err := b.run(ctx, some)
		if err != nil && len(some) > 1 && !b.ready { // no room for the program: try with fewer
			b.most = rowsOf(some) / 2
			continue
		}
		for _, r := range some {
			if err != nil {
				r.answer <- err
			}
		}
		all = all[len(some):]
	}
}

// fitting is how many of the requests one run can answer, at least one.
func (b *batcher) fitting(all []*request) (count int) {
	sum := 0
	for count < len(all) && (count == 0 || sum+all[count].n <= b.most && all[count].cut() == all[0].cut()) {
		sum += all[count].n
		count++
	}
	return count
}

func rowsOf(some []*request) (n int) {
	for _, r := range some {
		n += r.n
	}
	return n
}

// run answers the requests in one run of the denoiser. With an error none of them is answered.
func (b *batcher) run(ctx context.Context, some []*request) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = NewPanicError(v)
		}
	}()
	if err := b.prepare(some); err != nil {
		return err
	}
	if err := b.write(some); err != nil {
		return err
	}
	part := b.part
	if err := part.Exec(ctx); err != nil {
		return err
	}
	answers := make([]error, len(some))
	names := outputs[some[0].form]
	if slices.ContainsFunc(some, (*request).keeps) {
		names = part.Outputs()
	}
	for _, name := range names {
		if err := b.read(ctx, name, some, answers); err != nil {
			return err
		}
	}
	for i, r := range some {
		r.answer <- answers[i]
	}
	return nil
}

// outputs are what the forms of a denoiser write.
var outputs = map[nn.Form][]string{
	nn.Whole: {"prediction"},
	nn.Keep:  {"prediction", "inner", "first"},
	nn.Outer: {"prediction"},
	nn.First: {"first"},
	// And each cross-attention's, where some request keeps them.
	nn.KeepCross: {"prediction"},
	nn.NoCross:   {"prediction"},
}

// keeps says whether what cross-attention gives is for later calls.
func (r *request) keeps() bool { return r.form == nn.KeepCross && r.d.cache.Keeps(r.d.step) }

// from is the first of the rows that a call of that form reads. Without cross-attention what else a network reads of the
// prompt is the negative one's, as in the paper's code; but what controls read is the prompt's.
func (d *denoiser) from(form nn.Form) int {
	if form == nn.NoCross && d.guide != nil && d.prepared == nil {
		return uncondRow
	}
	return condRow
}

// keepCross keeps the mean of a cross-attention's results for the prompt and the negative prompt.
func (d *denoiser) keepCross(name string, rows []float32, n int) {
	own := slices.Clone(rows[:len(rows)/n])
	if n > uncondRow {
		for k, v := range rows[len(own) : 2*len(own)] {
			own[k] = (own[k] + v) / 2
		}
	}
	if d.cross == nil {
		d.cross = map[string][]float32{}
	}
	d.cross[name] = own
}

// read gives each request its rows of an output, or the reason why there are none.
func (b *batcher) read(ctx context.Context, name string, some []*request, answers []error) error {
	part := b.part
	all := part.Result(name).Len()
	b.output = slices.Grow(b.output[:0], all)[:all]
	if err := part.Read(name, b.output); err != nil {
		return err
	}
	n, at := all/rowsOf(some), 0
	for i, r := range some {
		own := b.output[at*n : (at+r.n)*n]
		at += r.n
		switch {
		case answers[i] != nil:
		case kernels.NonFinite(own) >= 0:
			answers[i] = part.NotFinite().Diagnosis(ctx, fmt.Sprintf(" at timestep %.4g", r.at.T))
		case name == "inner":
			r.d.inner = append(r.d.inner[:0], own...)
		case name == "first":
			r.d.first = slices.Clone(own)
		case name != "prediction":
			if r.keeps() {
				r.d.keepCross(name, own, r.n)
			}
		default:
			for j := range r.n {
				tensor.ToNCHW(r.d.rows[j], own[j*n:(j+1)*n], b.p.model.Latent.Channels)
			}
		}
	}
	return nil
}

// cut is what is written of the denoiser for the request.
func (r *request) cut() nn.Cut {
	c := nn.Cut{Form: r.form}
	if r.form == nn.Keep || r.form == nn.Outer {
		c.Layers = r.d.cache.Layers()
	}
	return c
}

// write fills the program's inputs: the scaled latents, what depends on the noise level, and the conditions where others
// are in the program.
func (b *batcher) write(some []*request) error {
	part := b.part
	channels := b.p.model.Latent.Channels + b.p.model.Denoiser.Extra()
	n := some[0].d.plan.latentValues / b.p.model.Latent.Channels * channels
	clock := map[string][]float32{}
	var latents []float32 // alone
	at := 0               // the next row
	for _, r := range some {
		scaled := r.d.rows[condRow] // free until the output comes
		scale := float32(r.d.prediction.InputScale(r.at))
		for i, v := range r.x {
			scaled[i] = v * scale
		}
		now := b.p.model.Denoiser.Clock(r.at, r.d.plan.CFG)
		if part.Shape(family.LatentsName) != nil {
			own := make([]float32, len(scaled))
			tensor.ToNHWC(own, scaled, b.p.model.Latent.Channels)
			latents = append(latents, slices.Repeat(own, r.n)...)
		}
		for row := range r.n {
			whole := scaled
			if r.d.extra != nil {
				whole = slices.Concat(scaled, r.d.extra[r.from+row])
			}
			tensor.ToNHWC(b.sample[at*n:(at+1)*n], whole, channels)
			at++
			for name, v := range now {
				clock[name] = append(clock[name], tensor.Floats(v.Data)...)
			}
		}
	}
	if err := part.Write("sample", b.sample); err != nil {
		return err
	}
	if latents != nil {
		clock[family.LatentsName] = latents
	}
	for name, values := range clock {
		if err := part.Write(name, values); err != nil {
			return err
		}
	}
	if some[0].form == nn.Outer {
		var inner []float32
		for _, r := range some {
			inner = append(inner, r.d.inner[:len(r.d.inner)/r.d.cache.Rows()*r.n]...)
		}
		if err := part.Write("inner", inner); err != nil {
			return err
		}
	}
	return b.writeConditions(some)
}

func (b *batcher) writeConditions(some []*request) error {
	now := make([]rows, len(some))
	for i, r := range some {
		now[i] = r.rows
	}
	form := some[0].form
	if slices.Equal(now, b.written[form]) {
		return nil
	}
	delete(b.written, form)
	part := b.part
	for name := range some[0].d.now[condRow] {
		if part.Shape(name) == nil {
			continue // this network does not read it
		}
		values := make([]float32, 0, part.Shape(name).Len())
		for _, r := range now {
			for _, cond := range r.d.now[r.from : r.from+r.n] {
				values = append(values, tensor.Floats(cond[name].Data)...)
			}
		}
		if err := part.Write(name, values); err != nil {
			return err
		}
	}
	if form == nn.NoCross {
		if err := b.writeCross(now); err != nil {
			return err
		}
	}
	b.written[form] = now
	return nil
}

// writeCross writes what the pictures keep of cross-attention. It does not change any more once a call reads it.
func (b *batcher) writeCross(all []rows) error {
	for name := range all[0].d.cross {
		var values []float32
		for _, r := range all {
			values = append(values, r.d.cross[name]...)
		}
		if err := b.part.Write(name, values); err != nil {
			return err
		}
	}
	return nil
}

// choose is the network that the requests need: the one with controls as long as any of them steers.
func (b *batcher) choose(some []*request) *stage.Part {
	if slices.ContainsFunc(some, func(r *request) bool { return r.d.steers }) {
		return some[0].d.net.Part()
	}
	return b.p.model.Denoiser.Part()
}

// prepare compiles the program for the requests.
func (b *batcher) prepare(some []*request) error {
	d, part := some[0].d, b.choose(some)
	if b.part != part {
		for _, other := range []*stage.Part{b.p.model.Denoiser.Part(), d.net.Part()} {
			if other != part {
				other.Close() // one network's activations at a time
			}
		}
		b.part, b.written = part, nil
	}
	s := nn.Sizes{Rows: rowsOf(some), H: d.plan.latentH, W: d.plan.latentW, Tokens: d.tokens, References: d.plan.references.count(), Wrap: d.plan.wrap, Winograd: d.plan.winograd, Cut: some[0].cut(), Merge: d.plan.TokenMerging}
	if d.plan.film != nil {
		s.Frames = d.plan.film.Frames
	}
	if b.written == nil {
		b.written = map[nn.Form][]rows{}
	}
	if !part.Has(s) {
		delete(b.written, s.Cut.Form)
	}
	b.ready = false
	if err := part.Ready(s); err != nil {
		return fmt.Errorf("model %s: %w", b.p.name, err)
	}
	b.ready = true
	n := part.Shape("sample").Len()
	b.sample = slices.Grow(b.sample[:0], n)[:n]
	return nil
}
