package compare

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/pipeline"

	"github.com/google/go-cmp/cmp"
)

// TestGuidanceAndNoiseAxes: each is an axis; a reference is of one guidance, and what draws no noise is run once.
func TestGuidanceAndNoiseAxes(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	o.Grid.SetAxis("scheduler", "ddim", "euler-a")
	o.Grid.SetAxis("steps", 3)
	o.Grid.SetAxis("guidance", "", "apg:eta=0,momentum=-0.5")
	o.Grid.SetAxis("sde-noise", pipeline.SDETorch, pipeline.SDEBrownian)
	o.Grid.Prompts, o.Grid.Seeds = o.Grid.Prompts[:1], 1
	var warnings []string
	o.Warn = func(m string) { warnings = append(warnings, m) }
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range r.Settings {
		names = append(names, s.Name)
	}
	want := []string{
		"ddim, 3 steps, torch noise, guidance cfg", "ddim, 3 steps, torch noise, guidance apg:eta=0,momentum=-0.5",
		"euler-a, 3 steps, torch noise, guidance cfg", "euler-a, 3 steps, brownian noise, guidance cfg",
		"euler-a, 3 steps, torch noise, guidance apg:eta=0,momentum=-0.5", "euler-a, 3 steps, brownian noise, guidance apg:eta=0,momentum=-0.5",
	}
	if d := cmp.Diff(want, names); d != "" {
		t.Error(d)
	}
	if len(r.References) != 2 {
		t.Errorf("%d references, want one for each guidance", len(r.References))
	}
	if all := strings.Join(warnings, "\n"); !strings.Contains(all, "ddim, 3 steps, torch noise and ddim, 3 steps, brownian noise are the same") {
		t.Errorf("warnings:\n%s", all)
	}
	seen := map[string]string{}
	for _, p := range r.Pictures {
		data, err := os.ReadFile(filepath.Join(o.Out, p.File))
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[string(data)]; ok {
			t.Errorf("%s and %s are the same file", p.Command, other)
		}
		seen[string(data)] = p.Command
	}
	if c := r.Pictures[len(r.Pictures)-1].Command; !strings.Contains(c, "--guidance apg:eta=0,momentum=-0.5") || !strings.Contains(c, "--sde-noise brownian") {
		t.Errorf("command %s", c)
	}
}

// TestGuidanceLeftOut: guidance in a share of the steps is another way to the same solution; by noise levels, or of another
// method, it is another one.
func TestGuidanceLeftOut(t *testing.T) {
	ids := map[string]string{}
	for _, text := range []string{"", "cfg", "cfg:stop=0.5", "cfg:start=0.2,stop=0.8", "cfg:high=5", "cfg:high=5,stop=0.5", "apg", "apg:stop=0.5"} {
		var s Setting
		if text != "" {
			if err := s.Parse("guidance", text); err != nil {
				t.Fatal(err)
			}
		}
		ids[text] = s.problemID()
	}
	for text, same := range map[string]string{"cfg": "", "cfg:stop=0.5": "", "cfg:start=0.2,stop=0.8": "", "cfg:high=5,stop=0.5": "cfg:high=5", "apg:stop=0.5": "apg"} {
		if ids[text] != ids[same] {
			t.Errorf("%s is another problem than %q", text, same)
		}
	}
	if ids["cfg:high=5"] == ids[""] || ids["apg"] == ids[""] {
		t.Error("other guidance is the same problem")
	}
}

// TestProblemsApart: pictures of two guidance scales have two converged solutions; which scale is better, nearness to them does not
// say, and the answer says so.
func TestProblemsApart(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	o.Grid.SetAxis("scheduler", "ddim", "euler")
	o.Grid.SetAxis("steps", 2, 8)
	o.Grid.SetAxis("cfg", 2.0, 7.0)
	o.Grid.ReferenceSteps = 12
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Answer) != 3 || !strings.Contains(r.Answer[0], "cfg 2; cfg 7 has a converged solution of its own") || len(r.Picks) != 2 {
		t.Fatalf("answer %q, picks %q", r.Answer, r.Picks)
	}
	for i, cfg := range []string{"cfg 2", "cfg 7"} {
		if name := r.References[i].Name; !strings.HasSuffix(name, cfg) || r.References[i].Of != cfg {
			t.Errorf("converged solution %d is called %q", i, name)
		}
		first, front := 0, 0
		for _, s := range r.Settings {
			if s.Problem != cfg {
				continue
			}
			if s.Verdict == AsGood {
				first++
			}
			if s.Pareto {
				front++
			}
			if s.ID == r.Picks[i] && !strings.Contains(r.Answer[i+1], s.Name) {
				t.Errorf("%s is picked, and the answer is %q", s.Name, r.Answer[i+1])
			}
			if s.Loss == nil || s.Loss.Mean < 0 {
				t.Errorf("%s: loses %+v against its own best", s.Name, s.Loss)
			}
		}
		if first == 0 || front == 0 || strings.Contains(r.Answer[i+1], "cfg 9") {
			t.Errorf("%s: %d as good as the best, %d on the front", cfg, first, front)
		}
	}
}

// TestOnePicture: of a single picture there is no interval, and no loss is called too small to notice.
func TestOnePicture(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	o.Grid.Prompts, o.Grid.Seeds = o.Grid.Prompts[:1], 1
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Settings {
		for key, v := range s.Values {
			if v.Low != nil || v.High != nil {
				t.Errorf("%s: %s has an interval, %v to %v", s.Name, key, *v.Low, *v.High)
			}
		}
		if s.Loss != nil && s.Loss.High != nil || s.Verdict != "" && s.Verdict != Undecided {
			t.Errorf("%s: %s, loss %+v", s.Name, s.Verdict, s.Loss)
		}
	}
	if text := strings.Join(r.Answer, " "); !strings.Contains(text, "decides nothing") || len(r.Picks) != 0 {
		t.Errorf("answer %q", text)
	}
}

// TestLevelsByHand: lists of levels beside names, and steps that are for the others.
func TestLevelsByHand(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	o.Grid.ReferenceSteps = 0
	o.Grid.SetAxis("scheduler", "euler")
	o.Grid.SetAxis("sigmas", "karras", "14.6,3,0.5", "8")
	o.Grid.SetAxis("steps", 2, 4)
	o.Grid.Prompts, o.Grid.Seeds = o.Grid.Prompts[:1], 1
	var warnings []string
	o.Warn = func(m string) { warnings = append(warnings, m) }
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range r.Settings {
		names = append(names, fmt.Sprintf("%s: %v calls", s.Name, s.Calls))
	}
	want := []string{"euler-karras, 2 steps: 2 calls", "euler-karras, 4 steps: 4 calls", "euler-14.6,3,0.5, 3 steps: 3 calls", "euler-8, 1 step: 1 calls"}
	if d := cmp.Diff(want, names); d != "" {
		t.Error(d)
	}
	if !strings.Contains(strings.Join(warnings, "\n"), "--steps is for the other settings") {
		t.Errorf("warnings %q", warnings)
	}
}
