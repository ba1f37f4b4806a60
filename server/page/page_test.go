package page

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestTokens: the count follows what is typed; what is beyond the first window is marked, and what is left out is said.
func TestTokens(t *testing.T) {
	t.Parallel()
	b := open(t, newFake(t), 1280, 800)
	b.typed("#prompt", "a red fox")
	b.until(`document.getElementById("prompt-count").textContent === "3 of 75 tokens"`)
	b.typed("#prompt", " – im Schnée") // bytes are not characters
	b.until(`document.getElementById("prompt-count").textContent === "6 of 75 tokens"`)
	b.click("#tokens-button")
	if got := js[string](b, `[...document.querySelectorAll("#tokens .piece")].map(e => e.textContent).join("|")`); got != "a|red|fox|–|im|Schnée" {
		t.Errorf("tokens %q", got)
	}
	words := strings.TrimSpace(strings.Repeat("ärger ", 75) + "seventysix and more")
	b.set("#prompt", words)
	b.until(`document.querySelector("#prompt-mirror mark.more")`)
	if got := b.text("#prompt-mirror mark.more"); strings.TrimSpace(strings.TrimSuffix(got, "\u200b")) != "seventysix and more" {
		t.Errorf("marked as beyond the window: %q", got)
	}
	if count, note := b.text("#prompt-count"), b.text("#prompt-note"); count != "78 tokens" || !strings.Contains(note, "2 parts") {
		t.Errorf("count %q, note %q", count, note)
	}
	// In plain syntax the rest is left out, and the page says so at once.
	b.click("#advanced summary")
	b.set("[name=prompt_syntax]", "plain")
	b.until(`document.getElementById("prompt-note").textContent.includes("the last 3 tokens are left out")`)
	b.until(`document.querySelector("#prompt-mirror mark.cut")`)
}

