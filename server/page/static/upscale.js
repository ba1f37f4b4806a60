// Enlarging a picture: by an upscaler's network, or by drawing it again, larger, from itself.
import { $, el, fail, say, wire } from "./dom.js";
import { all, bytes, post } from "./api.js";
import * as form from "./form.js";
import * as picture from "./picture.js";
import * as stage from "./stage.js";
import { go } from "./views.js";

let subject = null; // { id: "picture:…" or "upload:…", width, height, prompt, settings, url, blob }

export async function open(s) {
	subject = s;
	let names = [];
	try {
		names = (await all("/v1/upscalers")).map((u) => u.name ?? u);
	} catch (err) {
		fail(err);
		return;
	}
	const way = (value, text, about, checked) => el("label", { class: "way" }, el("input", { type: "radio", name: "way", value, checked }),
		el("span", {}, el("strong", {}, text), el("span", { class: "soft" }, about)));
	$("upscaler-ways").replaceChildren($("upscaler-ways").firstElementChild,
		...names.map((n, i) => way(`net:${n}`, n, "A network that enlarges: quick, adds nothing.", i === 0)),
		way("redraw", "Draw it again, larger", "The model itself, starting from this picture: adds detail, may change things.", names.length === 0));
	$("upscaler-text").textContent = `${s.width} × ${s.height} now.` + (names.length ? "" : " No upscaler is installed: put an ESRGAN file into the folder upscale_models to have one here.");
	tell();
	$("upscaler").showModal();
	$("upscaler-ways").querySelector(":checked").focus();
}

const chosen = () => $("upscaler-ways").querySelector(":checked")?.value ?? "redraw";

function tell() {
	$("redraw-fields").hidden = chosen() !== "redraw";
	$("redraw-strength-text").textContent = `${Math.round($("redraw-strength").value * 100)} %`;
}

async function enlarge() {
	const s = subject;
	$("upscaler").close();
	if (chosen() === "redraw") {
		const scale = Number($("redraw-scale").value);
		const size = (v) => Math.round((v * scale) / 8) * 8;
		const settings = s.settings ?? form.request();
		await picture.make({ ...picture.basisOf({ settings }), init: s.id, strength: Number($("redraw-strength").value), width: size(s.width), height: size(s.height) });
		return;
	}
	await network(s, chosen().slice("net:".length));
}

// network enlarges with an upscaler. The server answers with the large picture: it is not in the gallery.
async function network(s, name) {
	go("create");
	stage.wait(`${name} enlarges the picture…`);
	try {
		const blob = s.blob ?? await bytes(s.url);
		const image = await new Promise((done, failed) => {
			const r = new FileReader();
			r.onload = () => done(r.result.slice(r.result.indexOf(",") + 1));
			r.onerror = () => failed(r.error);
			r.readAsDataURL(blob);
		});
		const answer = await post("/sdapi/v1/extra-single-image", { image, upscaler_1: name, resize_mode: 0 });
		const large = new Blob([Uint8Array.from(atob(answer.image), (c) => c.charCodeAt(0))], { type: "image/png" });
		const url = URL.createObjectURL(large);
		const size = await createImageBitmap(large);
		stage.showPicture({ local: true, blob: large, id: url, url, thumbnail: url, prompt: s.prompt, seed: s.seed ?? "–", width: size.width, height: size.height, settings: s.settings ?? {} }, { pin: true });
		say("The picture is enlarged: save it to keep it");
	} catch (err) {
		stage.waited();
		fail(err);
	}
}

export function setup() {
	wire($("upscaler"));
	$("upscaler-form").addEventListener("change", tell);
	$("upscaler-form").addEventListener("input", tell);
	$("upscaler-form").addEventListener("submit", (e) => {
		e.preventDefault();
		enlarge();
	});
}
