// A control for each kind of setting, made from a row of /v1/settings.
import { el, fail, freshID } from "./dom.js";
import { postBytes } from "./api.js";

// What settings are called here, where their name alone would not do.
const labels = { cfg: "Guidance", vae: "Autoencoder", dtype: "Precision", sde_noise: "Noise of SDE samplers", vae_tiling: "Decode in tiles",
	eta: "Eta", clip_skip: "CLIP layers to skip", guidance: "Kind of guidance", guidance_rescale: "Guidance rescale", lora: "LoRAs",
	count: "Pictures", prompt_syntax: "Syntax of prompts", invert_mask: "Paint what the mask leaves", mask_blur: "Soft edge",
	negative: "Negative prompt", sigmas: "Noise levels", noise: "Random numbers", tile: "Seamless tile", init: "Starts from" };

export function labelOf(name) {
	if (labels[name]) return labels[name];
	const words = name.replaceAll("_", " ");
	return words.charAt(0).toUpperCase() + words.slice(1);
}

// normal is a row as the page wants it: names with _, no backticks of the command line's help.
export function normal(row) {
	return { ...row, name: row.name.replaceAll("-", "_"), kind: kindOf(row.kind), picture: /`FILE`|=IMAGE|mask's file/.test(row.help || ""), help: helpOf(row.help || ""), group: String(row.group ?? "Other") };
}

// The table's help is the command line's: flags have other names here, and commands do not help.
const helpOf = (text) => text.replaceAll("`", "").replace(/[,:]? see darkroom [\w-]+$/, "").replace(/--([a-z][a-z-]*)/g, (_, flag) => labelOf(flag.replaceAll("-", "_")));

function kindOf(kind) {
	const k = String(kind || "text").toLowerCase();
	if (/seed/.test(k)) return "seed";
	if (/whole|^int/.test(k)) return "whole";
	if (/switch|bool|true/.test(k)) return "switch";
	if (/number|float/.test(k)) return "number";
	return "text";
}

// value turns what stands in a control into the setting's value, undefined where nothing is given.
export function value(kind, text) {
	const s = String(text).trim();
	if (kind === "switch") return text === true || s === "true" ? true : undefined;
	if (s === "") return undefined;
	if (kind === "seed") return /^\d+$/.test(s) ? s.replace(/^0+(?=\d)/, "") : undefined;
	if (kind === "whole" || kind === "number") {
		const n = Number(s);
		return Number.isFinite(n) ? n : undefined;
	}
	return String(text);
}

// field makes a control with its label: { name, nodes, control, get, set, placeholder }. changed is called after each change by
// the user. With help the row's line of help stands below.
export function field(row, changed, { help = false, label = labelOf(row.name) } = {}) {
	const id = freshID(row.name);
	const hint = help && row.help ? el("p", { class: "help", id: `${id}-help` }, row.help) : null;
	const common = { id, name: row.name, "aria-describedby": hint ? hint.id : null, oninput: changed, onchange: changed };
	if (row.kind === "switch") {
		const control = el("input", { type: "checkbox", ...common });
		return { name: row.name, control, nodes: [el("label", { class: "check" }, control, ` ${label}`), hint],
			get: () => (control.checked ? true : undefined), set: (v) => { control.checked = v === true || v === "true"; }, placeholder() {} };
	}
	let control, extra = null;
	if (row.choices?.length && !row.open) {
		control = el("select", common, el("option", { value: "" }, `Default${row.default ? `: ${row.default}` : ""}`),
			...row.choices.map((c) => el("option", { value: c }, c)));
	} else {
		const numeric = row.kind === "whole" || row.kind === "number";
		control = el("input", { ...common, type: numeric ? "number" : "text", spellcheck: "false", placeholder: row.default || "",
			inputmode: { whole: "numeric", seed: "numeric", number: "decimal" }[row.kind], pattern: row.kind === "seed" ? "\\d*" : null,
			step: row.kind === "whole" ? "1" : numeric ? "any" : null,
			min: numeric && row.min !== row.max ? row.min : null, max: numeric && row.min !== row.max ? row.max : null });
		if (row.choices?.length) {
			extra = el("datalist", { id: `${id}-list` }, ...row.choices.map((c) => el("option", { value: c })));
			control.setAttribute("list", extra.id);
		}
	}
	const place = row.picture ? el("div", { class: "row" }, control, opener(control, changed, label)) : control;
	return {
		name: row.name, control, nodes: [el("label", { for: id }, label), place, extra, hint],
		get: () => value(row.kind, control.value),
		set(v) {
			const text = v === undefined || v === null ? "" : String(v);
			if (control.tagName === "SELECT" && text && ![...control.options].some((o) => o.value === text)) control.append(el("option", { value: text }, text));
			control.value = text;
		},
		placeholder(text) {
			if (control.tagName === "SELECT") control.options[0].textContent = `Default: ${text}`;
			else control.placeholder = text;
		},
	};
}

// opener is a button that sends a picture to the server, and writes what requests call it where the text's cursor is.
function opener(control, changed, label) {
	const file = el("input", { type: "file", accept: "image/*", hidden: true, onchange: async () => {
		try {
			const { id } = await postBytes("/v1/files", file.files[0]);
			control.setRangeText(`upload:${id}`, control.selectionStart, control.selectionEnd, "end");
			control.focus();
			changed();
		} catch (err) {
			fail(err);
		}
		file.value = "";
	} });
	return el("span", {}, file, el("button", { type: "button", "aria-label": `Open a picture for ${label}`, onclick: () => file.click() }, "Open…"));
}

// slider is a range with its value beside it. format makes the text.
export function slider(row, changed, { low, high, step, otherwise, format = String, label = labelOf(row.name) }) {
	const id = freshID(row.name);
	const control = el("input", { type: "range", id, name: row.name, min: low, max: high, step });
	const output = el("output", { for: id });
	let given = false;
	const tell = () => { output.textContent = format(Number(control.value)); };
	control.addEventListener("input", () => {
		given = true;
		tell();
		changed();
	});
	const f = {
		name: row.name, control, nodes: [el("label", { for: id }, label), el("div", { class: "row" }, control, output)],
		get: () => (given ? Number(control.value) : undefined),
		set(v) {
			given = v !== undefined && v !== null;
			control.value = given ? v : f.otherwise;
			tell();
		},
		placeholder(v) {
			f.otherwise = v;
			if (!given) f.set(undefined);
		},
		otherwise,
	};
	f.set(undefined);
	return f;
}
