package compare

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"darkroom/pipeline"
)

// Planned is what a comparison is going to make.
type Planned struct {
	Settings   int      `json:"settings"`
	Names      []string `json:"names"`
	Prompts    int      `json:"prompts"`
	Seeds      int      `json:"seeds"`
	Pictures   int      `json:"pictures"`   // all that the report needs
	References int      `json:"references"` // of them, those of converged solutions
	Left       int      `json:"left"`       // of them, those that the folder does not have
	Calls      int      `json:"calls"`      // of the model, for those
	Seconds    float64  `json:"seconds"`    // an estimate, from two steps that were timed
	Most       bool     `json:"most,omitempty"`
}

// Plan says what Run would make, without touching the folder. Each model is opened, and two of its steps are timed.
func Plan(ctx context.Context, o Options) (Planned, error) {
	s, _, err := begin(o)
	if err != nil {
		return Planned{}, err
	}
	defer s.renderer.Close()
	s.folder = &folder{dir: o.Out, pictures: map[string]*Record{}}
	if o.Out != "" {
		if _, _, err := s.folder.read(filepath.Join(o.Out, journalFile)); err != nil {
			return Planned{}, err
		}
	}
	return s.planned(ctx)
}

// begin checks the options, opens the models and makes the settings; it refuses what cannot be done before the folder is touched.
func begin(o Options) (*session, header, error) {
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if err := o.Grid.Check(); err != nil {
		return nil, header{}, err
	}
	s := &session{Options: o, renderer: newRenderer(o.Engine), refs: map[string]Setting{}, warned: map[string]bool{}}
	head, err := s.header()
	if err == nil {
		err = s.plan(s.firstSteps)
	}
	if err != nil {
		s.renderer.Close()
		return nil, head, err
	}
	return s, head, nil
}

// planned counts the pictures and times the models.
func (s *session) planned(ctx context.Context) (Planned, error) {
	jobs, err := s.jobs()
	if err != nil {
		return Planned{}, err
	}
	p := Planned{Settings: len(s.settings), Prompts: len(s.Grid.Prompts), Seeds: s.Grid.Seeds}
	items := p.Prompts * p.Seeds
	varies := varying(s.settings)
	for _, set := range s.settings {
		p.Names = append(p.Names, set.Name(varies))
	}
	seen, unit := map[string]bool{}, map[programSize]float64{}
	for _, j := range jobs {
		if seen[j.key] {
			continue
		}
		seen[j.key] = true
		p.Pictures++
		if j.purpose != "" {
			p.References++
		}
		if s.folder.pictures[j.key] != nil {
			continue
		}
		p.Left++
		p.Calls += max(j.plan.Calls, 0)
		size := j.size()
		if _, ok := unit[size]; !ok {
			if unit[size], err = s.renderer.unit(ctx, j); err != nil {
				return Planned{}, err
			}
		}
		p.Seconds += unit[size] * j.cost()
	}
	if s.Grid.Budget > 0 { // the numbers of steps are found by trials: three of each scheduler, within the budget
		groups := len(s.settings) / len(trialSteps)
		p.Settings, p.Names, p.Most = 3*groups, nil, true
		p.Pictures = p.References + p.Settings*items
		p.Left = p.Pictures
		p.Seconds += float64(groups*items) * s.Grid.Budget * (1 + 0.7 + 0.5)
	}
	return p, nil
}

// String is "108 pictures: 12 settings × 8 prompts × 1 seed, and 12 of converged solutions. About 45s on this machine".
func (p Planned) String() string {
	text := fmt.Sprintf("%d pictures: %d setting%s × %d prompt%s × %d seed%s", p.Pictures, p.Settings, plural(p.Settings), p.Prompts, plural(p.Prompts), p.Seeds, plural(p.Seeds))
	if p.Most {
		text = "at most " + text
	}
	if p.References > 0 {
		text += fmt.Sprintf(", and %d of converged solutions", p.References)
	}
	if p.Left < p.Pictures {
		text += fmt.Sprintf("; %d are there already", p.Pictures-p.Left)
	}
	if p.Left == 0 {
		return text
	}
	return text + ". About " + time.Duration(p.Seconds*float64(time.Second)).Round(time.Second).String() + " on this machine"
}

func (j job) size() programSize {
	return programSize{engine{j.Setting.Model, j.Setting.DType}, j.plan.Rows, j.request.Width, j.request.Height}
}

// unit is how long one unit of a job's cost takes: from two steps, after two that warm up.
func (s *renderer) unit(ctx context.Context, j job) (float64, error) {
	p, err := s.pipeline(j.Setting.Model, j.Setting.DType)
	if err != nil {
		return 0, err
	}
	if err := s.warmUp(ctx, p, j); err != nil {
		return 0, err
	}
	r := s.trial(p, j)
	var begun time.Time
	if _, err := p.Render(ctx, r, pipeline.Events{Start: func(int) { begun = time.Now() }}); err != nil {
		return 0, err
	}
	return time.Since(begun).Seconds() / float64(2*j.plan.Rows+2), nil
}
