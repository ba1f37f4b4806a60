package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// Every line of docs/editing.md runs as it stands there, one after the other in an empty folder with the mask of the samples, but for
// those that name another model or a file that the reader brings.
func TestEditingPage(t *testing.T) {
	page := string(read(t, "../../docs/editing.md"))
	for _, link := range regexp.MustCompile(`\(\.\./(samples/[^)]*)\)`).FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat("../../" + link[1]); err != nil {
			t.Error(err)
		}
	}
	mask := read(t, "../../samples/editing/mask.png")
	t.Chdir(t.TempDir())
	save(t, "mask.png", mask)
	saveCertificate(t, "chain.pem", "key.pem")
	t.Setenv("DARKROOM_STEPS", "2")
	t.Setenv("DARKROOM_HISTORY", "off")
	ran, brought := 0, 0
	for _, block := range shellBlock.FindAllStringSubmatch(page, -1) {
		for _, line := range strings.Split(strings.TrimSpace(block[1]), "\n") {
			words := shellWords(t, line)
			if strings.Contains(line, "--model ") || strings.Contains(line, "house.jpg") || strings.Contains(line, ".pth") {
				brought++
				continue
			}
			ran++
			if code, _, errs := command(t, "", words...); code != 0 {
				t.Errorf("%s: exit code %d, %s", line, code, errs)
			}
			for i, w := range words {
				if w != "-o" {
					continue
				}
				if _, err := os.Stat(words[i+1]); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			}
		}
	}
	if ran < 24 || brought > 11 {
		t.Errorf("%d lines were run, %d were not", ran, brought)
	}
}
