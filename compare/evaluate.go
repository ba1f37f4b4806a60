package compare

import (
	"context"
	"fmt"
	"image"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"

	"darkroom/compare/metrics"
	"darkroom/compare/stats"
	"darkroom/imagefile"
	"darkroom/pipeline"
	"darkroom/tensor"
)

// featuresDir keeps what judges saw, features/JUDGE/ID.f32, so that nothing is looked at twice.
const featuresDir = "features"

// measured is a picture as it is measured.
type measured struct {
	record   *Record
	pixels   *image.NRGBA
	latents  []float32
	features []float64 // nil without a judge
}

// evaluation gathers measures, item by item.
type evaluation struct {
	*session
	judge  *scorer
	report *Report
	items  []Item
	values map[string][][]float64        // by measure: [setting][item], NaN where missing
	seen   []metrics.Features            // by setting: of all items
	ideal  map[string]metrics.Features   // by problem: the converged pictures'
	looks  map[string]map[string]float64 // by problem: the converged pictures' mean look
	drift  map[string][]convergence      // by problem
	// seconds that each picture took: [setting][item]
	seconds [][]float64

	features int // of a picture; 0: not known yet
}

type convergence struct{ rmse, relative, ssim float64 }

// evaluate measures what the folder holds.
func (s *session) evaluate(ctx context.Context, judge *scorer) (*Report, error) {
	e := &evaluation{
		session: s, judge: judge, items: s.Grid.Items(), values: map[string][][]float64{},
		seen:  make([]metrics.Features, len(s.settings)),
		ideal: map[string]metrics.Features{}, looks: map[string]map[string]float64{}, drift: map[string][]convergence{},
		report: &Report{Version: pipeline.Version(), Numerics: pipeline.Numerics, Grid: s.Grid, RankBy: s.RankBy, Price: s.PricePerHour},
	}
	e.report.Judge = judge.name()
	for _, m := range measures() {
		if !m.OfSet {
			e.values[m.Key] = table(len(s.settings), len(e.items))
		}
	}
	if err := e.settingRows(); err != nil {
		return nil, err
	}
	for n, item := range e.items {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.Progress(Progress{Doing: "measuring", Done: n * len(s.settings), Total: len(e.items) * len(s.settings)})
		if err := e.measureItem(ctx, n, item); err != nil {
			return nil, err
		}
	}
	s.Progress(Progress{Doing: "measuring", Done: len(e.items) * len(s.settings), Total: len(e.items) * len(s.settings)})
	e.sets()
	e.references()
	e.rank()
	e.keepMeasures()
	e.flags()
	e.answer()
	return e.report, nil
}

func table(rows, columns int) [][]float64 {
	t := make([][]float64, rows)
	for i := range t {
		t[i] = slices.Repeat([]float64{math.NaN()}, columns)
	}
	return t
}

// measureItem measures all pictures of one item against the item's converged solutions.
func (e *evaluation) measureItem(ctx context.Context, n int, item Item) error {
	ideal := map[string]*measured{}
	for problem, ref := range e.refs {
		x, err := e.load(ctx, ref, item)
		if err != nil {
			return err
		}
		ideal[problem] = x
		if x.features != nil {
			e.ideal[problem] = append(e.ideal[problem], x.features)
		}
		e.addLook(problem, metrics.LookOf(x.pixels))
		if e.checked(n) {
			y, err := e.load(ctx, coarser(ref), item)
			if err != nil {
				return err
			}
			d := metrics.RMSE(x.latents, y.latents)
			e.drift[problem] = append(e.drift[problem], convergence{d, d / metrics.RMSE(y.latents, make([]float32, len(y.latents))), metrics.SSIM(x.pixels, y.pixels)})
		}
	}
	for i, set := range e.settings {
		x, err := e.load(ctx, set, item)
		if err != nil {
			return err
		}
		if x.features != nil {
			e.seen[i] = append(e.seen[i], x.features)
		}
		row := &e.report.Settings[i]
		v, err := e.measurePicture(ctx, x, ideal[set.problemID()], row.Comparable, e.Grid.Prompts[item.Prompt])
		if err != nil {
			return err
		}
		for key, value := range v {
			e.values[key][i][n] = value
		}
		e.report.Pictures = append(e.report.Pictures, PictureResult{
			File: path.Join(imagesDir, x.record.ID+".png"), Setting: row.ID, Prompt: item.Prompt, PromptText: e.Grid.Prompts[item.Prompt], Seed: item.Seed,
			Seconds: x.record.Seconds, Processor: x.record.Processor, Joules: x.record.Joules, Calls: x.record.Calls, Values: v, Command: e.Grid.Command(set, item),
		})
		e.report.Device = deviceText(x.record.Device)
	}
	return nil
}

// measurePicture takes every measure of one picture that can be taken.
func (e *evaluation) measurePicture(ctx context.Context, x, ideal *measured, comparable bool, prompt string) (Values, error) {
	l := metrics.LookOf(x.pixels)
	v := Values{"sharpness": l.Sharpness, "contrast": l.Contrast, "saturation": l.Saturation, "colourful": l.Colourful, "burnt": l.Burnt}
	if ideal != nil && comparable {
		v["rmse"] = metrics.RMSE(x.latents, ideal.latents)
		v["psnr"] = min(metrics.PSNR(x.pixels, ideal.pixels), 100)
		v["ssim"] = metrics.SSIM(x.pixels, ideal.pixels)
		v["msssim"] = metrics.MSSSIM(x.pixels, ideal.pixels)
	}
	if x.features != nil {
		var err error
		if v["agreement"], err = e.judge.agreement(ctx, x.features, prompt); err != nil {
			return nil, err
		}
		v["preference"] = e.judge.preference(x.features)
	}
	for key, value := range v {
		if finite(value) == nil {
			delete(v, key)
		}
	}
	return v, nil
}

