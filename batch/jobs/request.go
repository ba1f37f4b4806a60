package jobs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"

	"darkroom/pipeline"
	"darkroom/recipe"
)

// Request is one image to make, as it was asked for: what is not given is the model's default. It decides the image
// alone: no index, no batch and no place is in it. Its JSON is that of recipe.Given, in which no zero that is left out
// would mean anything else than the default.
type Request struct {
	recipe.Given
	// Inputs is a hash of what the pictures' files held that the request names; "" where it names none, or where they were
	// not looked at. The request's hash has it, so that changed pictures are rendered anew.
	Inputs string
}

// MarshalJSON writes the inputs after the settings.
func (q Request) MarshalJSON() ([]byte, error) {
	text, err := q.Given.MarshalJSON()
	if err != nil || q.Inputs == "" {
		return text, err
	}
	return append(text[:len(text)-1], `,"inputs":"`+q.Inputs+`"}`...), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (q *Request) UnmarshalJSON(data []byte) error {
	var in struct{ Inputs string }
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	if in.Inputs != "" && (len(in.Inputs) != 2*sha256.Size || strings.Trim(in.Inputs, "0123456789abcdef") != "") {
		return errors.New("inputs is no SHA-256")
	}
	q.Inputs = in.Inputs
	return q.Given.UnmarshalJSON(data)
}

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
	r.Give(&q.Given)
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
