package server

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"darkroom/server/trace"
)

// collected is a span as a collector gets it.
type collected struct {
	TraceID, SpanID, ParentSpanID, Name string
	Kind                                int
	StartTimeUnixNano, EndTimeUnixNano  string
	Attributes                          []struct {
		Key   string
		Value map[string]any
	}
}

// A request's trace has spans for its picture and what became of it, within the caller's span, one after the other.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	spans := map[string][]collected{}
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var doc struct {
			ResourceSpans []struct {
				ScopeSpans []struct{ Spans []collected }
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&doc); err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, s := range doc.ResourceSpans[0].ScopeSpans[0].Spans {
			spans[s.Name] = append(spans[s.Name], s)
		}
	}))
	defer collector.Close()
	e, err := trace.Open(trace.Options{Endpoint: collector.URL, Every: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Traces: e})
	caller := (trace.Context{}).Child()
	for _, header := range []string{caller.String(), strings.TrimSuffix(caller.String(), "1") + "0", "nonsense"} {
		r, err := http.NewRequest("POST", s.url+"/v1/images/generations", strings.NewReader(`{"prompt":"a red apple","steps":2,"size":"64x64"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Traceparent", header)
		response, err := http.DefaultClient.Do(r)
		if err != nil || response.StatusCode != 200 {
			t.Fatalf("%v, %+v", err, response)
		}
		response.Body.Close()
	}
	s.send("GET", "/healthz", "", nil)
	s.stop()
	e.Close()
	// Of the caller that samples, and of the one that gives no trace; the other does not want its spans kept.
	const route = "POST /v1/images/generations"
	if len(spans[route]) != 2 || len(spans["picture"]) != 2 || len(spans) != 7 {
		t.Fatalf("spans %+v", spans)
	}
	request, picture := spans[route][0], spans["picture"][0]
	if request.TraceID != hex.EncodeToString(caller.Trace[:]) || request.ParentSpanID != hex.EncodeToString(caller.Span[:]) || request.Kind != 2 {
		t.Errorf("request %+v", request)
	}
	if picture.TraceID != request.TraceID || picture.ParentSpanID != request.SpanID {
		t.Errorf("picture %+v", picture)
	}
	at := picture.StartTimeUnixNano
	for _, name := range []string{"queue", "encode", "denoise", "decode", "save"} {
		stage := spans[name][0]
		if stage.TraceID != picture.TraceID || stage.ParentSpanID != picture.SpanID || stage.StartTimeUnixNano != at || stage.EndTimeUnixNano < at {
			t.Errorf("%s: %+v, but the one before ends at %s", name, stage, at)
		}
		at = stage.EndTimeUnixNano
	}
	if at != picture.EndTimeUnixNano {
		t.Errorf("the stages end at %s, the picture at %s", at, picture.EndTimeUnixNano)
	}
	if other := spans[route][1]; other.TraceID == request.TraceID || other.ParentSpanID != "" {
		t.Errorf("without a caller's trace: %+v", other)
	}
}

// The metrics tell how long each stage takes, and how fast the denoiser is.
func TestStageMetrics(t *testing.T) {
	s := start(t, Options{})
	s.want(200, "POST", "/v1/images/generations", object{"prompt": "a red apple", "steps": 3, "size": "64x64", "n": 2}, nil)
	text := metricsText(s)
	for _, stage := range []string{"queue", "encode", "denoise", "decode", "save"} {
		if !strings.Contains(text, `darkroom_server_stage_seconds_count{stage="`+stage+`"} 2`+"\n") {
			t.Errorf("stage %s is missing in\n%s", stage, text)
		}
	}
	if !regexp.MustCompile(`(?m)^darkroom_server_iterations_per_second\{device="[^"]+"\} [0-9.]*[1-9]`).MatchString(text) {
		t.Errorf("no it/s in\n%s", text)
	}
	for _, name := range []string{"process_resident_memory_bytes", "# TYPE darkroom_server_device_energy_joules_total counter", "# TYPE darkroom_server_device_memory_used_bytes gauge"} {
		if !strings.Contains(text, name) {
			t.Errorf("%s is missing", name)
		}
	}
	// Every line is one that Prometheus reads: a comment, or a name, labels and a number.
	line := regexp.MustCompile(`^(# (HELP|TYPE) [a-z_:]+ .+|[a-z_:0-9]+(\{[a-zA-Z_]+="[^"]*"(, ?[a-zA-Z_]+="[^"]*")*\})? [-+0-9.eEInfNa]+)$`)
	for l := range strings.Lines(text) {
		if l = strings.TrimSuffix(l, "\n"); !line.MatchString(l) {
			t.Errorf("line %q", l)
		}
	}
}
