// The picture in the middle: the one that is being made, or one that is chosen, and the latest ones below it.
import { $, el, fail, roving, say } from "./dom.js";
import { all, show, submit } from "./api.js";
import * as form from "./form.js";
import * as picture from "./picture.js";
import * as queue from "./queue.js";
import { settingsOf } from "./requests.js";
import { go } from "./views.js";

let job = null; // id of the job that is shown
let shown = null; // the picture that is shown
let pinned = false; // the user has chosen a picture: jobs do not take its place
let strip = []; // the latest pictures, newest first
const stripLength = 40;
let updateActions = () => {}, updateStrip = () => {};

export const current = () => (job ? null : shown);
export const currentJob = () => (job ? queue.jobs.get(job) : null);
export const latest = () => strip;

// follow shows a job as it goes. Another that is still being made is not pushed aside.
export function follow(j) {
	pinned = false;
	const now = job && queue.jobs.get(job);
	if (now && queue.active(now) && now.id !== j.id) return;
	showJob(queue.jobs.get(j.id) ?? j);
}

// place gives the picture its size before it is there: it fills the frame, and is enlarged at most so that one sees no squares.
function place(w, h) {
	const img = $("picture");
	const longest = Math.max(w, h);
	img.style.aspectRatio = `${w} / ${h}`;
	img.style.inlineSize = `min(100cqi, ${(100 * w) / h}cqb, ${w * (longest <= 160 ? 4 : longest < 400 ? 3 : 2)}px)`;
}

function mode(which) {
	$("progress-row").hidden = which !== "job";
	$("caption").hidden = which !== "picture";
	$("frame").setAttribute("aria-busy", String(which === "job"));
}

function message(...children) {
	$("picture").hidden = true;
	$("empty").replaceChildren(...children);
	$("empty").hidden = false;
}

function showJob(j) {
	job = j.id;
	mode("job");
	$("cancel").hidden = false;
	const s = j.settings ?? {};
	const { width, height } = form.sizeOf(s);
	place(width, height);
	const img = $("picture");
	const last = j.pictures[j.pictures.length - 1];
	img.alt = `Being made: ${s.prompt ?? ""}`;
	if (j.image) show(img, j.image);
	else if (last) show(img, last.url);
	img.hidden = !(j.image || last);
	img.classList.toggle("preview", Boolean(j.image));
	$("empty").hidden = !img.hidden;
	if (!$("empty").hidden) $("empty").replaceChildren(s.prompt ?? "");
	progress(j);
	mark();
}

function progress(j) {
	const bar = $("progress");
	if (j.state === "queued" || !j.progress) bar.removeAttribute("value");
	else bar.value = queue.share(j);
	$("progress-text").textContent = queue.stateText(j);
	document.title = j.state === "running" && j.progress ? `${Math.round(100 * queue.share(j))} % · Darkroom` : "Darkroom";
}

// wait shows that something is done which has no steps.
export function wait(text) {
	job = null;
	mode("job");
	$("cancel").hidden = true;
	$("progress").removeAttribute("value");
	$("progress-text").textContent = text;
	mark();
}

// waited ends that, with what was shown before.
export function waited() {
	if (!job && shown) showPicture(shown);
	else if (!job) mode("none");
}

export function showPicture(p, { pin = false } = {}) {
	job = null;
	shown = p;
	pinned = pin;
	document.title = "Darkroom";
	mode("picture");
	place(p.width, p.height);
	const img = $("picture");
	img.classList.remove("preview");
	img.alt = p.prompt || "Picture";
	if (p.missing) message("The file of this picture is not there any more.");
	else {
		$("empty").hidden = true;
		img.hidden = false;
		show(img, p.url);
	}
	$("caption-text").replaceChildren(el("span", { class: "caption-prompt", title: p.prompt }, p.prompt || "Without a prompt"), el("span", { class: "soft" }, `seed ${p.seed} · ${p.width} × ${p.height}`));
	updateActions();
	mark();
}

