package page

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestAccessibility looks at every view and dialog, in both themes, as the Web Content Accessibility Guidelines 2.2 have it at
// level AA: names and roles (4.1.2), labels (3.3.2), contrast of text (1.4.3) and of controls (1.4.11), headings and
// landmarks (1.3.1), references between elements, pictures' texts (1.1.1).
func TestAccessibility(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.step = 200 * time.Millisecond // a picture is still being made when it has been looked at, on a slow machine, too
	for i := range 5 {
		f.newPicture("a fox in snow", 256, 256, map[string]any{"prompt": "a fox in snow", "seed": i, "steps": 3, "scheduler": "ddim", "model": "icons"})
	}
	for _, scheme := range []string{"light", "dark"} {
		b := open(t, f, 1280, 900)
		b.scheme(scheme)
		look := func(what string) {
			t.Helper()
			for _, fault := range append(js[[]string](b, checks), b.unnamed()...) {
				t.Errorf("%s, %s: %s", what, scheme, fault)
			}
		}
		b.typed("#prompt", strings.Repeat("word ", 80))
		b.until(`document.querySelector("#prompt-mirror mark")`)
		b.until(`!document.getElementById("caption").hidden`)
		b.click("#tokens-button")
		b.click("#negative-button")
		b.click("#advanced summary")
		b.click(".f-lora .loras-head button")
		b.click("#actions [data-action=start]")
		look("create")
		b.set("[name=prompt_syntax]", "plain")
		b.until(`document.querySelector("#prompt-mirror mark.cut")`)
		b.set("[name=steps]", "666")
		b.forgiven = func(c string) bool { return strings.Contains(c, "400") }
		b.click("#generate")
		b.until(`document.getElementById("complaint")`)
		look("overflow and an error")
		b.set("[name=steps]", "200")
		b.click("#generate")
		b.until(`document.getElementById("progress").value > 0`)
		b.click("#queue-button")
		look("progress and queue")
		b.click("#queue-close")
		b.click("#cancel")
		b.until(`!document.getElementById("caption").hidden`)
		for _, d := range []struct{ open, dialog string }{
			{"#actions [data-action=inpaint]", "painter"}, {"#actions [data-action=upscale]", "upscaler"}, {"#actions [data-action=recipe]", "viewer"}, {"#help-button", "help"},
		} {
			b.click(d.open)
			b.until(fmt.Sprintf(`document.getElementById(%q).open && document.getElementById(%q).contains(document.activeElement)`, d.dialog, d.dialog))
			look(d.dialog)
			b.key(kb.Escape)
			b.until(fmt.Sprintf(`!document.getElementById(%q).open && document.activeElement === document.querySelector(%q)`, d.dialog, d.open))
		}
		js[bool](b, `(async () => { const c = document.createElement("canvas"); const blob = await new Promise(go => c.toBlob(go));
			const d = new DataTransfer(); d.items.add(new File([blob, "parameters"], "x.png", {type: "image/png"})); dispatchEvent(new DragEvent("drop", {dataTransfer: d, cancelable: true})); })() && true`)
		b.until(`document.activeElement.id === "dropped-use"`)
		look("dropped")
		b.key(kb.Escape)
		b.click(`nav a[href="#gallery"]`)
		b.until(`document.querySelectorAll("#grid li").length >= 5`)
		look("gallery")
		b.click(`nav a[href="#compare"]`)
		b.until(`document.querySelector(".pair")`)
		look("compare")
	}
}

// needsName are the roles whose nodes must say what they are.
var needsName = map[string]bool{"button": true, "link": true, "textbox": true, "searchbox": true, "combobox": true, "listbox": true, "slider": true, "spinbutton": true,
	"checkbox": true, "radio": true, "image": true, "dialog": true, "progressbar": true, "toolbar": true, "navigation": true, "region": true, "complementary": true, "form": true,
	"application": true, "Iframe": true, "ProgressIndicator": true, "ComboBoxSelect": true}

