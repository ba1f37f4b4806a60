// Package page is the web page of darkroom serve: plain HTML, CSS and JavaScript modules, embedded, that talk to the API of
// the origin they came from and to nothing else. The folder static is what browsers get, as it is: there is no build step.
package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed static
var static embed.FS

// Policy is the page's Content-Security-Policy. There are no inline scripts or styles, nothing comes from another host, and a
// string cannot become markup (Trusted Types). Pictures may be data: (previews) and blob: (fetched with a key, dropped).
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; " +
	"frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// file is a file of the page, ready to be sent.
type file struct {
	kind        string // Content-Type
	plain, gzip []byte
	tag         string // of the plain bytes, without quotes
}

// files reads and compresses the page once, at the first request.
var files = sync.OnceValues(func() (map[string]file, error) {
	all := map[string]file{}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		kind, ok := kinds[path.Ext(name)]
		if !ok {
			return fmt.Errorf("page: %s: what kind of file is this? Add it to kinds", name)
		}
		plain, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		small, err := compressed(plain)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(plain)
		all["/"+name] = file{kind, plain, small, hex.EncodeToString(sum[:12])}
		return nil
	})
	return all, err
})

func compressed(plain []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	err = w.Close() // which writes the end
	return out.Bytes(), err
}

// kinds are the types of files. They are not asked of the machine, whose own table may be wrong.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// Handler serves the page at / and its files at /static/. It answers GET and HEAD; a path that it does not have is 404. Every
// answer is compressed where the client takes gzip, has an ETag, and is asked for anew each time: after an update of the
// program no old script meets a new server.
func Handler() http.Handler { return http.HandlerFunc(serve) }

func serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	all, err := files()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	name := r.URL.Path
	if name == "/" {
		name = "/static/index.html"
	}
	f, ok := all[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "the page is read with GET", http.StatusMethodNotAllowed)
		return
	}
	body, tag := f.plain, `"`+f.tag+`"`
	h.Add("Vary", "Accept-Encoding")
	if takesGzip(r.Header.Values("Accept-Encoding")) {
		body, tag = f.gzip, `"`+f.tag+`-gz"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", tag)
	if matches(r.Header.Values("If-None-Match"), tag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // a client that is gone
	}
}

// takesGzip reads Accept-Encoding (RFC 9110, 12.5.3): gzip or *, unless with q=0.
func takesGzip(accept []string) bool {
	takes := false
	for _, part := range list(accept) {
		coding, parameters, _ := strings.Cut(part, ";")
		quality := 1.0
		if q, ok := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(parameters), " ", ""), "q="); ok {
			quality, _ = strconv.ParseFloat(q, 64) // not a number: 0, and every client can read plain bytes
		}
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip":
			return quality > 0
		case "*":
			takes = quality > 0
		}
	}
	return takes
}

// matches reads If-None-Match (RFC 9110, 13.1.2), which compares weakly.
func matches(given []string, tag string) bool {
	for _, t := range list(given) {
		if t == "*" || strings.TrimPrefix(t, "W/") == tag {
			return true
		}
	}
	return false
}

// list takes a header's values apart at commas.
func list(values []string) (parts []string) {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			parts = append(parts, strings.TrimSpace(part))
		}
	}
	return parts
}
