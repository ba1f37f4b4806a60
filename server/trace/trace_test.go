package trace

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The examples are those of the W3C's recommendation.
func TestParse(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	c, ok := Parse(good)
	if !ok || !c.Sampled || c.String() != good {
		t.Errorf("%+v, %v, %s", c, ok, c)
	}
	if c, ok := Parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-what-comes-later"); !ok || c.Sampled {
		t.Errorf("a later version: %+v, %v", c, ok)
	}
	for _, bad := range []string{
		"", "00", good + "-more", "ff" + good[2:], "00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1", "00-zaf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	} {
		if c, ok := Parse(bad); ok || c.Valid() {
			t.Errorf("%q: %+v", bad, c)
		}
	}
	child := c.Child()
	if child.Trace != c.Trace || child.Span == c.Span || !child.Sampled {
		t.Errorf("child %s of %s", child, c)
	}
	if root := (Context{}).Child(); !root.Valid() || !root.Sampled || (Context{}).String() != "" {
		t.Errorf("root %s", root)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := Parse(text)
		if again, ok2 := Parse(c.String()); ok && (!ok2 || again != c) {
			t.Errorf("%q: %+v, then %+v", text, c, again)
		}
	})
}

func TestHeaders(t *testing.T) {
	h, err := ParseHeaders("api-key=a%20b, x = 1=2,")
	if err != nil || len(h) != 2 || h["api-key"] != "a b" || h["x"] != "1=2" {
		t.Errorf("%v, %v", h, err)
	}
	for _, bad := range []string{"x", "=1", "x=%zz"} {
		if h, err := ParseHeaders(bad); err == nil {
			t.Errorf("%q: %v", bad, h)
		}
	}
}

// A collector that is overloaded at first gets all spans that are sampled, once, in the JSON of OTLP.
func TestExport(t *testing.T) {
	var mu sync.Mutex
	var got []map[string]any
	var calls atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path != "/base/v1/traces" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Api-Key") != "k" {
			t.Errorf("%s, %v", r.URL.Path, r.Header)
		}
		body, _ := io.ReadAll(r.Body)
		var doc map[string]any
		if err := json.Unmarshal(body, &doc); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, doc)
	}))
	defer collector.Close()
	e, err := Open(Options{Endpoint: collector.URL + "/base/", Headers: map[string]string{"Api-Key": "k"}, Version: "1", Every: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	root := (Context{}).Child()
	unsampled := root
	unsampled.Sampled = false
	begun := time.Unix(1, 5)
	e.Add(Span{Context: root, Name: "a", Server: true, Start: begun, End: begun.Add(time.Second), Attributes: map[string]any{"s": "x", "i": 7, "f": 0.5, "b": true}, Error: "bad"},
		Span{Context: unsampled, Name: "never"}, Span{Context: root.Child(), Parent: root.Span, Name: "b", Start: begun, End: begun})
	time.Sleep(50 * time.Millisecond)
	e.Close()
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 1 {
		t.Fatalf("%d documents", len(got))
	}
	var doc struct {
		ResourceSpans []struct {
			Resource   struct{ Attributes []attribute }
			ScopeSpans []struct{ Spans []spanJSON }
		}
	}
	text, _ := json.Marshal(got[0])
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	spans := doc.ResourceSpans[0].ScopeSpans[0].Spans
	if len(spans) != 2 {
		t.Fatalf("%s", text)
	}
	a, b := spans[0], spans[1]
	if a.Kind != 2 || a.Start != "1000000005" || a.End != "2000000005" || a.Parent != "" || len(a.TraceID) != 32 || len(a.SpanID) != 16 || a.Status["code"] != 2.0 {
		t.Errorf("%+v", a)
	}
	if b.Kind != 1 || b.Parent != a.SpanID || b.TraceID != a.TraceID || b.Status != nil {
		t.Errorf("%+v", b)
	}
	want := []map[string]any{{"boolValue": true}, {"doubleValue": 0.5}, {"intValue": "7"}, {"stringValue": "x"}}
	for i, v := range want {
		for kind, x := range v {
			if a.Attributes[i].Value[kind] != x {
				t.Errorf("attribute %+v, not %v", a.Attributes[i], v)
			}
		}
	}
	if r := doc.ResourceSpans[0].Resource.Attributes; r[0].Key != "service.name" || r[0].Value["stringValue"] != "darkroom" {
		t.Errorf("resource %+v", r)
	}
}

// A collector that is away holds nobody up, not at the end either.
func TestNoCollector(t *testing.T) {
	e, err := Open(Options{Endpoint: "http://127.0.0.1:1", Every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for range 3 * mostWaiting {
		e.Add(Span{Context: (Context{}).Child(), Name: "x"})
	}
	e.Close()
	if took := time.Since(begun); took > 6*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, bad := range []string{"", "collector:4318", "ftp://x", "http://"} {
		if _, err := Open(Options{Endpoint: bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	var none *Exporter
	none.Add(Span{})
	none.Close()
}
