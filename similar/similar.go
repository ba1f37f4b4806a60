// Package similar finds the names that a mistyped one may have meant.
package similar

import (
	"slices"
	"strings"

	"github.com/xrash/smetrics"
)

// Names are up to three names that are most like the wrong one, the most similar first; none if none is like it at all.
func Names(wrong string, names []string) []string {
	if len(wrong) > 200 { // no name is like it, and comparing takes time
		return nil
	}
	names = slices.Sorted(slices.Values(names))
	distance := func(name string) int { return smetrics.WagnerFischer(wrong, name, 1, 1, 1) }
	slices.SortStableFunc(names, func(a, b string) int { return distance(a) - distance(b) })
	var like []string
	for _, name := range names[:min(3, len(names))] {
		if d := distance(name); d <= max(2, len(name)/3) && d <= distance(names[0])+1 {
			like = append(like, name)
		}
	}
	return like
}

// Hint is "; nearest: a, b, c" for the end of an error message, "" if no name is like the wrong one.
func Hint(wrong string, names []string) string {
	like := Names(wrong, names)
	if len(like) == 0 {
		return ""
	}
	return "; nearest: " + strings.Join(like, ", ")
}
