// The three views, each after a # of the address, so that the browser's back works.
import { $ } from "./dom.js";

const names = ["create", "gallery", "compare"];
const enters = {};

export const view = () => (names.includes(location.hash.slice(1)) ? location.hash.slice(1) : names[0]);

// onEnter calls f each time that a view is opened.
export function onEnter(name, f) { enters[name] = f; }

// route shows the view that the address names.
export function route() {
	const now = view();
	for (const v of names) $(v).hidden = v !== now;
	for (const a of document.querySelectorAll("nav a")) {
		if (a.hash === `#${now}`) a.setAttribute("aria-current", "page");
		else a.removeAttribute("aria-current");
	}
	enters[now]?.();
}

// go opens a view, at once: what is in it can have the focus then.
export function go(name) {
	if (view() === name) return;
	location.hash = `#${name}`;
	route();
}

export function setup() {
	addEventListener("hashchange", () => {
		route();
		if (document.activeElement === document.body) $("main").focus({ preventScroll: true }); // what had the focus is hidden now
	});
}
