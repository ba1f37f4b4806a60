// How many tokens the prompt is, and what does not fit, told while one types.
import { $, el, later, say } from "./dom.js";
import { post } from "./api.js";
import * as form from "./form.js";

// spans cuts a text where tokens of another state begin: [{ text, state }], state "", "more" (beyond the first window, read in
// a further one) or "cut" (left out). pieces are the tokens that are read, with offsets in bytes of UTF-8, -1 where one is not
// found in the text.
export function spans(text, { pieces = [], cut = "" }) {
	const at = cut ? Math.max(0, ...pieces.map((p) => p.end)) : pieces.find((p) => p.chunk > 0 && p.start >= 0)?.start;
	if (at === undefined) return [{ text, state: "" }];
	const unit = fromBytes(text, at);
	return [{ text: text.slice(0, unit), state: "" }, { text: text.slice(unit), state: cut ? "cut" : "more" }];
}

// fromBytes is the index of a string's unit at a byte of its UTF-8.
export function fromBytes(text, offset) {
	let bytes = 0, units = 0;
	for (const c of text) {
		if (bytes >= offset) break;
		const p = c.codePointAt(0);
		bytes += p < 0x80 ? 1 : p < 0x800 ? 2 : p < 0x10000 ? 3 : 4;
		units += c.length;
	}
	return units;
}

// words says it: { count, note, over }.
export function words({ tokens = 0, limit = 75, chunks = 1, cut = "", warnings = [] }) {
	const left = tokens > limit;
	if (left && cut) return { count: `${tokens} of ${limit} tokens`, note: `Does not fit: the last ${tokens - limit} tokens are left out.`, over: true };
	const count = left ? `${tokens} tokens` : `${tokens} of ${limit} tokens`;
	const note = chunks > 1 ? `${left ? `Longer than one window of ${limit}: read` : "Read"} in ${chunks} parts.` : "";
	return { count, note: [note, ...warnings].filter(Boolean).join(" "), over: false };
}

function mirror(id, text, parts) {
	$(`${id}-mirror`).replaceChildren(...parts.map((p) => (p.state ? el("mark", { class: p.state }, p.text) : p.text)), "\u200b");
}

const calls = {};
let told = ""; // what screen readers were told last: not each count, but that the prompt has grown too long

async function count(id) {
	const text = $(id).value;
	calls[id]?.abort();
	const call = calls[id] = new AbortController();
	if (!text.trim() && id === "negative") {
		$("negative-count").textContent = "";
		return;
	}
	const { model, prompt_syntax } = form.request();
	const ask = { model: model ?? form.model()?.name ?? "", prompt: text };
	if (prompt_syntax) ask.prompt_syntax = prompt_syntax;
	let answer;
	try {
		answer = await post("/v1/tokenize", ask, { signal: call.signal });
	} catch (err) {
		if (err.name !== "AbortError" && err.status !== 0) $(`${id}-count`).textContent = err.message;
		return;
	}
	if ($(id).value !== text) return;
	const { count: n, note, over } = words(answer);
	mirror(id, text, spans(text, answer));
	if (id === "negative") {
		$("negative-count").textContent = `without: ${n}`;
		$("negative-count").title = note;
		return;
	}
	$("prompt-count").textContent = n;
	$("prompt-note").textContent = note;
	$("prompt-note").classList.toggle("warn", over);
	const state = over ? "cut" : answer.tokens > answer.limit ? "more" : "";
	if (state !== told && state) say(note);
	told = state;
	const bar = $("prompt-meter");
	bar.firstElementChild.style.inlineSize = `${Math.min(100, (100 * answer.tokens) / (answer.limit || 75))}%`;
	bar.dataset.state = state;
	$("tokens").replaceChildren(...(answer.pieces ?? []).map((p) => el("span", { class: "piece" }, p.text)), ...(answer.cut ? [el("span", { class: "piece cut" }, answer.cut)] : []));
}

// setup counts while one types, and when the model or the syntax changes.
export function setup() {
	for (const id of ["prompt", "negative"]) {
		const soon = later(120, () => count(id));
		$(id).addEventListener("input", () => {
			mirror(id, $(id).value, [{ text: $(id).value, state: "" }]); // the height follows at once
			soon();
		});
	}
	let before = "";
	form.onChange(() => {
		const { model, prompt_syntax } = form.request();
		const now = `${model} ${prompt_syntax}`;
		if (now === before) return;
		before = now;
		count("prompt");
		count("negative");
	});
	const button = $("tokens-button");
	button.addEventListener("click", () => {
		$("tokens").hidden = !$("tokens").hidden;
		button.setAttribute("aria-expanded", String(!$("tokens").hidden));
	});
}
