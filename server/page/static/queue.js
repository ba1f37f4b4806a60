// Jobs: what the server says of them, and the list of them.
import { $, duration, el, fail, say } from "./dom.js";
import { del, get, list, patch, show } from "./api.js";
import { follow } from "./events.js";

export const jobs = new Map(); // id → job, with .image, the last preview
const listeners = { job: [], picture: [], up: [], down: [], show: [], again: [] };

// on calls f: "job" (job, what), what being "state", "progress" or "preview"; "picture" (picture, job); "up" (); "down" (); "show" (picture) and
// "again" (job), which the user asks for in the list.
export function on(what, f) { listeners[what].push(f); }
const emit = (what, ...args) => { for (const f of listeners[what]) f(...args); };

export const active = (job) => job.state === "queued" || job.state === "running";

// add takes a job in, as an answer or an event tells it.
export function add(job) {
	const before = jobs.get(job.id);
	const now = { ...before, ...job, pictures: job.pictures ?? before?.pictures ?? [] };
	if (!active(now)) delete now.image;
	if (now.state === "queued") delete now.at; // it may have gone back into the queue
	jobs.set(job.id, now);
	if (jobs.size > 500) for (const [id, j] of jobs) if (!active(j) && jobs.size > 400) jobs.delete(id);
	draw();
	emit("job", now, "state");
	if (before && active(before) && now.state === "failed") say(`Failed: ${now.error?.message ?? now.error}`);
	return now;
}

// made tells of a picture that no job has made.
export const made = (picture) => emit("picture", picture, { count: 1, pictures: [picture] });

export const errorText = (job) => job.error?.message ?? job.error ?? "It failed.";

// start follows the server's events for as long as the page is open.
export function start() {
	follow("/v1/events", {
		event(name, v) {
			if (name === "state") {
				add(v);
				return;
			}
			const job = jobs.get(v?.job);
			if (!job) return;
			if (name === "progress") {
				job.at = { ...job.at, [v.picture ?? 0]: v };
				job.progress = unfinished(job) ?? v;
				if (job.state === "queued") job.state = "running";
				drawProgress(job);
				emit("job", job, "progress");
			} else if (name === "preview") {
				const first = unfinished(job)?.picture ?? v.picture;
				if (v.picture !== first) return; // several pictures are made at once: one of them is looked at
				job.image = v.image;
				emit("job", job, "preview");
			} else if (name === "picture") {
				if (!job.pictures.some((p) => p.id === v.id)) job.pictures = [...job.pictures, v];
				if (v.index !== undefined) delete job.at?.[v.index];
				emit("picture", v, job);
			}
		},
		async up() {
			emit("up");
			try {
				const known = [...jobs.values()].filter(active).map((j) => j.id);
				const now = list(await get("/v1/jobs?limit=60"));
				for (const job of now.reverse()) add(job);
				for (const id of known) if (!now.some((j) => j.id === id)) refresh(id); // it ended while nobody listened
			} catch (err) {
				if (err.status !== 0) fail(err);
			}
		},
		idle: () => ![...jobs.values()].some(active),
		down(problem, again) { emit("down", problem, again); },
	});
}

async function refresh(id) {
	try {
		add(await get(`/v1/jobs/${encodeURIComponent(id)}`));
	} catch (err) {
		if (err.status === 404) add({ id, state: "cancelled" });
	}
}

export async function cancel(id) {
	try {
		await del(`/v1/jobs/${encodeURIComponent(id)}`);
		say("Cancelled");
		await refresh(id);
	} catch (err) {
		if (err.status === 409 || err.status === 404) await refresh(id); // it has ended by itself
		else fail(err);
	}
}

async function first(job) {
	try {
		const top = Math.max(0, ...[...jobs.values()].filter(active).map((j) => j.priority ?? 0));
		add(await patch(`/v1/jobs/${encodeURIComponent(job.id)}`, { priority: top + 1 }));
	} catch (err) {
		fail(err);
	}
}

// unfinished is the progress of the first picture that is being made.
const unfinished = (job) => Object.values(job.at ?? {}).sort((a, b) => a.picture - b.picture)[0];

// share is how much of a job is done, 0 to 1: its finished pictures, and the steps of those that are being made.
export function share(job) {
	const working = job.at ? Object.values(job.at) : job.progress ? [job.progress] : [];
	const steps = working.reduce((sum, p) => sum + (p.steps ? Math.min(1, p.step / p.steps) : 0), 0);
	return Math.min(1, (job.pictures.length + steps) / (job.count || 1));
}

