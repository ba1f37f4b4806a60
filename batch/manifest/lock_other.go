//go:build !unix

package manifest

import "os"

// lock does nothing: two programs in one folder are not kept apart here.
func lock(*os.File) error { return nil }
