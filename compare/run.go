package compare

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"darkroom/compare/stats"
	"darkroom/pipeline"
)

// Options of a comparison.
type Options struct {
	Grid   Grid
	Engine pipeline.Options // Model and DType are the grid's
	Out    string           // the report folder
	// NewGrid takes a folder that holds another grid: its report is set aside, its pictures are used where they fit.
	NewGrid bool

	Judge        string  // folder of a judge; "": the embedded model's own, where there is one; "none": none
	RankBy       string  // the measure that decides; "": chosen by what there is
	Noticeable   float64 // a loss of the deciding measure that nobody notices; 0: the measure's own
	PricePerHour float64 // of the machine, in any currency; 0: costs are not shown

	Begin    func(Planned)        // is called before the first picture; may be nil
	Progress func(Progress)       // may be nil
	Warn     func(message string) // may be nil
}

// Progress of the whole grid.
type Progress struct {
	Doing       string
	Done, Total int           // pictures, those of earlier runs included
	Left        time.Duration // an estimate; 0: not known yet
}

// reference is the solver whose many small steps stand for the converged solution, and what is tried where a model has no
// use for it.
var references = []string{"dpm++2m-karras", "dpm++2m", "flow-heun"}

// checkedItems is for how many items the reference's own convergence is measured.
const checkedItems = 4

// session is a comparison at work.
type session struct {
	Options
	renderer *renderer
	folder   *folder
	settings []Setting
	refs     map[string]Setting // by a setting's problem: the reference's setting
	warned   map[string]bool
}

