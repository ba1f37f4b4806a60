// A picture, what can be done with it, its recipe, and the view of it alone.
import { $, el, fail, notice, roving, say, wire } from "./dom.js";
import { bytes, del, get, show, submit } from "./api.js";
import { labelOf } from "./fields.js";
import * as compare from "./compare.js";
import * as form from "./form.js";
import * as mask from "./mask.js";
import * as queue from "./queue.js";
import * as stage from "./stage.js";
import * as upscale from "./upscale.js";
import { go } from "./views.js";

// settingsOf are a picture's settings as a request takes them: what the server's table has, without what is only told.
export function settingsOf(picture) {
	const known = new Set(form.settingRows().map((r) => r.name));
	return Object.fromEntries(Object.entries(picture.settings ?? {}).map(([name, v]) => [name.replaceAll("-", "_"), v])
		.filter(([name, v]) => known.has(name) && v !== null));
}

// basisOf are the settings for a picture that starts from this one: what turned or enlarged its noise is done, and another seed
// is drawn.
export function basisOf(picture) {
	const { seed, init, mask, mask_blur, invert_mask, inpaint, padding, outpaint, variation, hires, count, strength, ...rest } = settingsOf(picture);
	return rest;
}

// make puts a request into the queue and shows it.
export async function make(request) {
	try {
		const job = queue.add(await submit({ request }));
		stage.follow(job);
		go("create");
		say("In the queue");
		return job;
	} catch (err) {
		fail(err, err.status === 0 ? { text: "Try again", run: () => make(request) } : undefined);
		return null;
	}
}

function again(picture) {
	const { seed, ...rest } = settingsOf(picture);
	return make(rest);
}

// vary stays near the picture: with the same noise turned a little where the server can, else by starting from the picture.
function vary(picture) {
	const settings = settingsOf(picture);
	const count = form.request().count;
	const more = count > 1 ? { count } : {};
	if (form.settingRows().some((r) => r.name === "variation")) {
		const seed = crypto.getRandomValues(new Uint32Array(1))[0];
		return make({ ...settings, ...more, variation: [settings.variation, `${seed}:0.3`].filter(Boolean).join(",") });
	}
	return make({ ...basisOf(picture), ...more, init: `picture:${picture.id}`, strength: 0.6, width: picture.width, height: picture.height });
}

function start(picture) {
	form.startFrom({ init: `picture:${picture.id}`, url: picture.thumbnail, full: picture.url, text: picture.prompt || "A picture of the gallery", width: picture.width, height: picture.height });
	go("create");
	$("prompt").focus();
	say("The next picture starts from this one");
}

function use(picture) {
	form.apply(settingsOf(picture));
	go("create");
	$("prompt").focus();
	say("The settings are in the form");
}

async function save(picture) {
	try {
		const blob = picture.blob ?? await bytes(picture.url);
		const end = { "image/jpeg": "jpg", "image/webp": "webp" }[blob.type] ?? "png";
		const a = el("a", { href: URL.createObjectURL(blob), download: `${slug(picture.prompt)}-${picture.seed ?? picture.id}.${end}` });
		a.click();
		setTimeout(() => URL.revokeObjectURL(a.href), 60_000);
	} catch (err) {
		fail(err);
	}
}

const slug = (text) => (text || "picture").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 40) || "picture";

// The actions. file: they need the picture's file to be there still; gallery: they need it to be in the gallery.
export const actions = [
	{ name: "again", text: "Again", key: "a", title: "The same settings with another seed", run: again, gallery: true },
	{ name: "vary", text: "Vary", key: "v", title: "Near this picture, and another", run: vary, file: true, gallery: true },
	{ name: "upscale", text: "Upscale", key: "u", title: "Larger", run: (p) => upscale.open({ ...p, id: `picture:${p.id}` }), file: true, gallery: true },
	{ name: "inpaint", text: "Inpaint", key: "i", title: "Paint a part of it anew", file: true, gallery: true,
		run: (p) => mask.open({ init: `picture:${p.id}`, url: p.url, thumbnail: p.thumbnail, width: p.width, height: p.height, prompt: p.prompt, settings: basisOf(p) }) },
	{ name: "start", text: "Start from", key: "f", title: "Start the next picture from this one", run: start, file: true, gallery: true },
	{ name: "compare", text: "Compare", key: "c", title: "Choose it as A, then another as B", run: (p) => compare.choose(p), file: true },
	{ name: "use", text: "Use settings", key: "e", title: "Put its settings, and its seed, into the form", run: use },
	{ name: "recipe", text: "Recipe", key: "r", title: "All that it was made from", run: (p) => open(p, stage.latest()), stage: true },
	{ name: "save", text: "Save", key: "s", title: "Save the file", run: save, file: true },
];

// can says whether an action can be done with a picture.
export const can = (action, p) => !(p.missing && action.file) && !(p.local && action.gallery);

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
	if (!picture.local) whole(picture);
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

export function setup() {
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
