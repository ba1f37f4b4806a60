// Package web is what the server's handlers have in common: bodies that are read within limits, answers in JSON, errors, and
// server-sent events.
package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"

	"darkroom/server/dispatch"
	"darkroom/server/wire"
)

// bodyTime is how long a client may take to send a body, and writeTime to take a piece of an answer.
const (
	bodyTime  = 2 * time.Minute
	writeTime = time.Minute
)

// ReadBody reads a request's body, of at most so many bytes. The error is a *wire.Error.
func ReadBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	tooLarge := &wire.Error{
		Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Code: "request_too_large",
		Message: fmt.Sprintf("the body has more than the %d bytes that this server accepts (--max-body)", most),
	}
	if r.ContentLength > most {
		return nil, tooLarge
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTime)) // what cannot have one is a test
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, tooLarge
		}
		return nil, &wire.Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Message: "the body was cut off: " + err.Error()}
	}
	_ = control.SetReadDeadline(time.Time{}) // the answer may take long
	return data, nil
}

// Fields reads a body that is a JSON object. An empty one has no fields.
func Fields(data []byte) (map[string]json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(data)) == 0 {
		return fields, nil
	}
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, badJSON(err)
	}
	return fields, nil
}

// Read reads a JSON body into v.
func Read(w http.ResponseWriter, r *http.Request, most int64, v any) error {
	data, err := ReadBody(w, r, most)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return badJSON(err)
	}
	return nil
}

func badJSON(err error) error {
	e := &wire.Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Message: "the body is not the expected JSON: " + err.Error(), Code: "invalid_json"}
	var field *json.UnmarshalTypeError
	if errors.As(err, &field) {
		e.Param, e.Message = field.Field, fmt.Sprintf("it is a JSON %s, but must be %s", field.Value, inJSON(field.Type))
	}
	return e
}

// inJSON is what JSON calls a type's values.
func inJSON(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return inJSON(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "a whole number"
}

// JSON answers with v.
func JSON(w http.ResponseWriter, status int, v any) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		status = http.StatusInternalServerError
		buf.Reset()
		fmt.Fprintf(&buf, `{"error":{"message":%q,"type":"server_error","param":null,"code":null}}`+"\n", err)
	}
	w.Header().Set("Content-Type", "application/json")
	Bytes(w, status, buf.Bytes())
}

// Bytes answers with data, whose type is set.
func Bytes(w http.ResponseWriter, status int, data []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime + time.Duration(len(data)/(32<<10))*time.Second))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(data) // a client that is gone
}

// Failure is err as clients see it, with its status.
func Failure(err error) *wire.Error {
	var e *wire.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, dispatch.ErrFull):
		return &wire.Error{Status: http.StatusTooManyRequests, Type: "rate_limit_error", Message: err.Error(), Code: "queue_full"}
	case errors.Is(err, dispatch.ErrStopping):
		return &wire.Error{Status: http.StatusServiceUnavailable, Type: "server_error", Message: err.Error(), Code: "stopping"}
	case errors.Is(err, dispatch.ErrKey):
		return &wire.Error{Status: http.StatusConflict, Type: "invalid_request_error", Message: err.Error(), Code: "idempotency_key_reused"}
	}
	return &wire.Error{Status: http.StatusInternalServerError, Type: "server_error", Message: err.Error()}
}

// Error answers with an error in the shape of OpenAI's API.
func Error(w http.ResponseWriter, err error) {
	e := Failure(err)
	if e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "2")
	}
	JSON(w, e.Status, wire.ErrorBody{Error: *e})
}

// NotFound is the error of something that is not there.
func NotFound(format string, args ...any) *wire.Error {
	return &wire.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Message: fmt.Sprintf(format, args...), Code: "not_found"}
}

// Stream writes server-sent events.
type Stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// NewStream begins an answer of server-sent events.
func NewStream(w http.ResponseWriter) *Stream {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // of nginx
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	return &Stream{w, http.NewResponseController(w)}
}

// Send sends an event with data in JSON. An error says that the client is gone, or too slow.
func (s *Stream) Send(event string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return s.write("event: " + event + "\ndata: " + string(text) + "\n\n")
}

// Beat sends a comment, so that nothing between takes the connection for dead.
func (s *Stream) Beat() error { return s.write(": waiting\n\n") }

func (s *Stream) write(text string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	return s.control.Flush()
}

// BeatTime is how often an idle stream has a comment.
const BeatTime = 15 * time.Second

// Client is who sends a request: a hash of its credentials, which are not to be written down, or else its address without the
// port.
func Client(r *http.Request) string {
	if auth := r.Header.Get("Authorization"); auth != "" {
		sum := sha256.Sum256([]byte(auth))
		return "credentials " + hex.EncodeToString(sum[:8])
	}
	host := r.RemoteAddr
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return host
}
