package scheduler

import (
	"bufio"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goldenRun is one line of testdata/*.jsonl.gz, written by train/goldens_scheduler.py.
type goldenRun struct {
	Name    string          `json:"name"`
	Options goldenOptions   `json:"options"`
	Config  json.RawMessage `json:"config"`
	Steps   int             `json:"steps"`
	Rows    int             `json:"rows"`
	Draws   int             `json:"draws"`
	Calls   int             `json:"calls"` // of the model; 0: not recorded
	Final   bool            `json:"final"` // only the last x is comparable
	X       string          `json:"x"`
}

type goldenOptions struct {
	Eta      *float64 `json:"eta"`
	Strength *float64 `json:"strength"`
	Churn    float64  `json:"churn"`
	Order    int      `json:"order"`
	Variant  string   `json:"variant"`
	Sigmas   string   `json:"sigmas"`
}

func readGoldens(t *testing.T, path string) []goldenRun {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var runs []goldenRun
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r goldenRun
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return runs
}

// rows are the stored values of x and the steps after which they were taken.
func (g goldenRun) rows() map[int][]float32 {
	b, err := base64.StdEncoding.DecodeString(g.X)
	if err != nil {
		panic(err)
	}
	steps := []int{0, 1, g.Rows / 2, g.Rows - 2, g.Rows - 1}
	if g.Rows <= 7 {
		steps = nil
		for i := range g.Rows {
			steps = append(steps, i)
		}
	}
	rows := map[int][]float32{}
	for i, step := range steps {
		row := make([]float32, len(b)/4/len(steps))
		for j := range row {
			row[j] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*(i*len(row)+j):]))
		}
		rows[step] = row
	}
	return rows
}

// stream is the script's stand-in for unit noise.
type stream struct {
	state uint32
	draws int
}

func (s *stream) next(dst []float32) error {
	for i := range dst {
		s.state = s.state*1664525 + 1013904223
		dst[i] = float32(s.state>>16)/16384 - 2
	}
	s.draws++
	return nil
}

// toy is the script's denoiser, operation for operation.
func toy(p PredictionType) Denoiser {
	return func(x []float32, at Level) (Prediction, error) {
		n := len(x)
		// diffusers divides by a float32 root
		s := float32(math.Sqrt(float64(float32(float32(at.Sigma)*float32(at.Sigma)) + 1)))
		if at.Alpha != 1 || p == Flow {
			s = 1
		}
		u := make([]float32, n)
		for i := range u {
			u[i] = x[i] / s
		}
		b := []float32{0.5, -0.25, 0.75}
		out := make([]float32, n)
		for i := range out {
			out[i] = u[i]/(1+float32(u[i]*u[i])) + float32(0.125*u[(i+n-1)%n]) + float32(b[i%3]*(float32(at.T)/1024))
		}
		return p.Split(x, out, at), nil
	}
}

func (g goldenRun) String() string {
	return fmt.Sprintf("%s %+v %s steps=%d", g.Name, g.Options, g.Config, g.Steps)
}

// run gives the largest error over the stored steps, relative to the largest |x| of the step.
func (g goldenRun) run() (worst float64, at string, err error) {
	c, err := ParseConfig("scheduler_config.json", g.Config)
	if err != nil {
		return 0, "", err
	}
	o := Options{Name: g.Name, Steps: g.Steps, Eta: g.Options.Eta, Churn: g.Options.Churn, Order: g.Options.Order, Variant: g.Options.Variant, Sigmas: g.Options.Sigmas, Strength: g.Options.Strength}
	s, err := New(c, o)
	if err != nil {
		return 0, "", err
	}
	noise := &stream{state: 12345}
	x := make([]float32, 3)
	noise.next(x)
	if o.Strength != nil {
		s.AddNoise(x, []float32{0.5, -0.25, 1}, x)
	} else {
		s.Init(x)
	}
	rows, n := g.rows(), 0
	largest := norm(x) // of all x so far
	calls, model := 0, toy(c.PredictionType)
	denoise := func(x []float32, at Level) (Prediction, error) {
		calls++
		p, err := model(x, at)
		if strings.HasSuffix(g.Name, "-cfg++") { // the script's stand-in for an unguided prediction
			p.Uncond = combined(term{0.5, p.Eps})
		}
		return p, err
	}
	compare := func(step int, x []float32) {
		want, stored := rows[step]
		if !stored {
			return
		}
		var diff float64
		for i := range want {
			d := math.Abs(float64(want[i]) - float64(x[i]))
			if math.IsNaN(d) {
				d = math.Inf(1)
			}
			diff = max(diff, d)
		}
		if e := diff / (norm(want) + largest*0x1p-23/tolerance); e > worst || at == "" {
			worst, at = e, fmt.Sprintf("step %d: got %v, want %v", step, x, want)
		}
		largest = max(largest, norm(want))
	}
	err = s.Run(Run{X: x, Denoise: denoise, Noise: noise.next, OnStep: func(step int, x, _ []float32) error {
		n++
		if !g.Final {
			compare(step, x)
		}
		return nil
	}})
	if g.Final {
		compare(g.Rows-1, x)
	}
	if want := s.Calls(); err == nil && want >= 0 && calls != want || g.Calls != 0 && calls != g.Calls {
		err = fmt.Errorf("%d model calls; the schedule says %d and the other program made %d", calls, want, g.Calls)
	}
	if err == nil && n != s.Steps() && s.Steps() >= 0 || o.Strength == nil && n != g.Steps && !strings.HasPrefix(g.Name, "dpm-") {
		err = fmt.Errorf("%d steps, want %d", n, g.Steps)
	}
	if err == nil && noise.draws-1 != g.Draws && !g.Final && g.Draws >= 0 {
		err = fmt.Errorf("%d draws of noise, want %d", noise.draws-1, g.Draws)
	}
	return worst, at, err
}

func norm(x []float32) (n float64) {
	for _, v := range x {
		n = max(n, math.Abs(float64(v)))
	}
	return n
}

// tolerance is relative to |x|. Both sides compute in float32, where a step errs by a few 6e-8 and up to 50 steps
// add up; coefficients from differences of λ in float32 err most. To it comes one rounding (2⁻²³) of the
// largest x so far: a zero-SNR schedule starts at σ = 4096 and subtracts nearly all of x in one step, so what is
// left carries the rounding of what was there (torch's float32 square root is not always the nearest).
const tolerance = 1e-5

// tolerance is the one above, but for diffusers' deis in float32: its coefficients are differences of nearly equal
// antiderivatives, of which float32 leaves four digits. The same runs with its coefficients in float64 have 1e-5. And for
// dpm2-a in two steps: σ_down² = σ'² − σ_up² for σ = 14.6 and σ' = 0.03 leaves two digits of σ_down in float32, which
// torch's square root, not the nearest number in a fifth of all cases, rounds another way.
func (g goldenRun) tolerance() float64 {
	if g.Name == "deis" && !strings.Contains(string(g.Config), `"_float64":true`) {
		return 2e-4
	}
	if g.Name == "dpm2-a" && g.Steps == 2 {
		return 2e-4
	}
	return tolerance
}

// TestSigmas compares sigma schedules with k-diffusion's functions and others' definitions. 1e-5: k-diffusion
// computes in float32, in the logarithm.
func TestSigmas(t *testing.T) {
	f, err := os.Open("testdata/sigmas.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var schedules []struct {
		Name   string
		Sigmas []float64
	}
	if err := json.NewDecoder(z).Decode(&schedules); err != nil {
		t.Fatal(err)
	}
	c := Config{BetaStart: 0.00085, BetaEnd: 0.012, BetaSchedule: "scaled_linear"}
	for _, want := range schedules {
		for _, sampler := range []string{"euler", "dpm++2m"} {
			s, err := New(c, Options{Name: sampler, Steps: len(want.Sigmas), Sigmas: want.Name})
			if err != nil {
				t.Errorf("%s: %v", want.Name, err)
				continue
			}
			levels := s.Levels()
			if levels[len(levels)-1].Sigma != 0 {
				t.Errorf("%s does not end at 0", want.Name)
			}
			for i, σ := range want.Sigmas {
				if got := levels[i].Ratio(); !(math.Abs(got-σ) <= 1e-5*σ) {
					t.Errorf("%s of %s, %d steps: σ %d is %v, want %v", want.Name, sampler, len(want.Sigmas), i, got, σ)
				}
			}
		}
	}
}

// TestDiffusers compares trajectories with diffusers'.
func TestDiffusers(t *testing.T) {
	worst := map[string]float64{}
	count := map[string]int{}
	failures := 0
	files, err := filepath.Glob("testdata/*.jsonl.gz")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files:", err)
	}
	var runs []goldenRun
	for _, f := range files {
		runs = append(runs, readGoldens(t, f)...)
	}
	for _, g := range runs {
		e, at, err := g.run()
		if failures < 20 && err != nil {
			failures++
			t.Errorf("%v: %v", g, err)
		} else if failures < 20 && e > g.tolerance() {
			failures++
			t.Errorf("%v: relative error %.2g at %s", g, e, at)
		}
		worst[g.Name] = max(worst[g.Name], e)
		count[g.Name]++
	}
	for name, e := range worst {
		t.Logf("%-12s %4d runs, worst relative error %.2g", name, count[name], e)
	}
}