// TestWeights: Ctrl with an arrow weighs the word at the cursor, and takes it back.
func TestWeights(t *testing.T) {
	t.Parallel()
	b := open(t, newFake(t), 1280, 800)
	b.typed("#prompt", "a red fox")
	for _, c := range []struct{ key, want string }{
		{kb.ArrowUp, "a red (fox:1.1)"}, {kb.ArrowUp, "a red (fox:1.2)"}, {kb.ArrowDown, "a red (fox:1.1)"}, {kb.ArrowDown, "a red fox"}, {kb.ArrowDown, "a red (fox:0.9)"},
	} {
		b.key(c.key, chromedp.ModifierCtrl)
		if got := js[string](b, `document.getElementById("prompt").value`); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	js[bool](b, `(() => { document.getElementById("prompt").setSelectionRange(0, 5); return true; })()`)
	b.key(kb.ArrowUp, chromedp.ModifierCtrl)
	if got := js[string](b, `document.getElementById("prompt").value`); got != "(a red:1.1) (fox:0.9)" {
		t.Errorf("%q", got)
	}
	b.key("z", chromedp.ModifierCtrl)
	b.until(`document.getElementById("prompt").value === "a red (fox:0.9)"`)
}

// TestGenerate: a request with the settings of the form, progress, previews, the picture, the strip and the gallery.
func TestGenerate(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.step = 40 * time.Millisecond
	b := open(t, f, 1280, 800)
	b.typed("#prompt", "a teapot")
	b.typed("[name=steps]", "8")
	b.typed("[name=seed]", "18446744073709551615")
	b.click(".f-lora .loras-head button")
	b.set(".lora select", "ink")
	js[bool](b, `(() => { window.seen = {}; new MutationObserver(() => {
		const i = document.getElementById("picture"); if (i.src.startsWith("data:image/jpeg") && !i.hidden) seen.preview = [i.clientWidth, i.clientHeight];
		const t = document.getElementById("progress-text").textContent; if (t.startsWith("Step")) seen.text = t;
		const v = document.getElementById("progress").value; seen.value = Math.max(seen.value || 0, v); }).observe(document.body, {subtree: true, attributes: true, childList: true}); return true; })()`)
	b.do(chromedp.Focus("#prompt"))
	b.key(kb.Enter, chromedp.ModifierCtrl)
	b.until(`document.getElementById("picture").src.endsWith("/v1/pictures/p1/file") && document.getElementById("picture").naturalWidth === 256`)
	if got := f.last(); got != `{"lora":"ink:1","prompt":"a teapot","seed":18446744073709551615,"steps":8}` {
		t.Errorf("the request: %s", got)
	}
	if js[string](b, `JSON.stringify(seen.preview)`) != js[string](b, `JSON.stringify([document.getElementById("picture").clientWidth, document.getElementById("picture").clientHeight])`) {
		t.Errorf("the preview was %s large, and the picture is not: the page jumps", js[string](b, `JSON.stringify(seen.preview)`))
	}
	if text, value := js[string](b, `seen.text`), js[float64](b, `seen.value`); !strings.Contains(text, "of 8") || !strings.Contains(text, "about 2 s left") || value < .5 {
		t.Errorf("progress %q, %g", text, value)
	}
	if got := b.text("#caption-text"); !strings.Contains(got, "a teapot") || !strings.Contains(got, "seed 18446744073709551615") {
		t.Errorf("caption %q", got)
	}
	b.until(`document.querySelectorAll("#strip .shot").length === 1 && document.querySelector("#strip .shot[aria-pressed=true]")`)
	// Nothing has moved by itself, since the page was opened.
	if moved := js[string](b, shifts); moved != "" {
		t.Errorf("things move: %s", moved)
	}
	// Again: the same settings with another seed. Vary: from this picture.
	b.click("#actions [data-action=again]")
	b.until(`document.getElementById("picture").src.endsWith("/p2/file")`)
	if got := f.last(); strings.Contains(got, "seed") || !strings.Contains(got, `"steps":8`) || !strings.Contains(got, `"lora":"ink:1"`) {
		t.Errorf("again: %s", got)
	}
	b.click("#actions [data-action=vary]")
	b.until(`document.getElementById("picture").src.endsWith("/p3/file")`)
	if got := f.last(); !strings.Contains(got, `"init":"picture:p2"`) || !strings.Contains(got, `"strength":0.6`) {
		t.Errorf("vary: %s", got)
	}
	// What the server does not like is told at its field.
	b.set("[name=steps]", "")
	b.typed("[name=steps]", "666")
	b.click("#generate")
	b.forgiven = func(c string) bool { return strings.Contains(c, "400 (Bad Request)") }
	b.until(`document.querySelector(".f-steps [aria-invalid]") && document.activeElement.name === "steps"`)
	if got := b.text("#complaint"); got != "666 steps: this model likes fewer." {
		t.Errorf("complaint %q", got)
	}
}

// shifts tells which elements moved without the user's doing, and how much in all (web.dev/cls), where that is 0.01 or more.
const shifts = `new Promise(go => {
	setTimeout(() => go(""), 500);
	new PerformanceObserver((list, o) => {
		o.disconnect();
		const all = list.getEntries().filter(e => !e.hadRecentInput);
		const sum = all.reduce((n, e) => n + e.value, 0);
		go(sum < .01 ? "" : sum.toFixed(3) + " " + all.flatMap(e => e.sources.map(s => (s.node?.id || s.node?.className || s.node?.nodeName) + " " + s.previousRect.y + "→" + s.currentRect.y)).join(", "));
	}).observe({type: "layout-shift", buffered: true});
})`

// TestFailed: a job that fails says why, in the picture's place.
func TestFailed(t *testing.T) {
	t.Parallel()
	b := open(t, newFake(t), 1280, 800)
	b.typed("#prompt", "fail")
	b.click("#generate")
	b.until(`document.getElementById("empty").textContent.includes("out of memory: choose a smaller picture")`)
	b.until(`document.getElementById("frame").querySelector("button")`)
	b.click("#queue-button")
	b.click("#past [data-what^=again]") // it fails again
	b.until(`document.querySelectorAll("#past li.failed").length === 2`)
	b.set("#prompt", "well")
	b.click("#generate")
	b.until(`document.querySelector("#past [data-what^=show] img")?.naturalWidth`)
	b.click("#past [data-what^=show]")
	b.until(`document.getElementById("picture").src.endsWith("/p1/file")`)
}

// TestCancel: a running job and a waiting one are cancelled, from the stage and from the queue.
func TestCancel(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	b := open(t, f, 1280, 800)
	b.typed("[name=steps]", "5000")
	b.typed("#prompt", "first")
	b.click("#generate")
	b.until(`document.getElementById("progress").value > 0`)
	b.set("#prompt", "second")
	b.click("#generate")
	b.until(`document.getElementById("queue-count").textContent === "2"`)
	b.click("#queue-button")
	b.until(`document.querySelector("#jobs [data-job=j2] .state")?.textContent === "Waits, 1 before it"`)
	b.click("#jobs [data-job=j2] [data-what^=cancel]")
	b.until(`document.querySelector("#past [data-job=j2].cancelled")`)
	b.key(kb.Escape)
	b.until(`document.getElementById("queue").hidden && document.activeElement.id === "queue-button"`)
	b.click("#cancel")
	b.until(`document.querySelector("#past [data-job=j1].cancelled") && document.getElementById("queue-count").textContent === "0"`)
	b.until(`document.getElementById("progress-row").hidden`)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range f.jobs {
		if j.body["state"] != "cancelled" {
			t.Errorf("job %v is %v", j.body["id"], j.body["state"])
		}
	}
}

// TestMask: what the brush paints is white in the mask that is uploaded, and black elsewhere; strokes are taken back.
func TestMask(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.newPicture("a fox", 320, 200, map[string]any{"prompt": "a fox", "seed": 7, "steps": 3, "width": 320, "height": 200})
	b := open(t, f, 1280, 800)
	b.click("#actions [data-action=inpaint]")
	b.until(`document.activeElement.id === "mask" && document.getElementById("mask").width === 320`)
	box := js[[]float64](b, `(() => { const r = document.getElementById("mask").getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; })()`)
	drag := func(x0, y0, x1, y1 float64) {
		at := func(x, y float64) (float64, float64) { return box[0] + x/320*box[2], box[1] + y/200*box[3] }
		x, y := at(x0, y0)
		b.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMousePressed, x, y, chromedp.ButtonLeft, chromedp.ClickCount(1)))
		for i := 1.; i <= 8; i++ {
			x, y := at(x0+(x1-x0)*i/8, y0+(y1-y0)*i/8)
			b.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y, chromedp.ButtonLeft))
		}
		x, y = at(x1, y1)
		b.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseReleased, x, y, chromedp.ButtonLeft, chromedp.ClickCount(1)))
	}
	drag(60, 60, 120, 60)   // stays
	drag(60, 160, 300, 160) // is taken back
	b.until(`/^\d+ % is painted/.test(document.getElementById("mask-status").textContent)`)
	b.key("z", chromedp.ModifierCtrl)
	b.until(`!document.getElementById("mask-redo").disabled`)
	// With keys: to the middle is where the brush was left; it goes back there by the pointer alone, so move relative to it.
	drag(250, 40, 250, 40)
	b.do(chromedp.Focus("#mask"))
	b.key(" ") // a dot more, where the brush is
	b.key(kb.ArrowDown, chromedp.ModifierShift)
	b.set("#painter-prompt", "")
	b.typed("#painter-prompt", "a hare")
	b.click("#painter-go")
	b.until(`!document.getElementById("painter").open && document.getElementById("picture").src.endsWith("/p2/file")`)
	request := f.last()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.files) != 1 {
		t.Fatalf("%d files were uploaded", len(f.files))
	}
	for id, data := range f.files {
		if want := `{"height":200,"init":"picture:p1","mask":"upload:` + id + `","mask_blur":4,"prompt":"a hare","steps":3,"strength":1,"width":320}`; request != want {
			t.Errorf("the request is\n%s, want\n%s", request, want)
		}
		m, err := png.Decode(bytes.NewReader(data))
		if err != nil || m.Bounds() != image.Rect(0, 0, 320, 200) {
			t.Fatalf("the mask: %v, %v", err, m.Bounds())
		}
		for at, want := range map[image.Point]uint32{{60, 60}: 0xffff, {90, 60}: 0xffff, {120, 60}: 0xffff, {90, 75}: 0xffff, {250, 40}: 0xffff,
			{90, 90}: 0, {60, 160}: 0, {200, 160}: 0, {300, 160}: 0, {5, 5}: 0, {180, 60}: 0, {315, 195}: 0} {
			if r, g, blue, a := m.At(at.X, at.Y).RGBA(); r != want || g != want || blue != want || a != 0xffff {
				t.Errorf("the mask at %v: %d %d %d %d, want %d", at, r>>8, g>>8, blue>>8, a>>8, want>>8)
			}
		}
	}
}

