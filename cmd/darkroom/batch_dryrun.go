package main

import (
	"fmt"
	"time"

	"darkroom/batch/history"
	"darkroom/batch/jobs"
	"darkroom/pipeline"
)

// dryImage is a line of batch --dry-run --json.
type dryImage struct {
	File    string       `json:"file"`
	Hash    string       `json:"hash"`
	Line    int          `json:"line"`
	Request jobs.Request `json:"request"`
}

// dryRun says what a batch would render, how long it would take and how much disk.
func dryRun(e *env, o batchOptions, list *jobs.List, past *history.History) error {
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
	est := estimate(list.Images, past)
	text := fmt.Sprintf("%d pictures of %d prompts", len(list.Images), est.prompts)
	if list.Twice > 0 {
		text += fmt.Sprintf(" (%d more are in the file twice)", list.Twice)
	}
	if est.measured > 0 {
		text += fmt.Sprintf(", about %v on this machine (measured on %d pictures)", est.time.Round(time.Second), est.measured)
	} else {
		text += "; nothing was rendered on this machine yet that tells how long it takes"
	}
	return println(e.stdout, text+fmt.Sprintf(", about %s of disk", bytesText(uint64(est.bytes))))
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

// estimate adds up what the pictures take at the speed of earlier ones. What a request leaves to the model is taken to
// be as in the pictures that were measured.
func estimate(images []jobs.Image, past *history.History) forecast {
	var f forecast
	prompts := map[string]bool{}
	speeds := map[string]history.Speed{}
	side := map[string][2]int{}
	models := map[string]string{}
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
			if last, err := past.Find(history.Query{Model: model, Limit: 1}); err == nil && len(last) == 1 {
				side[key] = [2]int{last[0].Width, last[0].Height}
			}
		}
		width, height, steps := or(q.Width, side[key][0], 512), or(q.Height, side[key][1], 512), or(q.Steps, pipeline.DefaultSteps)
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

// or is the first value that is not zero.
func or(values ...int) int {
	for _, v := range values {
		if v != 0 {
			return v
		}
	}
	return 0
}
