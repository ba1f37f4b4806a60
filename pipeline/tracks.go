package pipeline

import (
	"fmt"
	"path/filepath"
	"slices"

	"darkroom/family"
	"darkroom/imagefile"
	"darkroom/prompt"
	"darkroom/recipe"
	"darkroom/tensor"
)

// track is what one row of the denoiser reads over the steps.
type track struct {
	name  string // of the text, for messages
	texts []prompt.Timed
	// share is how much of the direction from the unconditional prediction to this row's is taken (Liu et al. 2022, composable
	// diffusion), everywhere or by latents, [h,w].
	weight float64
	mask   []float32
}

// tracks are all of them: of the prompt, of what is joined to it by AND and of its regions, of the negative and the empty prompt.
type tracks struct {
	conds    []track // at least one
	uncond   track
	composed bool    // the conds have weights: the unconditional prediction is needed
	toward   float64 // how far the conditions of conds[0] go towards those of target
	target   track
	files    []recipe.File
}

// maxTimedBytes bounds the texts that a prompt can become in all of its steps.
const maxTimedBytes = 16 << 20

// settleTracks reads the prompts. before is the number of steps that an earlier pass made.
func (p *Pipeline) settleTracks(pl *plan, before int) error {
	steps := prompt.Steps{Count: pl.schedule.Steps(), Before: before}
	if steps.Count < 1 { // dpm-adaptive: the steps are those that were asked for
		steps.Count = max(pl.Steps, 1)
	}
	if n := len(pl.Prompt) + len(pl.Negative) + len(pl.Regions) + len(pl.Toward); n*steps.Count > maxTimedBytes && pl.Syntax == recipe.Weighted {
		return usagef("%d bytes of prompts that may change over %d steps: use less of either, or --prompt-syntax plain", n, steps.Count)
	}
	read := func(name, text string) []track {
		if pl.Syntax != recipe.Weighted {
			return []track{{name: name, texts: []prompt.Timed{{Until: steps.Count, Text: text}}, weight: 1}}
		}
		var list []track
		for _, part := range prompt.Parse(text, steps) {
			list = append(list, track{name: name, texts: part.Texts, weight: part.Weight})
		}
		return list
	}
	// The negative prompt is one, as in the web UI.
	negative := []prompt.Timed{{Until: steps.Count, Text: pl.Negative}}
	if pl.Syntax == recipe.Weighted {
		negative = prompt.Schedule(pl.Negative, steps)
	}
	t := tracks{conds: read(textNames[condRow], pl.Prompt), uncond: track{name: textNames[uncondRow], texts: negative}}
	if len(t.conds) == 1 && t.conds[0].weight != 1 && p.model.Denoiser.ReadsGuidance() {
		t.conds[0].weight = 1 // there is no direction to weigh
		pl.warnings = append(pl.warnings, "the prompt ends with a weight, which has no effect with this model, because it reads the guidance scale itself")
	} else if len(t.conds) == 1 && t.conds[0].weight != 1 && before == 0 {
		pl.warnings = append(pl.warnings, fmt.Sprintf("the prompt ends with :%v, which multiplies its guidance, as in the web UIs: write \\:%v to mean the characters", t.conds[0].weight, t.conds[0].weight))
	}
	share, text, err := recipe.ParseToward(pl.Toward)
	switch {
	case err != nil:
		return usagef("--toward %w", err)
	case pl.Toward != "" && len(t.conds) > 1:
		return usagef("--toward leads from one prompt to another, but this one joins %d with AND", len(t.conds))
	case pl.Toward != "":
		target := read("the prompt of --toward", text)
		if len(target) > 1 {
			return usagef("--toward leads to one prompt, but this one joins %d with AND", len(target))
		}
		t.toward, t.target = share, target[0]
	}
	if err := p.addRegions(pl, &t, read); err != nil {
		return err
	}
	t.composed = len(t.conds) > 1 || t.conds[0].weight != 1
	if most := 64; len(t.conds) > most {
		return usagef("the prompt joins %d with AND: at most %d are allowed", len(t.conds), most)
	}
	if t.composed && p.model.Denoiser.ReadsGuidance() {
		return usagef("several prompts, joined with AND or --regions, need guidance with a negative prompt, which this model does not have")
	}
	pl.tracks = t
	return nil
}

