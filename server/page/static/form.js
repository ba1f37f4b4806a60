// The settings: basic ones as pickers and numbers, all others from the server's table. What is not given is left to the server.
import { $, el, later, notice, stored } from "./dom.js";
import { all, show } from "./api.js";
import { field, normal, slider } from "./fields.js";
import { loras } from "./loras.js";

let rows = [];
let models = [], broken = []; // broken ones cannot be opened
const fields = new Map(); // name → field
let signature = "";
let noNegative = false; // the settings say that there is none, though the model has one of its own
let source = null; // { init, mask, url, text } of the picture to start from
const listeners = [];

// onChange is called after each change, by the user or by apply.
export function onChange(f) { listeners.push(f); }

const changed = () => {
	keep();
	countAdvanced();
	tellShape();
	for (const f of listeners) f();
};

// touched is called when the prompt is typed in.
export function touched(e) {
	if (e.target.id === "negative") noNegative = false;
	keep();
}
const keep = later(200, () => stored.set("draft", request({ forStorage: true })));

// The settings with a place of their own; all others are under "All other settings".
const basic = ["model", "lora", "width", "height", "steps", "cfg", "scheduler", "seed", "count"];
const own = new Set([...basic, "prompt", "negative", "init", "mask", "strength", "resize", "mask_blur", "invert_mask"]);

export const settingRows = () => rows;
export const modelNames = () => models.map((m) => m.name);
export const model = () => models.find((m) => m.name === fields.get("model")?.get()) ?? models.find((m) => m.default) ?? models[0];

// open asks the server what there is and makes the form. It may be called again, after the server has come back.
export async function open() {
	const draft = fields.size ? request() : stored.get("draft", {});
	const [table, modelList, loraList, schedulers, vaes, embeddings] = await Promise.all(
		["/v1/settings", "/v1/models", "/v1/loras", "/v1/schedulers", "/v1/vaes", "/v1/embeddings"].map(all));
	const now = JSON.stringify([table, modelList, loraList, schedulers, vaes, embeddings]);
	if (now === signature) return; // as before: nobody is disturbed
	signature = now;
	const names = { vae: vaes, embedding: embeddings, refiner: modelList };
	rows = table.map(normal).map((r) => (names[r.name]?.length ? { ...r, open: true, choices: names[r.name].map(nameOf) } : r));
	const named = modelList.map((m) => ({ ...m, name: m.name ?? m.id }));
	models = named.filter((m) => !m.problem);
	broken = named.filter((m) => m.problem);
	fields.clear();
	makeBasic(loraList.map(nameOf), schedulers);
	makeAdvanced();
	makeSource();
	apply(draft, { quiet: true });
}

const nameOf = (x) => x.name ?? x.id ?? x;

function row(name, otherwise) {
	return rows.find((r) => r.name === name) ?? { name, kind: "text", help: "", ...otherwise };
}

function makeBasic(loraNames, schedulers) {
	const put = (f) => {
		fields.set(f.name, f);
		return el("div", { class: `field f-${f.name}`, "data-name": f.name }, ...f.nodes.filter(Boolean));
	};
	const m = field({ ...row("model"), open: false, choices: models.map((x) => x.name) }, () => {
		modelChanged();
		changed();
	});
	m.control.options[0].remove(); // the default model is in the list itself
	m.control.append(...broken.map((x) => el("option", { value: x.name, disabled: true, title: x.problem }, `${x.name}: ${x.problem}`)));
	const ask = m.get;
	m.get = () => (models.find((x) => x.name === ask())?.default ? undefined : ask());
	const set = m.set;
	m.set = (v) => {
		set(v ?? models.find((x) => x.default)?.name ?? models[0]?.name);
		modelChanged();
	};
	const s = field({ ...row("scheduler"), open: false, choices: schedulers.map((x) => x.name) }, changed);
	const about = el("p", { class: "help", id: `${s.control.id}-about` });
	s.control.setAttribute("aria-describedby", about.id);
	s.nodes.push(about);
	const tellScheduler = () => {
		const name = s.control.value || model()?.scheduler;
		about.textContent = schedulers.find((x) => x.name === name)?.text ?? "";
	};
	s.control.addEventListener("change", tellScheduler);
	const setScheduler = s.set;
	s.set = (v) => {
		setScheduler(v);
		tellScheduler();
	};
	s.tell = tellScheduler;
	const seed = field(row("seed", { kind: "seed" }), changed);
	seed.placeholder("random");
	$("basic").replaceChildren(put(m), put(loras(loraNames, changed)),
		el("div", { class: "field f-shape" }, ...shape().nodes),
		el("div", { class: "pair-of" }, put(field(row("width", { kind: "whole" }), changed)), put(field(row("height", { kind: "whole" }), changed))),
		el("div", { class: "pair-of" }, put(field(row("steps", { kind: "whole" }), changed)), put(field(row("cfg", { kind: "number" }), changed))),
		put(s),
		el("div", { class: "pair-of" }, put(seed), put(field({ name: "count", kind: "whole", min: 1, max: 64, default: "1", help: "" }, changed))));
}

