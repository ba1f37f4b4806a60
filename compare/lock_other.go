//go:build !unix && !windows

package compare

// lockFolder does nothing where files cannot be locked.
func lockFolder(string) (unlock func(), err error) { return func() {}, nil }
