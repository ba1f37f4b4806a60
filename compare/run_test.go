package compare

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"darkroom/pipeline"
)

// tiny is a random model of a few thousand weights; its pictures mean nothing, but they are made as any other's.
const tiny = "../pipeline/testdata/models/zsnr"

func tinyOptions(t *testing.T) Options {
	return Options{
		Grid: Grid{
			Axes:    map[string][]any{"model": {tiny}, "scheduler": {"ddim", "euler-a", "dpm++2m"}, "steps": {2, 4}, "width": {32}, "height": {32}},
			Prompts: []string{"a red apple", "a blue table"}, Seeds: 2, FirstSeed: 7, ReferenceSteps: 30,
		},
		Out: filepath.Join(t.TempDir(), "report"), Judge: NoJudge, Warn: func(m string) { t.Log(m) },
	}
}

// pictures of tinyOptions: 6 settings and a reference for 4 items, of which all are checked.
const tinyPictures = (6 + 1 + 1) * 4

func journal(t *testing.T, dir string) (pictures map[string]int, grids int) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pictures = map[string]int{}
	for s := bufio.NewScanner(f); s.Scan(); {
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			continue // a line that was being written
		}
		if l.Picture != nil {
			pictures[l.Picture.Key]++
		} else {
			grids++
		}
	}
	return pictures, grids
}

func onceEach(t *testing.T, dir string, want int) {
	t.Helper()
	pictures, _ := journal(t, dir)
	for key, n := range pictures {
		if n != 1 {
			t.Errorf("picture %s was rendered %d times", key, n)
		}
	}
	if len(pictures) != want {
		t.Errorf("%d pictures, want %d", len(pictures), want)
	}
}

func TestRunMeasuresAndRanks(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	onceEach(t, o.Out, tinyPictures)
	if len(r.Settings) != 6 || len(r.Pictures) != 24 || len(r.References) != 1 {
		t.Fatalf("%d settings, %d pictures, %d references", len(r.Settings), len(r.Pictures), len(r.References))
	}
	if ref := r.References[0]; ref.Checked != 4 || ref.Relative == nil || !(*ref.RMSE > 0 && *ref.RMSE < find(t, r, "dpm++2m", 4).Values["rmse"].Mean) {
		t.Errorf("the reference is at %v of half its steps, a few steps are at %v", *ref.RMSE, find(t, r, "dpm++2m", 4).Values["rmse"].Mean)
	}
	for _, s := range r.Settings {
		_, near := s.Values["rmse"]
		if stochastic := s.Setting.Scheduler == "euler-a"; s.Stochastic != stochastic || near == stochastic || (s.Rank > 0) == stochastic {
			t.Errorf("%s: stochastic %v, distance to the reference %v, rank %d", s.Name, s.Stochastic, near, s.Rank)
		}
		if !(s.Seconds.Q1 > 0 && s.Seconds.Q1 <= s.Seconds.Median && s.Seconds.Median <= s.Seconds.Q3) {
			t.Errorf("%s: seconds %+v", s.Name, s.Seconds)
		}
		if want := float64(s.Setting.Steps); s.Calls != want {
			t.Errorf("%s: calls %v, want %v", s.Name, s.Calls, want)
		}
	}
	// More steps of the same solver come nearer to the solution.
	for _, solver := range []string{"ddim", "dpm++2m"} {
		if two, four := find(t, r, solver, 2), find(t, r, solver, 4); !(four.Values["rmse"].Mean < two.Values["rmse"].Mean) {
			t.Errorf("%s: latents are at %v with 2 steps, at %v with 4", solver, two.Values["rmse"].Mean, four.Values["rmse"].Mean)
		}
	}
	if len(r.Answer) == 0 || !strings.HasPrefix(r.Answer[0], "Use ") || !strings.Contains(strings.Join(r.Notes, " "), "No judge") {
		t.Errorf("answer %q, notes %q", r.Answer, r.Notes)
	}
}