// addRegions adds the prompts of regions. Where they overlap they share; where none is, the prompt holds.
func (p *Pipeline) addRegions(pl *plan, t *tracks, read func(name, text string) []track) error {
	regions, err := recipe.ParseRegions(pl.Regions)
	if err != nil {
		return usagef("--regions %w", err)
	}
	if len(regions) == 0 {
		return nil
	}
	rest := make([]float32, pl.latentH*pl.latentW)
	sum := slices.Clone(rest)
	var added []track
	for _, r := range regions {
		mask, err := p.area(pl, t, r.Area)
		if err != nil {
			return err
		}
		parts := read(fmt.Sprintf("the prompt of region %s", r.Area), r.Prompt)
		if len(parts) > 1 {
			return usagef("--regions %s: its prompt joins %d with AND: a region takes only one", r.Area, len(parts))
		}
		parts[0].mask = mask
		for i, v := range mask {
			sum[i] += v
		}
		added = append(added, parts[0])
	}
	for i, v := range sum {
		rest[i] = max(1-v, 0)
		for _, a := range added {
			a.mask[i] /= max(v, 1)
		}
	}
	for i := range t.conds {
		t.conds[i].mask = rest
	}
	t.conds = append(t.conds, added...)
	return nil
}

// area is a region's share of each latent.
func (p *Pipeline) area(pl *plan, t *tracks, area string) ([]float32, error) {
	h, w := pl.latentH, pl.latentW
	mask := make([]float32, h*w)
	box, ok, err := recipe.Rectangle(area)
	if err != nil {
		return nil, usagef("--regions %w", err)
	}
	if ok {
		covered := func(i, n int, from, to float64) float64 { // of the latent from i to i+1
			return max(min(float64(i+1), to*float64(n))-max(float64(i), from*float64(n)), 0)
		}
		for i := range mask {
			mask[i] = float32(covered(i%w, w, box[0], box[2]) * covered(i/w, h, box[1], box[3]))
		}
		return mask, nil
	}
	picture, err := imagefile.Load(area)
	if err != nil {
		return nil, usagef("--regions: %w", err)
	}
	size := *pl
	size.Resize, size.MaskBlur, size.InvertMask = "stretch", 0, false
	full := readMask(picture.Pixels, &size.Request)
	small := smaller(full, pl.Width, w, h, p.model.Latent.Factor, true)
	if !slices.ContainsFunc(small, func(v float32) bool { return v > 0 }) {
		return nil, usagef("--regions: the mask %s is black, so the region is empty (white marks the region)", area)
	}
	t.files = append(t.files, recipe.File{Kind: "region", Name: filepath.Base(area), SHA256: picture.SHA256})
	return small, nil
}

// regionNames are the regions with files by their names alone.
func (pl *plan) regionNames() string {
	regions, err := recipe.ParseRegions(pl.Regions)
	if err != nil {
		panic("pipeline: " + err.Error()) // the plan checked it
	}
	for i, r := range regions {
		if _, ok, _ := recipe.Rectangle(r.Area); !ok {
			regions[i].Area = filepath.Base(r.Area)
		}
	}
	return recipe.FormatRegions(regions)
}

// all are the tracks whose texts are encoded, those of prompts first, and how many these are.
func (pl *plan) all() (list []track, prompts int) {
	list = slices.Clone(pl.tracks.conds)
	if pl.targets() > 0 {
		list = append(list, pl.tracks.target)
	}
	prompts = len(list)
	if n := pl.baseRows(); n > uncondRow {
		list = append(list, pl.tracks.uncond)
		if n > emptyRow && !pl.instructs() { // which reads the negative prompt in two rows
			list = append(list, track{name: textNames[emptyRow], texts: []prompt.Timed{{}}})
		}
	}
	return list, prompts
}

// script is what each of a denoiser's rows reads in each step.
type script struct {
	tracks []track         // by row
	conds  [][]family.Cond // by row, of each of its texts
}

