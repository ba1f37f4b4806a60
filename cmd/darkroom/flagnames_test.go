package main

import (
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"darkroom/recipe"
)

// flagName finds --flags in a text.
var flagName = regexp.MustCompile(`(^|[^-\w<!])--([A-Za-z][\w-]*)`)

// queueServer are the flags of the program darkroom-queue that darkroom does not have too.
var queueServer = []string{"dir", "stdin"}

// TestFlagsExist: every --flag that a message, a help text or a page names is a flag of some command.
func TestFlagsExist(t *testing.T) {
	known := map[string]bool{"help": true, "version": true}
	for _, c := range newApp(&env{}).cli.Commands {
		for name := range flagKinds(c.Flags) {
			known[name] = true
		}
	}
	for _, s := range recipe.All() {
		for _, alias := range s.Aliases {
			known[alias] = true
		}
	}
	check := func(where, text string) {
		for _, m := range flagName.FindAllStringSubmatch(text, -1) {
			name := m[2]
			if len(name) == 1 || !known[name] && !known[strings.ReplaceAll(name, "_", "-")] && !slices.Contains(queueServer, name) {
				t.Errorf("%s: --%s is not a flag of any command: %.120q", where, name, text)
			}
		}
	}
	files, err := exec.Command("git", "ls-files", "../..").Output()
	if err != nil {
		t.Skip("not a git checkout: the tree's texts are not read")
	}
	for _, file := range strings.Fields(string(files)) {
		switch {
		case strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "../../train/") || strings.HasPrefix(file, "../../bench/"): // programs of their own
		case filepath.Ext(file) == ".go":
			for where, text := range literals(t, file) {
				check(where, text)
			}
		case filepath.Ext(file) == ".md":
			text, err := os.ReadFile(file)
			if err != nil {
				continue // deleted, not yet committed
			}
			for i, line := range strings.Split(string(text), "\n") {
				check(file+":"+strconv.Itoa(i+1), line)
			}
		}
	}
}

// literals are a Go file's texts, by where they are.
func literals(t *testing.T, file string) map[string]string {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var s scanner.Scanner
	files := token.NewFileSet()
	s.Init(files.AddFile(file, files.Base(), len(src)), src, nil, 0)
	texts := map[string]string{}
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return texts
		}
		if tok == token.STRING {
			if text, err := strconv.Unquote(lit); err == nil {
				texts[files.Position(pos).String()] = text
			}
		}
	}
}