// shape offers proportions of the model's own area, rounded to what its networks like.
const shapes = [["Square", 1, 1], ["Portrait 2:3", 2, 3], ["Landscape 3:2", 3, 2], ["Tall 9:16", 9, 16], ["Wide 16:9", 16, 9]];

function tellShape() {
	const { width, height } = size();
	const near = shapes.findIndex(([, x, y]) => Math.abs(Math.log((width / height) / (x / y))) < 0.06);
	$("shape").value = near < 0 ? "own" : near;
}

function shape() {
	const select = el("select", { id: "shape", onchange: () => {
		const chosen = shapes[select.value];
		if (!chosen) return;
		const [, x, y] = chosen;
		const { width = 512, height = 512, factor = 8 } = model() ?? {};
		const side = Math.sqrt(width * height);
		const unit = factor * Math.max(1, Math.round(Math.min(64, side / 16) / factor)); // 64 for large pictures, as everywhere
		const round = (v) => Math.max(unit, Math.round(v / unit) * unit);
		const own = x === y && width === height;
		fields.get("width").set(own ? "" : round(side * Math.sqrt(x / y)));
		fields.get("height").set(own ? "" : round(side * Math.sqrt(y / x)));
		changed();
	} }, ...shapes.map(([name], i) => el("option", { value: i }, name)), el("option", { value: "own" }, "Custom"));
	return { nodes: [el("label", { for: "shape" }, "Shape"), select] };
}

// size is the size that a picture will have.
export function size() {
	const m = model();
	return { width: fields.get("width")?.get() ?? m?.width ?? 512, height: fields.get("height")?.get() ?? m?.height ?? 512 };
}

// sizeOf is the size that settings give: their own, or their model's.
export function sizeOf(settings) {
	const m = models.find((x) => x.name === settings.model) ?? models.find((x) => x.default);
	return { width: settings.width || m?.width || 512, height: settings.height || m?.height || 512 };
}

function modelChanged() {
	const m = model();
	if (!m) return;
	for (const name of ["width", "height", "steps", "cfg", "scheduler"]) {
		if (m[name] !== undefined && m[name] !== "") fields.get(name)?.placeholder(String(m[name]));
	}
	$("negative").placeholder = m.negative || "What it should not show";
	fields.get("scheduler")?.tell();
}

function makeAdvanced() {
	const groups = new Map();
	for (const r of rows) {
		if (own.has(r.name)) continue;
		const f = field(r, changed, { help: true });
		fields.set(f.name, f);
		if (!groups.has(r.group)) groups.set(r.group, []);
		groups.get(r.group).push(el("div", { class: "field", "data-name": r.name }, ...f.nodes.filter(Boolean)));
	}
	const order = ["Prompt", "Picture", "Sampling", "Model", "Editing"]; // then what else there is
	const place = (name) => (order.indexOf(name) + 1 || order.length + 1);
	$("advanced-fields").replaceChildren(...[...groups].sort((a, b) => place(a[0]) - place(b[0])).map(([name, list]) => el("fieldset", {}, el("legend", {}, name), ...list)));
}

function countAdvanced() {
	const n = [...fields.values()].filter((f) => !own.has(f.name) && f.get() !== undefined).length;
	$("advanced-count").textContent = n ? `${n} changed` : "";
}

function makeSource() {
	const percent = (v) => `${Math.round(v * 100)} %`;
	const made = [
		slider(row("strength", { kind: "number" }), changed, { low: 0.05, high: 1, step: 0.05, otherwise: 0.8, format: percent }),
		field(row("resize", { choices: ["fill", "fit", "stretch"] }), changed),
		field(row("mask_blur", { kind: "whole" }), changed),
		field(row("invert_mask", { kind: "switch" }), changed),
	];
	for (const f of made) fields.set(f.name, f);
	$("source-fields").replaceChildren(...made.map((f) =>
		el("div", { class: "field", "data-name": f.name, "data-mask": String(/mask/.test(f.name)) }, ...f.nodes.filter(Boolean))));
}

