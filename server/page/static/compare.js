// Two settings of one prompt and seed, one over the other with a slider or side by side; and the reports of darkroom compare.
import { $, el, fail, notice, say } from "./dom.js";
import { all, show, submit } from "./api.js";
import { field, labelOf } from "./fields.js";
import * as form from "./form.js";
import * as queue from "./queue.js";
import { go } from "./views.js";

const sides = { a: { picture: null, job: null }, b: { picture: null, job: null } };
const pairs = []; // { name, a, b }: fields
let reports = []; // of darkroom compare: { name, url }
let next = "a"; // the side that choose fills

// choose takes a picture as A, then another as B.
export function choose(p) {
	put(next, p);
	if (next === "a") {
		next = "b";
		notice("This picture is A.", { hint: "Press Compare at another one: it will be B." });
		return;
	}
	next = "a";
	go("compare");
	$("wipe-at").focus();
}

function put(side, p) {
	sides[side] = { picture: p, job: null };
	draw();
}

function draw() {
	for (const [side, s] of Object.entries(sides)) {
		const figure = $(`wipe-${side}`);
		const img = figure.firstElementChild;
		const job = s.job && queue.jobs.get(s.job);
		const url = s.picture ? s.picture.url : job?.image;
		figure.hidden = !url;
		img.alt = s.picture ? `${side.toUpperCase()}: ${s.picture.prompt}` : `${side.toUpperCase()}, being made`;
		if (url && img.dataset.want !== url) show(img, url);
	}
	const both = !$("wipe-a").hidden && !$("wipe-b").hidden;
	const of = sides.a.picture ?? sides.b.picture ?? queue.jobs.get(sides.a.job)?.settings;
	if (of?.width && of.height) {
		$("wipe").style.setProperty("--shape", `${of.width} / ${of.height}`);
		$("wipe").parentElement.style.setProperty("--ratio", of.width / of.height);
	}
	$("wipe-empty").hidden = !$("wipe-a").hidden || !$("wipe-b").hidden;
	$("wipe-line").hidden = !both;
	$("wipe-at").disabled = !both;
	wipe();
	differences();
}

function wipe() {
	const at = Number($("wipe-at").value);
	const slides = $("wipe").dataset.mode === "slider" && !$("wipe-b").hidden;
	$("wipe-a").style.clipPath = slides ? `inset(0 ${100 - at}% 0 0)` : "";
	$("wipe-line").style.insetInlineStart = `${at}%`;
	$("wipe-at").setAttribute("aria-valuetext", `${at} % of A, ${100 - at} % of B`);
}

function differences() {
	const { a: { picture: a }, b: { picture: b } } = sides;
	$("differences").hidden = !(a && b);
	if (!a || !b) return;
	const [x, y] = [a.settings ?? {}, b.settings ?? {}];
	const names = [...new Set([...Object.keys(x), ...Object.keys(y)])].filter((n) => JSON.stringify(x[n]) !== JSON.stringify(y[n]));
	const text = (v) => (v === undefined || v === null ? "–" : typeof v === "object" ? JSON.stringify(v) : String(v));
	const row = (n) => el("tr", {}, el("th", { scope: "row" }, labelOf(n.replaceAll("-", "_"))), el("td", {}, text(x[n])), el("td", {}, text(y[n])));
	$("differences").tBodies[0].replaceChildren(...(names.length ? names.map(row) : [el("tr", {}, el("td", { colspan: 3 }, "Nowhere: the settings are the same."))]));
}

// addPair is one more line of the form: a setting, and its two values.
function addPair(name) {
	const rows = form.settingRows().filter((r) => !["seed", "init", "mask", "format", "quality"].includes(r.name))
		.map((r) => (r.name === "model" ? { ...r, choices: form.modelNames() } : r.name === "scheduler" ? { ...r, open: false } : r));
	const free = name ?? rows.map((r) => r.name).find((n) => !pairs.some((p) => p.name === n)) ?? rows[0].name;
	const pair = { name: free };
	const line = el("div", { class: "pair" });
	const select = el("select", { "aria-label": "Setting that differs", onchange: () => fill(select.value) }, ...rows.map((r) => el("option", { value: r.name }, labelOf(r.name))));
	const remove = el("button", { type: "button", class: "quiet icon", "aria-label": "Remove this setting", onclick: () => {
		pairs.splice(pairs.indexOf(pair), 1);
		line.remove();
		$("pair-add").focus();
	} }, "✕");
	function fill(n) {
		pair.name = select.value = n;
		const r = rows.find((x) => x.name === n);
		for (const side of ["a", "b"]) {
			pair[side] = field(r, () => {}, { label: `${labelOf(n)}, ${side.toUpperCase()}` });
			pair[side].control.setAttribute("aria-label", `${labelOf(n)}, ${side.toUpperCase()}`);
		}
		const controls = (f) => el("div", {}, ...f.nodes.filter((e) => e && e.tagName !== "LABEL"), f.nodes[0].classList.contains("check") ? f.control : null);
		line.replaceChildren(select, controls(pair.a), controls(pair.b), remove);
	}
	fill(free);
	pairs.push(pair);
	$("pairs").append(line);
	return select;
}

