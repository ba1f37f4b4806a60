package guidance

import (
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
)

// TestGoldens compares with diffusers' guiders and with numpy (see train/goldens_guidance.py). 1e-5 of the largest
// value: float32 products and sums in another order, guided by up to 20.
func TestGoldens(t *testing.T) {
	f, err := os.Open("testdata/guidance.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Spec  string
		Scale float64
		Steps []struct{ Cond, Uncond, Empty, Want []float32 }
	}
	if err := json.NewDecoder(z).Decode(&cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		m, err := Parse(c.Spec)
		if err != nil {
			t.Fatal(err)
		}
		g := &Guide{Method: m, Scale: c.Scale, Channels: 4}
		for i, s := range c.Steps {
			at := At{Step: i, Steps: len(c.Steps), Ratio: 1}
			got := make([]float32, len(s.Cond))
			g.Combine(got, s.Cond, s.Uncond, s.Empty, at)
			largest, worst := 1e-3, 0.0
			for k, w := range s.Want {
				largest = max(largest, math.Abs(float64(w)))
				worst = max(worst, math.Abs(float64(w-got[k])))
			}
			if !(worst <= 1e-5*largest) {
				t.Errorf("%s at step %d: error %.2g of %.2g", c.Spec, i, worst, largest)
			}
		}
	}
}

// TestInPlace: dst may be cond.
func TestInPlace(t *testing.T) {
	for _, name := range methodNames() {
		m, err := Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		at := At{Step: 5, Steps: 9, Ratio: 2}
		cond, uncond, empty := []float32{1, -2, 3, 0.5}, []float32{0.5, 1, -1, 0}, []float32{0.1, 0.2, 0.3, 0.4}
		apart := make([]float32, 4)
		(&Guide{Method: m, Scale: 9, Channels: 2}).Combine(apart, cond, uncond, empty, at)
		(&Guide{Method: m, Scale: 9, Channels: 2}).Combine(cond, cond, uncond, empty, at)
		for i := range cond {
			if cond[i] != apart[i] {
				t.Errorf("%s: in place %v, apart %v", name, cond, apart)
				break
			}
		}
	}
}

// TestInterval: by steps and by noise level, and none at scale 1.
func TestInterval(t *testing.T) {
	m, err := Parse("cfg:low=0.5,high=5,start=0.2,stop=0.8")
	if err != nil {
		t.Fatal(err)
	}
	g := &Guide{Method: m, Scale: 7}
	for _, test := range []struct {
		at   At
		want bool
	}{
		{At{1, 10, 2}, false}, {At{2, 10, 2}, true}, {At{7, 10, 2}, true}, {At{8, 10, 2}, false},
		{At{5, 10, 0.5}, false}, {At{5, 10, 0.6}, true}, {At{5, 10, 5}, true}, {At{5, 10, 5.1}, false},
		{At{0, -1, 2}, true}, {At{500, -1, 2}, true}, {At{0, -1, 0.4}, false}, // a run whose steps are not known in advance
	} {
		if got := g.Active(test.at); got != test.want {
			t.Errorf("%+v: %v", test.at, got)
		}
	}
	if all := (&Guide{Scale: 7}); !all.Active(At{0, 10, math.Inf(1)}) {
		t.Error("no guidance where a zero-SNR schedule begins")
	}
	if g.Scale = 1; g.Active(At{5, 10, 2}) {
		t.Error("guidance at scale 1")
	}
}

func TestParse(t *testing.T) {
	for spec, want := range map[string]string{
		"cfg": "cfg", "": "cfg", "CFG-Zero*": "cfg-zero", "apg:momentum=-0.5, eta=0": "apg:eta=0,momentum=-0.5", "perp_neg": "perp-neg",
	} {
		m, err := Parse(spec)
		if err != nil || m.String() != want {
			t.Errorf("%q: %v, %v", spec, m, err)
		}
		if again, err := Parse(m.String()); err != nil || again.String() != m.String() {
			t.Errorf("%q does not come back: %v %v", m, again, err)
		}
	}
	for spec, want := range map[string]string{
		"cgf":                     `no guidance is called "cgf": there are cfg, cfg-zero`,
		"cfg:eta=1":               `guidance cfg: no key "eta": there are scale, start, stop, low, high, rescale`,
		"apg:eta=many":            `guidance apg: eta = "many": want a number from -10 to 10`,
		"cfg:rescale=NaN":         `guidance cfg: rescale = "NaN": want a number from 0 to 1`,
		"cfg:rescale=1,rescale=1": `guidance cfg: rescale is given twice`,
		"cfg:start=0.5,stop=0.5":  `guidance cfg: an interval must begin before it ends`,
	} {
		if _, err := Parse(spec); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", spec, err, want)
		}
	}
}

// TestParseList: the commas between methods and those within them.
func TestParseList(t *testing.T) {
	for list, want := range map[string]string{
		"cfg":                           "cfg",
		"cfg,apg:eta=0":                 "cfg apg:eta=0",
		"apg:eta=0,momentum=-0.5,cfg":   "apg:eta=0,momentum=-0.5 cfg",
		"apg:eta=0, cfg:rescale=0.7":    "apg:eta=0 cfg:rescale=0.7",
		"dynamic:mimic=5,phi=1,dynamic": "dynamic:mimic=5,phi=1 dynamic",
	} {
		methods, err := ParseList(list)
		var got []string
		for _, m := range methods {
			got = append(got, m.String())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v", list, got, err)
		}
	}
	for list, want := range map[string]string{
		"":            `guidance "": a name between the commas is empty`,
		"cfg,,apg":    `guidance "cfg,,apg": a name between the commas is empty`,
		"eta=0,apg":   `guidance "eta=0": keys follow the name and a colon`,
		"cfg,eta=0":   `guidance "cfg,eta=0": keys follow the name and a colon`,
		"apg:eta=0,x": `no guidance is called "x"`,
	} {
		if _, err := ParseList(list); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", list, err, want)
		}
	}
}

// TestWith: a key more or less, and the method it came from as it was.
func TestWith(t *testing.T) {
	m, err := Parse("apg:eta=0")
	if err != nil {
		t.Fatal(err)
	}
	n := m.With("rescale", 0.5)
	if m.String() != "apg:eta=0" || n.String() != "apg:eta=0,rescale=0.5" || n.Without("rescale").String() != m.String() {
		t.Errorf("%v, %v", m, n)
	}
	if v, given := n.Get("rescale"); v != 0.5 || !given {
		t.Errorf("%v, %v", v, given)
	}
	if (Method{}).With("start", 0.5).Plain() || !(Method{}).Plain() || !(Method{}).With("stop", 0.5).BySteps() || m.BySteps() {
		t.Error("Plain or BySteps is wrong")
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic for a number out of range")
		}
	}()
	m.With("rescale", 2)
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"cfg", "apg:eta=0,norm=15", "dynamic:mimic=1e309", ":", "cfg:=,=", "perp-neg:negative=-0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		m, err := Parse(spec)
		if err != nil {
			return
		}
		g, x := &Guide{Method: m, Scale: 5, Channels: 1}, []float32{1, 2, -3}
		g.Combine(x, x, []float32{0, 1, 1}, []float32{1, 0, 1}, At{Step: 3, Steps: 4, Ratio: 1})
		for _, v := range x {
			if math.IsNaN(float64(v)) {
				t.Fatalf("%q gives %v", spec, x)
			}
		}
	})
}

func methodNames() (names []string) {
	for _, i := range Methods() {
		names = append(names, i.Name)
	}
	return names
}
