// The server's events, read with fetch (an EventSource cannot send a key), and again after each loss of the connection.
import { send, parse, Problem } from "./api.js";

// Lines of text/event-stream (WHATWG HTML, 9.2) from chunks of text: on(event, data) for each event.
export function parser(on) {
	let rest = "", event = "", data = [];
	return (chunk) => {
		const lines = (rest + chunk).split(/\r\n|\n|\r(?!$)/);
		rest = lines.pop();
		for (const line of lines) {
			if (line === "") {
				if (data.length) on(event || "message", data.join("\n"));
				event = "";
				data = [];
				continue;
			}
			const [, field, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
			if (field === "event") event = value ?? "";
			if (field === "data") data.push(value ?? "");
		}
	};
}

const silence = 40_000; // ms: the server says something every 15 s
const unseen = 60_000; // ms after which a hidden page with nothing to wait for lets go: browsers have six connections to a server

// follow reads the events of path for ever. handlers: event(name, value), up() after each connection, down(problem, again) after
// each loss; again are the ms until the next try. idle() says whether nothing is waited for.
export async function follow(path, handlers) {
	let abort, resting = false, wake = () => {}, hidden;
	document.addEventListener("visibilitychange", () => {
		clearInterval(hidden);
		if (!document.hidden) wake();
		else hidden = setInterval(() => {
			resting = handlers.idle();
			if (resting) abort.abort();
		}, unseen);
	});
	for (let attempt = 0; ;) {
		abort = new AbortController();
		let timer;
		const alive = () => {
			clearTimeout(timer);
			timer = setTimeout(() => abort.abort(), silence);
		};
		let problem = new Problem("The connection ended.");
		try {
			alive();
			const answer = await send(path, { headers: { Accept: "text/event-stream" }, signal: abort.signal });
			const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
			const feed = parser((name, text) => {
				let value;
				try {
					value = parse(text);
				} catch {
					return; // not ours
				}
				handlers.event(name, value);
			});
			handlers.up();
			for (;;) {
				const { done, value } = await reader.read();
				if (done) break;
				attempt = 0;
				alive();
				feed(value);
			}
		} catch (err) {
			problem = err;
		}
		clearTimeout(timer);
		if (resting) {
			resting = false;
			if (document.hidden) await new Promise((go) => { wake = go; });
			attempt = 0;
			continue;
		}
		const again = Math.min(300 * 2 ** attempt++, 5000);
		handlers.down(problem, again);
		await new Promise((go) => {
			setTimeout(go, again);
			addEventListener("online", go, { once: true });
		});
	}
}