// TestMaskWithKeys: a mask can be painted, inverted and used without a pointer.
func TestMaskWithKeys(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.newPicture("a fox", 256, 256, map[string]any{"prompt": "a fox"})
	b := open(t, f, 1280, 800)
	b.until(`!document.getElementById("caption").hidden`)
	js[bool](b, `document.activeElement.blur() || true`)
	b.press("i")
	b.until(`document.activeElement.id === "mask" && document.getElementById("mask").width === 256`)
	b.key(kb.Enter) // the brush, of 32 pixels, is down in the middle
	for range 3 {
		b.key(kb.ArrowLeft, chromedp.ModifierShift)
	}
	b.key(kb.Enter)
	b.until(`document.getElementById("mask-status").textContent === "6 % is painted."`) // (96·32 + π·16²) / 256²
	b.press("e")
	b.until(`document.getElementById("tool-eraser").getAttribute("aria-pressed") === "true"`)
	b.click("#mask-invert")
	b.until(`document.getElementById("mask-status").textContent === "94 % is painted."`)
	b.click("#painter-keep")
	b.until(`!document.getElementById("source").hidden && document.getElementById("source-text").textContent.includes("where the mask is")`)
	b.typed("#prompt", "x")
	b.click("#generate")
	b.until(`document.querySelectorAll("#strip .shot").length === 2`)
	if got := f.last(); !strings.Contains(got, `"init":"picture:p1","mask":"upload:`) {
		t.Errorf("the request: %s", got)
	}
}

