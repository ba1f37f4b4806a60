// Package store keeps finished images: in a folder, or in a bucket that speaks S3. An image appears under its name
// whole or not at all, is read back and compared before Put returns, and never replaces a different one.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Store keeps files by slash-separated names that jobs.CheckFile allows.
type Store interface {
	// Put writes data under the name, unless the very same is there. A different file under the name is a TakenError.
	// When it returns nil, the file was read back and is right.
	Put(ctx context.Context, name string, data []byte) error
	// Sum is the SHA-256, in hex, of the file as it is read back now. A missing file is ErrMissing.
	Sum(ctx context.Context, name string) (string, error)
	// String is what messages call the place.
	String() string
}

// ErrMissing means that there is no file of that name.
var ErrMissing = errors.New("there is no such file")

// TakenError means that another image already has the name.
type TakenError struct{ Name, Place string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s in %s is a different file and is not replaced: choose another name or place", e.Name, e.Place)
}

// damaged says that what was read back is not what was written.
func damaged(name, place string) error {
	return fmt.Errorf("%s in %s was written, but reads back differently: the medium is faulty, or another program writes there", name, place)
}

// Hopeless reports whether an error of Put comes again however often it is tried: the name, and not the place, is wrong (a
// part of it is a file, a link leads out of the folder, it is too long).
func Hopeless(err error) bool {
	for _, e := range []error{syscall.ENOTDIR, syscall.EISDIR, syscall.ENAMETOOLONG, syscall.ELOOP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return err != nil && strings.Contains(err.Error(), "path escapes from parent") // package os has no name for it
}
