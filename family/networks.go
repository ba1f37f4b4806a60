package family

import (
	"fmt"
	"slices"

	"darkroom/clip"
	"darkroom/recipe"
)

// Network is an adapter that a prompt asks for with a tag such as <lora:NAME:0.8>.
type Network = clip.Tag

// Mentioned are the names that stand in the texts as words, as names of textual inversions do.
func Mentioned(names []string, texts ...string) (found []string) {
	for _, name := range names {
		if slices.ContainsFunc(texts, func(text string) bool { return clip.HasWord(text, name) }) {
			found = append(found, name)
		}
	}
	return found
}

// Networks are the adapters that weighted prompts ask for, each tag once. Hypernetworks are not supported, which a warning
// says.
func Networks(syntax string, texts ...string) (found []Network, warnings []string) {
	if syntax != recipe.Weighted {
		return nil, nil
	}
	seen := map[string]bool{}
	for _, text := range texts {
		_, tags := clip.CutTags(text)
		for _, t := range tags {
			switch {
			case seen[t.Text]:
			case t.Kind == "hypernet":
				warnings = append(warnings, fmt.Sprintf("%s: hypernetworks are not supported: it is left out", t.Text))
			default:
				found = append(found, t)
			}
			seen[t.Text] = true
		}
	}
	return found, warnings
}
