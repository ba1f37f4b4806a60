package scheduler

import (
	"fmt"
	"math"
)

// The restart interval: from about 0.1 noise is raised to about 2 and taken away again (Xu et al. 2023, table 6, for
// Stable Diffusion; the split of the steps is the one of the web UIs).
const restartLow, restartHigh = 0.1, 2

// restartGrid spends a quarter of the steps in the restart interval, twice from 36 steps on, and the rest before.
func restartGrid(s *Schedule) error {
	n := s.options.Steps
	inside, times := n/4, 1
	if n >= 36 {
		inside, times = n/4, 2
	} else if n >= 20 {
		inside = 9
	}
	if n < 8 {
		s.warnings = append(s.warnings, fmt.Sprintf("restart needs 8 steps at least: %d are run as heun", n))
		return explodingGrid(s)
	}
	s.options.Steps = n - inside*times
	err := explodingGrid(s)
	s.options.Steps = n
	if err != nil {
		return err
	}
	low, high := s.nearestMove(restartLow), s.nearestMove(restartHigh)
	if high >= low {
		return fmt.Errorf("restart: the schedule has no noise levels between %v and %v", restartLow, restartHigh)
	}
	a, b := s.moves[high].from.Sigma, s.moves[low].from.Sigma
	var loop []move
	levels := polynomial(s, sigmaRange{b, a}, inside+1, 7)
	levels[0], levels[inside] = a, b // exactly, so that the loop closes
	for i := range levels[1:] {
		loop = append(loop, move{s.exploding(levels[i]), s.exploding(levels[i+1])})
	}
	rest := append([]move(nil), s.moves[low:]...)
	s.moves = s.moves[:low:low]
	for range times {
		s.moves = append(s.moves, loop...)
	}
	s.moves = append(s.moves, rest...)
	return nil
}

// nearestMove is the move that starts nearest to σ.
func (s *Schedule) nearestMove(σ float64) int {
	best := 0
	for i, m := range s.moves {
		if math.Abs(m.from.Sigma-σ) < math.Abs(s.moves[best].from.Sigma-σ) {
			best = i
		}
	}
	return best
}

var rowRestart = sampler{
	Info: Info{
		Name: "restart", Calls: 2, Stochastic: true,
		About: "Heun with noise put back and taken away again near the picture",
		Paper: "Xu et al. 2023, arXiv 2306.14878",
	},
	grid: restartGrid, step: restart, calls: slopeCalls,
	spacing: "linspace", rises: true,
}

// restart is algorithm 1 of Xu et al. 2023 (arXiv 2306.14878): Heun's method, and where the schedule goes up from the end of
// the last step, noise for the difference first.
func restart(w *walk, i int) error {
	if from := w.moves[i].from; i > w.start {
		if last := w.moves[i-1].to; from.Sigma > last.Sigma {
			z, err := w.draw() // not of a Brownian path, which would give the same each time
			if err != nil {
				return err
			}
			add(w.x, math.Sqrt(from.Sigma*from.Sigma-last.Sigma*last.Sigma), z)
		}
	}
	return heun(w, i)
}