// unnamed asks the browser's own accessibility tree, as screen readers do.
func (b *tab) unnamed() (faults []string) {
	b.t.Helper()
	named := 0
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		tree, err := cdp.Call(ctx, target, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		if err != nil {
			return err
		}
		for _, n := range tree.Nodes {
			if n.Ignored || n.Role == nil || !needsName[strings.Trim(string(n.Role.Value), `"`)] {
				continue
			}
			if n.Name == nil || len(strings.Trim(string(n.Name.Value), `" `)) == 0 {
				faults = append(faults, fmt.Sprintf("a %s has no name", n.Role.Value))
				continue
			}
			named++
		}
		return nil
	}))
	if named < 3 {
		faults = append(faults, fmt.Sprintf("only %d named nodes: this check sees too little", named))
	}
	return faults
}

// checks are what is looked at in the page itself. They answer with a list of faults.
const checks = `(() => {
	const faults = [];
	const say = (text, e) => faults.push(text + (e ? ": " + e.outerHTML.slice(0, 120) : ""));
	const dialog = [...document.querySelectorAll("dialog[open]")].pop();
	const seen = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true}) && e.getBoundingClientRect().width > 0 && (!dialog || dialog.contains(e));
	const all = [...document.querySelectorAll("body *")].filter(seen);

	if (!document.documentElement.lang || !document.title) say("no language or title");
	if (document.querySelectorAll("h1").length !== 1) say("not one h1");
	for (const one of ["main", "header", "nav"]) if (document.querySelectorAll(one).length !== 1) say("not one " + one);
	const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
	for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) say("id twice: " + id);
	let level = dialog ? 1 : 0;
	for (const h of all.filter(e => /^H[1-6]$/.test(e.tagName))) {
		const n = Number(h.tagName[1]);
		if (n > level + 1) say("a heading leaves out a level", h);
		level = n;
	}
	for (const attribute of ["aria-controls", "aria-labelledby", "aria-describedby", "aria-errormessage", "for", "list"])
		for (const e of document.querySelectorAll("[" + attribute + "]"))
			for (const id of e.getAttribute(attribute).split(/\s+/)) if (!document.getElementById(id)) say(attribute + " points nowhere", e);
	for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) say("a tabindex above 0", e);
	for (const e of all.filter(e => e.tagName === "IMG")) if (!e.hasAttribute("alt")) say("a picture without alt", e);
	for (const e of all.filter(e => e.matches("input, select, textarea")))
		if (!e.labels?.length && !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby")) say("a control without a label", e);
	for (const e of document.querySelectorAll("[aria-expanded][aria-controls]"))
		if ((e.getAttribute("aria-expanded") === "true") === document.getElementById(e.getAttribute("aria-controls")).hidden) say("aria-expanded is wrong", e);
	if (!document.querySelector("[role=status]")) say("no live region");

	for (const e of all) { // what scrolls is scrolled with keys
		const s = getComputedStyle(e);
		if (/auto|scroll/.test(s.overflowY + s.overflowX) && (e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1) && e.tabIndex < 0 && !e.querySelector("a[href], button, input, select, textarea, [tabindex='0']")) say("it scrolls, and not with keys", e);
	}

	// Colours, of any notation, through a canvas.
	const c = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d", {willReadFrequently: true});
	const rgba = colour => { c.clearRect(0, 0, 1, 1); c.fillStyle = colour; c.fillRect(0, 0, 1, 1); const d = c.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
	const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
	const ground = e => {
		const layers = [];
		for (; e; e = e.parentElement) {
			const s = getComputedStyle(e);
			const b = rgba(s.backgroundColor);
			layers.push(b);
			if (b[3] === 1) break;
		}
		return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255, 1]);
	};
	const light = ([r, g, b]) => { const f = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
	const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
	let measured = 0;
	const off = e => e.closest(":disabled, [aria-disabled=true], [aria-hidden=true], .sr, .skip, option");
	for (const e of all) {
		if (off(e)) continue;
		const s = getComputedStyle(e);
		const needs = parseFloat(s.fontSize) >= 24 || parseFloat(s.fontSize) >= 18.66 && s.fontWeight >= 700 ? 3 : 4.5;
		const test = (colour, what) => {
			measured++;
			const b = ground(e);
			const ratio = contrast(over(rgba(colour), b), b);
			if (ratio < needs) say(what + " with contrast " + ratio.toFixed(2), e);
		};
		if ([...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) test(s.color, "text");
		if (e.matches("input:not([type=range],[type=checkbox],[type=radio]), textarea, select")) {
			test(s.color, "value");
			if (e.placeholder) test(getComputedStyle(e, "::placeholder").color, "placeholder");
		}
	}
	if (measured < 5) say("only " + measured + " texts: this check sees too little");
	for (const e of all.filter(e => e.matches("input:not([type=range],[type=checkbox],[type=radio]), select, .prompt-fields, button:not(.quiet,.shot,.primary)") && !off(e))) {
		const s = getComputedStyle(e);
		const ratio = Math.max(contrast(rgba(s.borderTopColor), ground(e.parentElement)), contrast(ground(e), ground(e.parentElement)));
		if (ratio < 3) say("an edge with contrast " + ratio.toFixed(2), e);
	}
	return faults;
})()`