// load reads a picture of the folder, and shows it to the judge if it was not before.
func (e *evaluation) load(ctx context.Context, set Setting, item Item) (*measured, error) {
	j, err := e.renderer.job(&e.Grid, set, item, "")
	if err != nil {
		return nil, err
	}
	x := &measured{record: e.folder.pictures[j.key]}
	if x.record == nil {
		return nil, fmt.Errorf("the journal has no picture of %s, seed %d: run the comparison again", set.Scheduler, item.Seed)
	}
	if x.pixels, err = readPicture(e.folder.image(x.record.ID)); err != nil {
		return nil, err
	}
	if x.latents, err = readFloats(e.folder.latents(x.record.ID)); err != nil {
		return nil, err
	}
	if e.judge == nil {
		return x, nil
	}
	file := filepath.Join(e.folder.dir, featuresDir, e.judge.id(), x.record.ID+".f32")
	kept, wrong := readFloats(file)
	if wrong == nil && e.features == 0 { // how many a picture has, only looking at one tells
		seen, err := e.judge.see(ctx, x.pixels)
		if err != nil {
			return nil, err
		}
		e.features = len(seen)
	}
	if wrong != nil || len(kept) != e.features { // they are not there, or not whole
		if kept, err = e.judge.see(ctx, x.pixels); err == nil {
			e.features, err = len(kept), writeBeside(file, tensor.Bytes(kept))
		}
	}
	for _, f := range kept {
		x.features = append(x.features, float64(f))
	}
	return x, err
}

func readPicture(name string) (*image.NRGBA, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p, err := imagefile.Decode(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w: remove the file, and it is made again", name, err)
	}
	return p, nil
}

func readFloats(name string) ([]float32, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if len(b)%4 != 0 || len(b) == 0 {
		return nil, fmt.Errorf("%s: %d bytes are no float32 values: remove the file, and it is made again", name, len(b))
	}
	return slices.Clone(tensor.Floats(b)), nil
}

func (e *evaluation) addLook(problem string, l metrics.Look) {
	if e.looks[problem] == nil {
		e.looks[problem] = map[string]float64{}
	}
	n := float64(len(e.items))
	for key, v := range map[string]float64{"sharpness": l.Sharpness, "contrast": l.Contrast, "saturation": l.Saturation, "burnt": l.Burnt} {
		e.looks[problem][key] += v / n
	}
}

// sets takes the measures of a setting's pictures together.
func (e *evaluation) sets() {
	if e.judge == nil {
		return
	}
	for i, set := range e.settings {
		put := func(key string, v float64) {
			if finite(v) != nil {
				e.report.Settings[i].Values[key] = Estimate{Mean: v}
			}
		}
		made, ideal := e.seen[i], e.ideal[set.problemID()]
		if ideal != nil && len(made) >= 2 {
			put("cmmd", metrics.CMMD(made, ideal))
		}
		if ideal != nil && len(made) >= enoughPictures {
			put("frechet", metrics.Frechet(made, ideal))
			put("kid", metrics.KID(made, ideal))
			const k = 3 // neighbours, as in the paper
			precision, recall := metrics.PrecisionRecall(made, ideal, k)
			put("precision", precision)
			put("recall", recall)
		}
		if n := e.Grid.Seeds; n >= 2 {
			var distance, vendi float64
			for p := range e.Grid.Prompts {
				seeds := made[p*n : (p+1)*n]
				distance += metrics.MeanDistance(seeds)
				vendi += metrics.Vendi(seeds)
			}
			put("diversity", distance/float64(len(e.Grid.Prompts)))
			put("vendi", vendi/float64(len(e.Grid.Prompts)))
		}
	}
}

// references says how far each converged solution is converged.
func (e *evaluation) references() {
	names, seen := problemNames(e.settings), map[string]bool{}
	for _, set := range e.settings {
		problem := set.problemID()
		ref, ok := e.refs[problem]
		if !ok || seen[problem] {
			continue
		}
		seen[problem] = true
		name := fmt.Sprintf("%s, %d steps", ref.Scheduler, ref.Steps)
		if names[problem] != "" {
			name += ", " + names[problem]
		}
		r := ReferenceResult{Name: name, Of: names[problem], Problem: set.problem(), Checked: len(e.drift[problem]), Files: map[string]string{}}
		median := func(get func(convergence) float64) *float64 {
			var v []float64
			for _, c := range e.drift[problem] {
				v = append(v, get(c))
			}
			return finite(stats.Quantiles(v, 0.5)[0])
		}
		r.Relative = median(func(c convergence) float64 { return c.relative })
		r.RMSE = median(func(c convergence) float64 { return c.rmse })
		r.SSIM = median(func(c convergence) float64 { return c.ssim })
		for _, item := range e.items {
			if j, err := e.renderer.job(&e.Grid, ref, item, ""); err == nil {
				if rec := e.folder.pictures[j.key]; rec != nil {
					r.Files[fmt.Sprintf("%d/%d", item.Prompt, item.Seed)] = path.Join(imagesDir, rec.ID+".png")
				}
			}
		}
		e.report.References = append(e.report.References, r)
	}
}
