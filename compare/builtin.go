package compare

import (
	"io/fs"

	defaultjudge "darkroom/models/judge"
)

// builtInJudge is the judge that comes with the embedded model.
func builtInJudge() (fs.FS, bool) { return defaultjudge.Folder() }
