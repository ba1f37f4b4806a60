"use strict";
const $ = id => document.getElementById(id);
const report = JSON.parse($("report").textContent), thumbs = JSON.parse($("thumbs").textContent);
const settings = report.settings, measures = report.measures;
const byID = new Map(settings.map(s => [s.id, s]));
const ideal = "converged", picks = report.picks || [];

function make(tag, attributes = {}, ...children) {
	const svg = ["svg", "g", "path", "line", "circle", "rect", "text", "polygon"].includes(tag);
	const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
	for (const [k, v] of Object.entries(attributes)) {
		if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
		else if (v !== undefined && v !== false) e.setAttribute(k, v === true ? "" : v);
	}
	e.append(...children.filter(c => c !== null && c !== undefined));
	return e;
}
const problems = [...new Set(settings.map(s => s.problem))];
const rankedIn = s => report.apart ? problems.indexOf(s.problem) : 0; // each problem has ranks of its own
const option = (value, text) => make("option", {value}, text);
const digits = v => v === null || v === undefined ? "–" : Math.abs(v) >= 1000 ? v.toFixed(0) : String(+v.toPrecision(4));
const short = v => digits(+v.toPrecision(3));
const seconds = v => v < 1 ? `${(1000 * v).toFixed(0)} ms` : `${v.toFixed(v < 10 ? 2 : 1)} s`;
const source = file => thumbs[file] || file;
const measureOf = key => measures.find(m => m.key === key);
const valueOf = (s, key) => s.values[key] ? s.values[key].mean : null;

// Curves: a colour and a dash for each group of settings that differ in their steps alone.
const groups = [...new Map(settings.map(s => [s.group, s.groupName])).entries()].map(([id, name], i) =>
	({id, name, colour: `var(--c${i % 8})`, dash: ["", "6 3", "2 3", "8 3 2 3"][Math.floor(i / 8) % 4], shown: true}));
const groupOf = new Map(groups.map(g => [g.id, g]));

function tip(text, event) {
	const t = $("tip");
	t.textContent = text;
	t.hidden = false;
	const x = Math.min(event.clientX + 14, innerWidth - t.offsetWidth - 8);
	const y = event.clientY + 18 + t.offsetHeight > innerHeight ? event.clientY - t.offsetHeight - 10 : event.clientY + 18;
	t.style.left = `${Math.max(x, 4)}px`;
	t.style.top = `${y}px`;
}
const hideTip = () => { $("tip").hidden = true; };

function scale(low, high, from, to, log) {
	const f = log ? Math.log : v => v;
	const a = f(low), b = f(high);
	return v => from + (to - from) * (f(v) - a) / (b - a || 1);
}

function ticks(low, high, n) {
	const raw = (high - low) / n || 1, power = 10 ** Math.floor(Math.log10(raw));
	const step = [1, 2, 5, 10].map(k => k * power).find(s => s >= raw);
	const out = [];
	for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) out.push(+v.toPrecision(12));
	return out;
}

function logTicks(low, high) {
	const out = [];
	for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++)
		for (const k of [1, 2, 5]) if (k * 10 ** p >= low * .999 && k * 10 ** p <= high * 1.001) out.push(+(k * 10 ** p).toPrecision(6));
	return out;
}