// TestGallery: the search finds, a picture shows its recipe, arrows go on, its settings go into the form.
func TestGallery(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for i := range 70 {
		prompt := []string{"a red apple", "a fox <b>in</b> snow & \"ice\"", "two chairs"}[i%3]
		f.newPicture(prompt, 256, 256, map[string]any{"prompt": prompt, "seed": i, "steps": 12, "scheduler": "euler", "model": "large"})
	}
	b := open(t, f, 1280, 800)
	js[bool](b, `document.activeElement.blur() || true`)
	b.press("/")
	b.until(`document.querySelectorAll("#grid li").length >= 60 && document.activeElement.id === "search"`)
	b.until(`(document.getElementById("gallery").scrollTop = 1e6) && document.querySelectorAll("#grid li").length === 70`)
	b.typed("#search", "snow")
	b.until(`document.getElementById("gallery-count").textContent === "23 pictures"`)
	b.click("#grid .shot")
	b.until(`document.getElementById("viewer").open`)
	if got := b.text("#viewer-prompt"); got != `a fox <b>in</b> snow & "ice"` {
		t.Errorf("prompt %q", got)
	}
	b.until(`document.getElementById("viewer-recipe").innerText.includes("torch-cpu")`)
	if got := b.text("#viewer-recipe"); !strings.Contains(got, "euler") || !strings.Contains(got, "67") {
		t.Errorf("recipe %q", got)
	}
	b.key(kb.ArrowRight)
	b.until(`document.getElementById("viewer-recipe").innerText.includes("64")`)
	b.press("e")
	b.until(`!document.getElementById("viewer").open && !document.getElementById("create").hidden && document.activeElement.id === "prompt"`)
	if got := js[string](b, `[document.getElementById("prompt").value, document.querySelector("[name=seed]").value, document.querySelector("[name=scheduler]").value, document.querySelector("[name=model]").value].join("|")`); got != `a fox <b>in</b> snow & "ice"|64|euler|large` {
		t.Errorf("the form has %q", got)
	}
	b.click(`nav a[href="#gallery"]`)
	// Deleting asks once more.
	b.click("#grid .shot")
	b.click("#viewer-delete")
	b.until(`document.getElementById("viewer-delete").textContent === "Delete the file for good"`)
	if n := count(f, &f.pictures); n != 70 {
		t.Errorf("%d pictures are left before it was confirmed", n)
	}
	b.click("#viewer-delete")
	b.until(`!document.getElementById("viewer").open && document.getElementById("gallery-count").textContent === "22 pictures"`)
	b.set("#search", "")
	b.typed("#search", "zebra")
	b.until(`document.getElementById("gallery-empty").textContent.includes("Nothing is found")`)
}

