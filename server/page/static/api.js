// The server's own API: requests, errors, the key, pictures. Everything goes to the origin that the page came from.

// Problem is an answer that is an error, or no answer (status 0).
export class Problem extends Error {
	constructor(message, { status = 0, param = "", code = "", hint = "" } = {}) {
		super(message);
		Object.assign(this, { status, param, code, hint });
	}
}

const keyName = "darkroom.key";
let key = "";
try {
	key = sessionStorage.getItem(keyName) || "";
} catch { /* then it is asked for again after a reload */ }

let asked = null; // the question that is open, so that ten requests ask once
let askForKey = async () => false;

// onLocked sets what asks for the key: it gets the last error's text, calls setKey, and answers whether there is one now.
export function onLocked(f) { askForKey = f; }

export function setKey(k) {
	key = k;
	try {
		sessionStorage.setItem(keyName, k);
	} catch { /* as above */ }
}

export const hasKey = () => key !== "";

// Seeds are whole numbers up to 2^64-1, more than JavaScript's numbers hold: they are texts in the page. A quote inside of a JSON
// string is written \", so these patterns match members only.
export const parse = (text) => JSON.parse(text.replace(/("(?:seed)"\s*:\s*)(\d{15,})/g, '$1"$2"'));
const stringify = (value) => JSON.stringify(value).replace(/("(?:seed)":)"(\d+)"/g, "$1$2");

// send is fetch with the key, asking for one where the server does. Without an answer the Problem says what to do.
export async function send(path, { method = "GET", body, headers = {}, signal, kind } = {}) {
	for (;;) {
		const h = { ...headers };
		if (key) h.Authorization = `Bearer ${key}`;
		if (kind) h["Content-Type"] = kind;
		const used = key;
		let answer;
		try {
			answer = await fetch(path, { method, body, headers: h, signal, cache: "no-store" });
		} catch (err) {
			if (err.name === "AbortError") throw err;
			throw new Problem("The server does not answer.", { hint: "Is darkroom serve still running? The page goes on by itself once it answers." });
		}
		if (answer.status === 401) {
			if (used !== key) continue; // another request has asked meanwhile
			asked ??= askForKey(used ? "This key is not the server's." : "").finally(() => { asked = null; });
			if (await asked) continue;
		}
		if (!answer.ok) throw await problem(answer);
		return answer;
	}
}

async function problem(answer) {
	const { status } = answer;
	const hint = { 413: "Use something smaller, or start the server with higher limits.", 429: "Wait a little, and try again.",
		503: "The server is busy or stops: try again in a moment." }[status] || "";
	try {
		const { error, detail } = parse(await answer.text());
		const message = error?.message ?? (typeof error === "string" ? error : detail);
		if (message) return new Problem(sentence(message), { status, param: (error.param || "").replaceAll("-", "_"), code: error.code || "", hint });
	} catch { /* not the API's own error: a proxy's, or no JSON */ }
	return new Problem(`The server answered ${status} ${answer.statusText}.`, { status, hint });
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");

// get, post, patch and del speak JSON.
export const get = async (path, options) => parse(await (await send(path, options)).text());
export const post = async (path, value, options = {}) =>
	parse(await (await send(path, { method: "POST", body: stringify(value), kind: "application/json", ...options })).text());
export const patch = async (path, value) => parse(await (await send(path, { method: "PATCH", body: stringify(value), kind: "application/json" })).text());
export const del = (path) => send(path, { method: "DELETE" });

// postBytes sends a file and reads JSON.
export const postBytes = async (path, blob) =>
	parse(await (await send(path, { method: "POST", body: blob, kind: blob.type || "application/octet-stream" })).text());

// list reads an answer that is a list: {"data":[…]}, or any other one array.
export const list = (answer) => (Array.isArray(answer) ? answer : answer?.data ?? Object.values(answer ?? {}).find(Array.isArray) ?? []);

// all reads a list, and is empty where the server does not have it.
export async function all(path) {
	try {
		return list(await get(path));
	} catch (err) {
		if (err.status === 404) return [];
		throw err;
	}
}

// idempotencyKey names a request, so that one that is sent again after a lost answer is not done twice. (randomUUID is only
// there on https and localhost.)
export const idempotencyKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

// submit puts a request into the queue. While there is no answer it is sent again, under the same name.
export async function submit(body) {
	const headers = { "Idempotency-Key": idempotencyKey() };
	for (let attempt = 0; ; attempt++) {
		try {
			return await post("/v1/jobs", body, { headers });
		} catch (err) {
			const lost = err instanceof Problem && (err.status === 0 || err.status === 502 || err.status === 503);
			if (!lost || attempt === 5) throw err;
			await new Promise((go) => setTimeout(go, 400 * 2 ** attempt));
		}
	}
}

// Pictures. With a key they cannot be an <img>'s own request: they are fetched, and kept as blobs, the last of them.
const blobs = new Map(); // url → promise of blob URL, the oldest first
const maxBlobs = 300;

function blobURL(url) {
	let b = blobs.get(url);
	if (!b) {
		b = send(url).then((a) => a.blob()).then((blob) => URL.createObjectURL(blob));
		b.catch(() => blobs.delete(url));
		blobs.set(url, b);
		if (blobs.size > maxBlobs) {
			const [oldest, old] = blobs.entries().next().value;
			blobs.delete(oldest);
			old.then(URL.revokeObjectURL, () => {});
		}
	}
	return b;
}

// show puts a picture of the server into an image. What was asked for last is what it shows.
export async function show(img, url) {
	img.dataset.want = url;
	if (!hasKey() || !url.startsWith("/")) { // data: and blob: are here already
		img.src = url;
		return;
	}
	try {
		const b = await blobURL(url);
		if (img.dataset.want === url) img.src = b;
	} catch {
		if (img.dataset.want === url) img.dispatchEvent(new Event("error"));
	}
}

// bytes is a picture as a file.
export const bytes = async (url) => (await send(url)).blob();