// targets is how many prompts the way leads to: 0 or 1.
func (pl *plan) targets() int {
	if pl.tracks.target.texts != nil {
		return 1
	}
	return 0
}

// script puts the conditions of encoded texts to the rows that read them, in the order of the denoiser's batch: the prompt, the
// negative and the empty one, and then further prompts.
func (pl *plan) script(list []track, conds [][]family.Cond) script {
	conditions := func(i int) (s script) { return script{slices.Clip(list[i : i+1]), slices.Clip(conds[i : i+1])} }
	n := len(pl.tracks.conds)
	s := conditions(0)
	if pl.targets() > 0 {
		s = toward(s, conditions(n), pl.tracks.toward)
	}
	add := func(i int) { s = script{append(s.tracks, list[i]), append(s.conds, conds[i])} }
	for i := n + pl.targets(); i < len(list); i++ {
		add(i)
	}
	if len(s.tracks) < pl.baseRows() {
		add(len(list) - 1)
	}
	for i := 1; i < n; i++ {
		add(i)
	}
	return s
}

// toward turns the conditions of a row towards those of another.
func toward(a, b script, share float64) script {
	out := script{[]track{{name: a.tracks[0].name}}, make([][]family.Cond, 1)}
	var ends []int
	for _, t := range slices.Concat(a.tracks[0].texts, b.tracks[0].texts) {
		ends = append(ends, t.Until)
	}
	slices.Sort(ends)
	for _, end := range slices.Compact(ends) {
		i, j := prompt.At(a.tracks[0].texts, end), prompt.At(b.tracks[0].texts, end)
		out.tracks[0].texts = append(out.tracks[0].texts, prompt.Timed{Until: end})
		out.conds[0] = append(out.conds[0], slerpCond(a.conds[0][i], b.conds[0][j], share))
	}
	return out
}

// slerpCond turns conditions a towards b by the share t, each vector of the last axis along its arc; those that are all but
// parallel along the straight line.
func slerpCond(a, b family.Cond, t float64) family.Cond {
	out := family.Cond{}
	for name, v := range a {
		x, y := tensor.Floats(v.Data), tensor.Floats(b[name].Data)
		width := v.Shape[len(v.Shape)-1]
		turned := make([]float32, len(x))
		for i := 0; i < len(x); i += width {
			var aa, bb, ab float64
			for k := i; k < i+width; k++ {
				p, q := float64(x[k]), float64(y[k])
				aa, bb, ab = aa+p*p, bb+q*q, ab+p*q
			}
			fa, fb := slerpShares(aa, bb, ab, t)
			for k := i; k < i+width; k++ {
				turned[k] = float32(fa*float64(x[k]) + fb*float64(y[k]))
			}
		}
		out[name] = tensor.Of(turned, v.Shape...)
	}
	return out
}

// read has the rows read what holds in a step, and says whether that is something else.
func (d *denoiser) read(step int) (changed bool) {
	for i, t := range d.script.tracks {
		if n := prompt.At(t.texts, step); n != d.reads[i] {
			d.reads[i] = n
			d.conds[i] = d.plan.references.shown(d.script.conds[i][n])
			changed = true
		}
	}
	return changed
}

// compose puts the directions of several prompts together, in the first row: u + Σₖ wₖ·mₖ·(cₖ − u) with the unconditional
// prediction u (Liu et al. 2022, equation 11).
func (d *denoiser) compose() {
	first, base := d.rows[condRow], d.rows[d.plan.baseRows():]
	uncond := d.rows[uncondRow]
	for i, u := range uncond {
		sum := d.direction(0, i, first[i]-u)
		for k, row := range base {
			sum += d.direction(k+1, i, row[i]-u)
		}
		first[i] = u + sum
	}
}

// direction is the share of a prompt's direction that is taken of latent i.
func (d *denoiser) direction(k, i int, v float32) float32 {
	t := &d.plan.tracks.conds[k]
	v *= float32(t.weight)
	if t.mask != nil {
		v *= t.mask[i%len(t.mask)]
	}
	return v
}
