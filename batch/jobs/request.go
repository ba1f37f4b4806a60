package jobs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"darkroom/pipeline"
	"darkroom/recipe"
)

// Request is one image to make, as it was asked for: what is not given is the model's default. It decides the image
// alone: no index, no batch and no place is in it. Its JSON is that of recipe.Given, in which no zero that is left out
// would mean anything else than the default.
type Request struct{ recipe.Given }

// Hash names the request: the SHA-256 of its JSON, in hex. Equal requests have equal hashes in every batch, on
// every machine.
func (q *Request) Hash() string {
	var buf bytes.Buffer
	buf.WriteString("darkroom request 1\n")
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(q); err != nil {
		panic("jobs: a request with a number that is not finite: " + err.Error())
	}
	sum := sha256.Sum256(buf.Bytes())
	return hex.EncodeToString(sum[:])
}

// Fill writes what was asked for over r, a model's own request, as the flags of generate do.
func (q *Request) Fill(r pipeline.Request) pipeline.Request {
	if q.Init != "" { // its size, where none is given
		r.Width, r.Height = 0, 0
	}
	q.Apply(&r.Settings)
	r.Prompt, r.Seed = q.Prompt, q.Seed
	return r
}

// Extension is the file name's end that the format asks for.
func (q *Request) Extension() string {
	if q.Format == "" {
		return ".png"
	}
	return "." + q.Format
}
