package page

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// RealServer opens a server whose pictures are in folder; real_test.go sets it, since package server imports this one.
var RealServer func(t *testing.T, folder, reports, key string) (handler http.Handler, stop func())

// TestWholeServer: the page and package server together. A picture is made, its file is opened in the page, its settings make
// the same file again, a part of it is painted anew, the server is started anew, and all is still there.
func TestWholeServer(t *testing.T) {
	if testing.Short() || chromium() == "" {
		t.Skip("SKIPPED: starts a browser, if there is one here")
	}
	models, folder, reports := t.TempDir(), t.TempDir(), t.TempDir()
	t.Setenv("DARKROOM_MODELS", models)
	upscaler, err := os.ReadFile("../../family/testdata/upscale/trunk.pth") // of random weights: it doubles
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(models, "upscale_models"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(models, "upscale_models", "trunk.pth"), upscaler, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(reports, "first look"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(reports, "first look", "index.html"), []byte("<!doctype html><title>Report</title><h1>Report</h1>"), 0o644); err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:0"
	begin := func() func() {
		handler, end := RealServer(t, folder, reports, "")
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		address = listener.Addr().String()
		h := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
		go h.Serve(listener)
		return func() {
			h.Close()
			end()
		}
	}
	stop := begin()
	defer func() { stop() }()

	b := openAt(t, "http://"+address, 1280, 900)
	b.forgiven = func(c string) bool {
		return strings.Contains(c, "ERR_CONNECTION") || strings.Contains(c, "ERR_INCOMPLETE") || strings.Contains(c, "ERR_EMPTY")
	}
	b.typed("#prompt", "a red apple")
	b.until(`document.getElementById("prompt-count").textContent .startsWith("3 of ")`)
	b.typed("[name=steps]", "6")
	b.typed("[name=count]", "2")
	b.click("#generate")
	b.until(`document.querySelectorAll("#strip .shot").length === 2 && !document.getElementById("caption").hidden`)
	b.until(`document.getElementById("picture").naturalWidth > 0`)
	side := js[int](b, `document.getElementById("picture").naturalWidth`) // the model's own

	// The picture's own file says how to make it.
	file := func() []byte {
		t.Helper()
		r, err := http.Get("http://" + address + js[string](b, `new URL(document.getElementById("picture").src).pathname`))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var data bytes.Buffer
		if _, err := data.ReadFrom(r.Body); err != nil || r.StatusCode != 200 {
			t.Fatalf("%v, %s", err, r.Status)
		}
		return data.Bytes()
	}
	first := file()
	path := filepath.Join(t.TempDir(), "again.png")
	if err := os.WriteFile(path, first, 0o644); err != nil {
		t.Fatal(err)
	}
	b.set("#prompt", "")
	b.click("#reset")
	b.do(chromedp.SetUploadFiles("#open-file", []string{path}))
	b.until(`document.getElementById("dropped-status").textContent.startsWith("Made by darkroom")`)
	b.click("#dropped-use")
	b.until(`document.getElementById("prompt").value === "a red apple" && document.querySelector("[name=steps]").value === "6" && document.querySelector("[name=seed]").value !== ""`)
	b.click("#strip .shot:last-child")
	b.click("#generate")
	b.until(`document.getElementById("queue-count").textContent === "0" && document.querySelector("#past li.done:nth-child(2)") && !document.getElementById("caption").hidden`)
	b.click("#strip .shot:first-child")
	b.until(fmt.Sprintf(`document.getElementById("picture").naturalWidth === %d`, side))
	if again := file(); !bytes.Equal(first, again) {
		t.Errorf("the picture's settings make another file: %d bytes, and %d", len(first), len(again))
	}

	// A part of it is painted anew.
	shots := js[int](b, `document.querySelectorAll("#strip .shot").length`)
	b.click("#actions [data-action=inpaint]")
	b.until(fmt.Sprintf(`document.activeElement.id === "mask" && document.getElementById("mask").width === %d`, side))
	b.key(kb.Enter)
	b.key(kb.ArrowRight, chromedp.ModifierShift)
	b.key(kb.Enter)
	b.click("#painter-go")
	b.until(`document.querySelectorAll("#strip .shot").length > ` + quote(string(rune('0'+shots))) + ` && !document.getElementById("caption").hidden`)
	if painted := file(); bytes.Equal(first, painted) {
		t.Error("painting anew changed nothing")
	}

	// A network enlarges it.
	b.click("#actions [data-action=upscale]")
	b.until(`document.getElementById("upscaler").open && document.querySelector("#upscaler-ways input:checked").value === "net:trunk"`)
	b.click("#upscaler-form .primary")
	b.until(fmt.Sprintf(`document.getElementById("picture").naturalWidth === %d && !document.getElementById("caption").hidden`, 2*side))
	b.click("#strip .shot:nth-child(2)")

	// Vary, and start anew meanwhile.
	b.click("#actions [data-action=vary]")
	b.until(`document.getElementById("queue-count").textContent !== "0" || document.querySelectorAll("#past li.done").length >= 4`)
	stop()
	stop = begin()
	b.until(`document.querySelectorAll("#past li.done").length >= 4 && document.getElementById("queue-count").textContent === "0"`)
	b.click(`nav a[href="#gallery"]`)
	b.until(`document.querySelectorAll("#grid li").length >= 4`)
	b.typed("#search", "no such thing")
	b.until(`document.getElementById("gallery-count").textContent === "0 pictures"`)

	b.click(`nav a[href="#compare"]`)
	b.until(`[...document.getElementById("report").options].some(o => o.value === "first look")`)
	b.set("#report", "first look")
	b.until(`performance.getEntriesByType("resource").some(e => e.initiatorType === "iframe" && e.responseStatus === 200)`)
}

// TestWholeServerWithKey: with a key all works as without: pictures, previews, upscaling, a picture that is sent, and a report with
// its files, in a frame that cannot send the key. Without the key, nothing is given out.
func TestWholeServerWithKey(t *testing.T) {
	if testing.Short() || chromium() == "" {
		t.Skip("SKIPPED: starts a browser, if there is one here")
	}
	models, reports := t.TempDir(), t.TempDir()
	t.Setenv("DARKROOM_MODELS", models)
	upscaler, err := os.ReadFile("../../family/testdata/upscale/trunk.pth")
	if err != nil {
		t.Fatal(err)
	}
	var dot bytes.Buffer
	if err := png.Encode(&dot, image.NewGray(image.Rect(0, 0, 64, 64))); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		filepath.Join(models, "upscale_models", "trunk.pth"): upscaler,
		filepath.Join(reports, "a 1", "index.html"):          []byte(`<!doctype html><title>Report</title><h1>Report</h1><img src="images/dot.png" alt="">`),
		filepath.Join(reports, "a 1", "images", "dot.png"):   dot.Bytes(),
		filepath.Join(reports, "b", "index.html"):            []byte("another"),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	handler, stop := RealServer(t, t.TempDir(), reports, "sesame")
	defer stop()
	var mu sync.Mutex
	asked := map[string]string{} // the paths of files of reports, by their ends
	var unlocked atomic.Bool     // the tab is opened where no key is asked for
	unlocked.Store(true)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if unlocked.Load() {
			r.Header.Set("Authorization", "Bearer sesame")
		}
		if strings.HasPrefix(r.URL.Path, "/v1/reports/") {
			mu.Lock()
			asked[filepath.Base(r.URL.Path)] = r.URL.EscapedPath()
			mu.Unlock()
		}
		handler.ServeHTTP(w, r)
	}))
	defer func() { // streams of events have no end of their own
		h.CloseClientConnections()
		h.Close()
	}()

	b := openAt(t, h.URL, 1280, 900)
	b.forgiven = func(c string) bool {
		return strings.Contains(c, "401 (Unauthorized)") && !strings.Contains(c, "/reports/") || strings.Contains(c, "ERR_")
	}
	unlocked.Store(false)
	b.do(chromedp.Reload())
	b.until(`document.getElementById("lock").open`)
	b.typed("#lock-key", "sesame")
	b.key(kb.Enter)
	b.until(`document.querySelector("#basic .field") && !document.getElementById("lock").open`)
	b.typed("#prompt", "a red apple")
	b.typed("[name=steps]", "4")
	b.click("#generate")
	b.until(`document.querySelectorAll("#strip .shot").length === 1 && document.getElementById("picture").src.startsWith("blob:") && !document.getElementById("caption").hidden`)
	b.until(`document.getElementById("picture").naturalWidth > 0`)
	side := js[int](b, `document.getElementById("picture").naturalWidth`)
	b.click("#actions [data-action=upscale]")
	b.until(`document.getElementById("upscaler").open`)
	b.click("#upscaler-form .primary")
	b.until(fmt.Sprintf(`document.getElementById("picture").naturalWidth === %d && document.querySelectorAll("#strip .shot").length === 2`, 2*side))
	b.click(`nav a[href="#gallery"]`)
	b.until(`document.querySelectorAll("#grid img").length === 2 && [...document.querySelectorAll("#grid img")].every(i => i.naturalWidth > 0)`)
	path := filepath.Join(t.TempDir(), "dot.png")
	if err := os.WriteFile(path, dot.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.SetUploadFiles("#open-file", []string{path}))
	b.until(`document.getElementById("dropped-status").textContent.startsWith("No settings")`)
	b.click("#dropped-start")
	b.until(`!document.getElementById("source").hidden`)

	b.click(`nav a[href="#compare"]`)
	b.until(`[...document.getElementById("report").options].some(o => o.value === "a 1")`)
	b.set("#report", "a 1")
	b.until(`!document.getElementById("report-frame").hidden`)
	deadline := time.Now().Add(20 * time.Second)
	have := func(name string) string {
		mu.Lock()
		defer mu.Unlock()
		return asked[name]
	}
	for have("dot.png") == "" && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	good := have("dot.png")
	if good == "" {
		t.Fatal("the report's picture was not asked for")
	}
	end := strings.Index(good, "/images/")
	for p, want := range map[string]int{
		good: 200, good[:end] + "/": 200, "/v1/reports/a%201/images/dot.png": 401, "/v1/reports/": 401, "/v1/reports": 401, good[:end] + "x/index.html": 401,
		strings.Replace(good[:end], "a%201", "b", 1) + "/index.html": 401, good[:end] + "/../../b/index.html": 401,
	} {
		r, err := http.NewRequest("GET", h.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Opaque = "//" + r.URL.Host + p
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s without the key: %s, not %d", p, response.Status, want)
		}
	}
	b.do(chromedp.Reload())
	b.until(`!document.getElementById("lock").open && document.querySelectorAll("#pairs .pair").length > 0`)
}
