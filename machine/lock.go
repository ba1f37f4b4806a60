package machine

import "errors"

// ErrLocked says that another program has locked the file.
var ErrLocked = errors.New("another program is at work here")