function chart() {
	const m = measureOf($("measure").value), against = $("against").value;
	$("about").textContent = m ? `${m.title}: ${m.about}${m.better > 0 ? "; more is better" : m.better < 0 ? "; less is better" : ""}.` : "";
	const box = $("chart");
	box.replaceChildren();
	const x = s => against === "seconds" ? s.seconds.median : s.calls;
	const points = m ? settings.filter(s => valueOf(s, m.key) !== null && x(s) !== null && x(s) > 0 && groupOf.get(s.group).shown) : [];
	if (!points.length) {
		box.append(make("p", {class: "about"}, m ? "Nothing to draw: every curve is switched off, or has no such value." : "Nothing was measured but time."));
		return;
	}
	const w = Math.max(box.clientWidth, 280), h = Math.round(Math.min(430, Math.max(270, w * .45)));
	const left = 54, right = 12, top = 12, bottom = 40;
	const lows = points.map(s => s.values[m.key].low ?? valueOf(s, m.key)), highs = points.map(s => s.values[m.key].high ?? valueOf(s, m.key));
	let y0 = Math.min(...lows), y1 = Math.max(...highs);
	const pad = (y1 - y0) * .06 || Math.abs(y1) * .05 || 1;
	[y0, y1] = [y0 - pad, y1 + pad];
	const xs = points.map(x);
	const log = Math.max(...xs) / Math.min(...xs) > 6;
	const [x0, x1] = log ? [Math.min(...xs) / 1.12, Math.max(...xs) * 1.12] : [Math.min(...xs) - (Math.max(...xs) - Math.min(...xs)) * .06, Math.max(...xs) * 1.04];
	const X = scale(x0, x1, left, w - right, log), Y = scale(y0, y1, h - bottom, top, false);
	const svg = make("svg", {viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `${m.title} against ${against}`});
	for (const t of ticks(y0, y1, 6)) svg.append(make("line", {class: "axis", x1: left, x2: w - right, y1: Y(t), y2: Y(t)}), make("text", {x: left - 7, y: Y(t) + 4, "text-anchor": "end"}, digits(t)));
	for (const t of log ? logTicks(x0, x1) : ticks(x0, x1, w / 110)) svg.append(make("line", {class: "axis", x1: X(t), x2: X(t), y1: h - bottom, y2: h - bottom + 5}), make("text", {x: X(t), y: h - bottom + 18, "text-anchor": "middle"}, digits(t)));
	svg.append(make("text", {x: (left + w - right) / 2, y: h - 4, "text-anchor": "middle"}, (against === "seconds" ? "seconds a picture (median)" : "model calls a picture") + (log ? ", logarithmic" : "")));
	const path = list => list.map((s, i) => `${i ? "L" : "M"}${X(x(s)).toFixed(1)} ${Y(valueOf(s, m.key)).toFixed(1)}`).join("");
	if (m.key === report.rankBy && against === "seconds") {
		for (const of of new Set(points.map(rankedIn))) {
			const front = points.filter(s => s.pareto && rankedIn(s) === of).sort((a, b) => x(a) - x(b));
			if (front.length > 1) svg.append(make("path", {class: "frontline", d: path(front)}));
		}
	}
	for (const g of groups) {
		const list = points.filter(s => s.group === g.id).sort((a, b) => x(a) - x(b));
		if (list.length > 1) svg.append(make("path", {class: "curve", d: path(list), stroke: g.colour, "stroke-dasharray": g.dash}));
		for (const s of list) {
			const v = s.values[m.key];
			if (v.low !== undefined && v.high !== undefined) svg.append(make("line", {class: "whisker", x1: X(x(s)), x2: X(x(s)), y1: Y(v.low), y2: Y(v.high), stroke: g.colour}));
			const text = `${s.name}\n${seconds(s.seconds.median)}, ${digits(s.calls)} calls\n${m.title} ${digits(v.mean)}${v.low !== undefined ? ` [${digits(v.low)}, ${digits(v.high)}]` : ""}`;
			svg.append(make("circle", {class: "point", cx: X(x(s)), cy: Y(v.mean), r: s.pareto ? 6 : 4.5, fill: g.colour, stroke: "var(--paper)", "stroke-width": 1.5, tabindex: 0, role: "button", "aria-label": text,
				onmousemove: e => tip(text, e), onmouseleave: hideTip, onclick: () => mark(s.id), onkeydown: e => { if (e.key === "Enter") mark(s.id); }}));
		}
	}
	box.append(svg);
}

function legend() {
	$("legend").replaceChildren(...groups.map(g => make("button", {type: "button", "aria-pressed": String(g.shown), onclick: () => { g.shown = !g.shown; legend(); chart(); }},
		make("svg", {viewBox: "0 0 26 12"}, make("line", {x1: 0, x2: 26, y1: 6, y2: 6, stroke: g.colour, "stroke-width": 2, "stroke-dasharray": g.dash}), make("circle", {cx: 13, cy: 6, r: 4, fill: g.colour})), g.name)));
}

