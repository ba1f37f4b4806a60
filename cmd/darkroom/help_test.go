package main

import (
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/jedib0t/go-pretty/v6/table"
)

// TestHelpFits: no line of any help is wider than 80 columns, where no terminal is wider.
func TestHelpFits(t *testing.T) {
	for _, c := range newApp(&env{}).cli.Commands {
		if c.Hidden {
			continue
		}
		code, out, errs := command(t, "", c.Name, "--help")
		if code != 0 || errs != "" {
			t.Errorf("%s: exit code %d, %s", c.Name, code, errs)
		}
		for _, line := range strings.Split(out, "\n") {
			if utf8.RuneCountInString(line) > usualWidth {
				t.Errorf("%s: %d columns: %s", c.Name, utf8.RuneCountInString(line), line)
			}
		}
		for name := range flagKinds(c.Flags) {
			if len(name) > 1 && name != "help" && !strings.Contains(out, "--"+name) {
				t.Errorf("%s: --%s is not in the help", c.Name, name)
			}
		}
	}
}

// TestHelpGroups: the headings of generate's help, in the order in which a newcomer reads.
func TestHelpGroups(t *testing.T) {
	_, out, _ := command(t, "", "generate", "--help")
	var titles []string
	lines := strings.Split(out, "\n")
	for i, line := range lines[1:] {
		if strings.HasPrefix(line, "   --") && !strings.HasPrefix(lines[i], " ") {
			titles = append(titles, lines[i])
		}
	}
	if d := cmp.Diff([]string{"Prompt", "Picture", "Sampling", "Model", "Editing", "Where it computes", "Output"}, titles); d != "" {
		t.Error(d)
	}
}

// TestWrap: words stay whole, and a shell reads a broken example as the whole one.
func TestWrap(t *testing.T) {
	if got := wrap("aa bb cc äöü", 8, "> ", "  "); got != "> aa bb\n  cc äöü\n" {
		t.Errorf("%q", got)
	}
	line := `   darkroom generate "a red apple on a table" --negative 'a leaf' --count 100 --device 0,1 -o pictures/`
	broken := breakLine(line, 40)
	for _, l := range strings.Split(broken, "\n") {
		if utf8.RuneCountInString(l) > 44 { // the first one cannot be broken within its quotes
			t.Errorf("%q", l)
		}
	}
	words := func(line string) string {
		out, err := exec.Command("sh", "-c", `darkroom() { printf '%s\0' "$@"; }; `+line).Output()
		if err != nil {
			t.Skip("no shell: ", err)
		}
		return string(out)
	}
	if a, b := words(line), words(broken); a != b {
		t.Errorf("%q became %q", a, b)
	}
	if got := breakLine("   darkroom inspect --json apple.png > apple.json     # which --from takes too", 60); got != "   # which --from takes too\n   darkroom inspect --json apple.png > apple.json\n" {
		t.Errorf("%q", got)
	}
}

// TestTableFits: on a terminal, a long cell is broken within its column; a table that fits is as it is elsewhere.
func TestTableFits(t *testing.T) {
	render := func(width int) string {
		var buf strings.Builder
		f := &fitted{Writer: plainTable(&buf), width: width}
		f.AppendHeader(table.Row{"name", "about"})
		f.AppendRow(table.Row{"small", "a model"})
		f.AppendRow(table.Row{"broken", strings.Repeat("a part is missing ", 10)})
		f.Render()
		return buf.String()
	}
	for _, line := range strings.Split(render(50), "\n") {
		if utf8.RuneCountInString(line) > 50 {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
	}
	if wide := render(1000); strings.Count(wide, "\n") != 3 {
		t.Errorf("a table that fits is broken:\n%s", wide)
	}
	if out := strings.Fields(render(50)); len(out) != 2+3+1+40 {
		t.Errorf("%d words are left of 46", len(out))
	}
}
