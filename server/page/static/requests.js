// What a picture's settings make of a request.
import * as form from "./form.js";

// settingsOf are a picture's settings as a request takes them: what the server's table has, without what is only told.
export function settingsOf(picture) {
	const known = new Set(form.settingRows().map((r) => r.name));
	return Object.fromEntries(Object.entries(picture.settings ?? {}).map(([name, v]) => [name.replaceAll("-", "_"), v])
		.filter(([name, v]) => known.has(name) && v !== null));
}

// basisOf are the settings for a picture that starts from this one: what turned or enlarged its noise is done, and another seed
// is drawn.
export function basisOf(picture) {
	const { seed, init, mask, mask_blur, invert_mask, inpaint, padding, outpaint, variation, hires, count, strength, ...rest } = settingsOf(picture);
	return rest;
}
