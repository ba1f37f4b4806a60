package main

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"

	"darkroom/batch/engine"
	"darkroom/batch/history"
	"darkroom/batch/jobs"
	"darkroom/pipeline"
	"darkroom/recipe"
)

// dryImage is a line of batch --dry-run --json.
type dryImage struct {
	File    string       `json:"file"`
	Hash    string       `json:"hash"`
	Line    int          `json:"line"`
	Request jobs.Request `json:"request"`
}

// dryRun reports what a batch would render, how long it would take and how much disk space it would need.
func dryRun(e *env, o batchOptions, list *jobs.List, past *history.History, models *engine.Engine) error {
	if o.JSON {
		for _, m := range list.Images {
			if err := printJSON(e.stdout, dryImage{m.File, m.Hash, m.Line, m.Request}); err != nil {
				return err
			}
		}
		return nil
	}
	const most = 10
	for i, m := range list.Images {
		if i == most {
			if err := println(e.stdout, fmt.Sprintf("… and %d more (--json lists all)", len(list.Images)-most)); err != nil {
				return err
			}
			break
		}
		if err := println(e.stdout, fmt.Sprintf("%s\t%s", m.File, oneLine(m.Request.Prompt))); err != nil {
			return err
		}
	}
	est := estimate(list.Images, past, models)
	text := counted(len(list.Images), "picture") + " of " + counted(est.prompts, "prompt")
	if list.Twice > 0 {
		text += fmt.Sprintf(" (%d duplicates in the file are left out)", list.Twice)
	}
	if est.measured > 0 {
		text += fmt.Sprintf(", about %v on this machine (measured on %s)", est.time.Round(time.Second), counted(est.measured, "picture"))
	} else {
		text += "; no earlier renders on this machine to estimate the time from"
	}
	return println(e.stdout, text+fmt.Sprintf(", about %s of disk space", bytesText(uint64(math.Round(est.bytes)))))
}

// oneLine shortens a prompt for a list.
func oneLine(text string) string {
	runes := []rune(text)
	for i, c := range runes {
		if c == '\n' || c == '\t' {
			runes[i] = ' '
		}
	}
	if len(runes) > 70 {
		return string(runes[:69]) + "…"
	}
	return string(runes)
}

type forecast struct {
	prompts  int
	measured int // pictures that the speed was measured on
	time     time.Duration
	bytes    float64
}

// estimate adds up the pictures' times at the speed of earlier ones. Settings that a request leaves to its model come from
// the model; if that is not installed, usual values are assumed.
func estimate(images []jobs.Image, past *history.History, engine *engine.Engine) forecast {
	var f forecast
	prompts := map[string]bool{}
	speeds := map[string]history.Speed{}
	models := map[string]string{}
	sizes := sizes{engine: engine, known: map[extent]extent{}}
	for _, m := range images {
		q := &m.Request
		prompts[q.Prompt] = true
		model, ok := models[q.Model]
		if !ok {
			model = historyModel(q.Model)
			models[q.Model] = model
		}
		key := model + "\x00" + q.Backend
		s, ok := speeds[key]
		if !ok && past != nil {
			backend := q.Backend
			if backend == pipeline.Auto {
				backend = ""
			}
			s, _ = past.Speed(model, backend) // unknown is an answer too
			speeds[key] = s
		}
		size := sizes.of(q)
		width, height, steps := size.width, size.height, size.steps
		f.measured = max(f.measured, s.Pictures)
		f.time += time.Duration(s.Seconds(steps, width, height) * float64(time.Second))
		perPix := s.BytesPerPix
		if perPix == 0 {
			perPix = 1.6 // a PNG of a photograph
		}
		f.bytes += perPix * float64(width) * float64(height)
	}
	f.prompts = len(prompts)
	return f
}

// extent is how large a picture is and how many steps it takes, 0 where a request leaves it to its model.
type extent struct {
	group                string
	width, height, steps int
	sigmas               string
}

// sizes asks models for what requests leave to them, once for all requests that leave the same.
type sizes struct {
	engine *engine.Engine
	known  map[extent]extent
}

func (s *sizes) of(q *jobs.Request) extent {
	asked := extent{engine.Group(q), q.Width, q.Height, q.Steps, q.Sigmas}
	if e, ok := s.known[asked]; ok {
		return e
	}
	full, err := s.engine.Filled(q)
	if err != nil {
		full = pipeline.Request{Settings: recipe.Settings{Width: cmp.Or(q.Width, 512), Height: cmp.Or(q.Height, 512), Steps: q.Steps, Sigmas: q.Sigmas}}
	}
	e := extent{asked.group, full.Width, full.Height, full.Steps, full.Sigmas}
	switch {
	case e.steps == 0 && strings.Contains(e.sigmas, ","): // the list decides
		e.steps = strings.Count(e.sigmas, ",") + 1
	case e.steps == 0:
		e.steps = pipeline.DefaultSteps
	}
	s.known[asked] = e
	return e
}