export function stateText(job) {
	const p = job.progress ?? {};
	if (job.state === "queued") return job.position > 0 ? `Waits, ${job.position} before it` : "Waits: it is next";
	if (job.state === "running") {
		const parts = [p.phase || (p.steps ? `Step ${p.step} of ${p.steps}` : "Begins")];
		if (job.count > 1) parts.push(`picture ${Math.min(job.count, job.pictures.length + 1)} of ${job.count}`);
		if (p.seconds_left > 0) parts.push(`about ${duration(p.seconds_left)} left`);
		return parts.join(" · ");
	}
	return { done: "Done", failed: errorText(job), cancelled: "Cancelled" }[job.state] ?? job.state;
}

let drawing = false;
function draw() { // once a frame, however many events there are
	if (drawing) return;
	drawing = true;
	requestAnimationFrame(() => {
		drawing = false;
		const all = [...jobs.values()];
		const now = all.filter(active).sort((a, b) => (a.state === "running" ? -1 : 0) - (b.state === "running" ? -1 : 0) || (a.position ?? 0) - (b.position ?? 0) || (a.created < b.created ? -1 : 1));
		const past = all.filter((j) => !active(j)).sort((a, b) => ((a.ended ?? a.created) < (b.ended ?? b.created) ? 1 : -1)).slice(0, 30);
		$("queue-count").textContent = now.length;
		$("queue-button").classList.toggle("busy", now.length > 0);
		$("queue-empty").hidden = now.length > 0;
		$("past-title").hidden = past.length === 0;
		replace($("jobs"), now.map(line));
		replace($("past"), past.map(line));
	});
}

// replace keeps the focus where it is, when the button that has it is made anew.
function replace(list, lines) {
	const at = list.contains(document.activeElement) ? document.activeElement.dataset.what : null;
	list.replaceChildren(...lines);
	if (at) (list.querySelector(`[data-what="${CSS.escape(at)}"]`) ?? $("queue-close")).focus();
}

function line(job) {
	const name = job.settings?.prompt || job.id;
	const picture = job.pictures.findLast((p) => !p.missing);
	let thumbnail = el("span", { class: "thumb none" });
	if (picture) {
		const img = el("img", { class: "thumb", alt: "" });
		show(img, picture.thumbnail);
		thumbnail = el("button", { type: "button", class: "shot", "data-what": `show ${job.id}`, "aria-label": `Show: ${name}`, onclick: () => emit("show", picture) }, img);
	}
	const buttons = el("div", { class: "row" });
	if (active(job)) {
		if (job.state === "queued" && job.position > 0) {
			buttons.append(el("button", { type: "button", class: "quiet", "data-what": `first ${job.id}`, onclick: () => first(job), "aria-label": `Do next: ${name}` }, "Next"));
		}
		buttons.append(el("button", { type: "button", class: "quiet", "data-what": `cancel ${job.id}`, onclick: () => cancel(job.id), "aria-label": `Cancel: ${name}` }, "Cancel"));
	} else if (job.state !== "done" && job.settings) {
		buttons.append(el("button", { type: "button", class: "quiet", "data-what": `again ${job.id}`, onclick: () => emit("again", job), "aria-label": `Try again: ${name}` }, "Again"));
	}
	return el("li", { "data-job": job.id, class: job.state }, thumbnail,
		el("div", { class: "what" }, el("p", { class: "name" }, name), el("p", { class: job.state === "failed" ? "state error" : "state soft" }, stateText(job)),
			job.state === "running" ? el("progress", { max: 1, value: share(job), "aria-label": `Progress: ${name}` }) : null),
		buttons);
}

function drawProgress(job) {
	const e = $("jobs").querySelector(`[data-job="${CSS.escape(job.id)}"]`);
	if (!e) return;
	const bar = e.querySelector("progress");
	if (!bar) {
		draw();
		return;
	}
	bar.value = share(job);
	e.querySelector(".state").textContent = stateText(job);
}

// toggle opens and closes the list.
export function toggle(open = $("queue").hidden) {
	$("queue").hidden = !open;
	$("queue-button").setAttribute("aria-expanded", String(open));
	if (open) $("queue-close").focus();
	else if (!$("queue").contains(document.activeElement) || document.activeElement === document.body) $("queue-button").focus();
}

export function setup() {
	$("queue-button").addEventListener("click", () => toggle());
	$("queue-close").addEventListener("click", () => {
		toggle(false);
		$("queue-button").focus();
	});
	$("queue").addEventListener("keydown", (e) => {
		if (e.key === "Escape") $("queue-close").click();
	});
}
