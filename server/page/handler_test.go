package page

import (
	"compress/gzip"
	"io"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w
}

func body(t *testing.T, r *httptest.ResponseRecorder) string {
	t.Helper()
	var in io.Reader = r.Body
	if r.Header().Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		in = z
	}
	text, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestHandler(t *testing.T) {
	for _, c := range []struct {
		method, path string
		header       []string
		status       int
		kind         string
		compressed   bool
	}{
		{"GET", "/", nil, 200, "text/html; charset=utf-8", false},
		{"GET", "/", []string{"Accept-Encoding", "br, gzip;q=0.5"}, 200, "text/html; charset=utf-8", true},
		{"GET", "/", []string{"Accept-Encoding", "gzip;q=0, *"}, 200, "text/html; charset=utf-8", false},
		{"GET", "/", []string{"Accept-Encoding", "br", "Accept-Encoding", "*"}, 200, "text/html; charset=utf-8", true},
		{"HEAD", "/static/app.js", []string{"Accept-Encoding", "gzip"}, 200, "text/javascript; charset=utf-8", true},
		{"GET", "/static/style.css", nil, 200, "text/css; charset=utf-8", false},
		{"GET", "/static/icon.svg", nil, 200, "image/svg+xml", false},
		{"POST", "/", nil, 405, "text/plain; charset=utf-8", false},
		{"GET", "/static/", nil, 404, "text/plain; charset=utf-8", false},
		{"GET", "/static/../page.go", nil, 404, "text/plain; charset=utf-8", false},
		{"GET", "/index.html", nil, 404, "text/plain; charset=utf-8", false},
	} {
		r := get(c.method, c.path, c.header...)
		h := r.Header()
		if r.Code != c.status || h.Get("Content-Type") != c.kind || (h.Get("Content-Encoding") == "gzip") != c.compressed {
			t.Errorf("%s %s %q: %d, %q, %q", c.method, c.path, c.header, r.Code, h.Get("Content-Type"), h.Get("Content-Encoding"))
		}
		if h.Get("Content-Security-Policy") != Policy || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: headers %v", c.method, c.path, h)
		}
		if text := body200(t, c.method, r); strings.HasSuffix(c.path, "/") && r.Code == 200 && !strings.Contains(text, "<title>Darkroom</title>") {
			t.Errorf("%s: %.80q is not the page", c.path, text)
		}
	}
}

func body200(t *testing.T, method string, r *httptest.ResponseRecorder) string {
	if r.Code != 200 || method == "HEAD" {
		return ""
	}
	return body(t, r)
}

// TestETag: what the browser has is not sent again, and a tag is of the bytes: plain and compressed ones differ.
func TestETag(t *testing.T) {
	plain, small := get("GET", "/static/app.js").Header().Get("ETag"), get("GET", "/static/app.js", "Accept-Encoding", "gzip").Header().Get("ETag")
	if plain == "" || plain == small {
		t.Fatalf("ETags %s and %s", plain, small)
	}
	for given, want := range map[string]int{plain: 304, `"other", W/` + plain: 304, "*": 304, small: 200, `"other"`: 200, "": 200} {
		r := get("GET", "/static/app.js", "If-None-Match", given)
		if r.Code != want || r.Header().Get("ETag") != plain {
			t.Errorf("If-None-Match %s: %d with %s", given, r.Code, r.Header().Get("ETag"))
		}
		if text, _ := io.ReadAll(r.Body); (len(text) == 0) != (want == 304) {
			t.Errorf("If-None-Match %s: %d bytes", given, len(text))
		}
	}
}

// TestStaticFiles: all that the page names is there, nothing is there that it does not name, nothing is inline or elsewhere,
// and all of it is small.
func TestStaticFiles(t *testing.T) {
	all, err := files()
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{"/static/index.html": true}
	size, sent := 0, 0
	for name, f := range all {
		size += len(f.plain)
		sent += len(f.gzip)
		text := string(f.plain)
		for _, m := range regexp.MustCompile(`(?:href|src)="(/static/[^"#]*)"|from "\./([^"]*)"|import\("\./([^"]*)"\)`).FindAllStringSubmatch(text, -1) {
			to := m[1]
			if to == "" {
				to = "/static/" + m[2] + m[3]
			}
			if _, ok := all[to]; !ok {
				t.Errorf("%s names %s, which is not there", name, to)
			}
			named[to] = true
		}
		for _, forbidden := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", " style=", " onclick=", "<style", "javascript:"} {
			if strings.Contains(text, forbidden) {
				t.Errorf("%s has %s", name, forbidden)
			}
		}
		if m := regexp.MustCompile(`(?:https?:)?//[a-z0-9-]+\.[a-z]{2,}[^\s"']*`).FindString(text); m != "" && !strings.HasPrefix(m, "http://www.w3.org/") {
			t.Errorf("%s names another host: %s", name, m)
		}
		if strings.HasSuffix(name, ".js") && strings.Count(text, "\n") > 600 {
			t.Errorf("%s has more than 600 lines", name)
		}
	}
	for name := range all {
		if !named[name] {
			t.Errorf("nothing names %s", name)
		}
	}
	if size > 300<<10 || size < 20<<10 {
		t.Errorf("the page has %d bytes: at most 300 KB are promised", size)
	}
	t.Logf("%d files, %d bytes, %d compressed", len(all), size, sent)
}
