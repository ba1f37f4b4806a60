// A picture: the toolbar of what can be done with it, its recipe, and the view of it alone.
import { $, el, fail, notice, roving, say, wire } from "./dom.js";
import { del, get, show } from "./api.js";
import { labelOf } from "./fields.js";
import * as form from "./form.js";
import { settingsOf } from "./requests.js";

let actions = []; // what can be done with a picture: actions.js has them

// can says whether an action can be done with a picture.
export const can = (action, p) => !(p.missing && action.file);

// toolbar fills an element with the actions on what picture() tells, and answers what brings it up to date.
export function toolbar(bar, picture, { viewer = false, before = () => {} } = {}) {
	for (const a of actions) {
		if (a.stage && viewer) continue;
		bar.append(el("button", { type: "button", class: "quiet", "data-action": a.name, title: `${a.title} (${a.key.toUpperCase()})`, onclick: () => {
			const p = picture();
			if (!p) return;
			if (a.name !== "save") before();
			a.run(p);
		} }, a.text));
	}
	const update = roving(bar, "button:not([disabled])");
	return () => {
		const p = picture();
		for (const b of bar.children) b.disabled = !p || !can(actions.find((a) => a.name === b.dataset.action), p);
		update();
	};
}

// recipe lists settings, in the order of the server's table.
export function recipe(dl, settings, more = {}) {
	const order = form.settingRows().map((r) => r.name);
	const place = (name) => (order.indexOf(name) + 1 || order.length + 1);
	const entries = Object.entries(settings ?? {}).filter(([, v]) => v !== null && v !== "" && v !== undefined)
		.map(([k, v]) => [k.replaceAll("-", "_"), v]).sort((a, b) => place(a[0]) - place(b[0]));
	const text = (v) => (typeof v === "object" ? JSON.stringify(v) : v === true ? "yes" : v === false ? "no" : String(v));
	dl.replaceChildren(...[...entries.map(([k, v]) => [labelOf(k), text(v)]), ...Object.entries(more).filter(([, v]) => v)]
		.map(([k, v]) => el("div", { class: v.length > 28 ? "long" : null }, el("dt", {}, k), el("dd", {}, v))));
}

// The view of one picture, with its neighbours of a list.
let shown = null, list = [], update = () => {};

export const viewed = () => ($("viewer").open ? shown : null);

export function open(picture, neighbours = []) {
	list = neighbours.some((p) => p.id === picture.id) ? neighbours : [picture];
	view(picture);
	if (!$("viewer").open) $("viewer").showModal();
}

function view(picture) {
	shown = picture;
	const img = $("viewer-picture");
	img.alt = picture.prompt || "Picture";
	img.width = picture.width;
	img.height = picture.height;
	img.hidden = picture.missing === true;
	if (!picture.missing) show(img, picture.url);
	$("viewer-prompt").textContent = picture.prompt || "Without a prompt";
	tellRecipe(picture);
	whole(picture);
	$("viewer-delete").hidden = !picture.own || picture.missing === true;
	$("viewer-delete").textContent = "Delete…";
	const at = list.findIndex((p) => p.id === picture.id);
	$("viewer-before").disabled = at <= 0;
	$("viewer-after").disabled = at < 0 || at >= list.length - 1;
	update();
}

function tellRecipe(picture) {
	recipe($("viewer-recipe"), { ...picture.settings, prompt: "" }, { Made: picture.created ? new Date(picture.created).toLocaleString() : "",
		File: picture.missing ? "The file is not there any more." : "", "SHA-256": picture.sha256 ?? "" });
}

// whole asks for the recipe in the file: what a job tells of its pictures is what was asked for, and leaves out what is the model's.
async function whole(picture) {
	try {
		const p = await get(`/v1/pictures/${encodeURIComponent(picture.id)}`);
		picture.settings = p.settings;
		if (shown === picture) tellRecipe(picture);
	} catch (err) {
		if (err.status !== 404 && err.status !== 0) fail(err);
	}
}

export function step(by) {
	const next = list[list.findIndex((p) => p.id === shown?.id) + by];
	if (!next) return;
	view(next);
	say(next.prompt);
}

// copy puts the settings, as a request of the API takes them, onto the clipboard.
async function copy() {
	const text = JSON.stringify(settingsOf(shown), null, 2).replace(/("seed": )"(\d+)"/, "$1$2");
	try {
		await navigator.clipboard.writeText(text);
		notice("The recipe is copied.");
	} catch { // there is no clipboard on plain http from another machine
		notice("The browser does not let this page copy.", { hint: text });
	}
}

// remove deletes the picture's file, when it is pressed twice.
async function remove() {
	const button = $("viewer-delete");
	if (button.textContent === "Delete…") {
		button.textContent = "Delete the file for good";
		return;
	}
	const gone = shown;
	try {
		await del(`/v1/pictures/${encodeURIComponent(gone.id)}`);
		$("viewer").close();
		for (const f of removed) f(gone.id);
		notice("The picture is deleted.");
	} catch (err) {
		fail(err);
	}
}

const removed = [];
// onRemove calls f with the id of each picture that is deleted.
export function onRemove(f) { removed.push(f); }

// setup takes the actions of all toolbars.
export function setup(all) {
	actions = all;
	$("viewer-copy").addEventListener("click", copy);
	$("viewer-delete").addEventListener("click", remove);
	const dialog = wire($("viewer"));
	update = toolbar($("viewer-actions"), () => shown, { viewer: true, before: () => dialog.close() });
	$("viewer-before").addEventListener("click", () => step(-1));
	$("viewer-after").addEventListener("click", () => step(1));
	$("viewer-picture").addEventListener("error", () => {
		if (shown && !shown.missing) notice("This picture's file could not be read.", { kind: "error", hint: "It may have been moved or deleted. Its settings are still here: Again makes one like it." });
	});
	dialog.addEventListener("keydown", (e) => {
		if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("[role=toolbar]")) return;
		if (e.key === "ArrowLeft") step(-1);
		if (e.key === "ArrowRight") step(1);
	});
}
