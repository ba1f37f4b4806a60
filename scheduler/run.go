package scheduler

import (
	"errors"
	"fmt"
)

// Run is one run of a schedule.
type Run struct {
	X       []float32 // in: the first x, scaled by Init or AddNoise; out: the picture
	Denoise Denoiser

	// Noise fills dst with the next unit-normal draw. It is called in the order in which diffusers
	// draws, so that a generator gives the picture it gives there. Only stochastic samplers call it.
	Noise func(dst []float32) error

	// Brownian, where not nil, replaces Noise in the samplers that solve an SDE: it fills dst with the
	// increment of a Brownian path from σ to σNext divided by √|σNext−σ|, which is unit normal too.
	// A [BrownianTree] is one.
	Brownian func(dst []float32, σ, σNext float64) error

	// OnStep, where not nil, is called after each step (counted from 0) with x and the picture that
	// the model predicts. Both must only be read. An error ends the run and is returned as it is.
	OnStep func(step int, x, x0 []float32) error

	// Blend, where not nil, is called after each step, before OnStep, and may change x: to put back a part of a picture
	// that is to stay, say. at is the level of x now, which is that of the next step, or α = 1, σ = 0 after the last.
	// Samplers that call the model more than once a step call it for the x of each further call too, as diffusers'
	// pipelines do.
	Blend func(x []float32, at Level)

	// State, where not nil, is filled after each step, before OnStep. If it holds a step on entry the run
	// goes on from there; Noise must then be as it was at the start, the draws already used are skipped.
	State *State
}

// State is all that a run remembers between steps. It has no pointers to the run and any encoding of
// it (JSON, gob) continues to the same bits.
type State struct {
	Step  int         // steps done
	Draws int         // of Noise so far
	X     []float32   // x after Step steps
	Past  []Past      // what a multistep sampler remembers, newest first
	Aux   [][]float32 // what else a sampler remembers
	H     float64     // step size of dpm-adaptive, in λ
	Sigma float64     // where dpm-adaptive stands
}

// Past is an earlier value of the quantity that a multistep sampler extrapolates (x₀, ε or a slope).
type Past struct {
	At Level
	V  []float32
}

// Clone is a deep copy, for keeping a state while the run goes on.
func (st *State) Clone() *State {
	c := &State{Step: st.Step, Draws: st.Draws, X: clone(st.X), H: st.H, Sigma: st.Sigma}
	for _, p := range st.Past {
		c.Past = append(c.Past, Past{p.At, clone(p.V)})
	}
	for _, a := range st.Aux {
		c.Aux = append(c.Aux, clone(a))
	}
	return c
}

// walk is a run under way: what a sampler's step function sees.
type walk struct {
	*Schedule
	Run
	*State
	x     []float32 // the same as Run.X
	x0    []float32 // the latest prediction of the picture
	fresh []float32 // buffer of the latest draw
}

// Run carries r.X through all steps. Errors: those of Denoise, Noise and OnStep, wrapped with the
// step; r.X is then the x before the step that failed, or a mixture if that step calls the model twice.
func (s *Schedule) Run(r Run) error {
	if r.Denoise == nil {
		panic("scheduler: Run without Denoise")
	}
	w := &walk{Schedule: s, Run: r, State: r.State, x: r.X, fresh: make([]float32, len(r.X))}
	if w.State == nil {
		w.State = &State{}
	}
	if err := w.resume(); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	for !w.done() {
		if err := w.step(s.start + w.Step); err != nil {
			return fmt.Errorf("%s, step %d of %d: %w", s.name, w.Step+1, s.Steps(), err)
		}
		w.Step++
		if r.Blend != nil {
			at := Level{Alpha: 1}
			if i := s.start + w.Step; i < len(w.moves) && (!w.done() || w.stop < len(w.moves)) {
				at = w.moves[i].from
			}
			r.Blend(w.x, at)
		}
		w.State.X = append(w.State.X[:0], w.x...)
		if r.OnStep != nil {
			if err := r.OnStep(w.Step-1, w.x, w.x0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) done() bool {
	if w.sampler.adaptive {
		return w.Sigma != 0 && w.Sigma <= w.moves[0].to.Sigma*(1+1e-5)
	}
	return w.Step >= w.Steps()
}

// step makes step i. Where a step stays at its level (see checkMoves) x does too, but the model is asked.
func (w *walk) step(i int) error {
	if m := w.moves[i%len(w.moves)]; m.from.Ratio() == m.to.Ratio() {
		_, err := w.denoise(w.x, m.from)
		return err
	}
	return w.sampler.step(w, i)
}

// resume puts a saved state back and skips the draws that it used.
func (w *walk) resume() error {
	if w.Step == 0 {
		return nil
	}
	if w.Step < 0 || w.Step > w.Steps() && !w.sampler.adaptive || len(w.State.X) != len(w.x) {
		return fmt.Errorf("cannot go on from step %d with %d values: the run has %d steps and %d values",
			w.Step, len(w.State.X), w.Steps(), len(w.x))
	}
	copy(w.x, w.State.X)
	for range w.Draws {
		if err := w.Noise(w.fresh); err != nil {
			return fmt.Errorf("skipping noise: %w", err)
		}
	}
	return nil
}

// denoise asks the model and clips or thresholds its picture where the configuration says so.
func (w *walk) denoise(x []float32, at Level) (Prediction, error) {
	p, err := w.Denoise(x, at)
	if err != nil {
		return p, err
	}
	if len(p.X0) != len(x) || len(p.Eps) != len(x) {
		return p, fmt.Errorf("the denoiser gave %d and %d values for %d", len(p.X0), len(p.Eps), len(x))
	}
	if w.config.Thresholding && w.sampler.quirks.thresholds {
		w.config.threshold(p.X0)
	} else if w.config.ClipSample && w.sampler.quirks.clips {
		w.config.clip(p.X0)
	}
	w.x0 = p.X0
	return p, nil
}

// between blends the x of a step's second or later call of the model.
func (w *walk) between(x []float32, at Level) {
	if w.Blend != nil {
		w.Blend(x, at)
	}
}

var errNoNoise = errors.New("a stochastic sampler needs Run.Noise")

// noise is unit-normal noise for the step from → to, of a Brownian path where there is one; valid until the next call.
func (w *walk) noise(from, to Level) ([]float32, error) {
	switch {
	case w.Brownian == nil:
		return w.draw()
	case to.Sigma == 0: // the path ends at the last level above 0, and 0 of the noise is added
		clear(w.fresh)
		return w.fresh, nil
	}
	if err := w.Brownian(w.fresh, pathTime(from), pathTime(to)); err != nil {
		return nil, fmt.Errorf("brownian noise: %w", err)
	}
	return w.scaledNoise(), nil
}

// draw is the next unit-normal draw; valid until the next call.
func (w *walk) draw() ([]float32, error) {
	if w.Noise == nil {
		return nil, errNoNoise
	}
	if err := w.Noise(w.fresh); err != nil {
		return nil, fmt.Errorf("noise: %w", err)
	}
	w.Draws++
	return w.scaledNoise(), nil
}

func (w *walk) scaledNoise() []float32 {
	if k := w.options.Noise; k != 0 && k != 1 {
		combine(w.fresh, term{k, w.fresh})
	}
	return w.fresh
}

// remember puts a copy of v in front of the past and keeps the newest n.
func (w *walk) remember(at Level, v []float32, n int) {
	w.Past = append([]Past{{at, clone(v)}}, w.Past...)
	if len(w.Past) > n {
		w.Past = w.Past[:n]
	}
}