async function makeBoth() {
	const { count, ...base } = form.request();
	if (!base.prompt.trim() && !base.init) {
		$("compare-status").textContent = "Write a prompt in Create first.";
		return;
	}
	base.seed ??= String(crypto.getRandomValues(new Uint32Array(1))[0]);
	const request = (side) => {
		const r = { ...base };
		for (const p of pairs) {
			const v = p[side].get();
			if (v === undefined) delete r[p.name];
			else r[p.name] = v;
		}
		return r;
	};
	if (JSON.stringify(request("a")) === JSON.stringify(request("b"))) {
		$("compare-status").textContent = "A and B are the same: change one of them.";
		return;
	}
	try {
		for (const side of ["a", "b"]) {
			const job = queue.add(await submit({ request: request(side) }));
			sides[side] = { picture: job.pictures[0] ?? null, job: job.id };
		}
		next = "a";
		draw();
		tellJobs();
	} catch (err) {
		fail(err);
	}
}

function tellJobs() {
	const text = Object.entries(sides).map(([side, s]) => {
		const job = s.job && queue.jobs.get(s.job);
		return job && !s.picture ? `${side.toUpperCase()}: ${queue.stateText(job)}` : "";
	}).filter(Boolean).join(" · ");
	$("compare-status").textContent = text;
}

// enter is called when the view is opened.
export async function enter() {
	if (!pairs.length && form.settingRows().length) addPair("scheduler");
	const r = form.request();
	$("compare-base").textContent = r.prompt ? `“${r.prompt}”, with the settings of Create${r.seed === undefined ? " and a random seed" : ` and seed ${r.seed}`}.` : "The prompt and all else are those of Create.";
	draw();
	try {
		reports = await all("/v1/reports");
	} catch (err) {
		fail(err);
		return;
	}
	const names = reports.map((x) => x.name);
	const chosen = $("report").value;
	$("report").replaceChildren(el("option", { value: "" }, names.length ? "Choose…" : "None yet"), ...names.map((n) => el("option", { value: n }, n)));
	$("report").value = names.includes(chosen) ? chosen : "";
	$("report").disabled = names.length === 0;
	$("report-note").textContent = names.length ? "" : "darkroom compare -o FOLDER/NAME makes one; darkroom serve --reports FOLDER shows those in a folder.";
}

function openReport() {
	const frame = $("report-frame");
	const report = reports.find((x) => x.name === $("report").value);
	frame.hidden = !report;
	if (!report) return;
	frame.src = `${report.url}index.html`; // which has a signature in it where the server asks for a key
	say(`The report ${report.name} is open`);
}

export function setup() {
	$("wipe-at").addEventListener("input", wipe);
	$("wipe-mode").addEventListener("click", () => {
		const side = $("wipe").dataset.mode === "slider";
		$("wipe").dataset.mode = side ? "side" : "slider";
		$("wipe-mode").setAttribute("aria-pressed", String(side));
		wipe();
	});
	const drag = (e) => {
		if (e.buttons !== 1 || $("wipe").dataset.mode !== "slider" || $("wipe-at").disabled) return;
		const r = $("wipe").getBoundingClientRect();
		$("wipe-at").value = Math.round((100 * (e.clientX - r.left)) / r.width);
		wipe();
	};
	$("wipe").addEventListener("pointerdown", (e) => {
		$("wipe").setPointerCapture(e.pointerId);
		drag(e);
	});
	$("wipe").addEventListener("pointermove", drag);
	$("pair-add").addEventListener("click", () => addPair().focus());
	$("compare-form").addEventListener("submit", (e) => {
		e.preventDefault();
		makeBoth();
	});
	$("report").addEventListener("change", openReport);
	queue.on("job", (job) => {
		for (const [side, s] of Object.entries(sides)) {
			if (s.job !== job.id) continue;
			if (job.state === "done" && job.pictures[0]) put(side, job.pictures[0]);
			else if (!queue.active(job)) $("compare-status").textContent = `${side.toUpperCase()}: ${queue.stateText(job)}`;
			else {
				draw();
				tellJobs();
			}
			if (!sides.a.job && !sides.b.job) {
				$("compare-status").textContent = "Both are there.";
			}
		}
	});
}

