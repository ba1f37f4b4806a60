package ask

import (
	"testing"

	"darkroom/recipe"
)

// Every setting whose text may name a file is judged: a new one is added to resolvers, or to plain where it names none.
func TestEverySettingIsJudged(t *testing.T) {
	for _, s := range recipe.All() {
		anything := s.Kind == recipe.TextKind && (s.Choices == nil || s.Open)
		if judged := resolvers[s.Name] != nil || plain[s.Name]; anything && !judged {
			t.Errorf("%s: a text that may be anything: add it to resolvers or to plain", s.Name)
		}
	}
	for name := range resolvers {
		if _, ok := recipe.Lookup(name); !ok {
			t.Errorf("resolvers has %s, which is not a setting", name)
		}
	}
}
