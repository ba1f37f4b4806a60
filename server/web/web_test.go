package web

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// TestWrongTypes: an error speaks of JSON, not of Go.
func TestWrongTypes(t *testing.T) {
	type inner struct {
		Name  string   `json:"name"`
		Count *int     `json:"count"`
		Share float64  `json:"share"`
		On    bool     `json:"on"`
		List  []string `json:"list"`
	}
	for body, want := range map[string]string{
		`[]`: "it is a JSON array, but must be an object", `{"name": 1}`: "it is a JSON number, but must be a string", `{"count": "x"}`: "it is a JSON string, but must be a whole number",
		`{"share": true}`: "it is a JSON bool, but must be a number", `{"on": 1}`: "it is a JSON number, but must be true or false", `{"list": {}}`: "it is a JSON object, but must be an array",
	} {
		err := Read(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(body)), 1<<10, &inner{})
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}
