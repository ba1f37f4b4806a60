//go:build !unix

package machine

import "os"

// Lock does nothing: two programs in one folder are not kept apart here.
func Lock(*os.File) error { return nil }