function ended(j) {
	job = null;
	document.title = "Darkroom";
	const last = j.pictures[j.pictures.length - 1];
	if (j.state === "failed") {
		mode("none");
		message(el("strong", {}, "This picture could not be made."), el("br"), queue.errorText(j), el("br"),
			el("button", { type: "button", onclick: () => again(j) }, "Try again"));
		return;
	}
	const next = [...queue.jobs.values()].find((x) => x.state === "running") ?? [...queue.jobs.values()].filter(queue.active).sort((a, b) => (a.position ?? 0) - (b.position ?? 0))[0];
	if (last) showPicture(last);
	else if (shown) showPicture(shown);
	else {
		mode("none");
		message("Cancelled.");
	}
	if (next) showJob(next);
	if (j.state === "done") say(`Done: ${j.settings?.prompt ?? ""}`);
}

// make puts a request into the queue and shows it.
export async function make(request) {
	try {
		const job = queue.add(await submit({ request }));
		follow(job);
		go("create");
		say("In the queue");
		return job;
	} catch (err) {
		fail(err, err.status === 0 ? { text: "Try again", run: () => make(request) } : undefined);
		return null;
	}
}

const again = (j) => make({ ...settingsOf(j), ...(j.count > 1 ? { count: j.count } : {}) });

function mark() {
	for (const b of $("strip").children) b.setAttribute("aria-pressed", String(!job && b.dataset.id === shown?.id));
}

function button(p) {
	const img = el("img", { alt: p.prompt || "Picture", width: 64, height: 64, loading: "lazy" });
	if (!p.missing) show(img, p.thumbnail);
	return el("button", { type: "button", class: "shot", "data-id": p.id, "aria-pressed": "false", title: p.prompt, tabindex: "-1", onclick: () => showPicture(p, { pin: true }) }, img);
}

function add(p) {
	if (strip.some((x) => x.id === p.id)) return;
	strip = [p, ...strip].slice(0, stripLength);
	$("strip").prepend(button(p));
	while ($("strip").children.length > stripLength) $("strip").lastChild.remove();
	updateStrip();
	mark();
}

// open fills the strip, and shows the latest picture where nothing else is shown.
export async function open() {
	try {
		strip = (await all(`/v1/pictures?limit=${stripLength}`)).filter((p) => !p.missing);
	} catch (err) {
		if (err.status !== 0) fail(err);
		return;
	}
	$("strip").replaceChildren(...strip.map(button));
	updateStrip();
	if (!job && !shown && strip[0]) showPicture(strip[0]);
	mark();
}

// move shows the next older (1) or newer (-1) picture.
export function move(by) {
	const next = strip[strip.findIndex((p) => p.id === shown?.id) + by];
	if (next) showPicture(next, { pin: true });
}

export function setup() {
	updateActions = picture.toolbar($("actions"), current);
	updateStrip = roving($("strip"), ".shot");
	$("cancel").addEventListener("click", () => { if (job) queue.cancel(job); });
	queue.on("job", (j, what) => {
		if (j.id === job) {
			if (!queue.active(j)) ended(j);
			else if (what === "progress") progress(j);
			else showJob(j);
		} else if (!job && !pinned && j.state === "running") showJob(j);
		else if (job && j.state === "running" && queue.jobs.get(job)?.state === "queued") showJob(j); // that one comes first
	});
	queue.on("show", (p) => {
		showPicture(p, { pin: true });
		go("create");
	});
	queue.on("again", again);
	queue.on("picture", (p, j) => {
		add(p);
		if (j.count > 1) say(`Picture ${j.pictures.length} of ${j.count} is done`);
	});
	picture.onRemove((id) => {
		const at = strip.findIndex((p) => p.id === id);
		strip = strip.filter((p) => p.id !== id);
		$("strip").querySelector(`[data-id="${CSS.escape(id)}"]`)?.remove();
		if (shown?.id !== id) return;
		shown = null;
		const next = strip[at] ?? strip[at - 1];
		if (job) return;
		if (next) showPicture(next);
		else {
			mode("none");
			message("The picture is gone.");
		}
	});
	$("picture").addEventListener("error", () => { $("picture").hidden = true; });
}
