package page

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// tab is a tab of a browser that looks at a server, and what it has complained of.
type tab struct {
	t      *testing.T
	ctx    context.Context
	origin string

	mu         sync.Mutex
	complaints []string
	forgiven   func(string) bool // complaints that a test brings about itself
}

// shared is one Chromium for all tests: starting it takes longer than most of them.
var shared struct {
	sync.Once
	ctx    context.Context
	cancel []context.CancelFunc
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	for i := len(shared.cancel) - 1; i >= 0; i-- {
		shared.cancel[i]()
	}
	os.Exit(code)
}

func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	return ""
}

// open shows the page of a fake server in a window of that size.
func open(t *testing.T, f *fake, width, height int64, options ...chromedp.EmulateViewportOption) *tab {
	t.Helper()
	return openAt(t, f.url(), width, height, options...)
}

// openAt shows a server's page. The test is skipped where there is no Chromium.
func openAt(t *testing.T, origin string, width, height int64, options ...chromedp.EmulateViewportOption) *tab {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a browser")
	}
	path := chromium()
	if path == "" {
		t.Skip("SKIPPED: no Chromium here, so nobody has looked at the page")
	}
	shared.Do(func() {
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WSURLReadTimeout(2*time.Minute))
		ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
		shared.cancel = append(shared.cancel, cancel)
		ctx, cancel = chromedp.NewContext(ctx)
		shared.cancel = append(shared.cancel, cancel)
		shared.ctx, shared.err = ctx, chromedp.Do(ctx, chromedp.Navigate("about:blank"))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	ctx, cancel := chromedp.NewContext(shared.ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx, origin: origin, forgiven: func(string) bool { return false }}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the tab is closed
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, c := range b.complaints {
			if !b.forgiven(c) {
				t.Error("the browser complains: " + c)
			}
		}
	})
	b.do(chromedp.EmulateViewport(width, height, options...), chromedp.Navigate(origin+"/"))
	b.until(`document.querySelector("#basic .field")`)
	return b
}

// listen keeps what a page without faults does not cause: errors, words on the console, requests to other hosts.
func (b *tab) listen(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	add := func(format string, args ...any) { b.complaints = append(b.complaints, fmt.Sprintf(format, args...)) }
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
		add("exception: %s", text)
	case *runtime.EventConsoleAPICalled:
		add("console.%s", e.Type)
	case *log.EventEntryAdded:
		add("log: %s %s", e.Entry.Text, e.Entry.URL)
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, b.origin+"/") && !strings.HasPrefix(u, "data:") && !strings.HasPrefix(u, "blob:"+b.origin) && u != "about:blank" {
			add("request to another host: %s", u)
		}
	}
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// js evaluates an expression in the page.
func js[T any](b *tab, code string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](code, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", code, err)
	}
	return v
}

// until waits for an expression to be true.
func (b *tab) until(code string) {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(15 * time.Millisecond) {
		if js[bool](b, "Boolean("+code+")") {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("this did not come true: %s\nthe page: %s", code, js[string](b, `document.body.innerText.slice(0, 1500)`))
		}
	}
}

func (b *tab) click(selector string) {
	b.t.Helper()
	b.until("document.querySelector(" + quote(selector) + ") && !document.querySelector(" + quote(selector) + ").disabled")
	b.do(chromedp.Click(selector))
}

func (b *tab) typed(selector, text string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(selector, text))
}

// set gives a control a value, as if it had been typed in place of what was there.
func (b *tab) set(selector, value string) {
	b.t.Helper()
	js[bool](b, "(() => { const e = document.querySelector("+quote(selector)+"); e.value = "+quote(value)+`; e.dispatchEvent(new Event("input", {bubbles: true})); e.dispatchEvent(new Event("change", {bubbles: true})); return true; })()`)
}

// key presses keys at what has the focus.
func (b *tab) key(keys string, modifiers ...chromedp.Modifier) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys, chromedp.KeyModifiers(modifiers...)))
}

func (b *tab) text(selector string) string {
	b.t.Helper()
	return js[string](b, "document.querySelector("+quote(selector)+").innerText")
}

// press presses a key as a keyboard does: what the page prevents is not typed.
func (b *tab) press(key string) {
	b.t.Helper()
	for _, p := range []input.DispatchKeyEventParams{{Type: input.DispatchKeyEventTypeKeyDown, Key: key, Text: key}, {Type: input.DispatchKeyEventTypeKeyUp, Key: key}} {
		b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, input.DispatchKeyEvent, p)
			return err
		}))
	}
}

func (b *tab) scheme(name string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	}))
}

// last are the settings of the last request that the server got, in JSON.
func (f *fake) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.requests) == 0 {
		return ""
	}
	text, _ := json.Marshal(f.requests[len(f.requests)-1])
	return string(text)
}

