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

// follow reads the events of path for ever. handlers: event(name, value), up() after each connection, down(problem, again) after
// each loss; again are the ms until the next try.
export async function follow(path, handlers) {
	for (let attempt = 0; ;) {
		const abort = new AbortController();
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
		const again = Math.min(300 * 2 ** attempt++, 5000);
		handlers.down(problem, again);
		await new Promise((go) => {
			setTimeout(go, again);
			addEventListener("online", go, { once: true });
		});
	}
}
