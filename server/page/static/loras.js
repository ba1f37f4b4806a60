// The list of adapters: a name and a weight each, written NAME:WEIGHT,NAME:WEIGHT as the setting lora has it.
import { el, freshID } from "./dom.js";

// read takes the setting's text apart. What is after a second colon (the weight for the text encoder) is kept as it is.
export function read(text) {
	return String(text || "").split(",").map((s) => s.trim()).filter(Boolean).map((use) => {
		const m = /^(.*?)(?::(-?[\d.]+)((?::-?[\d.]+)?))?$/.exec(use);
		return { name: m[1], weight: m[2] ?? "1", rest: m[3] ?? "" };
	});
}

export const write = (uses) => uses.filter((u) => u.name).map((u) => `${u.name}:${u.weight === "" ? 1 : u.weight}${u.rest || ""}`).join(",") || undefined;

// loras makes the control; names are those that the server knows.
export function loras(names, changed) {
	const list = el("div", { class: "loras" });
	const add = el("button", { type: "button", class: "quiet", "aria-label": "Add a LoRA", onclick: () => {
		const select = line({ name: "", weight: "1", rest: "" });
		select.focus();
	} }, "Add");
	const title = el("span", { class: "label", id: freshID("loras") }, "LoRAs");
	const group = el("div", { role: "group", "aria-labelledby": title.id }, el("div", { class: "loras-head" }, title, add), list);

	function line(use) {
		const known = names.includes(use.name) || !use.name ? names : [...names, use.name];
		const select = el("select", { "aria-label": "LoRA", onchange: changed }, el("option", { value: "" }, "Choose…"), ...known.map((n) => el("option", { value: n }, n)));
		select.value = use.name;
		const weight = el("input", { type: "number", step: "0.05", min: "-4", max: "4", value: use.weight, "aria-label": "Weight of the LoRA", oninput: changed });
		const row = el("div", { class: "row lora", "data-rest": use.rest }, select, weight,
			el("button", { type: "button", class: "quiet icon", "aria-label": "Remove the LoRA", onclick: () => {
				row.remove();
				changed();
				add.focus();
			} }, "✕"));
		list.append(row);
		return select;
	}

	return {
		name: "lora", control: add, nodes: [group],
		get: () => write([...list.children].map((r) => ({ name: r.children[0].value, weight: r.children[1].value, rest: r.dataset.rest }))),
		set(text) {
			list.replaceChildren();
			for (const use of read(text)) line(use);
		},
		placeholder() {},
	};
}
