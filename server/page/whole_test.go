package page

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// RealServer opens a server whose pictures are in folder; real_test.go sets it, since package server imports this one.
var RealServer func(t *testing.T, folder, reports string) (handler http.Handler, stop func())

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
		handler, end := RealServer(t, folder, reports)
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
	b.until(`document.getElementById("prompt-count").textContent === "3 of 22 tokens"`)
	b.typed("[name=steps]", "6")
	b.typed("[name=count]", "2")
	b.click("#generate")
	b.until(`document.querySelectorAll("#strip .shot").length === 2 && document.getElementById("picture").naturalWidth === 128 && !document.getElementById("caption").hidden`)

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
	b.until(`document.getElementById("picture").naturalWidth === 128`)
	if again := file(); !bytes.Equal(first, again) {
		t.Errorf("the picture's settings make another file: %d bytes, and %d", len(first), len(again))
	}

	// A part of it is painted anew.
	shots := js[int](b, `document.querySelectorAll("#strip .shot").length`)
	b.click("#actions [data-action=inpaint]")
	b.until(`document.activeElement.id === "mask" && document.getElementById("mask").width === 128`)
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
	b.until(`document.getElementById("picture").naturalWidth === 256 && !document.getElementById("caption").hidden`)
	b.click("#strip .shot:first-child")

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
