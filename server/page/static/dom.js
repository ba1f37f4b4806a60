// What the other modules make the page from. Text gets into it by textContent alone.

export const $ = (id) => document.getElementById(id);

// el makes an element: el("button", { class: "quiet", type: "button", onclick: f }, "Text", child, …). A property that is
// null, undefined or false is left out; children that are null or false too.
export function el(tag, properties = {}, ...children) {
	const e = document.createElement(tag);
	for (const [name, value] of Object.entries(properties)) {
		if (value === null || value === undefined || value === false) continue;
		if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
		else if (value === true) e.setAttribute(name, "");
		else e.setAttribute(name, value);
	}
	e.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
	return e;
}

let serial = 0;
export const freshID = (stem) => `${stem}-${++serial}`;

// say tells screen readers, politely.
export function say(text) {
	const live = $("live");
	live.textContent = "";
	setTimeout(() => { live.textContent = text; }, 50); // the same text twice is two announcements
}

// notice shows a message: kind is "error", which stays until it is closed, or "info". What to do about it may be a button:
// { text, run }.
export function notice(text, { kind = "info", hint = "", action = null } = {}) {
	const list = $("notices");
	for (const old of list.children) if (old.dataset.text === text) old.remove();
	const box = el("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status", "data-text": text },
		el("p", {}, text, hint ? el("span", { class: "hint" }, hint) : null));
	if (action) box.append(el("button", { type: "button", onclick: () => { box.remove(); action.run(); } }, action.text));
	box.append(el("button", { type: "button", class: "quiet icon", "aria-label": "Close the message", onclick: () => box.remove() }, "✕"));
	list.append(box);
	while (list.children.length > 4) list.firstChild.remove();
	if (kind !== "error") setTimeout(() => box.remove(), 6000);
	return box;
}

// fail shows an error of the API or of the page itself.
export function fail(err, action) {
	if (err?.name === "AbortError") return;
	notice(err?.message || String(err), { kind: "error", hint: err?.hint || "", action });
}

// later runs f once, ms after the last call.
export function later(ms, f) {
	let timer;
	return (...args) => {
		clearTimeout(timer);
		timer = setTimeout(() => f(...args), ms);
	};
}

// stored is a value that outlives the page, where the browser has room for it.
export const stored = {
	get(name, otherwise = null) {
		try {
			return JSON.parse(localStorage.getItem(`darkroom.${name}`)) ?? otherwise;
		} catch {
			return otherwise;
		}
	},
	set(name, value) {
		try {
			localStorage.setItem(`darkroom.${name}`, JSON.stringify(value));
		} catch { /* the page works without */ }
	},
};

// roving makes a list one stop of Tab, in which arrows, Home and End move (WAI-ARIA, "roving tabindex"). columns tells how many
// items a row has now; with 1 the list is a line.
export function roving(list, selector, columns = () => 1) {
	const items = () => [...list.querySelectorAll(selector)];
	const point = (item) => {
		for (const other of items()) other.tabIndex = other === item ? 0 : -1;
	};
	list.addEventListener("focusin", (e) => {
		const item = e.target.closest(selector);
		if (item) point(item);
	});
	list.addEventListener("keydown", (e) => {
		if (e.ctrlKey || e.metaKey || e.altKey) return;
		const all = items();
		const at = all.indexOf(e.target.closest(selector));
		if (at < 0) return;
		const row = columns();
		const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1,
			ArrowDown: row > 1 ? at + row : undefined, ArrowUp: row > 1 ? at - row : undefined }[e.key];
		if (to === undefined || !all[to]) return;
		e.preventDefault();
		e.stopPropagation();
		point(all[to]);
		all[to].focus();
	});
	return () => { // after the list has changed
		const all = items();
		if (all.length && !all.some((i) => i.tabIndex === 0)) all[0].tabIndex = 0;
		for (const item of all.slice(1)) if (item.tabIndex === 0 && all[0].tabIndex === 0) item.tabIndex = -1;
	};
}

// wire makes the buttons of class close close the dialog, and a click beside it too. onclose runs in any case.
export function wire(dialog, onclose = () => {}) {
	for (const b of dialog.querySelectorAll("button.close")) b.addEventListener("click", () => dialog.close());
	dialog.addEventListener("pointerdown", (e) => {
		if (e.target !== dialog) return;
		const r = dialog.getBoundingClientRect();
		if (e.clientX < r.left || e.clientX > r.right || e.clientY < r.top || e.clientY > r.bottom) dialog.close();
	});
	dialog.addEventListener("close", onclose);
	return dialog;
}

// duration is a time in words that are short: "8 s", "3 min", "1 h 20 min".
export function duration(seconds) {
	if (!(seconds >= 0)) return "";
	if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
	const minutes = Math.round(seconds / 60);
	return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// ready answers whether a picture is whole, once it is known.
export const ready = (img) => (img.complete && img.naturalWidth ? Promise.resolve() : img.decode());
