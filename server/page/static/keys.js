// The keyboard: what each key does is written in one list, from which the help is made.
import { $, el, stored, wire } from "./dom.js";
import { actions } from "./actions.js";
import { can, viewed } from "./picture.js";
import * as gallery from "./gallery.js";
import * as queue from "./queue.js";
import * as stage from "./stage.js";
import { go, view } from "./views.js";


// single are keys without Ctrl. They work outside of text fields, and can be switched off (WCAG 2.1.4).
const single = [
	["P", "To the prompt", () => { go("create"); $("prompt").focus(); }],
	["/", "Search the gallery", () => { go("gallery"); gallery.focusSearch(); }],
	["1", "Create", () => go("create")],
	["2", "Gallery", () => go("gallery")],
	["3", "Compare", () => go("compare")],
	["Q", "Queue", () => queue.toggle()],
	["X", "Cancel what is being made", () => { const j = stage.currentJob(); if (j) queue.cancel(j.id); }],
	["←", "The newer picture", () => { if (view() === "create") stage.move(-1); }, "ArrowLeft"],
	["→", "The older picture", () => { if (view() === "create") stage.move(1); }, "ArrowRight"],
	...actions.map((a) => [a.key.toUpperCase(), `${a.text}: ${a.title.charAt(0).toLowerCase()}${a.title.slice(1)}`, () => act(a)]),
	["T", "Dark, light, or as the system", () => $("theme-button").click()],
	["?", "This list", () => help()],
];

const others = [["Ctrl Enter", "Generate"], ["Ctrl ↑ ↓", "Weigh the word, or the chosen words, more or less"], ["Esc", "Close what is open"], ["Tab", "To the next control; with Shift to the one before"], ["← → Home End", "Within pictures and toolbars"]];

function act(action) {
	const p = viewed() ?? (view() === "create" ? stage.current() : null);
	if (!p || !can(action, p)) return;
	if ($("viewer").open && action.name !== "save") $("viewer").close();
	action.run(p);
}

export function help() { if (!$("help").open) $("help").showModal(); }

const typing = (e) => e.target.closest?.("input:not([type=checkbox],[type=radio],[type=range]), textarea, select, [contenteditable]");

export function setup() {
	wire($("help"));
	const line = ([key, text]) => el("div", {}, el("dt", {}, ...key.split(" ").map((k) => el("kbd", {}, k))), el("dd", {}, text));
	$("shortcuts").replaceChildren(...[...others, ...single].map(line));
	$("help-button").addEventListener("click", help);
	$("single-keys").checked = stored.get("keys", true);
	$("single-keys").addEventListener("change", () => stored.set("keys", $("single-keys").checked));
	addEventListener("keydown", (e) => {
		if ((e.ctrlKey || e.metaKey) && e.key === "Enter" && !document.querySelector("dialog[open]") && view() === "create") {
			e.preventDefault();
			$("composer").requestSubmit();
			return;
		}
		if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented || typing(e) || !$("single-keys").checked) return;
		const dialog = document.querySelector("dialog[open]");
		if (dialog && dialog.id !== "viewer") return;
		if (e.target.matches?.("input[type=range], input[type=radio]") && e.key.startsWith("Arrow")) return;
		const found = single.find(([key, , , code]) => (code ?? key).toLowerCase() === e.key.toLowerCase());
		if (!found || (dialog && !actions.some((a) => a.key === e.key.toLowerCase()))) return;
		e.preventDefault();
		found[2]();
	});
}
