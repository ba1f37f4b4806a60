// A mask as a list of strokes, so that each can be taken back. What is painted is opaque on a transparent canvas.

export class Mask {
	constructor(canvas, colour) {
		this.canvas = canvas;
		this.context = canvas.getContext("2d");
		this.colour = colour;
		this.done = []; // { erase, size, points: [[x, y], …] }, or { whole: "clear" | "invert" }
		this.undone = [];
		this.open = null; // the stroke that is being drawn
	}

	begin(x, y, size, erase) {
		this.open = { erase, size, points: [[x, y]] };
		this.undone = [];
		this.segment(this.open, 0);
	}

	to(x, y) {
		if (!this.open) return;
		this.open.points.push([x, y]);
		this.segment(this.open, this.open.points.length - 1);
	}

	end() {
		if (!this.open) return;
		this.done.push(this.open);
		this.open = null;
	}

	whole(what) {
		this.end();
		this.done.push({ whole: what });
		this.undone = [];
		this.apply(this.done[this.done.length - 1]);
	}

	undo() {
		this.end();
		if (!this.done.length) return;
		this.undone.push(this.done.pop());
		this.redraw();
	}

	redo() {
		if (!this.undone.length) return;
		this.done.push(this.undone.pop());
		this.redraw();
	}

	redraw() {
		this.wipe();
		for (const s of this.done) this.apply(s);
	}

	wipe() {
		this.context.globalCompositeOperation = "source-over";
		this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
	}

	apply(s) {
		if (s.whole === "clear") {
			this.wipe();
		} else if (s.whole === "invert") {
			this.context.globalCompositeOperation = "source-out"; // all of the new that lies on nothing
			this.context.fillStyle = this.colour;
			this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
		} else {
			for (let i = 0; i < s.points.length; i++) this.segment(s, i);
		}
	}

	// segment draws the part of a stroke that leads to point i. The first is a dot.
	segment(s, i) {
		const c = this.context;
		c.globalCompositeOperation = s.erase ? "destination-out" : "source-over";
		c.strokeStyle = c.fillStyle = this.colour;
		c.beginPath();
		if (i === 0) {
			c.arc(...s.points[0], s.size / 2, 0, 2 * Math.PI);
			c.fill();
			return;
		}
		c.lineWidth = s.size;
		c.lineCap = "round";
		c.moveTo(...s.points[i - 1]);
		c.lineTo(...s.points[i]);
		c.stroke();
	}

	// share is how much is painted, 0 to 1, looked at in 96 × 96 places.
	share() {
		const small = document.createElement("canvas");
		small.width = small.height = 96;
		const c = small.getContext("2d", { willReadFrequently: true });
		c.drawImage(this.canvas, 0, 0, 96, 96);
		const { data } = c.getImageData(0, 0, 96, 96);
		let sum = 0;
		for (let i = 3; i < data.length; i += 4) sum += data[i];
		return sum / (255 * 96 * 96);
	}

	// file is the mask as the API takes it: a PNG of the picture's size, white where it is painted, else black.
	file() {
		const white = document.createElement("canvas");
		white.width = this.canvas.width;
		white.height = this.canvas.height;
		const c = white.getContext("2d");
		c.drawImage(this.canvas, 0, 0);
		c.globalCompositeOperation = "source-in";
		c.fillStyle = "#fff";
		c.fillRect(0, 0, white.width, white.height);
		c.globalCompositeOperation = "destination-over";
		c.fillStyle = "#000";
		c.fillRect(0, 0, white.width, white.height);
		return new Promise((done, failed) => white.toBlob((b) => (b ? done(b) : failed(new Error("The mask could not be written."))), "image/png"));
	}
}