// TestOpenedPicture: a picture of another program shows its settings, and can be started from; so does a dropped one.
func TestOpenedPicture(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	b := open(t, f, 1280, 800)
	var data bytes.Buffer
	if err := png.Encode(&data, draw(64, 48, 0)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "other.png")
	if err := os.WriteFile(file, append(data.Bytes(), "parameters"...), 0o644); err != nil { // the fake looks for this word
		t.Fatal(err)
	}
	b.do(chromedp.SetUploadFiles("#open-file", []string{file}))
	b.until(`document.getElementById("dropped-status").textContent === "Made by AUTOMATIC1111."`)
	if got := b.text("#dropped-recipe"); !strings.Contains(got, "18446744073709551615") {
		t.Errorf("recipe %q", got)
	}
	if got := b.text("#dropped-warnings"); !strings.Contains(got, "Face restoration is not used") {
		t.Errorf("warnings %q", got)
	}
	b.click("#dropped-use")
	b.until(`document.getElementById("prompt").value === "a lighthouse at night" && document.querySelector(".lora select").value === "ink"`)
	// Dropped onto the page: it is what the next picture starts from.
	js[bool](b, `(async () => {
		const c = document.createElement("canvas"); c.width = 40; c.height = 30;
		const blob = await new Promise(go => c.toBlob(go)); const d = new DataTransfer(); d.items.add(new File([blob], "plain.png", {type: "image/png"}));
		for (const type of ["dragenter", "dragover", "drop"]) document.body.dispatchEvent(new DragEvent(type, {dataTransfer: d, bubbles: true, cancelable: true})); })() && true`)
	b.until(`document.getElementById("dropped-status").textContent.startsWith("No settings") && document.getElementById("dropped-size").textContent === "40 × 30"`)
	b.click("#dropped-start")
	b.until(`!document.getElementById("source").hidden && document.getElementById("source-text").textContent === "plain.png"`)
	if js[bool](b, `document.querySelector("#source [name=mask_blur]").checkVisibility()`) {
		t.Error("there is no mask, and its edge can be set")
	}
	// Another setting that names a picture.
	b.click("#advanced summary")
	b.do(chromedp.SetUploadFiles("[data-name=depth] input[type=file]", []string{file}))
	b.until(`document.querySelector("[name=depth]").value.startsWith("upload:")`)
	b.set("#source [name=strength]", "0.4")
	b.click("#generate")
	b.until(`document.querySelectorAll("#strip .shot").length === 1`)
	if got := f.last(); !strings.Contains(got, `"init":"upload:`) || !strings.Contains(got, `"strength":0.4`) || !strings.Contains(got, `"depth":"upload:`) || strings.Contains(got, "mask") {
		t.Errorf("the request: %s", got)
	}
	b.click("#source-clear")
	b.until(`document.getElementById("source").hidden`)
}

// TestUpscale: an upscaler's network enlarges, or the picture is drawn again from itself, larger.
func TestUpscale(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.newPicture("a fox", 256, 128, map[string]any{"prompt": "a fox", "seed": 7, "steps": 3})
	b := open(t, f, 1280, 800)
	b.click("#actions [data-action=upscale]")
	b.until(`document.getElementById("upscaler").open && document.querySelector("#upscaler-ways input:checked").value === "net:4x-soft"`)
	b.click("#upscaler-form .primary")
	b.until(`document.getElementById("picture").naturalWidth === 1024 && document.querySelectorAll("#strip .shot").length === 2`)
	b.click(`nav a[href="#gallery"]`)
	b.until(`document.querySelectorAll("#grid .shot").length === 2`)
	b.click(`nav a[href="#create"]`)
	b.click("#strip .shot:last-child")
	b.until(`document.getElementById("picture").naturalWidth === 256`)
	b.click("#actions [data-action=upscale]")
	b.until(`document.getElementById("upscaler").open`)
	b.click("#upscaler-ways input[value=redraw]")
	b.click("#upscaler-form .primary")
	b.until(`document.getElementById("picture").naturalWidth === 512`)
	if got := f.last(); got != `{"height":256,"init":"picture:p1","prompt":"a fox","steps":3,"strength":0.35,"width":512}` {
		t.Errorf("the request: %s", got)
	}
}

