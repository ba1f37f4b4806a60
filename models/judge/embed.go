// Package defaultjudge embeds the small classifier that comes with the embedded model: it says whether a picture shows the noun
// of its prompt. train/judge.py makes config.json and model.safetensors; a build without them has no judge.
package defaultjudge

import (
	"embed"
	"io/fs"
)

//go:embed *
var files embed.FS

// Folder is the judge's folder; false where this build has none.
func Folder() (fs.FS, bool) {
	_, err := fs.Stat(files, "config.json")
	return files, err == nil
}