// Run renders what is missing in the folder, measures everything, and writes the report. Interrupted at any time, it goes
// on where it was when called again.
func Run(ctx context.Context, o Options) (*Report, error) {
	s, head, err := begin(o)
	if err != nil {
		return nil, err
	}
	defer s.renderer.Close()
	s.renderer.meter = openMeter(o.Engine)
	judge, err := openJudge(o.Judge, o.Grid.Axes["model"], o.Engine)
	if err != nil {
		return nil, err
	}
	if judge != nil {
		defer judge.Close()
	}
	if o.RankBy != "" {
		if err := checkMeasure(o.RankBy, judge != nil, o.Grid.ReferenceSteps > 0); err != nil {
			return nil, err
		}
	}
	if s.folder, err = openFolder(o.Out, head, o.NewGrid); err != nil {
		return nil, err
	}
	defer s.folder.Close()
	if o.Begin != nil {
		p, err := s.planned(ctx)
		if err != nil {
			return nil, err
		}
		o.Begin(p)
	}
	if o.Grid.Budget > 0 {
		if err := s.search(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.renderAll(ctx); err != nil {
		return nil, err
	}
	r, err := s.evaluate(ctx, judge)
	if err != nil {
		return nil, err
	}
	return r, writeReport(s.folder.dir, r)
}

func (s *session) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !s.warned[text] {
		s.warned[text] = true
		s.Warn(text)
	}
}

// header opens the models and writes down what they are.
func (s *session) header() (header, error) {
	h := header{Grid: s.Grid, Hashes: map[string]string{}, Numerics: pipeline.Numerics}
	for _, model := range or(s.Grid.Axes["model"], "") {
		for _, dtype := range or(s.Grid.Axes["dtype"], "auto") {
			p, err := s.renderer.pipeline(model.(string), dtype.(string))
			if err != nil {
				return h, err
			}
			hash, err := p.Hash()
			if err != nil {
				return h, err
			}
			h.Hashes[modelName(model.(string))] = hash
		}
	}
	h.Backend = s.renderer.backend()
	return h, nil
}

// firstSteps are the axis, or, where a budget decides them later, those that the search begins with.
func (s *session) firstSteps(set Setting) []int {
	fixed, why := set.fixedSteps()
	switch {
	case why != "":
		if len(s.Grid.Axes["steps"]) > 0 {
			s.warn("%s: --steps is for the other settings, it runs once", why)
		}
		return []int{fixed}
	case s.Grid.Budget > 0:
		return trialSteps
	}
	var steps []int
	for _, n := range or(s.Grid.Axes["steps"], any(set.Steps)) {
		steps = append(steps, n.(int))
	}
	return steps
}

// plan makes the settings and checks each against its model. Settings that are the same under two names are one.
func (s *session) plan(steps func(Setting) []int) error {
	all, err := s.Grid.settings(s.renderer.defaults, steps)
	if err != nil {
		return err
	}
	s.settings = nil
	seen := map[string]Setting{}
	item := s.Grid.Items()[0]
	for _, set := range all {
		j, err := s.renderer.job(&s.Grid, set, item, "")
		if err != nil {
			return err
		}
		if same, ok := seen[j.key]; ok {
			varies := varying([]Setting{same, set})
			s.warn("%s and %s are the same: it is run once", same.Name(varies), set.Name(varies))
			continue
		}
		seen[j.key] = set
		for _, w := range j.plan.Warnings {
			s.warn("%s", w)
		}
		s.settings = append(s.settings, set)
		if err := s.addReference(set, item); err != nil {
			return err
		}
	}
	return nil
}

func everyAxis(string) bool { return true }
func none(string) bool      { return false }

func (s *session) addReference(set Setting, item Item) error {
	if _, ok := s.refs[set.problemID()]; ok || s.Grid.ReferenceSteps == 0 {
		return nil
	}
	var err error
	for _, name := range references {
		ref := set.problem()
		ref.Scheduler, ref.Steps = name, s.Grid.ReferenceSteps
		if _, err = s.renderer.job(&s.Grid, ref, item, ""); err == nil {
			s.refs[set.problemID()] = ref
			return nil
		}
	}
	return fmt.Errorf("the converged solution: %w: choose other --reference-steps, or 0 for none", err)
}

// coarser is the reference with half the steps, by which its convergence is known: of a solver of second order, the reference is three
// times nearer to the limit than to this one.
func coarser(ref Setting) Setting {
	ref.Steps /= 2
	return ref
}

// jobs lists everything that the report needs, item by item, in an order within each item that is shuffled anew.
func (s *session) jobs() ([]job, error) {
	var all []job
	for n, item := range s.Grid.Items() {
		var block []job
		add := func(set Setting, purpose string) error {
			j, err := s.renderer.job(&s.Grid, set, item, purpose)
			block = append(block, j)
			return err
		}
		for _, set := range s.settings {
			if err := add(set, ""); err != nil {
				return nil, err
			}
		}
		for _, ref := range s.references() {
			if err := add(ref, "reference"); err != nil {
				return nil, err
			}
			if s.checked(n) {
				if err := add(coarser(ref), "convergence of the reference"); err != nil {
					return nil, err
				}
			}
		}
		for _, i := range shuffled(len(block), uint64(n)) {
			all = append(all, block[i])
		}
	}
	return all, nil
}

// references lists the references in a fixed order.
func (s *session) references() []Setting {
	var refs []Setting
	for _, ref := range s.refs {
		refs = append(refs, ref)
	}
	sort.Slice(refs, func(i, j int) bool { return refs[i].ID() < refs[j].ID() })
	return refs
}

// checked says whether the reference's convergence is measured on item n: on a few, spread over the list.
func (s *session) checked(n int) bool {
	items := len(s.Grid.Prompts) * s.Grid.Seeds
	stride := max(items/checkedItems, 1)
	return n%stride == 0 && n/stride < checkedItems
}

func (s *session) renderAll(ctx context.Context) error {
	jobs, err := s.jobs()
	if err != nil {
		return err
	}
	return s.renderJobs(ctx, jobs, "rendering")
}

// renderJobs renders those jobs that the folder does not have.
func (s *session) renderJobs(ctx context.Context, jobs []job, doing string) error {
	var left float64
	missing := jobs[:0:0]
	queued := map[string]bool{}
	for _, j := range jobs {
		if s.folder.pictures[j.key] == nil && !queued[j.key] {
			queued[j.key] = true
			missing = append(missing, j)
			left += j.cost()
		}
	}
	p := Progress{Doing: doing, Total: len(jobs), Done: len(jobs) - len(missing)}
	var spent float64
	begun := time.Now()
	for _, j := range missing {
		s.Progress(p)
		if err := ctx.Err(); err != nil {
			return err
		}
		record, png, latents, err := s.renderer.render(ctx, j)
		if err != nil {
			return fmt.Errorf("%s, prompt %d (%.40q), seed %d: %w", j.Setting.Name(everyAxis),
				j.Item.Prompt+1, s.Grid.Prompts[j.Item.Prompt], j.Item.Seed, err)
		}
		if err := s.folder.save(record, png, latents); err != nil {
			return err
		}
		spent, left = spent+j.cost(), left-j.cost()
		p.Done++
		p.Left = time.Duration(left / spent * float64(time.Since(begun)))
	}
	s.Progress(p)
	return nil
}

// trialSteps are timed to learn what a step costs, each on trialItems items.
var trialSteps = []int{3, 8}

const trialItems = 3

// mostSteps is the largest number of steps that a budget tries: what more would change is not to be seen.
const mostSteps = 150

// search finds the numbers of steps that each scheduler has time for: a picture takes a + b·steps, by two trials; tried are the
// most steps within the budget, and 70 % and 50 % of those.
func (s *session) search(ctx context.Context) error {
	trials := slices.Clone(s.settings)
	items := s.Grid.Items()
	items = items[:min(trialItems, len(items))]
	var jobs []job
	for n, item := range items {
		for _, i := range shuffled(len(trials), uint64(n)) {
			j, err := s.renderer.job(&s.Grid, trials[i], item, "budget")
			if err != nil {
				return err
			}
			jobs = append(jobs, j)
		}
	}
	if err := s.renderJobs(ctx, jobs, "timing each scheduler"); err != nil {
		return err
	}
	times := map[string]map[int][]float64{} // by group, by steps
	for _, j := range jobs {
		g := j.Setting.Group().ID()
		if times[g] == nil {
			times[g] = map[int][]float64{}
		}
		times[g][j.Setting.Steps] = append(times[g][j.Setting.Steps], s.folder.pictures[j.key].Seconds)
	}
	s.refs = map[string]Setting{}
	if err := s.plan(func(set Setting) []int { return s.within(set, times[set.Group().ID()]) }); err != nil {
		return err
	}
	if len(s.settings) == 0 {
		return usagef("--budget %gs: no scheduler makes a picture in that time: give more", s.Grid.Budget)
	}
	return nil
}

// within are the numbers of steps to try for a setting, given the times of its trials.
func (s *session) within(set Setting, times map[int][]float64) []int {
	median := func(steps int) float64 { return stats.Quantiles(times[steps], 0.5)[0] }
	if fixed, why := set.fixedSteps(); why != "" {
		if t := median(fixed); t > s.Grid.Budget {
			s.warn("%s takes %.3g s, more than the budget of %g s: it is left out", set.Name(none), t, s.Grid.Budget)
			return nil
		}
		return []int{fixed}
	}
	few, many := median(trialSteps[0]), median(trialSteps[1])
	step := (many - few) / float64(trialSteps[1]-trialSteps[0])
	start := few - step*float64(trialSteps[0])
	if step <= 0 || start < 0 { // times that a busy machine has blurred: all of it is steps
		step, start = many/float64(trialSteps[1]), 0
	}
	most := int(math.Floor((s.Grid.Budget - start) / step))
	if most < 1 {
		s.warn("%s takes %.3g s for one step, more than the budget of %g s: it is left out", set.Scheduler, start+step, s.Grid.Budget)
		return nil
	}
	most = min(most, mostSteps)
	steps := []int{most, (most*7 + 5) / 10, (most + 1) / 2}
	slices.Sort(steps)
	return slices.Compact(slices.DeleteFunc(steps, func(n int) bool { return n < 1 }))
}
