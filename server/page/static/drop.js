// Opening a picture of any program: by dropping it, pasting it, or with the file dialog.
import { $, el, fail, notice, say, wire } from "./dom.js";
import { postBytes } from "./api.js";
import * as form from "./form.js";
import * as mask from "./mask.js";
import * as picture from "./picture.js";
import * as upscale from "./upscale.js";
import { go } from "./views.js";

let opened = null; // { blob, local, settings, file: promise of what the server calls it }

// open reads a picture's settings and offers what can be done with it.
export async function open(blob) {
	if (!blob) return;
	if (blob.type && !blob.type.startsWith("image/")) {
		notice("This is not a picture.", { kind: "error", hint: `${blob.name ?? "The file"} is ${blob.type}. PNG, JPEG, WebP, TIFF, BMP and GIF can be opened.` });
		return;
	}
	if (opened) URL.revokeObjectURL(opened.local);
	const mine = opened = { blob, local: URL.createObjectURL(blob), settings: null, file: null };
	$("dropped-picture").src = mine.local;
	$("dropped-size").textContent = "";
	$("dropped-status").textContent = "Its settings are being read…";
	$("dropped-warnings").replaceChildren();
	$("dropped-recipe").replaceChildren();
	$("dropped-raw").hidden = true;
	$("dropped-use").disabled = true;
	if (!$("dropped").open) $("dropped").showModal();
	try {
		const answer = await postBytes("/v1/inspect", blob);
		if (mine !== opened) return;
		const found = Object.keys(answer.settings ?? {}).length > 0;
		mine.settings = found ? answer.settings : null;
		if (answer.width && $("dropped-picture").hidden) $("dropped-size").textContent = `${answer.width} × ${answer.height}. The browser cannot show this kind of file.`;
		$("dropped-use").disabled = !found;
		$("dropped-status").textContent = found ? `Made by ${answer.program || "an unknown program"}.` : "No settings are written in this picture. It can be started from.";
		$("dropped-warnings").replaceChildren(...(answer.warnings ?? []).map((w) => el("li", {}, w)));
		if (found) picture.recipe($("dropped-recipe"), answer.settings);
		$("dropped-raw").hidden = !answer.parameters;
		$("dropped-raw").querySelector("pre").textContent = answer.parameters ?? "";
		(found ? $("dropped-use") : $("dropped-start")).focus();
	} catch (err) {
		if (mine === opened) $("dropped-status").textContent = `${err.message} ${err.hint ?? ""}`;
	}
}

// file sends the opened picture to the server, once.
function file(o) {
	o.file ??= postBytes("/v1/files", o.blob);
	o.file.catch(() => { o.file = null; });
	return o.file;
}

async function withFile(f) {
	const o = opened;
	try {
		const { id, width, height } = await file(o);
		$("dropped").close();
		f({ init: `upload:${id}`, url: o.local, local: o.local, text: o.blob.name || "The opened picture", width, height, prompt: o.settings?.prompt });
	} catch (err) {
		fail(err);
	}
}

export function setup() {
	wire($("dropped"));
	$("dropped-picture").addEventListener("load", () => {
		const { naturalWidth: w, naturalHeight: h } = $("dropped-picture");
		$("dropped-size").textContent = `${w} × ${h}`;
		$("dropped-picture").hidden = false;
	});
	$("dropped-picture").addEventListener("error", () => {
		$("dropped-picture").hidden = true;
		$("dropped-size").textContent = "The browser cannot show this file. The server may be able to read it.";
	});
	$("dropped-use").addEventListener("click", () => {
		const known = new Set(form.settingRows().map((r) => r.name));
		const all = Object.entries(opened.settings).map(([k, v]) => [k.replaceAll("-", "_"), v]);
		form.apply(Object.fromEntries(all.filter(([k]) => known.has(k))));
		$("dropped").close();
		go("create");
		$("prompt").focus();
		say("The settings are in the form");
	});
	$("dropped-start").addEventListener("click", () => withFile((s) => {
		if (s.prompt && !$("prompt").value) {
			$("prompt").value = s.prompt;
			$("prompt").dispatchEvent(new Event("input", { bubbles: true }));
		}
		form.startFrom(s);
		go("create");
		$("prompt").focus();
		say("The next picture starts from this one");
	}));
	$("dropped-paint").addEventListener("click", () => withFile((s) => mask.open(s)));
	$("dropped-upscale").addEventListener("click", () => withFile((s) => upscale.open({ ...s, id: s.init, blob: opened.blob })));
	$("open-button").addEventListener("click", () => $("open-file").click());
	$("open-file").addEventListener("change", () => {
		open($("open-file").files[0]);
		$("open-file").value = "";
	});

	let depth = 0; // dragenter and dragleave come for every element below the pointer
	const files = (e) => e.dataTransfer?.types.includes("Files");
	const hide = () => {
		depth = 0;
		$("drop").hidden = true;
	};
	addEventListener("dragenter", (e) => {
		if (!files(e)) return;
		depth++;
		$("drop").hidden = false;
	});
	addEventListener("dragleave", (e) => { if (files(e) && --depth <= 0) hide(); });
	addEventListener("dragover", (e) => { if (files(e)) e.preventDefault(); });
	addEventListener("drop", (e) => {
		if (!files(e)) return;
		e.preventDefault();
		hide();
		const all = e.dataTransfer.files;
		if (document.querySelector("dialog[open]:not(#dropped)")) return;
		if (all.length > 1) notice("One picture at a time is opened: this is the first.");
		open(all[0]);
	});
	addEventListener("paste", (e) => {
		const f = [...(e.clipboardData?.files ?? [])].find((x) => x.type.startsWith("image/"));
		if (!f || document.querySelector("dialog[open]:not(#dropped)")) return;
		e.preventDefault();
		open(f);
	});
	$("source-clear").addEventListener("click", () => {
		form.startFrom(null);
		$("prompt").focus();
	});
	$("source-mask").addEventListener("click", () => {
		const s = form.startsFrom();
		mask.open({ ...s, url: s.full ?? s.url.replace(/\/thumbnail$/, "/file"), prompt: $("prompt").value });
	});
}