// TestShots writes what the page looks like, for people: PAGE_SHOTS=FOLDER go test -run Shots.
func TestShots(t *testing.T) {
	to := os.Getenv("PAGE_SHOTS")
	if to == "" {
		t.Skip("PAGE_SHOTS is not set")
	}
	f := newFake(t)
	f.step = 60 * time.Millisecond
	for i, prompt := range []string{"a red apple on a table", "a lighthouse at night, waves, long exposure", "a fox in snow", "an old map of an island", "a teapot", "a bridge in fog", "two chairs", "a paper boat"} {
		f.newPicture(prompt, 256, 256+128*(i%2), map[string]any{"prompt": prompt, "seed": 40 + i, "steps": 12, "cfg": 2.5, "scheduler": "ddim", "width": 256, "height": 256 + 128*(i%2)})
	}
	shot := func(b *tab, name string) {
		b.do(chromedp.Sleep(350 * time.Millisecond))
		data, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name+".png"), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := open(t, f, 1360, 860)
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		b.do(chromedp.Navigate(f.url() + "/"))
		b.until(`!document.getElementById("caption").hidden`)
		shot(b, "create-"+scheme)
	}
	b.typed("#prompt", "a fox in snow, early light, (quiet:1.2)")
	b.click("#generate")
	b.until(`document.getElementById("progress").value > .4`)
	shot(b, "running-dark")
	b.click("#queue-button")
	shot(b, "queue-dark")
	b.click("#queue-close")
	b.until(`!document.getElementById("caption").hidden`)
	b.scheme("light")
	b.click("#actions [data-action=inpaint]")
	b.until(`document.getElementById("mask").width > 300 || document.activeElement.id === "mask"`)
	b.do(chromedp.Func(func(context.Context, *chromedp.Target) error { return nil }))
	b.key(" ")
	js[bool](b, `["ArrowRight","ArrowRight","ArrowDown","ArrowDown"].forEach(k => { document.getElementById("mask").dispatchEvent(new KeyboardEvent("keydown",{key:" "})); document.getElementById("mask").dispatchEvent(new KeyboardEvent("keydown",{key:k,shiftKey:true})); }) || true`)
	shot(b, "mask-light")
	b.key(kb.Escape)
	b.click("#actions [data-action=recipe]")
	shot(b, "recipe-light")
	b.key(kb.Escape)
	b.click("#help-button")
	shot(b, "help-light")
	b.key(kb.Escape)
	b.click(`nav a[href="#gallery"]`)
	b.until(`document.querySelectorAll("#grid li").length > 5`)
	shot(b, "gallery-light")
	b.click(`nav a[href="#compare"]`)
	b.until(`document.querySelector("#pairs select")`)
	js[bool](b, `const c = document.querySelectorAll("#pairs .pair select, #pairs .pair input"); c[1].value = "ddim"; c[2].value = "euler"; true`)
	b.click("#compare-form .primary")
	b.until(`!document.getElementById("differences").hidden`)
	shot(b, "compare-light")
	b.scheme("dark")
	shot(b, "compare-dark")
	b.click(`nav a[href="#create"]`)
	b.click("#advanced summary")
	js[bool](b, `document.getElementById("settings").scrollTop = 400; true`)
	shot(b, "advanced-dark")
	b.scheme("light")
	b.set("#prompt", strings.Repeat("a very long prompt, ", 24))
	b.set("[name=prompt_syntax]", "plain")
	b.click("#negative-button")
	b.click("#actions [data-action=start]")
	b.set("[name=steps]", "666")
	b.click("#generate")
	b.forgiven = func(string) bool { return true }
	b.until(`document.getElementById("complaint")`)
	js[bool](b, `document.getElementById("settings").scrollTop = 0; true`)
	shot(b, "overflow-light")
	js[bool](b, `(async () => { const c = document.createElement("canvas"); c.width = 300; c.height = 200; const blob = await new Promise(go => c.toBlob(go));
		const d = new DataTransfer(); d.items.add(new File([blob, "parameters"], "x.png", {type: "image/png"})); dispatchEvent(new DragEvent("drop", {dataTransfer: d, cancelable: true})); })() && true`)
	b.until(`document.activeElement.id === "dropped-use"`)
	shot(b, "dropped-light")
	b.key(kb.Escape)
	f.halt()
	b.until(`document.getElementById("banner").classList.contains("shown")`)
	b.click("#generate")
	shot(b, "away-light")
	f.start()
	p := open(t, f, 390, 844, chromedp.EmulateMobile)
	p.scheme("light")
	p.until(`!document.getElementById("caption").hidden`)
	shot(p, "phone-create")
	p.click(`nav a[href="#gallery"]`)
	p.until(`document.querySelectorAll("#grid li").length > 5`)
	shot(p, "phone-gallery")
	p.click("#grid .shot")
	shot(p, "phone-viewer")
}

func clearCache(ctx context.Context, target *chromedp.Target) error {
	_, err := cdp.Call(ctx, target, network.ClearBrowserCache, cdp.Empty{})
	return err
}

// quote writes a text as JavaScript does.
func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}
