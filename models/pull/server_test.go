package pull

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// hub is a server as the Hugging Face hub is one, and the host that it sends on to for large files, with faults.
type hub struct {
	t     *testing.T
	api   *httptest.Server
	files *httptest.Server // another host: the token must not come here

	mu       sync.Mutex
	content  map[string][]byte // by path in the repository
	large    map[string]bool   // kept as LFS
	gated    bool
	requests []string // METHOD path range
	leaks    []string // requests with a token at the wrong host
	fault    func(w http.ResponseWriter, r *http.Request, data []byte) bool
	extra    []map[string]any // entries of the tree besides
	noRange  bool
	noTree   bool // a mirror that describes repositories and lists no trees
	noHead   bool // and answers GET alone
	etag     func(data []byte) string
}

const commit = "0123456789abcdef0123456789abcdef01234567"

func newHub(t *testing.T) *hub {
	h := &hub{t: t, content: map[string][]byte{}, large: map[string]bool{}, etag: func(data []byte) string { return `"` + hexSHA256(data)[:16] + `"` }}
	h.api, h.files = httptest.NewServer(http.HandlerFunc(h.serveAPI)), httptest.NewServer(http.HandlerFunc(h.serveFiles))
	t.Cleanup(h.api.Close)
	t.Cleanup(h.files.Close)
	return h
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (h *hub) puller(folder string) *Puller {
	return &Puller{Folder: folder, Endpoint: h.api.URL, Token: "secret", Client: NewClient(), Wait: time.Millisecond, Stall: 300 * time.Millisecond, Tries: 4}
}

func (h *hub) add(path string, data []byte, large bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.content[path], h.large[path] = data, large
}

func (h *hub) seen() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.requests, "\n")
}

func (h *hub) serveAPI(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = append(h.requests, r.Method+" "+r.URL.Path)
	if h.gated && r.Header.Get("Authorization") != "Bearer good" {
		w.Header().Set("X-Error-Code", "GatedRepo")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch {
	case r.URL.Path == "/api/models/o/r/revision/main":
		var siblings []map[string]any
		for _, path := range sortedKeys(h.content) {
			siblings = append(siblings, map[string]any{"rfilename": path})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"sha": commit, "cardData": map[string]any{"license": "mit"}, "siblings": siblings})
	case h.noTree && strings.HasPrefix(r.URL.Path, "/api/models/o/r/tree/"):
		w.WriteHeader(http.StatusNotFound)
	case h.noHead && r.Method == http.MethodHead:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case r.URL.Path == "/api/models/o/r/tree/"+commit:
		h.tree(w, r)
	case strings.HasPrefix(r.URL.Path, "/o/r/resolve/"):
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/o/r/resolve/"), "/")
		data, ok := h.content[path]
		if !ok {
			w.Header().Set("X-Error-Code", "EntryNotFound")
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("X-Repo-Commit", commit)
		if h.large[path] {
			w.Header().Set("X-Linked-Etag", `"`+hexSHA256(data)+`"`)
			w.Header().Set("X-Linked-Size", strconv.Itoa(len(data)))
			http.Redirect(w, r, h.files.URL+"/"+path+"?signature=1", http.StatusFound)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(data)
		}
	default:
		w.Header().Set("X-Error-Code", "RepoNotFound")
		w.WriteHeader(http.StatusNotFound)
	}
}

// tree lists three files a page.
func (h *hub) tree(w http.ResponseWriter, r *http.Request) {
	all := []map[string]any{{"type": "directory", "path": "unet"}}
	for _, path := range sortedKeys(h.content) {
		data := h.content[path]
		git := sha1.Sum(append([]byte(fmt.Sprintf("blob %d\x00", len(data))), data...))
		e := map[string]any{"type": "file", "path": path, "size": len(data), "oid": hex.EncodeToString(git[:])}
		if h.large[path] {
			e["lfs"] = map[string]any{"oid": hexSHA256(data), "size": len(data), "pointerSize": 130}
		}
		all = append(all, e)
	}
	all = append(all, h.extra...)
	at, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	end := min(at+3, len(all))
	if end < len(all) {
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?recursive=true&cursor=%d>; rel="next"`, h.api.URL, r.URL.Path, end))
	}
	_ = json.NewEncoder(w).Encode(all[at:end])
}

// serveFiles serves ranges, as a content network does.
func (h *hub) serveFiles(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	path := strings.TrimPrefix(r.URL.Path, "/")
	h.requests = append(h.requests, "FILE "+path+" "+r.Header.Get("Range"))
	for _, name := range []string{"Authorization", "Cookie"} {
		if v := r.Header.Get(name); v != "" {
			h.leaks = append(h.leaks, name+": "+v+" for "+path)
		}
	}
	data, ok := h.content[path]
	fault, etag := h.fault, h.etag(data)
	h.mu.Unlock()
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if fault != nil && fault(w, r, data) {
		return
	}
	serveRange(w, r, data, etag, h.noRange)
}

func serveRange(w http.ResponseWriter, r *http.Request, data []byte, etag string, noRange bool) {
	from := 0
	if n, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 && err == nil && !noRange && (r.Header.Get("If-Range") == "" || r.Header.Get("If-Range") == etag) {
		if from >= len(data) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		from = 0
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	}
	_, _ = w.Write(data[from:])
}

// cut sends n bytes of what was asked for, and ends the connection.
func cut(w http.ResponseWriter, r *http.Request, data []byte, etag string, n int) {
	rec := httptest.NewRecorder()
	serveRange(rec, r, data, etag, false)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	body, _ := io.ReadAll(rec.Body)
	_, _ = w.Write(body[:min(n, len(body))])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func sortedKeys(m map[string][]byte) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	for i := range keys {
		for j := i; j > 0 && keys[j] < keys[j-1]; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

// lora is a small file of weights that is known as a LoRA.
func lora(t *testing.T) []byte {
	t.Helper()
	header := `{"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight":{"dtype":"F32","shape":[4,320],"data_offsets":[0,5120]},` +
		`"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight":{"dtype":"F32","shape":[320,4],"data_offsets":[5120,10240]}}`
	for len(header)%8 != 0 {
		header += " "
	}
	out := []byte{byte(len(header)), byte(len(header) >> 8), 0, 0, 0, 0, 0, 0}
	return append(append(out, header...), make([]byte, 10240)...)
}

// listing is all files below a folder.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}
