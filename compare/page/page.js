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
	const out = [], decades = Math.log10(high / low), steps = decades > 3 ? [1] : decades < 1 ? [1, 1.5, 2, 3, 4, 6, 8] : [1, 2, 5];
	for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++)
		for (const k of steps) if (k * 10 ** p >= low * .999 && k * 10 ** p <= high * 1.001) out.push(+(k * 10 ** p).toPrecision(6));
	return out;
}

// What is a distance is drawn as one: on a logarithmic axis, less is better.
const least = 1e-4; // no converged solution is known better
const distance = (m, v) => m.distance && m.distance.startsWith("1") ? Math.max(1 - v, least) : v;

// spread moves labels apart, so that each has a line of its own.
function spread(labels, low, high, line) {
	labels.sort((a, b) => a.from - b.from);
	const step = Math.min(line, (high - low) / Math.max(labels.length - 1, 1));
	labels.forEach((l, i) => { l.y = Math.max(l.from, low, i ? labels[i - 1].y + step : low); });
	for (let i = labels.length - 1; i >= 0; i--)
		labels[i].y = Math.min(labels[i].y, i + 1 < labels.length ? labels[i + 1].y - step : high);
}

function chart() {
	const m = measureOf($("measure").value), against = $("against").value;
	const lessIsBetter = m && (m.distance || m.better < 0);
	$("about").textContent = m ? `${m.title}: ${m.about}. ${m.distance ? `Drawn is ${m.distance}, the distance, on a logarithmic axis: ` : ""}${m.better ? (lessIsBetter ? "lower is better." : "higher is better.") : ""}${m.ofSet || !m.better ? "" : " Bands hold 95 % of the difference from the best."}` : "";
	const box = $("chart");
	box.replaceChildren();
	const x = s => against === "seconds" ? s.seconds.median : s.calls;
	const points = m ? settings.filter(s => valueOf(s, m.key) !== null && x(s) !== null && x(s) > 0 && groupOf.get(s.group).shown) : [];
	if (!points.length) {
		box.append(make("p", {class: "about"}, m ? "Nothing to draw: every curve is switched off, or has no such value." : "Nothing was measured but time."));
		return;
	}
	const y = s => distance(m, valueOf(s, m.key));
	const band = s => {
		const p = s.paired && s.paired[m.key];
		return p ? [distance(m, p.low), distance(m, p.high)].sort((a, b) => a - b) : null;
	};
	const shown = groups.filter(g => points.some(s => s.group === g.id));
	const w = Math.max(box.clientWidth, 280), h = Math.round(Math.min(460, Math.max(290, w * .45)));
	const named = w >= 640 && shown.length <= 24; // names beside the curves, where there is room
	const left = 62, right = named ? Math.min(Math.max(...shown.map(g => g.name.length)) * 7.2 + 26, w * .4) : 12, top = 14, bottom = 44;
	const logY = Boolean(m.distance), all = points.flatMap(s => [y(s), ...(band(s) || [])]).filter(v => !logY || v > 0);
	let y0 = Math.min(...all), y1 = Math.max(...all);
	if (logY) {
		const room = Math.max((y1 / y0) ** .06, 1.08);
		[y0, y1] = [y0 / room, y1 * room];
	} else {
		const pad = (y1 - y0) * .06 || Math.abs(y1) * .05 || 1;
		[y0, y1] = [y0 - pad, y1 + pad];
	}
	const xs = points.map(x), [x0, x1] = [Math.min(...xs) / 1.12, Math.max(...xs) * 1.12];
	const X = scale(x0, x1, left, w - right, true), Y = scale(y0, y1, h - bottom, top, logY);
	const svg = make("svg", {viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `${m.title} over ${against}, a curve for each of ${shown.map(g => g.name).join("; ")}. The table below has the values.`});
	for (const t of logY ? logTicks(y0, y1) : ticks(y0, y1, 6)) svg.append(make("line", {class: "axis", x1: left, x2: w - right, y1: Y(t), y2: Y(t)}), make("text", {x: left - 7, y: Y(t) + 4, "text-anchor": "end"}, digits(t)));
	for (const t of logTicks(x0, x1)) svg.append(make("line", {class: "axis", x1: X(t), x2: X(t), y1: h - bottom, y2: h - bottom + 5}), make("text", {x: X(t), y: h - bottom + 19, "text-anchor": "middle"}, digits(t)));
	svg.append(make("text", {class: "name", x: (left + w - right) / 2, y: h - 4, "text-anchor": "middle"}, against === "seconds" ? "seconds a picture (median, logarithmic)" : "calls of the model for a picture (logarithmic)"));
	svg.append(make("text", {class: "name", transform: `translate(13 ${(top + h - bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, (m.distance || m.title) + (m.unit && !m.distance ? ` (${m.unit})` : "") + (logY ? " (logarithmic)" : "")));
	const path = list => list.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
	const at = s => [X(x(s)), Y(y(s))];
	if (m.key === report.rankBy) {
		for (const of of new Set(points.map(rankedIn))) {
			const front = points.filter(s => s.pareto && rankedIn(s) === of).sort((a, b) => x(a) - x(b));
			if (front.length > 1) svg.append(make("path", {class: "frontline", d: path(front.map(at))}));
		}
	}
	const curves = shown.map(g => [g, points.filter(s => s.group === g.id).sort((a, b) => x(a) - x(b))]);
	for (const [g, list] of curves) {
		const ends = list.map(s => (band(s) || [y(s), y(s)]).map(v => logY && v <= 0 ? y0 : v));
		if (list.length > 1 && list.some(band)) svg.append(make("path", {class: "band", fill: g.colour, d: path([...list.map((s, i) => [X(x(s)), Y(ends[i][1])]), ...list.map((s, i) => [X(x(s)), Y(ends[i][0])]).reverse()]) + "Z"}));
		list.forEach((s, i) => { if (band(s)) svg.append(make("line", {class: "whisker", x1: X(x(s)), x2: X(x(s)), y1: Y(ends[i][0]), y2: Y(ends[i][1]), stroke: g.colour})); });
	}
	const labels = [], buttons = [];
	for (const [g, list] of curves) {
		if (list.length > 1) svg.append(make("path", {class: "curve", d: path(list.map(at)), stroke: g.colour, "stroke-dasharray": g.dash}));
		for (const s of list) {
			const v = valueOf(s, m.key), p = s.paired && s.paired[m.key];
			const text = `${s.name}\n${seconds(s.seconds.median)}, ${digits(s.calls)} calls\n${m.title} ${digits(v)}${p ? ` (${short(p.low)} to ${short(p.high)} against the best)` : ""}${s.verdict && m.key === report.rankBy ? `\n${said(s)}` : ""}`;
			const [px, py] = at(s);
			svg.append(make("circle", {class: "dot", cx: px, cy: py, r: s.pareto ? 6 : 4.5, fill: g.colour, stroke: "var(--card)", "stroke-width": 1.5}));
			buttons.push(make("button", {type: "button", class: "point", "aria-label": text, style: `left:${(100 * px / w).toFixed(3)}%;top:${(100 * py / h).toFixed(3)}%`,
				onmousemove: e => tip(text, e), onmouseleave: hideTip, onclick: () => mark(s.id)}));
		}
		const [px, py] = at(list[list.length - 1]);
		labels.push({name: g.name, colour: g.colour, x: px, from: py});
	}
	if (named) {
		spread(labels, top + 4, h - bottom, 15);
		for (const l of labels) svg.append(make("line", {x1: l.x + 7, y1: l.from, x2: w - right + 4, y2: l.y, stroke: l.colour, "stroke-width": .8, opacity: .5}), make("text", {class: "label", x: w - right + 9, y: l.y + 4, style: `fill:${l.colour}`}, l.name));
	}
	box.append(svg, ...buttons); // the buttons are beside the drawing: what is inside of an image is not read out
}

function legend() {
	$("legend").replaceChildren(...groups.map(g => make("button", {type: "button", "aria-pressed": String(g.shown), onclick: () => { g.shown = !g.shown; legend(); chart(); }},
		make("svg", {viewBox: "0 0 26 12"}, make("line", {x1: 0, x2: 26, y1: 6, y2: 6, stroke: g.colour, "stroke-width": 2, "stroke-dasharray": g.dash}), make("circle", {cx: 13, cy: 6, r: 4, fill: g.colour})), g.name)));
}

// The table.
const said = s => s.verdict ? s.verdict + (s.morePrompts ? `: ${s.morePrompts} more prompt${s.morePrompts === 1 ? "" : "s"}` : "") : "–";
const columns = [
	{key: "name", title: "Setting", get: s => s.name, first: 1},
	...(settings.some(s => s.verdict) ? [
		{key: "verdict", title: "Against the best", get: s => s.rank || NaN, first: 1, show: s => make("span", {class: `verdict ${s.verdict ? s.verdict.split(" ")[0] : ""}`}, said(s))},
		{key: "loss", title: `Loss${measureOf(report.rankBy) ? " in " + measureOf(report.rankBy).title : ""}`, get: s => s.loss ? s.loss.mean : NaN, first: 1, show: s => s.loss && s.loss.low === undefined && s.loss.mean === 0 ? "the best mean" : interval(s.loss)},
	] : []),
	{key: "calls", title: "Calls", get: s => s.calls, first: 1, show: s => digits(s.calls)},
	{key: "seconds", title: "Seconds", get: s => s.seconds.median, first: 1, show: s => [digits(s.seconds.median), make("span", {class: "range"}, `${short(s.seconds.q1)} – ${short(s.seconds.q3)}`)]},
	...measures.map(m => ({key: m.key, title: m.title + (m.unit ? ` (${m.unit})` : ""), about: m.about, get: s => valueOf(s, m.key) ?? NaN, first: m.better < 0 ? 1 : -1, show: s => digits(valueOf(s, m.key))})),
	...(settings.some(s => s.joules) ? [{key: "joules", title: "Joules", get: s => s.joules ?? NaN, first: 1, show: s => digits(s.joules)}] : []),
	...(settings.some(s => s.cost) ? [{key: "cost", title: "Cost of 1000", get: s => s.cost ?? NaN, first: 1, show: s => digits(s.cost)}] : []),
];
let sort = {key: settings.some(s => s.verdict) ? "verdict" : "seconds", way: 1};

function interval(v) {
	if (!v) return "–";
	const two = x => String(+x.toPrecision(2));
	return v.low === undefined || v.high === undefined ? two(v.mean) : [two(v.mean), make("span", {class: "range"}, `${two(v.low)} – ${two(v.high)}`)];
}

function order(a, b) {
	const c = columns.find(c => c.key === sort.key), x = c.get(a), y = c.get(b);
	if (typeof x === "string") return sort.way * x.localeCompare(y, "en", {numeric: true});
	if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // what is missing comes last
	if (c.key === "verdict" && rankedIn(a) !== rankedIn(b)) return rankedIn(a) - rankedIn(b);
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

// Pictures under the answer: of each row's fastest good setting, for a few prompts; then the converged ones.
function samples() {
	const table = $("samples");
	if (!table) return;
	const most = 6, n = report.grid.prompts.length, first = report.pictures[0].seed;
	const prompts = [...new Set([...Array(Math.min(most, n)).keys()].map(i => Math.floor(i * n / Math.min(most, n))))];
	const cell = (file, text) => make("td", {}, file ? make("img", {src: source(file), alt: text, title: text, loading: thumbs[file] ? undefined : "lazy"}) : null);
	const line = (name, about, file) => make("tr", {}, make("th", {scope: "row"}, name, make("span", {class: "range"}, about)), ...prompts.map(p => cell(file(p), `${name}: ${about}; ${report.grid.prompts[p]}`)));
	table.append(make("thead", {}, make("tr", {}, make("th", {}), ...prompts.map(p => make("th", {scope: "col"}, report.grid.prompts[p])))), make("tbody", {},
		...report.opening.map(row => line(row.label, byID.get(row.fastest).groupName, p => (pictures.get(`${row.fastest}/${p}/${first}`) || {}).file)),
		...report.references.map(r => line("converged", r.name, p => r.files[`${p}/${first}`]))));
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
	const sorted = [...settings].sort((a, b) => (a.rank || Infinity) - (b.rank || Infinity) || a.calls - b.calls || a.seconds.median - b.seconds.median);
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
	addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details")) d.open = true; });
	samples(); legend(); chart(); tableHead(); rows(); grid(); sides(); slide(50);
}
start();