// TestCompare: one seed, two schedulers, a slider, and a report in a frame that may not touch the page.
func TestCompare(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	b := open(t, f, 1280, 800)
	b.typed("#prompt", "a bridge")
	b.click(`nav a[href="#compare"]`)
	b.until(`document.querySelectorAll("#pairs .pair select").length === 3`)
	b.set("#pairs .pair > div:nth-of-type(1) select", "ddim")
	b.set("#pairs .pair > div:nth-of-type(2) select", "euler")
	b.click("#compare-form .primary")
	b.until(`!document.getElementById("differences").hidden && document.querySelector("#wipe-b img").naturalWidth > 0`)
	f.mu.Lock()
	a, c := f.requests[0], f.requests[1]
	f.mu.Unlock()
	if a["scheduler"] != "ddim" || c["scheduler"] != "euler" || a["seed"] == nil || a["seed"] != c["seed"] {
		t.Errorf("the requests: %v and %v", a, c)
	}
	if got := b.text("#differences tbody"); strings.Join(strings.Fields(got), " ") != "Scheduler ddim euler" {
		t.Errorf("differences %q", got)
	}
	b.do(chromedp.Focus("#wipe-at"))
	b.key(kb.Home)
	for range 20 {
		b.key(kb.ArrowRight)
	}
	if got := js[string](b, `document.getElementById("wipe-a").style.clipPath`); got != "inset(0px 80% 0px 0px)" {
		t.Errorf("clipped by %q", got)
	}
	b.set("#report", "schedulers")
	b.until(`!document.getElementById("report-frame").hidden`)
	if got := js[string](b, `document.getElementById("report-frame").getAttribute("sandbox")`); got != "allow-scripts" {
		t.Errorf("the frame's sandbox: %q", got)
	}
}

// TestNoCircles: no script imports one that imports it, by whatever way, and all are asked for at once.
func TestNoCircles(t *testing.T) {
	imports := map[string][]string{}
	statement := regexp.MustCompile(`(?m)^(?:import|export) [^;]*?"\./([a-z]+\.js)";`)
	names, err := filepath.Glob("static/*.js")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d scripts, %v", len(names), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range statement.FindAllStringSubmatch(string(text), -1) {
			imports[filepath.Base(name)] = append(imports[filepath.Base(name)], m[1])
		}
	}
	done := map[string]bool{}
	var visit func(name string, path []string)
	visit = func(name string, path []string) {
		if slices.Contains(path, name) {
			t.Errorf("a circle: %s", strings.Join(append(path, name), " → "))
			return
		}
		if done[name] {
			return
		}
		for _, next := range imports[name] {
			visit(next, append(slices.Clone(path), name))
		}
		done[name] = true
	}
	visit("app.js", nil)
	html, err := os.ReadFile("static/index.html") // what is not named there is found late, one script after the other
	if err != nil {
		t.Fatal(err)
	}
	for name := range done {
		if name != "app.js" && !strings.Contains(string(html), `<link rel="modulepreload" href="/static/`+name+`">`) {
			t.Errorf("index.html does not preload %s", name)
		}
	}
	if len(imports["app.js"]) < 10 {
		t.Errorf("imports of app.js: %v", imports["app.js"])
	}
}

// TestRestart: the server is killed while the page is open. The page says so, keeps what is typed, and goes on by itself.
func TestRestart(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	b := open(t, f, 1280, 800)
	b.forgiven = func(c string) bool {
		return strings.Contains(c, "ERR_CONNECTION") || strings.Contains(c, "ERR_EMPTY_RESPONSE") || strings.Contains(c, "ERR_INCOMPLETE")
	}
	b.until(`document.getElementById("prompt-count").textContent.includes("of")`)
	f.halt()
	b.typed("#prompt", "written while it was away")
	b.until(`document.getElementById("banner").textContent.startsWith("The server does not answer")`)
	b.click("#generate") // it is sent as soon as there is somebody to take it
	f.start()
	b.until(`document.getElementById("banner").textContent === ""`)
	if got := js[string](b, `document.getElementById("prompt").value`); got != "written while it was away" {
		t.Errorf("the prompt is now %q", got)
	}
	b.until(`document.getElementById("picture").src.endsWith("/p1/file")`)
	if n := count(f, &f.requests); n != 1 {
		t.Errorf("%d jobs were made", n)
	}
	// The page itself is loaded anew: the draft is still there.
	b.do(chromedp.Reload())
	b.until(`document.getElementById("prompt").value === "written while it was away"`)
}

