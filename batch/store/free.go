package store

import (
	"context"
	"errors"
	"fmt"
	"path"
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
