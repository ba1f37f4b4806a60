package jobs

import (
	"encoding/json"
	"testing"

	"darkroom/recipe"
)

// TestSchema: the schema has every field under every name, with the limits that the checks have.
func TestSchema(t *testing.T) {
	var schema struct {
		Defs struct {
			Job struct {
				Properties map[string]struct {
					AnyOf []struct {
						Type    string
						Minimum *float64
						Maximum *float64
						Enum    []string
					}
				}
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	have := schema.Defs.Job.Properties
	names := Fields()
	for _, s := range recipe.All() {
		names = append(append(names, s.JSON()), s.Aliases...)
	}
	for _, name := range names {
		if _, ok := have[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if s := have["steps"].AnyOf[0]; s.Type != "integer" || *s.Minimum != 1 || *s.Maximum != 10_000 {
		t.Errorf("steps: %+v", s)
	}
	if s := have["noise"].AnyOf[0]; len(s.Enum) != 2 || s.Enum[0] != "torch-cpu" {
		t.Errorf("noise: %+v", s)
	}
	if s := have["scheduler"].AnyOf[0]; s.Enum != nil { // suffixes are allowed
		t.Errorf("scheduler: %+v", s)
	}
}