// The table.
const columns = [
	{key: "rank", title: "Rank", get: s => s.rank || Infinity, show: s => s.rank || "–", first: 1},
	{key: "name", title: "Setting", get: s => s.name, first: 1},
	{key: "seconds", title: "Seconds", get: s => s.seconds.median, first: 1, show: s => [digits(s.seconds.median), make("span", {class: "range"}, `${short(s.seconds.q1)} – ${short(s.seconds.q3)}`)]},
	{key: "calls", title: "Calls", get: s => s.calls, first: 1, show: s => digits(s.calls)},
	...(settings.some(s => s.behind) ? [{key: "behind", title: "Behind best", get: s => s.behind ? s.behind.mean : NaN, first: 1, show: s => interval(s.behind)}] : []),
	...measures.map(m => ({key: m.key, title: m.title + (m.unit ? ` (${m.unit})` : ""), about: m.about, get: s => valueOf(s, m.key) ?? NaN, first: m.better < 0 ? 1 : -1, show: s => interval(s.values[m.key])})),
	...(settings.some(s => s.joules) ? [{key: "joules", title: "Joules", get: s => s.joules ?? NaN, first: 1, show: s => digits(s.joules)}] : []),
	...(settings.some(s => s.cost) ? [{key: "cost", title: "Cost of 1000", get: s => s.cost ?? NaN, first: 1, show: s => digits(s.cost)}] : []),
];
let sort = {key: settings.some(s => s.rank) ? "rank" : "seconds", way: 1};

function interval(v) {
	if (!v) return "–";
	return v.low === undefined || v.high === undefined ? digits(v.mean) : [digits(v.mean), make("span", {class: "range"}, `${short(v.low)} – ${short(v.high)}`)];
}

function order(a, b) {
	const c = columns.find(c => c.key === sort.key), x = c.get(a), y = c.get(b);
	if (typeof x === "string") return sort.way * x.localeCompare(y, "en", {numeric: true});
	if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // what is missing comes last
	if (c.key === "rank" && rankedIn(a) !== rankedIn(b)) return rankedIn(a) - rankedIn(b);
	return sort.way * (x === y ? 0 : x < y ? -1 : 1) || a.seconds.median - b.seconds.median;
}

function tableHead() {
	$("settings").tHead.replaceChildren(make("tr", {}, ...columns.map(c => make("th", {scope: "col", title: c.about, "aria-sort": c.key === sort.key ? (sort.way > 0 ? "ascending" : "descending") : undefined},
		make("button", {type: "button", "data-sort": c.key, onclick: () => {
			sort = {key: c.key, way: sort.key === c.key ? -sort.way : c.first};
			tableHead();
			rows();
		}}, c.title)))));
}

function rows() {
	const words = $("filter").value.toLowerCase().split(/[\s,]+/).filter(w => w), only = $("front").checked;
	const list = settings.filter(s => words.every(w => (s.name + " " + (s.flags || []).join(" ")).toLowerCase().includes(w)) && (!only || s.pareto)).sort(order);
	$("settings").tBodies[0].replaceChildren(...list.map(s => make("tr", {class: s.pareto ? "front" : "", id: `row-${s.id}`}, ...columns.map(c => {
		const shown = c.show ? [c.show(s)].flat() : [c.get(s)];
		if (c.key === "name") {
			if (s.pareto) shown.unshift("● ");
			if (picks.includes(s.id)) shown.push(" ", make("span", {class: "pick"}, "use this"));
			for (const f of [...(s.flags || []), ...(s.overBudget ? ["over budget"] : [])]) shown.push(" ", make("span", {class: "flag"}, f));
		}
		return make("td", {}, ...shown);
	}))));
	$("count").textContent = list.length === settings.length ? `${list.length} settings` : `${list.length} of ${settings.length} settings`;
}

function mark(id) {
	$("filter").value = "";
	$("front").checked = false;
	rows();
	const row = $(`row-${id}`);
	row.classList.add("marked");
	row.scrollIntoView({block: "center", behavior: "smooth"});
}

// Pictures of one prompt and seed.
const pictures = new Map(report.pictures.map(p => [`${p.setting}/${p.prompt}/${p.seed}`, p]));
const item = () => `${$("prompt").value}/${$("seed").value}`;
const pictureOf = id => pictures.get(`${id}/${item()}`);

function fileOf(id) {
	if (id.startsWith(ideal)) return report.references[+id.slice(ideal.length)].files[item()];
	return pictureOf(id).file;
}

const nameOf = id => id.startsWith(ideal) ? `converged: ${report.references[+id.slice(ideal.length)].name}` : byID.get(id).name;

