// Painting a mask over a picture, with a pointer or with keys.
import { $, fail, ready, say, wire } from "./dom.js";
import { postBytes, show } from "./api.js";
import { Mask } from "./brush.js";
import * as form from "./form.js";
import { basisOf } from "./requests.js";
import * as stage from "./stage.js";
import { go } from "./views.js";

let subject = null; // { init, url, thumbnail, width, height, prompt, settings, local }
let mask = null;
let erase = false;
let at = { x: 0, y: 0 }; // where the brush is, in the picture's pixels
let before = null; // { init, done }: the last mask, to go on with

const size = () => Number($("brush-size").value);

// open shows a picture to paint on. init is what the request will start from, local a picture that the browser has itself.
export async function open(s) {
	subject = s;
	const img = $("painter-picture");
	$("painter-prompt").value = s.prompt ?? $("prompt").value;
	$("painter").showModal();
	if (s.local) img.src = s.local;
	else show(img, s.url);
	try {
		await loaded(img);
	} catch {
		$("painter").close();
		fail(new Error("This picture could not be opened."));
		return;
	}
	const { naturalWidth: w, naturalHeight: h } = img;
	const canvas = $("mask");
	canvas.width = w;
	canvas.height = h;
	const easel = $("easel");
	easel.style.aspectRatio = `${w} / ${h}`;
	easel.style.inlineSize = `min(100cqi, ${(100 * w) / h}cqb)`;
	mask = new Mask(canvas, getComputedStyle(easel).getPropertyValue("--brush").trim());
	if (before?.init === s.init && before.width === w) {
		mask.done = before.done;
		mask.redraw();
	}
	const longest = Math.max(w, h);
	$("brush-size").max = Math.ceil(longest / 2);
	$("brush-size").value = Math.round(longest / 8);
	at = { x: w / 2, y: h / 2 };
	$("painter-masked-row").hidden = !form.settingRows().some((r) => r.name === "inpaint");
	tool(false);
	tell();
	canvas.focus();
}

// loaded waits for what the image was last asked to show.
async function loaded(img) {
	if (!img.src || !img.complete) await new Promise((yes, no) => {
		img.addEventListener("load", yes, { once: true });
		img.addEventListener("error", no, { once: true });
	});
	await ready(img);
}

function tool(eraser) {
	erase = eraser;
	$("tool-brush").setAttribute("aria-pressed", String(!eraser));
	$("tool-eraser").setAttribute("aria-pressed", String(eraser));
	cursor();
}

function cursor() {
	const canvas = $("mask");
	const scale = canvas.clientWidth / canvas.width;
	const d = size() * scale;
	const brush = $("brush");
	brush.style.inlineSize = brush.style.blockSize = `${d}px`;
	brush.style.transform = `translate(${at.x * scale - d / 2}px, ${at.y * scale - d / 2}px)`;
	brush.classList.toggle("erase", erase);
}

function tell() {
	const percent = 100 * mask.share();
	$("mask-status").textContent = percent === 0 ? "Nothing is painted yet." : `${percent < 1 ? "Less than 1" : Math.round(percent)} % is painted.`;
	$("mask-undo").disabled = mask.done.length === 0;
	$("mask-redo").disabled = mask.undone.length === 0;
	for (const [id, format] of [["brush-size", (v) => `${v} px`], ["mask-blur", (v) => `${v} px`], ["painter-strength", (v) => `${Math.round(v * 100)} %`]]) {
		$(`${id}-text`).textContent = format($(id).value);
	}
	cursor();
}

function change(f) {
	f();
	tell();
}

function place(e) {
	const canvas = $("mask");
	const r = canvas.getBoundingClientRect();
	at = { x: ((e.clientX - r.left) * canvas.width) / r.width, y: ((e.clientY - r.top) * canvas.height) / r.height };
}

function pointers(canvas) {
	canvas.addEventListener("pointerdown", (e) => {
		if (e.button !== 0 || !mask) return;
		canvas.setPointerCapture(e.pointerId);
		place(e);
		mask.begin(at.x, at.y, size(), erase);
		cursor();
	});
	canvas.addEventListener("pointermove", (e) => {
		if (!mask) return;
		for (const each of e.getCoalescedEvents?.().length ? e.getCoalescedEvents() : [e]) {
			place(each);
			mask.to(at.x, at.y);
		}
		cursor();
	});
	for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { if (mask?.open) change(() => mask.end()); });
}

