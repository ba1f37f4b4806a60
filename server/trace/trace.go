// Package trace tells an OpenTelemetry collector what became of requests: spans in OTLP over HTTP, as JSON. OpenTelemetry's own
// SDK would add more to the program's first build than the whole server.
//
// Sources: opentelemetry.io/docs/specs/otlp, w3.org/TR/trace-context.
package trace

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"
)

// Context says to which span of which trace something belongs. The zero value belongs to none.
type Context struct {
	Trace   [16]byte
	Span    [8]byte
	Sampled bool // spans are sent
}

// Valid reports whether there is a trace.
func (c Context) Valid() bool { return c.Trace != [16]byte{} && c.Span != [8]byte{} }

// Parse reads the header traceparent.
func Parse(header string) (c Context, ok bool) {
	parts := strings.Split(strings.TrimSpace(header), "-")
	if len(parts) < 4 || len(parts[0]) != 2 || parts[0] == "ff" || parts[0] == "00" && len(parts) != 4 || len(parts[3]) != 2 || strings.ToLower(header) != header {
		return c, false
	}
	var flags, version [1]byte
	for _, f := range []struct {
		to   []byte
		text string
	}{{version[:], parts[0]}, {c.Trace[:], parts[1]}, {c.Span[:], parts[2]}, {flags[:], parts[3]}} {
		if len(f.text) != 2*len(f.to) {
			return Context{}, false
		}
		if _, err := hex.Decode(f.to, []byte(f.text)); err != nil {
			return Context{}, false
		}
	}
	c.Sampled = flags[0]&1 != 0
	return c, c.Valid()
}

// String is the header traceparent; "" of no trace.
func (c Context) String() string {
	if !c.Valid() {
		return ""
	}
	flags := "00"
	if c.Sampled {
		flags = "01"
	}
	return "00-" + hex.EncodeToString(c.Trace[:]) + "-" + hex.EncodeToString(c.Span[:]) + "-" + flags
}

// Child is a new span within the one of c, or of a new trace.
func (c Context) Child() Context {
	if !c.Valid() {
		c.Sampled = true
		_, _ = rand.Read(c.Trace[:]) // which cannot fail
	}
	_, _ = rand.Read(c.Span[:])
	return c
}

type key struct{}

// With is a context in which c is the current span.
func With(ctx context.Context, c Context) context.Context { return context.WithValue(ctx, key{}, c) }

// From is the current span.
func From(ctx context.Context) Context {
	c, _ := ctx.Value(key{}).(Context)
	return c
}

// Span is something that took its time.
type Span struct {
	Context
	Parent     [8]byte // zero: none
	Name       string
	Server     bool // it answers a request from outside
	Start, End time.Time
	Attributes map[string]any // of strings, integers, float64 and bool
	Error      string         // "": it went well
}
