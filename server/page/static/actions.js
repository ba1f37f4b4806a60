// What can be done with a picture. Toolbars, keys and their help are made from this list.
import { $, el, fail, say } from "./dom.js";
import { bytes } from "./api.js";
import * as compare from "./compare.js";
import * as form from "./form.js";
import * as mask from "./mask.js";
import * as picture from "./picture.js";
import { basisOf, settingsOf } from "./requests.js";
import * as stage from "./stage.js";
import * as upscale from "./upscale.js";
import { go } from "./views.js";

function again(p) {
	const { seed, ...rest } = settingsOf(p);
	return stage.make(rest);
}

// vary stays near the picture: with the same noise turned a little where the server can, else by starting from the picture.
function vary(p) {
	const settings = settingsOf(p);
	const count = form.request().count;
	const more = count > 1 ? { count } : {};
	if (form.settingRows().some((r) => r.name === "variation")) {
		const seed = crypto.getRandomValues(new Uint32Array(1))[0];
		return stage.make({ ...settings, ...more, variation: [settings.variation, `${seed}:0.3`].filter(Boolean).join(",") });
	}
	return stage.make({ ...basisOf(p), ...more, init: `picture:${p.id}`, strength: 0.6, width: p.width, height: p.height });
}

function start(p) {
	form.startFrom({ init: `picture:${p.id}`, url: p.thumbnail, full: p.url, text: p.prompt || "A picture of the gallery", width: p.width, height: p.height });
	go("create");
	$("prompt").focus();
	say("The next picture starts from this one");
}

function use(p) {
	form.apply(settingsOf(p));
	go("create");
	$("prompt").focus();
	say("The settings are in the form");
}

async function save(p) {
	try {
		const blob = await bytes(p.url);
		const end = { "image/jpeg": "jpg", "image/webp": "webp" }[blob.type] ?? "png";
		const a = el("a", { href: URL.createObjectURL(blob), download: `${slug(p.prompt)}-${p.seed ?? p.id}.${end}` });
		a.click();
		setTimeout(() => URL.revokeObjectURL(a.href), 60_000);
	} catch (err) {
		fail(err);
	}
}

const slug = (text) => (text || "picture").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 40) || "picture";

// The actions. file: they need the picture's file to be there still.
export const actions = [
	{ name: "again", text: "Again", key: "a", title: "The same settings with another seed", run: again },
	{ name: "vary", text: "Vary", key: "v", title: "Near this picture, and another", run: vary, file: true },
	{ name: "upscale", text: "Upscale", key: "u", title: "Larger", run: (p) => upscale.open({ ...p, id: `picture:${p.id}` }), file: true },
	{ name: "inpaint", text: "Inpaint", key: "i", title: "Paint a part of it anew", file: true,
		run: (p) => mask.open({ init: `picture:${p.id}`, url: p.url, thumbnail: p.thumbnail, width: p.width, height: p.height, prompt: p.prompt, settings: basisOf(p) }) },
	{ name: "start", text: "Start from", key: "f", title: "Start the next picture from this one", run: start, file: true },
	{ name: "compare", text: "Compare", key: "c", title: "Choose it as A, then another as B", run: (p) => compare.choose(p), file: true },
	{ name: "use", text: "Use settings", key: "e", title: "Put its settings, and its seed, into the form", run: use },
	{ name: "recipe", text: "Recipe", key: "r", title: "All that it was made from", run: (p) => picture.open(p, stage.latest()), stage: true },
	{ name: "save", text: "Save", key: "s", title: "Save the file", run: save, file: true },
];
