package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// compareLine is a comparison of the tiny model that takes a second.
func compareLine(t *testing.T, dir string, more ...string) []string {
	t.Helper()
	prompts := filepath.Join(t.TempDir(), "prompts.txt")
	if err := os.WriteFile(prompts, []byte("# fruit\na red apple\n\n  a pear  \r\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return append([]string{"compare", "--model", tiny, "--schedulers", "ddim,unipc", "--steps", "2,3", "--prompts", prompts,
		"--width", "32", "--height", "32", "--reference-steps", "10", "--judge", "none", "-o", dir}, more...)
}

func TestCompare(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "report")
	code, out, errs := command(t, "", compareLine(t, dir)...)
	if code != 0 {
		t.Fatalf("exit code %d, stderr %q", code, errs)
	}
	for _, want := range []string{"ddim, 2 steps", "unipc, 3 steps", "SSIM", "Use ", filepath.Join(dir, "index.html")} {
		if !strings.Contains(out, want) {
			t.Errorf("stdout has no %q:\n%s", want, out)
		}
	}
	if before, _, _ := strings.Cut(errs, "rendering:"); !strings.Contains(before, "12 pictures: 4 settings") {
		t.Errorf("nothing is said before it begins: %q", errs)
	}
	if !strings.Contains(errs, "rendering: 12 of 12 pictures") {
		t.Errorf("stderr: %q", errs)
	}
	for _, f := range []string{"index.html", "results.csv", "pictures.csv", "results.json", "results.md", "images", "plots", "sheets"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Error(err)
		}
	}

	// Another grid in the same folder.
	code, out, errs = command(t, "", compareLine(t, dir, "--seeds", "2")...)
	if code != 2 || out != "" || !strings.Contains(errs, "seeds there: 1, here: 2") || !strings.Contains(errs, "--new-grid") {
		t.Errorf("another grid: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	code, out, errs = command(t, "", compareLine(t, dir, "--seeds", "2", "--new-grid", "--json", "--quiet")...)
	if code != 0 || errs != "" {
		t.Fatalf("--new-grid: exit code %d, stderr %q", code, errs)
	}
	for _, text := range strings.Split(strings.TrimSpace(out), "\n") {
		var s struct{ Name string }
		if err := json.Unmarshal([]byte(text), &s); err != nil || s.Name == "" {
			t.Errorf("--json printed %q: %v", text, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "earlier", "1", "index.html")); err != nil {
		t.Error(err)
	}
}

func TestCompareWrongUsage(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	empty, latin, full := write("empty.txt", "\n# none\n"), write("latin.txt", "caf\xe9\n"), filepath.Join(dir, "full")
	if err := os.MkdirAll(full, 0o755); err != nil {
		t.Fatal(err)
	}
	write("full/letters.txt", "")
	report := filepath.Join(dir, "report")
	for _, c := range []struct{ line, want string }{
		{"compare --prompt apple", "-o is missing"},
		{"compare -o " + report, "no prompts"},
		{"compare -o " + report + " --prompts " + empty, "the file has no prompts"},
		{"compare -o " + report + " --prompts " + latin, "line 1: it is not UTF-8"},
		{"compare -o " + report + " --prompts " + dir + "/none.txt", "there is no such file"},
		{"compare -o " + report + " --prompts " + empty + " --prompt apple", "give one"},
		{"compare apple -o " + report, "takes no arguments"},
		{"compare --prompt apple -o " + report + " --steps 4,many", `"many" is not one of the whole numbers`},
		{"compare --prompt apple -o " + report + " --steps 4,,8", "between the commas is empty"},
		{"compare --prompt apple -o " + report + " --cfg high", `"high" is not one of the numbers`},
		{"compare --prompt apple -o " + report + " --budget soon", "such as 2s"},
		{"compare --prompt apple -o " + report + " --budget 2s --steps 4", "--budget and --steps"},
		{"compare --prompt apple -o " + report + " --guidance cfg,agp", `no guidance is called "agp"`},
		{"compare --prompt apple -o " + report + " --guidance eta=0,apg", "keys follow the name and a colon"},
		{"compare --prompt apple -o " + report + " --guidance cfg,,apg", "between the commas is empty"},
		{"compare --prompt apple -o " + report + " --schedulers dpm-adaptive --guidance cfg:stop=0.5 --model " + tiny, "use low and high"},
		{"compare --prompt apple -o " + report + " --sde-noise brown --model " + tiny, "choose torch or brownian"},
		{"compare --prompt apple -o " + report + " --prompts " + dir, "give one"},
		{"compare -o " + report + " --prompts " + dir, "it is a folder"},
		{"compare --prompt apple -o " + report + " --schedulers pndm --sigmas 14.6,0.1 --model " + tiny, "pndm"},
		{"compare --prompt apple -o " + report + " --schedulers eulr --model " + tiny, "nearest"},
		{"compare --prompt apple -o " + full + " --model " + tiny, "letters.txt"},
		{"compare --prompt apple -o " + report + " --judge " + full + " --model " + tiny, "no config.json"},
		{"compare --prompt apple -o " + report + " --judge /nowhere --model " + tiny, "no such folder"},
		{"compare --prompt apple -o " + report + " --rank-by beauty --model " + tiny, "choose one of"},
		{"compare --prompt apple -o " + report + " --seeds 0", "--seeds 0"},
		{"compare --prompt apple -o " + report + " --seeds 2000000000", "more than 100000 pictures a setting"},
		{"compare --problem chess", "there is gmm"},
		{"compare --problem gmm --prompt apple", "draws no pictures, so --prompt has no effect"},
		{"compare --problem gmm --cfg 3,5", "draws no pictures, so --cfg has no effect"},
		{"compare --problem gmm -o x", "draws no pictures, so --out has no effect"},
		{"compare --problem gmm --budget 2s", "draws no pictures, so --budget has no effect"},
		{"compare --problem gmm --schedulers euler --sigmas kerras", "kerras"},
		{"compare --problem gmm --schedulers eulr", "nearest"},
	} {
		code, out, errs := command(t, "", strings.Fields(c.line)...)
		if code != 2 || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s\nexit code %d, stdout %q, stderr %q; want 2 and %q", c.line, code, out, errs, c.want)
		}
		if _, err := os.Stat(report); err == nil {
			t.Errorf("%s: a folder was made", c.line)
		}
	}
}

// TestCompareAxes: every axis from the command line to the table: models by their names, guidance with keys, noise, levels.
func TestCompareAxes(t *testing.T) {
	models := t.TempDir()
	for name, from := range map[string]string{"small": tiny, "other": filepath.Join(filepath.Dir(tiny), "sd1")} {
		if err := os.CopyFS(filepath.Join(models, name), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DARKROOM_MODELS", models)
	dir := filepath.Join(t.TempDir(), "report")
	code, _, errs := command(t, "", "compare", "--model", "small,other", "--schedulers", "euler-a", "--sigmas", "karras,14.6,3,0.5", "--steps", "2", "--cfg", "1.5,4",
		"--guidance", "apg:eta=0,momentum=-0.5,cfg", "--sde-noise", "torch,brownian", "--eta", "0.5", "--width", "32", "--height", "32", "--prompt", "a cat", "--reference-steps", "0",
		"--judge", "none", "--price-per-hour", "36", "-o", dir, "-q")
	if code != 0 {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	rows, pictures := csvFile(t, filepath.Join(dir, "results.csv")), csvFile(t, filepath.Join(dir, "pictures.csv"))
	column, seen := map[string]int{}, map[string]map[string]bool{}
	for i, name := range rows[0] {
		column[name], seen[name] = i, map[string]bool{}
	}
	for _, row := range rows[1:] {
		for name, i := range column {
			seen[name][row[i]] = true
		}
	}
	if settings := len(rows) - 1; settings != 2*2*2*2*2 {
		t.Errorf("%d settings, want 32", settings)
	}
	for name, want := range map[string][]string{
		"model": {"small", "other"}, "sigmas": {"karras", "14.6,3,0.5"}, "steps": {"2", "3"}, "cfg": {"1.5", "4"}, "eta": {"0.5"},
		"guidance": {"cfg", "apg:eta=0,momentum=-0.5"}, "sde_noise": {"torch", "brownian"},
	} {
		for _, v := range want {
			if !seen[name][v] || len(seen[name]) != len(want) {
				t.Errorf("%s: %v, want %v", name, seen[name], want)
			}
		}
	}
	// The line that the report gives for a picture makes that picture.
	for i, name := range pictures[0] {
		column[name] = i
	}
	for _, row := range [][]string{pictures[len(pictures)-1], pictures[1]} {
		again := filepath.Join(t.TempDir(), "again.png")
		line := strings.Fields(strings.ReplaceAll(row[column["command"]], "'a cat'", "a_cat"))[1:]
		line[1] = "a cat"
		if code, _, errs := command(t, "", append(line, "-o", again, "-q")...); code != 0 {
			t.Fatalf("%v: exit code %d, %s", line, code, errs)
		}
		if is, was := inspected(t, again).Result, inspected(t, filepath.Join(dir, row[column["file"]])).Result; is != was {
			t.Errorf("%v\ngives %+v, and the report has %+v", line, is, was)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil || !strings.Contains(string(text), `"cost":`) {
		t.Errorf("no cost in results.json: %v", err)
	}
}

func csvFile(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return rows
}

// What it would make, and how long that takes, is said without making it.
func TestCompareDryRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "report")
	code, out, errs := command(t, "", compareLine(t, dir, "--dry-run")...)
	if code != 0 || !strings.Contains(out, "12 pictures: 4 settings × 2 prompts × 1 seed, and 4 of converged solutions. About ") || !strings.Contains(out, "unipc, 3 steps\n") {
		t.Errorf("exit code %d, stderr %q, stdout\n%s", code, errs, out)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a folder was made")
	}
	code, out, _ = command(t, "", compareLine(t, dir, "--dry-run", "--json")...)
	var planned struct{ Pictures, Left, Calls int }
	if err := json.Unmarshal([]byte(out), &planned); code != 0 || err != nil || planned.Pictures != 12 || planned.Left != 12 {
		t.Errorf("exit code %d, %v, %s", code, err, out)
	}
}

func TestCompareProblem(t *testing.T) {
	code, out, errs := command(t, "", "compare", "--problem", "gmm", "--schedulers", "ddim,dpm++2m-karras,euler-a", "--steps", "10,20")
	if code != 0 || errs != "" || strings.Count(out, "dpm++2m-karras") != 2 || !strings.Contains(out, "draws noise") {
		t.Errorf("exit code %d, stderr %q, stdout\n%s", code, errs, out)
	}
}