// TestFocus: Tab reaches every control of the page, in the order in which they stand, shows where it is, and leaves again.
func TestFocus(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for range 3 {
		f.newPicture("a fox", 256, 256, map[string]any{"prompt": "a fox", "seed": 1})
	}
	b := open(t, f, 1280, 900)
	b.until(`!document.getElementById("caption").hidden && document.querySelectorAll("#strip .shot").length === 3`)
	for _, view := range []string{"create", "gallery", "compare"} {
		js[bool](b, `(() => { location.hash = "#`+view+`"; return true; })()`)
		b.until(`!document.getElementById("` + view + `").hidden`)
		if view == "gallery" {
			b.until(`document.querySelectorAll("#grid .shot").length === 3`)
		}
		if view == "compare" {
			b.until(`document.querySelectorAll(".pair select").length === 3 && document.querySelector("#report option:nth-child(2)")`)
		}
		js[bool](b, `void document.querySelector(".skip").focus() || true`) // the first of all
		want := js[[]string](b, `[...document.querySelectorAll("a[href], button, input, select, textarea, summary")].filter(e => e.checkVisibility() && !e.disabled && e.tabIndex >= 0 && e.type !== "file" && !e.closest("dialog")).map(e => e.id || e.className || e.outerHTML.slice(0, 60))`)
		got := []string{"skip"}
		for range len(want) + 3 {
			b.key(kb.Tab)
			at := js[string](b, `(() => { const e = document.activeElement; return e === document.body || e === document.documentElement ? "" : e.id || e.className || e.outerHTML.slice(0, 60); })()`)
			if at == "" {
				break
			}
			got = append(got, at)
			if !js[bool](b, `(() => { const e = document.activeElement; const shown = s => s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2; return e.matches(":focus-visible") && (shown(getComputedStyle(e)) || shown(getComputedStyle(e.closest(".prompt-fields") ?? e))); })()`) {
				t.Errorf("%s: one does not see that %s has the focus", view, at)
			}
		}
		if len(want) < 8 || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: Tab goes to\n%q, want\n%q", view, got, want)
		}
	}
	// In a row of pictures, arrows move.
	js[bool](b, `(() => { location.hash = "#create"; return true; })()`)
	b.until(`!document.getElementById("create").hidden`)
	b.do(chromedp.Focus("#strip .shot"))
	b.key(kb.ArrowRight)
	b.key(kb.End)
	if at := js[int](b, `[...document.querySelectorAll("#strip .shot")].indexOf(document.activeElement)`); at != 2 {
		t.Errorf("arrows came to picture %d", at)
	}
	b.key(kb.Enter)
	b.until(`document.querySelectorAll("#strip .shot")[2].getAttribute("aria-pressed") === "true"`)
}
