package pipeline

import (
	"runtime/debug"
	"strings"
)

// Release is the version in development: the last part is dropped when it is tagged. CHANGELOG.md has a section for
// each.
const Release = "0.1.0-dev"

// Version is the program's version: Release, with the commit where the build knows it, as in 0.1.0-dev+2b4c1a09.
func Version() string {
	version := Release
	if commit, modified := Commit(); commit != "" {
		version += "+" + commit[:min(8, len(commit))]
		if modified {
			version += ".modified"
		}
	}
	return version
}

// Commit is the commit that the program was built from, "" where the build does not know it (go run, go test, a tree
// without its repository), and whether there were changes beside it.
func Commit() (commit string, modified bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", false
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = strings.TrimSpace(s.Value)
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	return commit, modified
}