// startFrom sets the picture to start from, or none: { init: "upload:…" or "picture:…", mask, url, text, width, height }.
export function startFrom(s) {
	source = s;
	$("source").hidden = !s;
	if (s) {
		show($("source-picture"), s.maskedURL ?? s.url);
		$("source-text").textContent = s.text + (s.mask ? ", where the mask is" : "");
		$("source-mask").textContent = s.mask ? "Change the mask…" : "Paint a mask…";
		fields.get("strength").placeholder(s.mask ? 1 : 0.8);
		for (const e of $("source-fields").children) e.hidden = e.dataset.mask === "true" && !s.mask;
	}
	changed();
}

export const startsFrom = () => source;

// request is what the form says, by the names of the API.
export function request({ forStorage = false } = {}) {
	const r = {};
	const prompt = $("prompt").value, negative = $("negative").value;
	if (prompt || !forStorage) r.prompt = prompt;
	if (negative.trim() || noNegative) r.negative = negative.trim() ? negative : "";
	for (const f of fields.values()) {
		const sourced = ["strength", "resize", "mask_blur", "invert_mask"].includes(f.name);
		const v = sourced && !source ? undefined : f.get();
		if (v !== undefined) r[f.name] = v;
	}
	if (source && (!forStorage || source.init.startsWith("picture:"))) {
		r.init = source.init;
		if (source.mask && !forStorage) r.mask = source.mask;
	}
	return r;
}

// apply puts settings into the form: all of them anew. What the form has no place for is told.
export function apply(settings, { quiet = false } = {}) {
	const s = { ...settings };
	$("prompt").value = s.prompt ?? "";
	$("negative").value = s.negative ?? "";
	$("negative-row").hidden = !s.negative && $("negative-button").getAttribute("aria-expanded") !== "true";
	$("negative-button").setAttribute("aria-expanded", String(!$("negative-row").hidden));
	const known = models.some((m) => m.name === s.model || m.id === s.model);
	const missing = [];
	if (s.model && !known) {
		missing.push(`The model ${s.model} is not here: ${model()?.name ?? "another"} is chosen.`);
		delete s.model;
	}
	fields.get("model")?.set(s.model);
	noNegative = s.negative === "" && Boolean(model()?.negative);
	for (const f of fields.values()) if (f.name !== "model") f.set(s[f.name]);
	const init = String(s.init ?? "");
	if (init.startsWith("picture:")) {
		const id = init.slice("picture:".length);
		startFrom({ init, url: `/v1/pictures/${encodeURIComponent(id)}/thumbnail`, text: "A picture of the gallery" });
	} else if (init && init === source?.init) {
		startFrom(source);
	} else {
		startFrom(null);
		if (init) missing.push("It started from another picture: open that one to start from it.");
	}
	if (missing.length && !quiet) notice("Some settings could not be taken over.", { hint: missing.join(" ") });
	changed();
	$("prompt").dispatchEvent(new Event("input", { bubbles: true }));
}

// complain marks the field that the server did not like, and says whether there is one.
export function complain(problem) {
	clearComplaints();
	const name = problem.param?.split(".").pop();
	const control = name === "prompt" ? $("prompt") : name === "negative" ? $("negative") : fields.get(name)?.control;
	if (!control) return false;
	const id = "complaint";
	control.setAttribute("aria-invalid", "true");
	control.setAttribute("aria-errormessage", id);
	const place = control.closest(".field") ?? $("composer");
	place.append(el("p", { id, class: "error", role: "alert" }, problem.message));
	if ($("advanced").contains(control)) $("advanced").open = true;
	control.focus();
	return true;
}

export function clearComplaints() {
	$("complaint")?.remove();
	for (const e of document.querySelectorAll("[aria-invalid]")) {
		e.removeAttribute("aria-invalid");
		e.removeAttribute("aria-errormessage");
	}
}

// check asks the browser whether all controls hold what they may hold. It points at the first that does not.
export function check() {
	const wrong = $("settings").querySelector(":invalid:not(fieldset)");
	if (!wrong) return true;
	if ($("advanced").contains(wrong)) $("advanced").open = true;
	wrong.reportValidity();
	return false;
}
