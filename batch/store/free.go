package store

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// PutFree is Put under the name or, where a different file has it, under the first of name-2, name-3, … that is free
// or holds the same. It returns the name.
func PutFree(ctx context.Context, s Store, name string, data []byte) (string, error) {
	ext := path.Ext(name)
	at := name
	for n := 2; ; n++ {
		err := s.Put(ctx, at, data)
		var taken *TakenError
		if !errors.As(err, &taken) || n > 1000 {
			return at, err
		}
		at = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, ext), n, ext)
	}
}

// IsFree reports whether a name is one that PutFree gives to a file of the name.
func IsFree(name, given string) bool {
	ext := path.Ext(name)
	number, ok := strings.CutPrefix(strings.TrimSuffix(given, ext), strings.TrimSuffix(name, ext))
	if !ok || !strings.HasSuffix(given, ext) {
		return false
	}
	if number == "" {
		return true
	}
	n, err := strconv.Atoi(strings.TrimPrefix(number, "-"))
	return err == nil && n >= 2 && fmt.Sprintf("-%d", n) == number
}
