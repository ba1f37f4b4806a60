package trace

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options say where spans go.
type Options struct {
	// Endpoint is a collector's base address, such as http://127.0.0.1:4318; /v1/traces is added.
	Endpoint string
	Headers  map[string]string // for each request, such as keys
	Service  string            // "": darkroom
	Version  string
	Every    time.Duration // how often spans are sent; 0: two seconds
	Log      *slog.Logger  // nil: none
}

// Exporter sends spans. A nil one sends nothing.
type Exporter struct {
	o       Options
	address string
	spans   chan Span
	end     chan struct{}
	ended   chan struct{}
	told    bool // the log has what is wrong
}

// Bounds of what waits while the collector is away: later spans are dropped.
const (
	mostWaiting = 8192
	mostAtOnce  = 512
)

// lastPatience is how long the end waits for the collector.
const lastPatience = 2 * time.Second

// Open begins to send.
func Open(o Options) (*Exporter, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%.80q: it must be the address of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318", o.Endpoint)
	}
	if o.Service == "" {
		o.Service = "darkroom"
	}
	if o.Every == 0 {
		o.Every = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Exporter{o: o, address: strings.TrimSuffix(o.Endpoint, "/") + "/v1/traces", spans: make(chan Span, mostWaiting), end: make(chan struct{}), ended: make(chan struct{})}
	go e.run()
	return e, nil
}

// ParseHeaders reads headers as OTEL_EXPORTER_OTLP_HEADERS has them: name=value, with commas between, percent-encoded.
func ParseHeaders(text string) (map[string]string, error) {
	headers := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || err != nil || name == "" {
			return nil, errors.New("headers must be name=value, with commas between")
		}
		headers[name] = value
	}
	return headers, nil
}

// Add hands spans over. It never waits.
func (e *Exporter) Add(all ...Span) {
	if e == nil {
		return
	}
	for _, s := range all {
		if !s.Sampled {
			continue
		}
		select {
		case e.spans <- s:
		default:
		}
	}
}

// Close sends what is left, for a few seconds at most.
func (e *Exporter) Close() {
	if e == nil {
		return
	}
	close(e.end)
	<-e.ended
}

func (e *Exporter) run() {
	defer close(e.ended)
	tick := time.NewTicker(e.o.Every)
	defer tick.Stop()
	for !e.ending() {
		select {
		case <-e.end:
		case <-tick.C:
		}
		for all := e.take(); len(all) > 0; all = e.take() {
			patience := 20 * time.Second
			if e.ending() {
				patience = lastPatience
			}
			err := e.send(all, patience)
			if err != nil && !e.told {
				e.o.Log.Warn("spans are lost", "error", err) // once, until it works again
			}
			if e.told = err != nil; e.told && e.ending() {
				return
			}
		}
	}
}

func (e *Exporter) ending() bool {
	select {
	case <-e.end:
		return true
	default:
		return false
	}
}

func (e *Exporter) take() (all []Span) {
	for len(all) < mostAtOnce {
		select {
		case s := <-e.spans:
			all = append(all, s)
		default:
			return all
		}
	}
	return all
}

// send sends spans, again while the collector says that it is overloaded or cannot be reached.
func (e *Exporter) send(all []Span, patience time.Duration) error {
	body, err := json.Marshal(e.document(all))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	end := e.end
	for pause := 200 * time.Millisecond; ; pause *= 2 {
		again, wait, err := e.post(ctx, body)
		if err == nil || !again {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-end: // once more, but not for long
			end = nil
			limit := time.AfterFunc(lastPatience, cancel)
			defer limit.Stop()
		case <-time.After(max(pause, wait)):
		}
	}
}

func (e *Exporter) post(ctx context.Context, body []byte) (again bool, wait time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.address, bytes.NewReader(body))
	if err != nil {
		return false, 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	for name, value := range e.o.Headers {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return ctx.Err() == nil, 0, err
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 300)) // for the message
	if response.StatusCode < 300 {
		return false, 0, nil
	}
	if n, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		wait = time.Duration(min(n, 60)) * time.Second
	}
	s := response.StatusCode
	return s == 429 || s == 502 || s == 503 || s == 504, wait, fmt.Errorf("%s: %s %s", e.address, response.Status, text)
}

// The document is an ExportTraceServiceRequest, in the JSON that OTLP asks for: ids in hex, 64-bit integers as texts.
type (
	attribute struct {
		Key   string         `json:"key"`
		Value map[string]any `json:"value"`
	}
	spanJSON struct {
		TraceID    string         `json:"traceId"`
		SpanID     string         `json:"spanId"`
		Parent     string         `json:"parentSpanId,omitempty"`
		Name       string         `json:"name"`
		Kind       int            `json:"kind"`
		Start      string         `json:"startTimeUnixNano"`
		End        string         `json:"endTimeUnixNano"`
		Attributes []attribute    `json:"attributes,omitempty"`
		Status     map[string]any `json:"status,omitempty"`
	}
)

func (e *Exporter) document(all []Span) map[string]any {
	spans := make([]spanJSON, len(all))
	for i, s := range all {
		j := spanJSON{
			TraceID: hex.EncodeToString(s.Trace[:]), SpanID: hex.EncodeToString(s.Span[:]), Name: s.Name, Kind: 1,
			Start: strconv.FormatInt(s.Start.UnixNano(), 10), End: strconv.FormatInt(s.End.UnixNano(), 10), Attributes: attributes(s.Attributes),
		}
		if s.Server {
			j.Kind = 2
		}
		if s.Parent != [8]byte{} {
			j.Parent = hex.EncodeToString(s.Parent[:])
		}
		if s.Error != "" {
			j.Status = map[string]any{"code": 2, "message": s.Error}
		}
		spans[i] = j
	}
	resource := map[string]any{"service.name": e.o.Service, "service.version": e.o.Version}
	return map[string]any{"resourceSpans": []any{map[string]any{
		"resource":   map[string]any{"attributes": attributes(resource)},
		"scopeSpans": []any{map[string]any{"scope": map[string]any{"name": "darkroom/server", "version": e.o.Version}, "spans": spans}},
	}}}
}

func attributes(m map[string]any) (all []attribute) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		var v map[string]any
		switch x := m[name].(type) {
		case string:
			v = map[string]any{"stringValue": x}
		case bool:
			v = map[string]any{"boolValue": x}
		case float64:
			v = map[string]any{"doubleValue": x}
		default:
			v = map[string]any{"intValue": fmt.Sprint(x)}
		}
		all = append(all, attribute{name, v})
	}
	return all
}
