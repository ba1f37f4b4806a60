// Ctrl with the arrows up and down weighs the chosen words, or the word at the cursor, more or less: (word:1.1).

// weigh answers how a text changes: { start, end, text, from, to }, where text takes the place from start to end, and from and to
// are what is chosen then. null: there is no word.
export function weigh(value, start, end, by) {
	if (start === end) {
		const around = [...value.matchAll(/\(([^()]*):(-?[\d.]+)\)/g)].find((m) => m.index < start && start < m.index + m[0].length);
		if (around) {
			start = around.index + 1;
			end = start + around[1].length;
		} else {
			const isWord = (c) => c !== undefined && /[\p{L}\p{N}'’-]/u.test(c);
			while (isWord(value[start - 1])) start--;
			while (isWord(value[end])) end++;
		}
	} else {
		while (start < end && value[start] === " ") start++;
		while (end > start && value[end - 1] === " ") end--;
	}
	if (start === end) return null;
	const words = value.slice(start, end);
	const behind = /^:(-?[\d.]+)\)/.exec(value.slice(end));
	const weighed = value[start - 1] === "(" && behind;
	const weight = Math.round(10 * (weighed ? Number(behind[1]) : 1) + 10 * by) / 10;
	if (weighed) {
		start--;
		end += behind[0].length;
	}
	const text = weight === 1 ? words : `(${words}:${weight})`;
	const from = start + (weight === 1 ? 0 : 1);
	return { start, end, text, from, to: from + words.length };
}

export function setup() {
	for (const area of document.querySelectorAll("#prompt, #negative, #painter-prompt")) {
		area.addEventListener("keydown", (e) => {
			if (!(e.ctrlKey || e.metaKey) || e.altKey || e.shiftKey || (e.key !== "ArrowUp" && e.key !== "ArrowDown")) return;
			const change = weigh(area.value, area.selectionStart, area.selectionEnd, e.key === "ArrowUp" ? 0.1 : -0.1);
			if (!change) return;
			e.preventDefault();
			area.setSelectionRange(change.start, change.end);
			// As if typed, so that it can be taken back with Ctrl Z; where the browser has no such command, without.
			if (!document.execCommand("insertText", false, change.text)) {
				area.setRangeText(change.text, change.start, change.end, "end");
				area.dispatchEvent(new Event("input", { bubbles: true }));
			}
			area.setSelectionRange(change.from, change.to);
		});
	}
}