function keys(canvas) {
	canvas.addEventListener("keydown", (e) => {
		if (e.ctrlKey || e.metaKey || e.altKey) return;
		const far = e.shiftKey ? size() : Math.max(1, size() / 4);
		const move = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[e.key];
		if (move) {
			at.x = Math.min(canvas.width, Math.max(0, at.x + move[0]));
			at.y = Math.min(canvas.height, Math.max(0, at.y + move[1]));
			mask.to(at.x, at.y);
			cursor();
		} else if (e.key === " ") {
			if (!e.repeat && !mask.open) mask.begin(at.x, at.y, size(), erase);
		} else if (e.key === "Enter") { // the same for those who cannot hold a key
			if (mask.open) change(() => mask.end());
			else mask.begin(at.x, at.y, size(), erase);
			say(mask.open ? "The brush is down" : "The brush is up");
		} else return;
		e.preventDefault();
	});
	canvas.addEventListener("keyup", (e) => { if (e.key === " " && mask?.open) change(() => mask.end()); });
	canvas.addEventListener("blur", () => { if (mask?.open) change(() => mask.end()); });
	$("painter").addEventListener("keydown", (e) => {
		const typing = e.target.tagName === "TEXTAREA";
		const control = e.ctrlKey || e.metaKey;
		const key = e.key.toLowerCase();
		if (control && key === "z" && !typing) change(() => (e.shiftKey ? mask.redo() : mask.undo()));
		else if (control && key === "y" && !typing) change(() => mask.redo());
		else if (control && key === "enter") $("painter-form").requestSubmit();
		else if (typing || control || e.altKey) return;
		else if (key === "b") tool(false);
		else if (key === "e") tool(true);
		else if (key === "[" || key === "]") {
			$("brush-size").value = Math.round(size() * (key === "]" ? 1.2 : 1 / 1.2)) + (key === "]" ? 1 : 0);
			tell();
		} else return;
		e.preventDefault();
	});
}

// upload sends the mask, and answers what a request calls it: null where nothing is painted.
async function upload() {
	if (mask.share() === 0) {
		$("mask-status").textContent = "Nothing is painted yet: drag over what should change.";
		$("mask").focus();
		return null;
	}
	const { id } = await postBytes("/v1/files", await mask.file());
	return `upload:${id}`;
}

async function paint() {
	try {
		const file = await upload();
		if (!file) return;
		const request = { ...basisOf({ settings: subject.settings ?? form.request() }), prompt: $("painter-prompt").value, init: subject.init, mask: file, mask_blur: Number($("mask-blur").value),
			strength: Number($("painter-strength").value) };
		if ($("painter-masked").checked && !$("painter-masked-row").hidden) request.inpaint = "masked";
		$("painter").close();
		await stage.make(request);
	} catch (err) {
		fail(err);
	}
}

async function keep() {
	try {
		const file = await upload();
		if (!file) return;
		if (!$("prompt").value || subject.prompt !== $("painter-prompt").value) $("prompt").value = $("painter-prompt").value;
		const canvas = $("mask");
		const small = document.createElement("canvas");
		const scale = Math.min(1, 256 / Math.max(canvas.width, canvas.height));
		small.width = Math.max(1, canvas.width * scale);
		small.height = Math.max(1, canvas.height * scale);
		const c = small.getContext("2d");
		c.drawImage($("painter-picture"), 0, 0, small.width, small.height);
		c.globalAlpha = 0.6;
		c.drawImage(canvas, 0, 0, small.width, small.height);
		form.startFrom({ ...subject, mask: file, maskedURL: small.toDataURL("image/jpeg", 0.8), text: subject.text ?? "A picture" });
		$("prompt").dispatchEvent(new Event("input", { bubbles: true }));
		$("painter").close();
		go("create");
	} catch (err) {
		fail(err);
	}
}

export function setup() {
	wire($("painter"), () => {
		mask?.end();
		if (mask?.done.length) before = { init: subject.init, width: $("mask").width, done: mask.done };
	});
	pointers($("mask"));
	keys($("mask"));
	$("tool-brush").addEventListener("click", () => tool(false));
	$("tool-eraser").addEventListener("click", () => tool(true));
	$("mask-undo").addEventListener("click", () => change(() => mask.undo()));
	$("mask-redo").addEventListener("click", () => change(() => mask.redo()));
	$("mask-invert").addEventListener("click", () => change(() => mask.whole("invert")));
	$("mask-clear").addEventListener("click", () => change(() => mask.whole("clear")));
	for (const id of ["brush-size", "mask-blur", "painter-strength"]) $(id).addEventListener("input", tell);
	$("painter-form").addEventListener("submit", (e) => {
		e.preventDefault();
		paint();
	});
	$("painter-keep").addEventListener("click", keep);
	new ResizeObserver(() => { if (mask) cursor(); }).observe($("easel"));
}