// TestKey: a server with a key is opened with it, and pictures are fetched with it too.
func TestKey(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.newPicture("a fox", 256, 256, map[string]any{"prompt": "a fox"})
	f.key = "open sesame"
	b := lockedTab(t, f)
	b.typed("#lock-key", "wrong")
	b.key(kb.Enter)
	b.until(`document.getElementById("lock-error").textContent === "This key is not the server's."`)
	b.typed("#lock-key", "open sesame")
	b.key(kb.Enter)
	b.until(`document.querySelector("#basic .field") && document.getElementById("picture").src.startsWith("blob:") && document.getElementById("picture").naturalWidth === 256`)
	b.do(chromedp.Reload())
	b.until(`document.getElementById("picture").naturalWidth === 256 && !document.getElementById("lock").open`)
}

// lockedTab opens the page of a server that asks for a key.
func lockedTab(t *testing.T, f *fake) *tab {
	key := f.key
	f.key = ""
	b := open(t, f, 1280, 800)
	b.forgiven = func(c string) bool { return strings.Contains(c, "401 (Unauthorized)") }
	f.mu.Lock()
	f.key = key
	f.mu.Unlock()
	b.do(chromedp.Reload())
	b.until(`document.getElementById("lock").open`)
	return b
}

// TestPhone: nothing is wider than the window, in any view, and what fingers touch is large enough.
func TestPhone(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	long := strings.Repeat("Donaudampfschifffahrtsgesellschaft", 6)
	for range 8 {
		f.newPicture(long, 512, 256, map[string]any{"prompt": long, "seed": 1, "model": long})
	}
	for _, width := range []int64{320, 390} {
		b := open(t, f, width, 720, chromedp.EmulateMobile)
		fits := func(what string) {
			t.Helper()
			// Not innerWidth: on a phone what is too wide makes that wider, too.
			if wide := js[int](b, fmt.Sprintf(`Math.max(document.documentElement.scrollWidth - %d, `, width)+`...[...document.querySelectorAll("dialog[open], #queue:not([hidden])")].map(e => e.scrollWidth - e.clientWidth), 0)`); wide > 0 {
				t.Errorf("%s, %d pixels wide: %d too many: %s", what, width, wide, js[string](b, `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !e.closest("#strip")).slice(0, 5).map(e => e.tagName + "#" + e.id + "." + e.className).join(" ")`))
			}
			small := js[string](b, `[...document.querySelectorAll("button, a[href], input, select, summary, textarea")].filter(e => { const r = e.getBoundingClientRect(); return e.checkVisibility() && r.width > 0 && !e.classList.contains("skip") && e.offsetParent && (r.height < 24 || r.width < 24) && !e.closest("label.check, label.way"); }).map(e => e.outerHTML.slice(0, 80)).join("\n")`)
			if small != "" {
				t.Errorf("%s: smaller than 24 × 24 pixels:\n%s", what, small)
			}
		}
		b.until(`!document.getElementById("caption").hidden`)
		fits("create")
		b.click("#actions [data-action=inpaint]")
		b.until(`document.activeElement.id === "mask"`)
		fits("mask")
		b.key(kb.Escape)
		b.click("#help-button")
		fits("help")
		b.key(kb.Escape)
		b.click("#queue-button")
		fits("queue")
		b.click("#queue-close")
		b.click(`nav a[href="#gallery"]`)
		b.until(`document.querySelectorAll("#grid li").length === 8`)
		fits("gallery")
		b.click("#grid .shot")
		fits("viewer")
		b.key(kb.Escape)
		b.click(`nav a[href="#compare"]`)
		b.until(`document.querySelector(".pair")`)
		fits("compare")
	}
}
