// The page of darkroom serve. Modules: api and events speak with the server; form, fields, loras and tokens are the settings; stage,
// picture, queue, gallery and compare what comes of them; mask, drop and upscale start from a picture; keys is the keyboard.
import { $, fail, later, notice, say, stored } from "./dom.js";
import { onLocked, setKey, submit } from "./api.js";
import { actions } from "./actions.js";
import * as compare from "./compare.js";
import * as drop from "./drop.js";
import * as form from "./form.js";
import * as gallery from "./gallery.js";
import * as keys from "./keys.js";
import * as mask from "./mask.js";
import * as picture from "./picture.js";
import * as queue from "./queue.js";
import * as stage from "./stage.js";
import * as tokens from "./tokens.js";
import * as upscale from "./upscale.js";
import * as views from "./views.js";
import * as weight from "./weight.js";

// The theme: as the system has it, dark, or light.
function theme() {
	const order = ["", "dark", "light"];
	const words = { "": "as the system", dark: "dark", light: "light" };
	const root = document.documentElement;
	const tell = () => $("theme-button").setAttribute("aria-label", `Dark or light: ${words[root.dataset.theme ?? ""]}`);
	$("theme-button").addEventListener("click", () => {
		const now = order[(order.indexOf(root.dataset.theme ?? "") + 1) % order.length];
		if (now) root.dataset.theme = now;
		else delete root.dataset.theme;
		try {
			localStorage.setItem("darkroom.theme", now); // theme.js reads it as it is
		} catch { /* it holds until the page is closed */ }
		tell();
		say(`Colours: ${words[now]}`);
	});
	tell();
}

// The key, where the server asks for one.
function lock() {
	const dialog = $("lock");
	dialog.addEventListener("cancel", (e) => e.preventDefault()); // nothing works without
	onLocked((error) => new Promise((done) => {
		$("lock-error").textContent = error;
		$("lock-key").value = "";
		if (!dialog.open) dialog.showModal();
		$("lock-form").onsubmit = (e) => {
			e.preventDefault();
			setKey($("lock-key").value);
			dialog.close();
			done(true);
		};
	}));
}

// The connection. Nothing that was typed is lost when the server goes, and all goes on when it is back.
let down = false, opened = false, opening = false;

async function open() {
	if (opening) return;
	opening = true;
	try {
		await form.open();
		if (!opened) {
			opened = true;
			views.route();
		}
		await stage.open();
	} catch (err) {
		if (err.status !== 0) fail(err, { text: "Try again", run: open });
	} finally {
		opening = false;
	}
}

function connection() {
	const later1 = later(700, (problem) => { // a short break is not worth a word
		if (!down) return;
		$("banner").textContent = `${problem.status === 0 ? "The server does not answer" : "The connection to the server broke"}. What you have written is kept; the page goes on as soon as darkroom serve is back.`;
		$("banner").classList.add("shown");
	});
	queue.on("down", (problem) => {
		down = true;
		later1(problem);
	});
	queue.on("up", () => {
		if ($("banner").classList.contains("shown")) notice("The server is back.");
		down = false;
		$("banner").textContent = "";
		$("banner").classList.remove("shown");
		open();
	});
}

// Generate.
async function generate(e) {
	e.preventDefault();
	form.clearComplaints();
	if (!form.check()) return;
	const request = form.request();
	if (!request.prompt.trim() && !request.init) {
		form.complain({ param: "prompt", message: "Write what the picture should show." });
		return;
	}
	$("generate").disabled = true;
	try {
		const job = queue.add(await submit({ request }));
		stage.follow(job);
		say("In the queue");
	} catch (err) {
		if (!(err.param && form.complain(err))) fail(err, err.status === 0 ? { text: "Try again", run: () => $("composer").requestSubmit() } : undefined);
	} finally {
		$("generate").disabled = false;
	}
}

function composer() {
	$("composer").addEventListener("submit", generate);
	$("settings").addEventListener("submit", generate);
	$("composer").addEventListener("input", form.clearComplaints);
	$("composer").addEventListener("input", form.touched);
	$("settings").addEventListener("input", form.clearComplaints);
	$("negative-button").addEventListener("click", () => {
		const open = $("negative-row").hidden;
		$("negative-row").hidden = !open;
		$("negative-button").setAttribute("aria-expanded", String(open));
		if (open) $("negative").focus();
	});
	$("reset").addEventListener("click", () => {
		form.apply({ prompt: $("prompt").value, negative: $("negative").value });
		say("All settings are at their defaults");
	});
	$("advanced").open = stored.get("advanced", false);
	$("advanced").addEventListener("toggle", () => stored.set("advanced", $("advanced").open));
}

picture.setup(actions);
for (const m of [stage, queue, gallery, compare, mask, drop, upscale, tokens, keys, views, weight]) m.setup();
theme();
lock();
connection();
composer();
views.onEnter("gallery", gallery.enter);
views.onEnter("compare", compare.enter);
views.route();
open();
queue.start();
