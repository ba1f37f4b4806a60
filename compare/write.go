package compare

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"darkroom/atomicfile"
	"darkroom/recipe"
)

// writeReport writes everything that is made from the measures. Each file appears whole, in place of the earlier one.
func writeReport(dir string, r *Report) error {
	for _, part := range []struct {
		file  string
		write func(io.Writer) error
	}{
		{"results.json", r.writeJSON},
		{"results.csv", r.writeSettings},
		{"pictures.csv", r.writePictures},
		{"results.md", r.writeMarkdown},
		{"index.html", func(w io.Writer) error { return r.writePage(w, dir) }},
	} {
		if err := atomicfile.Write(filepath.Join(dir, part.file), part.write); err != nil {
			return err
		}
	}
	if err := r.writePlots(dir); err != nil {
		return err
	}
	return r.writeSheets(dir)
}

// writeBeside writes a file whole, making its folder.
func writeBeside(path string, data []byte) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func (r *Report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	return enc.Encode(r)
}

// textCells keeps spreadsheets from taking texts for formulas: those that begin like one get an apostrophe, as text does
// there.
type textCells struct{ *csv.Writer }

func (c textCells) Write(row []string) error {
	row = slices.Clone(row)
	for i, cell := range row {
		if _, err := strconv.ParseFloat(cell, 64); err != nil && cell != "" && strings.IndexByte("=+-@\t\r", cell[0]) >= 0 {
			row[i] = "'" + cell
		}
	}
	return c.Writer.Write(row)
}

// writeSettings writes a row for each setting: what it is, what is shown of it, what it takes, and every measure's mean with its
// interval. A cell without a value is empty.
func (r *Report) writeSettings(w io.Writer) error {
	out := textCells{csv.NewWriter(w)}
	head := r.axisColumns()
	head = append(head, "problem", "verdict", "more_prompts", "rank", "front", "loss", "loss_low", "loss_high",
		"calls", "seconds", "seconds_q1", "seconds_q3", "processor_seconds", "joules", "cost")
	for _, m := range r.Measures {
		head = append(head, m.Key)
		if !m.OfSet {
			head = append(head, m.Key+"_low", m.Key+"_high")
		}
	}
	if err := out.Write(append(head, "flags")); err != nil {
		return err
	}
	for _, s := range r.Settings {
		row := append(r.axisCells(s), s.Problem, string(s.Verdict), positive(s.MorePrompts), positive(s.Rank), strconv.FormatBool(s.Pareto))
		row = append(row, cells(s.Loss)...)
		row = append(row, number(s.Calls), number(s.Seconds.Median), number(s.Seconds.Q1), number(s.Seconds.Q3), optional(s.Processor), optional(s.Joules), optional(s.Cost))
		for _, m := range r.Measures {
			v, ok := s.Values[m.Key]
			values := cells(nil)
			if ok {
				values = cells(&v)
			}
			if m.OfSet {
				values = values[:1]
			}
			row = append(row, values...)
		}
		if err := out.Write(append(row, strings.Join(s.Flags, "; "))); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// writePictures writes a row for each picture, with its setting's ID and axes.
func (r *Report) writePictures(w io.Writer) error {
	out := textCells{csv.NewWriter(w)}
	head := append(r.axisColumns(), "prompt", "seed", "calls", "seconds", "processor_seconds", "joules")
	var ofPictures []Measure
	for _, m := range r.Measures {
		if !m.OfSet {
			ofPictures, head = append(ofPictures, m), append(head, m.Key)
		}
	}
	if err := out.Write(append(head, "file", "command")); err != nil {
		return err
	}
	byID := map[string]SettingResult{}
	for _, s := range r.Settings {
		byID[s.ID] = s
	}
	for _, p := range r.Pictures {
		processor, joules := "", ""
		if p.Processor > 0 {
			processor = number(p.Processor)
		}
		if p.Joules > 0 {
			joules = number(p.Joules)
		}
		row := append(r.axisCells(byID[p.Setting]), p.PromptText, strconv.FormatUint(p.Seed, 10), strconv.Itoa(p.Calls), number(p.Seconds), processor, joules)
		for _, m := range ofPictures {
			text := ""
			if v, ok := p.Values[m.Key]; ok {
				text = number(v)
			}
			row = append(row, text)
		}
		if err := out.Write(append(row, p.File, p.Command)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// axisColumns are those that say which setting a row is of; axisCells are their values.
func (r *Report) axisColumns() []string {
	head := []string{"setting", "name", "model", "dtype", "scheduler", "sigmas", "steps", "cfg", "rescale", "guidance", "eta", "sde_noise"}
	for _, row := range r.otherAxes() {
		head = append(head, row.JSON())
	}
	return head
}

func (r *Report) axisCells(s SettingResult) []string {
	set := s.Setting
	row := []string{s.ID, s.Name, modelName(set.Model), set.DType, set.Scheduler, set.Sigmas, strconv.Itoa(set.Steps),
		number(set.CFG), number(set.Rescale), usual(set.Guidance, "cfg"), optional(set.Eta), usual(set.SDENoise, "torch")}
	for _, axis := range r.otherAxes() {
		row = append(row, axis.Format(axis.Get(&set.Settings)))
	}
	return row
}

// cells are an estimate's mean and the ends of its interval.
func cells(v *Estimate) []string {
	if v == nil {
		return []string{"", "", ""}
	}
	return []string{number(v.Mean), optional(v.Low), optional(v.High)}
}

// positive is n, "" where there is none.
func positive(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// otherAxes are the settings with values that have no column in every table.
func (r *Report) otherAxes() (rows []*recipe.Setting) {
	for _, row := range settingOrder()[len(settingFirst):] {
		if slices.ContainsFunc(r.Settings, func(s SettingResult) bool { return s.Setting.Has(row.Name) }) {
			rows = append(rows, row)
		}
	}
	return rows
}

func optional(v *float64) string {
	if v == nil {
		return ""
	}
	return number(*v)
}