function grid() {
	const steps = [...new Set(settings.map(s => s.setting.steps))].sort((a, b) => a - b);
	const head = make("thead", {}, make("tr", {}, make("th", {}), ...steps.map(n => make("th", {scope: "col"}, n ? `${n} steps` : "its own steps"))));
	const body = make("tbody");
	const cell = (id, caption) => make("td", {}, make("button", {type: "button", "data-picture": id, "aria-label": `Enlarge ${nameOf(id)}`, onclick: () => zoom(id)},
		make("img", {src: source(fileOf(id)), alt: `${nameOf(id)}, prompt ${report.grid.prompts[$("prompt").value]}, seed ${$("seed").value}`, loading: thumbs[fileOf(id)] ? undefined : "lazy"})), caption);
	for (const g of groups) body.append(make("tr", {}, make("th", {scope: "row"}, g.name), ...steps.map(n => {
		const s = settings.find(s => s.group === g.id && s.setting.steps === n);
		if (!s || !pictureOf(s.id)) return make("td");
		const p = pictureOf(s.id), v = p.values[report.rankBy];
		return cell(s.id, `${seconds(p.seconds)}${v === undefined ? "" : ` · ${digits(v)}`}`);
	})));
	report.references.forEach((r, i) => body.append(make("tr", {}, make("th", {scope: "row"}, `converged: ${r.name}`), cell(ideal + i, ""))));
	$("grid").replaceChildren(head, body);
}

function zoom(id) {
	$("large").src = source(fileOf(id));
	$("large").alt = nameOf(id);
	$("zoomed").textContent = `${nameOf(id)} · “${report.grid.prompts[$("prompt").value]}” · seed ${$("seed").value}`;
	const p = id.startsWith(ideal) ? null : pictureOf(id);
	const facts = p ? [["time", seconds(p.seconds)], ["model calls", p.calls], ...measures.filter(m => m.key in p.values).map(m => [m.title, digits(p.values[m.key])])] : [];
	$("facts").replaceChildren(...facts.map(([k, v]) => make("div", {}, make("dt", {}, k), make("dd", {}, String(v)))));
	$("command").textContent = p ? p.command : "";
	document.querySelector(".command").hidden = !p;
	$("zoom").showModal();
}

async function copy() {
	const text = $("command").textContent;
	try {
		await navigator.clipboard.writeText(text);
	} catch {
		const range = document.createRange(); // where a page may not write: mark it for the reader
		range.selectNodeContents($("command"));
		getSelection().removeAllRanges();
		getSelection().addRange(range);
	}
	$("copy").textContent = "Copied";
	setTimeout(() => { $("copy").textContent = "Copy"; }, 1200);
}

function sides() {
	for (const [img, select] of [["under", "b"], ["over", "a"]]) {
		$(img).src = source(fileOf($(select).value));
		$(img).alt = nameOf($(select).value);
	}
}

function slide(share) {
	$("slider").value = share;
	$("over").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
	$("handle").style.left = `${share}%`;
}

function start() {
	$("measure").append(...measures.map(m => option(m.key, m.title)));
	if (measureOf(report.rankBy)) $("measure").value = report.rankBy;
	$("prompt").append(...report.grid.prompts.map((p, i) => option(i, p)));
	$("seed").append(...[...new Set(report.pictures.map(p => p.seed))].map(s => option(s, s)));
	const sorted = [...settings].sort((a, b) => (a.rank || Infinity) - (b.rank || Infinity) || a.seconds.median - b.seconds.median);
	for (const id of ["a", "b"]) $(id).append(...report.references.map((r, i) => option(ideal + i, nameOf(ideal + i))), ...settings.map(s => option(s.id, s.name)));
	$("a").value = picks[0] || sorted[0].id;
	const own = report.references.findIndex(r => r.of === byID.get($("a").value).problem);
	$("b").value = own >= 0 ? ideal + own : (sorted[1] || sorted[0]).id;
	$("measure").onchange = $("against").onchange = chart;
	$("filter").oninput = $("front").onchange = rows;
	$("prompt").onchange = $("seed").onchange = () => { grid(); sides(); };
	$("a").onchange = $("b").onchange = sides;
	$("slider").oninput = () => slide(+$("slider").value);
	const drag = e => { if (e.buttons || e.type === "pointerdown") { const r = $("stage").getBoundingClientRect(); slide(Math.max(0, Math.min(100, 100 * (e.clientX - r.left) / r.width))); } };
	$("stage").onpointerdown = e => { $("stage").setPointerCapture(e.pointerId); drag(e); };
	$("stage").onpointermove = drag;
	$("copy").onclick = copy;
	$("zoom").onclick = e => { if (e.target === $("zoom")) $("zoom").close(); };
	addEventListener("resize", chart);
	addEventListener("scroll", hideTip, {passive: true});
	legend(); chart(); tableHead(); rows(); grid(); sides(); slide(50);
}
start();
