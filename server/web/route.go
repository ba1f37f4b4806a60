package web

import (
	"net/http"
)

// Route is a place of the API: how it is answered, and what /openapi.json says of it.
type Route struct {
	Method, Path string
	Handle       func(w http.ResponseWriter, r *http.Request) error

	Tag, Summary string
	Query        []Query
	Headers      []Query
	Body         any      // a value of the body's type; nil: none
	Media        []string // of the body; none: application/json
	Answer       any      // a value of the answer's type; nil: none in JSON
	AnswerMedia  string   // "": application/json
	Status       int      // of the answer; 0: 200
	Example      any      // of the body
	// Lax takes fields that Body does not list: settings.
	Lax bool
}

// Query is a parameter of the query, or a header.
type Query struct{ Name, About string }

// Mount has a mux answer a route. fail answers with an error.
func (r Route) Mount(mux *http.ServeMux, fail func(http.ResponseWriter, *http.Request, error)) {
	handle := r.Handle
	mux.HandleFunc(r.Method+" "+r.Path, func(w http.ResponseWriter, q *http.Request) {
		if err := handle(w, q); err != nil {
			fail(w, q, err)
		}
	})
}
