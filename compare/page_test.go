package compare

import (
	"context"
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
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser starts Chromium, or skips the test where there is none. What the page complains of is gathered in
// complaints.
func browser(t *testing.T) (ctx context.Context, complaints func() []string) {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("SKIPPED: no Chromium here, so nobody has looked at the report's page")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WSURLReadTimeout(2*time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var list []string
	err := chromedp.Listen(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			list = append(list, "exception: "+e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			list = append(list, fmt.Sprintf("console.%s", e.Type))
		case *log.EventEntryAdded:
			list = append(list, "log: "+e.Entry.Text)
		case *network.EventRequestWillBeSent:
			if u := e.Request.URL; !strings.HasPrefix(u, "file:") && !strings.HasPrefix(u, "data:") {
				list = append(list, "network: "+u)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return ctx, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string{}, list...)
	}
}

func do(t *testing.T, ctx context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// js evaluates an expression in the page.
func js[T any](t *testing.T, ctx context.Context, code string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T]("{"+code+"}"))
	if err != nil {
		t.Fatalf("%s: %v", code, err)
	}
	return v
}

func TestPage(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a browser")
	}
	ctx, complaints := browser(t)
	o := tinyOptions(t)
	o.Grid.Prompts = append(o.Grid.Prompts, `</script><b>"quoted" & 'it's`)
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	page := "file://" + filepath.Join(o.Out, "index.html")
	const firstRow = `document.querySelector("#settings tbody td:nth-child(1)").textContent`
	do(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(page))
	rows := js[int](t, ctx, `document.querySelectorAll("#settings tbody tr").length`)
	// Sort by seconds, both ways.
	do(t, ctx, chromedp.Click(`[data-sort=seconds]`))
	first := js[string](t, ctx, firstRow)
	do(t, ctx, chromedp.Click(`[data-sort=seconds]`))
	last := js[string](t, ctx, firstRow)
	// Filter.
	do(t, ctx, chromedp.SendKeys(`#filter`, "euler-a 4"))
	found := js[string](t, ctx, `[...document.querySelectorAll("#settings tbody td:nth-child(1)")].map(e=>e.textContent.replace(" use this","").replace("● ","")).join("|")`)
	js[bool](t, ctx, `document.getElementById("filter").value=""; document.getElementById("filter").oninput(); true`)
	do(t, ctx, chromedp.Click(`#front`))
	front := js[bool](t, ctx, `[...document.querySelectorAll("#settings tbody tr")].every(r=>r.classList.contains("front"))`)
	// The slider.
	clip := js[string](t, ctx, `const s=document.getElementById("slider"); s.value=20; s.dispatchEvent(new Event("input")); document.getElementById("over").style.clipPath`)
	// Zoom, with the command line.
	do(t, ctx, chromedp.Click(`#grid button`), chromedp.WaitVisible(`#zoom img`))
	command := js[string](t, ctx, `document.getElementById("command").textContent`)
	do(t, ctx, chromedp.Click(`#zoom .close`))
	// Another prompt, with text that would end a script; another measure.
	promptText := js[string](t, ctx, `const p=document.getElementById("prompt"); p.value="2"; p.onchange(); p.selectedOptions[0].textContent`)
	js[bool](t, ctx, `const m=document.getElementById("measure"); m.value="rmse"; m.onchange(); true`)
	do(t, ctx, chromedp.Sleep(300*time.Millisecond))
	points := js[int](t, ctx, `document.querySelectorAll("#chart button.point").length`)
	// What the page begins with, and where its links lead.
	opening := js[string](t, ctx, `[...document.querySelectorAll("#opening tbody tr")].map(r=>r.cells[0].textContent).join("|")+" "+document.querySelectorAll("#samples img").length`)
	for _, link := range js[[]string](t, ctx, `[...document.querySelectorAll("a[href]")].map(a=>a.getAttribute("href"))`) {
		if st, err := os.Stat(filepath.Join(o.Out, link)); err != nil || st.IsDir() {
			t.Errorf("the link %s leads to no file: %v", link, err)
		}
	}
	if want := "2 steps|4 steps 9"; opening != want { // of three prompts: two rows and the converged one
		t.Errorf("the page begins with %q, want %q", opening, want)
	}
	inside := js[int](t, ctx, `document.querySelectorAll("[role=img] [tabindex], [role=img] button, [role=img] a").length`)
	if inside > 0 {
		t.Errorf("%d controls lie within an image, where no reader finds them", inside)
	}
	broken := js[int](t, ctx, `[...document.images].filter(i=>i.src && i.complete && i.naturalWidth===0).length`)
	// A phone: the page itself does not scroll sideways.
	do(t, ctx, chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	sideways := js[int](t, ctx, `document.documentElement.scrollWidth - document.documentElement.clientWidth`)
	if rows != 6 || first == last || found != "euler-a, 4 steps" || !front || points != 4 || clip != "inset(0px 80% 0px 0px)" {
		t.Errorf("%d rows; sorted %q and %q; found %q; front alone: %v; %d points; slider %q", rows, first, last, found, front, points, clip)
	}
	if !strings.HasPrefix(command, "darkroom generate 'a red apple' ") || !strings.Contains(command, "--seed 7") {
		t.Errorf("command %q", command)
	}
	if promptText != `</script><b>"quoted" & 'it's` {
		t.Errorf("prompt %q", promptText)
	}
	if broken != 0 || sideways > 0 {
		t.Errorf("%d broken pictures; %d pixels too wide for a phone", broken, sideways)
	}
	for _, c := range complaints() {
		t.Error(c)
	}
}

// TestShots writes what the page looks like, for people: COMPARE_SHOTS=FOLDER COMPARE_REPORT=FOLDER go test -run Shots.
func TestShots(t *testing.T) {
	to, report := os.Getenv("COMPARE_SHOTS"), os.Getenv("COMPARE_REPORT")
	if to == "" || report == "" {
		t.Skip("COMPARE_SHOTS and COMPARE_REPORT are not set")
	}
	ctx, complaints := browser(t)
	for name, size := range map[string][2]int64{"desktop": {1280, 900}, "phone": {390, 844}} {
		for _, scheme := range []string{"light", "dark", "print"} {
			var shot []byte
			media := ""
			if scheme == "print" {
				media = "print"
			}
			do(t, ctx,
				chromedp.EmulateViewport(size[0], size[1]),
				chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
					_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
						Media:    media,
						Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
					})
					return err
				}),
				chromedp.Navigate("file://"+filepath.Join(report, "index.html")),
				chromedp.Sleep(300*time.Millisecond))
			shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(90))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(to, name+"-"+scheme+".jpg"), shot, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range complaints() {
		t.Error(c)
	}
}
