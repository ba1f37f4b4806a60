package compare

import (
	"encoding/json"
	"slices"
	"testing"

	"darkroom/pipeline"
	"darkroom/recipe"
)

// TestOldNames: reports and journals of earlier versions hold these bytes, and IDs are hashes of them. The IDs are
// sha256sum's of the text, its first 16 digits.
func TestOldNames(t *testing.T) {
	g := Grid{
		Axes: map[string][]any{"model": {"m"}, "scheduler": {"ddim"}, "steps": {2, 4}, "guidance-rescale": {0.5}, "sde-noise": {"brownian"}, "eta": {0.0},
			"width": {32}, "height": {48}, "negative": {""}, "prompt-syntax": {"plain"}, "clip-skip": {1}},
		Prompts: []string{"a"}, FirstSeed: 7, Seeds: 2, ReferenceSteps: 30,
	}
	all, err := g.settings(func(string, string) (pipeline.Request, error) {
		return pipeline.Request{Settings: recipe.Settings{Steps: 25, CFG: 7.5}}, nil
	}, func(Setting) []int { return []int{2, 4} })
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	text, err := json.Marshal(all[1])
	want := `{"model":"m","dtype":"auto","scheduler":"ddim","steps":4,"cfg":7.5,"rescale":0.5,"eta":0,"sdeNoise":"brownian"}`
	if err != nil || string(text) != want {
		t.Errorf("got  %s\nwant %s, %v", text, want, err)
	}
	if id := all[1].ID(); id != "298a5bc72a570301" {
		t.Errorf("the ID is %s", id)
	}
	var back Setting
	if err := json.Unmarshal(text, &back); err != nil || back.ID() != all[1].ID() {
		t.Errorf("%s becomes %+v, %v", text, back, err)
	}
	text, err = json.Marshal(g)
	want = `{"clipSkip":1,"eta":[0],"firstSeed":7,"height":48,"models":["m"],"negative":"","prompts":["a"],"referenceSteps":30,"rescale":[0.5],` +
		`"schedulers":["ddim"],"sdeNoise":["brownian"],"seeds":2,"steps":[2,4],"syntax":"plain","width":32}`
	if err != nil || string(text) != want {
		t.Errorf("got  %s\nwant %s, %v", text, want, err)
	}
	var grid Grid
	if err := json.Unmarshal(text, &grid); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(grid); string(again) != want {
		t.Errorf("%s becomes %s", want, again)
	}
}

// TestAnyAxis: any setting of the table is an axis, also one that only the table knows.
func TestAnyAxis(t *testing.T) {
	defer recipe.Add(recipe.Setting{Name: "made-up", Group: recipe.PictureGroup, Kind: recipe.NumberKind, Default: "0", About: "for this test"})()
	g := Grid{Axes: map[string][]any{"made-up": {0.5, 1.0}, "width": {32, 64}, "scheduler": {"ddim", "euler"}}, Prompts: []string{"a"}, Seeds: 1}
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	all, err := g.settings(func(string, string) (pipeline.Request, error) {
		return pipeline.Request{Settings: recipe.Settings{Steps: 2, CFG: 7.5, Width: 8}}, nil
	}, func(s Setting) []int { return []int{s.Steps} })
	if err != nil {
		t.Fatal(err)
	}
	varies := varying(all)
	var names []string
	problems := map[string]bool{}
	for _, s := range all {
		names = append(names, s.Name(varies))
		problems[s.problemID()] = true
		r := g.request(pipeline.Request{}, s, Item{})
		if r.Width != s.Width || r.Extra["made-up"] != s.Extra["made-up"] || r.Scheduler != s.Scheduler {
			t.Errorf("%s asks for %+v", s.Name(varies), r)
		}
	}
	want := []string{"ddim, 2 steps, width 32, made-up 0.5", "euler, 2 steps, width 32, made-up 0.5", "ddim, 2 steps, width 32, made-up 1", "euler, 2 steps, width 32, made-up 1",
		"ddim, 2 steps, width 64, made-up 0.5", "euler, 2 steps, width 64, made-up 0.5", "ddim, 2 steps, width 64, made-up 1", "euler, 2 steps, width 64, made-up 1"}
	if !slices.Equal(names, want) {
		t.Errorf("the settings are %q", names)
	}
	if len(problems) != 4 {
		t.Errorf("%d problems: two widths of two made-up values are 4", len(problems))
	}
	if c := g.Command(all[0], Item{}); c != "darkroom generate a --seed 0 --steps 2 --cfg 7.5 --scheduler ddim --width 32 --made-up 0.5" {
		t.Error(c)
	}
}
