package scheduler

import (
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// brownianGolden is testdata/brownian.json.gz: increments from torchsde and the normal numbers that it drew, by seed.
type brownianGolden struct {
	Seed    uint64               `json:"seed"`
	Low     float64              `json:"low"`
	High    float64              `json:"high"`
	Normals map[uint64][]float32 `json:"normals"`
	Queries []struct {
		From float64   `json:"from"`
		To   float64   `json:"to"`
		W    []float32 `json:"w"`
	} `json:"queries"`
}

// TestBrownianTorchsde: the same seeds and, within float32's rounding of the sums, the same increments as torchsde.
func TestBrownianTorchsde(t *testing.T) {
	f, err := os.Open("testdata/brownian.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var goldens []brownianGolden
	if err := json.NewDecoder(z).Decode(&goldens); err != nil {
		t.Fatal(err)
	}
	exact, queries := 0, 0
	for _, g := range goldens {
		tree, err := NewBrownianTree(g.Seed, g.Low, g.High, 3, func(seed uint64, dst []float32) {
			z, ok := g.Normals[seed]
			if !ok {
				t.Fatalf("seed %d was not drawn by torchsde", seed)
			}
			copy(dst, z)
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range g.Queries {
			got := make([]float32, 3)
			if err := tree.Noise(got, q.From, q.To); err != nil {
				t.Fatal(err)
			}
			queries++
			same := true
			for i := range got {
				same = same && got[i] == q.W[i]
				// Adding increments up to √14.6 leaves their rounding, 2e-7, over the root of the interval.
				if bound := 1e-6 / math.Sqrt(math.Abs(q.From-q.To)); !(math.Abs(float64(got[i]-q.W[i])) < bound+1e-6) {
					t.Errorf("seed %d from %v to %v: got %v, want %v", g.Seed, q.From, q.To, got, q.W)
				}
			}
			if same {
				exact++
			}
		}
	}
	t.Logf("%d of %d increments have the same bits", exact, queries)
}

// TestBrownianPath: increments add up, have unit variance, and do not depend on what was asked before.
func TestBrownianPath(t *testing.T) {
	const n = 20000
	randn := func(seed uint64, dst []float32) { normals(seed)(dst) }
	tree, err := NewBrownianTree(7, 0.03, 14.6, n, randn)
	if err != nil {
		t.Fatal(err)
	}
	at := func(a, b float64) []float32 {
		w := make([]float32, n)
		if err := tree.Noise(w, a, b); err != nil {
			t.Fatal(err)
		}
		return w
	}
	whole, first, second := at(9, 1), at(9, 4), at(4, 1)
	variance, covariance := 0.0, 0.0
	for i := range whole {
		sum := float64(first[i])*math.Sqrt(5) + float64(second[i])*math.Sqrt(3)
		if math.Abs(sum-float64(whole[i])*math.Sqrt(8)) > 1e-4 {
			t.Fatalf("increments do not add up: %v and %v", sum, whole[i])
		}
		variance += float64(first[i]*first[i]) / n
		covariance += float64(first[i]*second[i]) / n
	}
	// 20000 squares of unit variance: ±√(2/20000) = 0.01; 5 of these.
	if math.Abs(variance-1) > 0.05 || math.Abs(covariance) > 0.05 {
		t.Errorf("variance %.3f, want 1; covariance of neighbours %.3f, want 0", variance, covariance)
	}
	if err := tree.Noise(make([]float32, n), 20, 1); err == nil {
		t.Error("a level outside the path gives no error")
	}
}

// TestBrownianRun: every stochastic sampler runs on a Brownian path, uses no other noise (but restart's), and repeats.
func TestBrownianRun(t *testing.T) {
	ran := 0
	for _, info := range Names() {
		for steps := 1; steps <= 9; steps += 4 {
			s, err := New(Config{BetaStart: 0.00085, BetaEnd: 0.012, BetaSchedule: "scaled_linear", RescaleZeroSNR: steps == 5, PredictionType: VPrediction}, Options{Name: info.Name, Steps: steps})
			if err != nil || !s.Stochastic() {
				continue
			}
			ran++
			run := func() []float32 {
				tree, err := s.BrownianPath(3, 3, func(seed uint64, dst []float32) { normals(seed)(dst) })
				if err != nil {
					t.Fatal(info.Name, err)
				}
				r := Run{X: []float32{0.5, -1, 0.25}, Denoise: toy(VPrediction), Brownian: tree.Noise}
				if info.Name == "restart" {
					r.Noise = normals(1)
				}
				s.Init(r.X)
				if err := s.Run(r); err != nil {
					t.Fatal(info.Name, err)
				}
				return r.X
			}
			if a, b := run(), run(); !(distance2(a, b) == 0 && norm(a) > 0) {
				t.Errorf("%s: %v and %v", info.Name, a, b)
			}
		}
	}
	if ran < 30 {
		t.Errorf("only %d runs", ran)
	}
}
