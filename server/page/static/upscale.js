// Enlarging a picture: by an upscaler's network, or by drawing it again, larger, from itself.
import { $, el, fail, say, wire } from "./dom.js";
import { all, post } from "./api.js";
import * as form from "./form.js";
import * as queue from "./queue.js";
import { basisOf } from "./requests.js";
import * as stage from "./stage.js";
import { go } from "./views.js";

let subject = null; // { id: "picture:…" or "upload:…", width, height, prompt, settings }

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
		await stage.make({ ...basisOf({ settings }), init: s.id, strength: Number($("redraw-strength").value), width: size(s.width), height: size(s.height) });
		return;
	}
	await network(s, chosen().slice("net:".length));
}

// network enlarges with an upscaler. The large picture is in the gallery, like others.
async function network(s, name) {
	go("create");
	stage.wait(`${name} enlarges the picture…`);
	try {
		const large = await post("/v1/upscale", { picture: s.id, upscaler: name });
		queue.made(large);
		stage.showPicture(large, { pin: true });
		say("The picture is enlarged");
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