func TestReportFiles(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	o.Grid.Prompts = append(o.Grid.Prompts[:1:1], `a "red" | <b>apple, it's`)
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	// Two tidy tables: a row a setting, a row a picture, one kind of value a column.
	settings, pictures := readCSV(t, filepath.Join(o.Out, "results.csv")), readCSV(t, filepath.Join(o.Out, "pictures.csv"))
	if len(settings) != 1+len(r.Settings) || len(pictures) != 1+len(r.Pictures) {
		t.Fatalf("results.csv: %d rows, pictures.csv: %d", len(settings), len(pictures))
	}
	columnOf := func(rows [][]string, row []string, name string) string {
		i := slices.Index(rows[0], name)
		if i < 0 {
			t.Fatalf("no column %s in %q", name, rows[0])
		}
		return row[i]
	}
	for i, s := range r.Settings {
		row := settings[1+i]
		if columnOf(settings, row, "verdict") != string(s.Verdict) || columnOf(settings, row, "setting") != s.ID || (columnOf(settings, row, "ssim_low") == "") != (s.Values["ssim"].Low == nil) {
			t.Errorf("%s: the row is %q", s.Name, row)
		}
	}
	column := func(row []string, name string) string { return columnOf(pictures, row, name) }
	last := pictures[len(pictures)-1]
	if column(last, "prompt") != o.Grid.Prompts[1] || column(last, "ssim") == "" || column(last, "seed") != "8" || column(last, "setting") != r.Settings[len(r.Settings)-1].ID {
		t.Errorf("the last row is %q", last)
	}
	if _, err := os.Stat(filepath.Join(o.Out, column(last, "file"))); err != nil {
		t.Error(err)
	}
	if want := `'a "red" | <b>apple, it'\''s'`; !strings.Contains(column(last, "command"), want) {
		t.Errorf("command %s, want %s in it", column(last, "command"), want)
	}
	text, err := os.ReadFile(filepath.Join(o.Out, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil || len(back.Pictures) != len(r.Pictures) || !slices.Equal(back.Picks, r.Picks) || len(back.Picks) != 1 {
		t.Errorf("results.json: %v, pick %q, want %q", err, back.Picks, r.Picks)
	}
	table, err := os.ReadFile(filepath.Join(o.Out, "results.md"))
	if want := 2 + len(r.Settings) + len(r.Opening); err != nil || strings.Count(string(table), "\n| ") != want {
		t.Errorf("results.md has %d rows, want %d (%v)", strings.Count(string(table), "\n| "), want, err)
	}
	for _, pattern := range []string{"plots/ssim-seconds.svg", "plots/rmse-calls.png", "sheets/prompt-002-seed-8.png"} {
		if st, err := os.Stat(filepath.Join(o.Out, pattern)); err != nil || st.Size() < 1000 {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

func readCSV(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll() // an error where a row has another number of fields than the first
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return rows
}

func find(t *testing.T, r *Report, scheduler string, steps int) SettingResult {
	t.Helper()
	for _, s := range r.Settings {
		if s.Setting.Scheduler == scheduler && s.Setting.Steps == steps {
			return s
		}
	}
	t.Fatalf("no %s with %d steps", scheduler, steps)
	return SettingResult{}
}

func TestInterruptedRunGoesOn(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	ctx, cancel := context.WithCancel(context.Background())
	o.Progress = func(p Progress) {
		if p.Done == 5 {
			cancel()
		}
	}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	pictures, _ := journal(t, o.Out)
	if len(pictures) != 5 {
		t.Fatalf("%d pictures before the interruption, want 5", len(pictures))
	}
	o.Progress = nil
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	onceEach(t, o.Out, tinyPictures)
	var rendered int
	o.Progress = func(p Progress) {
		if p.Doing == "rendering" && p.Done < p.Total {
			rendered++
		}
	}
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	if rendered != 0 {
		t.Errorf("a finished comparison rendered %d pictures", rendered)
	}
}

// TestMain lets the test program be the one that is killed: it reports each picture before it is made.
func TestMain(m *testing.M) {
	if dir := os.Getenv("COMPARE_KILL_ME"); dir != "" {
		o := tinyOptions(&testing.T{})
		o.Out, o.Warn = dir, nil
		o.Progress = func(p Progress) { fmt.Println(p.Done) }
		if _, err := Run(context.Background(), o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Killed without warning, a moment after it began one picture or another, it goes on where it was.
func TestKilledAtAnyTime(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := filepath.Join(t.TempDir(), "report")
	for n, wait := range []time.Duration{0, 3, 7, 12, 20, -1} { // milliseconds after the n-th picture began; -1: no end
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "COMPARE_KILL_ME="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for s := bufio.NewScanner(out); s.Scan(); {
			if lines++; wait >= 0 && lines == n+2 {
				time.Sleep(wait * time.Millisecond)
				cmd.Process.Kill() // SIGKILL
			}
		}
		if err := cmd.Wait(); (err == nil) != (wait < 0) {
			t.Fatalf("run %d: %v", n+1, err)
		}
	}
	onceEach(t, dir, tinyPictures)
	parts, err := filepath.Glob(filepath.Join(dir, "*", "*"+unfinished))
	if err != nil || len(parts) > 0 {
		t.Errorf("unfinished files are left: %v, %v", parts, err)
	}
}

func TestJournalWithoutItsEnd(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(o.Out, journalFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The power went while the last line was written, and before its picture's files had their names.
	var last line
	lines := strings.SplitAfter(string(text), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-2]), &last); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)-20], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	onceEach(t, o.Out, tinyPictures)

	// The line was written, the files were not renamed: nothing is rendered.
	for _, name := range []string{filepath.Join(o.Out, imagesDir, last.Picture.ID+".png"), filepath.Join(o.Out, latentsDir, last.Picture.ID+".f32")} {
		if err := os.Rename(name, name+unfinished); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	onceEach(t, o.Out, tinyPictures)

	// A line in the middle that is damaged is an error that names it.
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), `{"picture"`, `{"pic"ture"`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a damaged line: %v", err)
	}
}

func TestAnotherGrid(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(o.Out, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	o.Grid.SetAxis("steps", 4, 6)
	_, err = Run(context.Background(), o)
	var usage *pipeline.UsageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), "steps there: 2,4, here: 4,6") || !strings.Contains(err.Error(), "--new-grid") {
		t.Fatalf("another grid: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(o.Out, "results.json")); err != nil || string(after) != string(before) {
		t.Errorf("the refused run changed the report (%v)", err)
	}
	o.NewGrid = true
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	onceEach(t, o.Out, tinyPictures+3*4) // 6 steps are new
	if aside, err := os.ReadFile(filepath.Join(o.Out, earlierDir, "1", "results.json")); err != nil || string(aside) != string(before) {
		t.Errorf("the earlier report is not in %s/1 (%v)", earlierDir, err)
	}
	o.NewGrid = false
	if _, err := Run(context.Background(), o); err != nil {
		t.Errorf("the new grid, gone on with: %v", err)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no prompts":           {func(o *Options) { o.Grid.Prompts = nil }, "no prompts"},
		"no seeds":             {func(o *Options) { o.Grid.Seeds = 0 }, "--seeds 0"},
		"steps of 0":           {func(o *Options) { o.Grid.SetAxis("steps", 0) }, "--steps 0"},
		"unknown scheduler":    {func(o *Options) { o.Grid.SetAxis("scheduler", "eulr") }, "nearest"},
		"too many steps":       {func(o *Options) { o.Grid.SetAxis("steps", 2000) }, "2000 steps"},
		"eta of another":       {func(o *Options) { o.Grid.SetAxis("eta", 0.5) }, "eta"},
		"steps and a budget":   {func(o *Options) { o.Grid.Budget = 1 }, "--budget and --steps"},
		"a reference too few":  {func(o *Options) { o.Grid.ReferenceSteps = 3 }, "--reference-steps 3"},
		"no judge to rank by":  {func(o *Options) { o.RankBy = "agreement" }, "needs a judge"},
		"no measure":           {func(o *Options) { o.RankBy = "beauty" }, "choose one of"},
		"no such judge":        {func(o *Options) { o.Judge = "/nowhere" }, "no such folder"},
		"a judge of no shape":  {func(o *Options) { o.Judge = tiny }, "config.json"},
		"a model in no folder": {func(o *Options) { o.Grid.SetAxis("model", "/nowhere") }, "/nowhere"},
	} {
		o := tinyOptions(t)
		c.change(&o)
		_, err := Run(context.Background(), o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		var usage *pipeline.UsageError
		if !errors.As(err, &usage) && name != "a model in no folder" {
			t.Errorf("%s: %v is not a usage error", name, err)
		}
		if _, err := os.Stat(o.Out); err == nil {
			t.Errorf("%s: a folder was made", name)
		}
	}
	o := tinyOptions(t)
	o.Out = t.TempDir()
	if err := os.WriteFile(filepath.Join(o.Out, "letters.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), "letters.txt") {
		t.Errorf("a folder with other files: %v", err)
	}
	if entries, _ := os.ReadDir(o.Out); len(entries) > 2 { // the lock
		t.Errorf("%d files in a folder that was refused", len(entries))
	}
}

// Schedulers that cannot quite do what is asked are run, with a warning.
func TestWarnings(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	o.Grid.SetAxis("scheduler", "lcm", "dpm-adaptive", "dpm++2m", "dpmpp-2m")
	o.Grid.SetAxis("steps", 1)
	o.Grid.Prompts, o.Grid.Seeds = o.Grid.Prompts[:1], 1
	var warnings []string
	o.Warn = func(m string) { warnings = append(warnings, m) }
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(warnings, "\n")
	for _, want := range []string{"lcm is for models distilled for it", "dpm-adaptive chooses its own steps", "dpm++2m, 1 step and dpmpp-2m, 1 step are the same"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q in:\n%s", want, all)
		}
	}
	if len(r.Settings) != 3 {
		t.Fatalf("%d settings, want 3", len(r.Settings))
	}
	if adaptive := r.Settings[1]; adaptive.Setting.Steps != 0 || adaptive.Calls < 10 {
		t.Errorf("dpm-adaptive: %d steps, %v calls", adaptive.Setting.Steps, adaptive.Calls)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	o.Grid.SetAxis("steps")
	o.Grid.Budget = 0.05
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Settings {
		if s.Setting.Steps < 1 || s.Setting.Steps > mostSteps {
			t.Errorf("%s within the budget", s.Name)
		}
	}
	o.Grid.Budget = 1e-9
	o.NewGrid = true
	if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), "no scheduler makes a picture in that time") {
		t.Errorf("a budget of nothing: %v", err)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	o.Judge, o.PricePerHour = "judge/testdata/clip", 3.6
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.RankBy != "agreement" || !strings.Contains(r.Judge, "CLIP") {
		t.Errorf("ranked by %q with judge %q", r.RankBy, r.Judge)
	}
	for _, s := range r.Settings {
		for _, key := range []string{"agreement", "preference", "cmmd", "diversity", "vendi"} {
			if _, ok := s.Values[key]; !ok {
				t.Errorf("%s has no %s", s.Name, key)
			}
		}
		for _, key := range []string{"frechet", "kid", "precision", "recall"} { // of four pictures they are noise
			if v, ok := s.Values[key]; ok {
				t.Errorf("%s has a %s of 4 pictures: %v", s.Name, key, v)
			}
		}
		if v := s.Values["vendi"].Mean; v < 1 || v > 2 {
			t.Errorf("%s: %v effectively different pictures of 2", s.Name, v)
		}
		if s.Rank == 0 || s.Cost == nil || math.Abs(*s.Cost-s.Seconds.Median) > 1e-9 { // 1000 pictures at 3.60 an hour cost as much as a picture takes
			t.Errorf("%s: rank %d, cost %v", s.Name, s.Rank, s.Cost)
		}
	}
	// The same pictures are not looked at again: what is kept is used.
	kept, err := filepath.Glob(filepath.Join(o.Out, featuresDir, "*", "*.f32"))
	if err != nil || len(kept) != tinyPictures {
		t.Fatalf("%d features kept, want %d (%v)", len(kept), tinyPictures, err)
	}
	for _, name := range kept {
		if err := os.WriteFile(name, make([]byte, 4*12), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if r, err = Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Settings[0].Values["agreement"]; ok || r.RankBy != "ssim" {
		t.Errorf("features of nothing but zeros have an agreement, ranked by %q", r.RankBy)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"grid":{"grid":{"prompts":["a"],"firstSeed":0,"seeds":1,"referenceSteps":0},"modelHashes":{},"backend":"cpu","numerics":"1"}}` + "\n"))
	f.Add([]byte(`{"picture":{"key":"0","id":"../../../../etc","setting":{},"item":{},"calls":-1}}` + "\n"))
	f.Add([]byte("{\"picture\":null}\n{}\nnull\n{\"pict"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), journalFile)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		j := &folder{dir: filepath.Dir(path), pictures: map[string]*Record{}}
		_, end, err := j.read(path)
		if err == nil && end > int64(len(text)) {
			t.Errorf("the journal ends at %d of %d", end, len(text))
		}
		for _, r := range j.pictures {
			if !safeName(r.ID) {
				t.Errorf("a picture called %q", r.ID)
			}
		}
	})
}

// Files that are not what was written (cut, changed, or another picture's) are made again, and give the same report.
func TestDamagedFilesAreMadeAgain(t *testing.T) {
	t.Parallel()
	o := tinyOptions(t)
	o.Judge = "judge/testdata/clip"
	before, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	list := func(pattern string) []string {
		names, err := filepath.Glob(filepath.Join(o.Out, pattern))
		if err != nil || len(names) < 3 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		return names
	}
	images, latents, features := list(imagesDir+"/*.png"), list(latentsDir+"/*.f32"), list(featuresDir+"/*/*.f32")
	cut := func(name string, by int64) {
		st, err := os.Stat(name)
		if err == nil {
			err = os.Truncate(name, st.Size()-by)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cut(latents[0], 16)
	cut(features[0], 16)
	cut(features[1], 1)
	if err := os.Truncate(features[2], 0); err != nil {
		t.Fatal(err)
	}
	flip := func(name string, at int) {
		data, err := os.ReadFile(name)
		if err == nil {
			data[at] ^= 1
			err = os.WriteFile(name, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	flip(latents[1], 8)
	for _, names := range [][2]string{{images[0], o.Out + "/x"}, {images[1], images[0]}, {o.Out + "/x", images[1]}} {
		if err := os.Rename(names[0], names[1]); err != nil {
			t.Fatal(err)
		}
	}
	after, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range before.Settings {
		for key, v := range s.Values {
			if now := after.Settings[i].Values[key]; now.Mean != v.Mean {
				t.Errorf("%s of %s: %v, then %v", key, s.Name, v.Mean, now.Mean)
			}
		}
	}
}
