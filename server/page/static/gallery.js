// The gallery: all pictures of the history, newest first, with a search.
import { $, el, fail, later, roving } from "./dom.js";
import { get, list, show } from "./api.js";
import * as picture from "./picture.js";
import * as queue from "./queue.js";

const page = 60;
let pictures = [];
let next = "";
let asked = ""; // the search that pictures and next belong to
let call = 0; // of several answers the last one counts
let seen = false;
let update = () => {};

const nearEnd = new IntersectionObserver((entries) => {
	if (entries.some((e) => e.isIntersecting) && !$("more").hidden && !$("more").disabled) load(true);
});

const query = () => $("search").value.trim();

async function load(more = false) {
	const mine = ++call;
	if (!more) asked = query();
	const p = new URLSearchParams({ limit: page });
	if (asked) p.set("query", asked);
	if (more && next) p.set("before", next);
	$("more").disabled = true;
	try {
		const answer = await get(`/v1/pictures?${p}`);
		if (mine !== call) return;
		const got = list(answer);
		next = answer.next ?? "";
		pictures = more ? [...pictures, ...got] : got;
		if (!more) $("grid").replaceChildren();
		$("grid").append(...got.map(cell));
		tell();
	} catch (err) {
		if (mine === call) fail(err, { text: "Try again", run: () => load(more) });
	} finally {
		if (mine === call) {
			$("more").disabled = false;
			nearEnd.unobserve($("more")); // it is asked anew whether the end is in sight
			nearEnd.observe($("more"));
		}
	}
}

function tell() {
	const n = pictures.length;
	$("gallery-count").textContent = `${n}${next ? "+" : ""} ${n === 1 && !next ? "picture" : "pictures"}`;
	$("more").hidden = !next;
	$("gallery-empty").hidden = n > 0;
	$("gallery-empty").textContent = asked ? `Nothing is found for “${asked}”. Fewer words find more.` : "There are no pictures yet. What you make, here or with darkroom generate, appears here.";
	update();
}

function cell(p) {
	const img = el("img", { alt: p.prompt || "Picture", loading: "lazy", width: p.width, height: p.height });
	if (p.missing) img.hidden = true;
	else show(img, p.thumbnail);
	return el("li", {}, el("button", { type: "button", class: "shot", "data-id": p.id, tabindex: "-1", title: p.prompt, onclick: () => picture.open(p, pictures) },
		img, p.missing ? el("span", { class: "gone" }, `${p.prompt || "Picture"}: the file is gone`) : null));
}

// enter is called when the view is opened.
export function enter() {
	if (seen) return;
	seen = true;
	load();
}

export function focusSearch() {
	$("search").focus();
	$("search").select();
}

const columns = () => getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;

export function setup() {
	update = roving($("grid"), ".shot", columns);
	$("search").addEventListener("input", later(200, () => load()));
	$("more").addEventListener("click", () => load(true));
	picture.onRemove((id) => {
		pictures = pictures.filter((p) => p.id !== id);
		$("grid").querySelector(`[data-id="${CSS.escape(id)}"]`)?.closest("li").remove();
		tell();
	});
	queue.on("picture", (p) => {
		if (!seen || asked || pictures.some((x) => x.id === p.id)) return;
		pictures = [p, ...pictures];
		$("grid").prepend(cell(p));
		tell();
	});
	queue.on("up", () => { if (seen && pictures.length <= page) load(); }); // the server was away; who has scrolled far stays there
}
