package compare

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
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
		{"results.csv", r.writeCSV},
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

// writeCSV writes a row for each setting ("setting") and for each picture ("picture"), in one table.
func (r *Report) writeCSV(w io.Writer) error {
	out := textCells{csv.NewWriter(w)}
	head := []string{"kind", "setting", "name", "model", "dtype", "scheduler", "sigmas", "steps", "cfg", "rescale", "guidance", "eta", "sde_noise"}
	others := r.otherAxes()
	for _, row := range others {
		head = append(head, row.JSON())
	}
	head = append(head, "prompt", "seed",
		"rank", "pareto", "calls", "seconds", "seconds_q1", "seconds_q3", "joules")
	for _, m := range r.Measures {
		head = append(head, m.Key)
		if !m.OfSet {
			head = append(head, m.Key+"_low", m.Key+"_high")
		}
	}
	if err := out.Write(append(head, "flags", "file", "command")); err != nil {
		return err
	}
	byID := map[string]SettingResult{}
	for _, s := range r.Settings {
		byID[s.ID] = s
		row := append(s.columns("setting", others), "", "", strconv.Itoa(s.Rank), fmt.Sprint(s.Pareto), number(s.Calls),
			number(s.Seconds.Median), number(s.Seconds.Q1), number(s.Seconds.Q3), optional(s.Joules))
		for _, m := range r.Measures {
			v, ok := s.Values[m.Key]
			mean := ""
			if ok {
				mean = number(v.Mean)
			}
			row = append(row, mean)
			if !m.OfSet {
				row = append(row, optional(v.Low), optional(v.High))
			}
		}
		flags := ""
		for i, f := range s.Flags {
			if i > 0 {
				flags += "; "
			}
			flags += f
		}
		if err := out.Write(append(row, flags, "", "")); err != nil {
			return err
		}
	}
	for _, p := range r.Pictures {
		joules := ""
		if p.Joules > 0 {
			joules = number(p.Joules)
		}
		row := append(byID[p.Setting].columns("picture", others), p.PromptText, strconv.FormatUint(p.Seed, 10), "", "", strconv.Itoa(p.Calls), number(p.Seconds), "", "", joules)
		for _, m := range r.Measures {
			text := ""
			if v, ok := p.Values[m.Key]; ok {
				text = number(v)
			}
			row = append(row, text)
			if !m.OfSet {
				row = append(row, "", "")
			}
		}
		if err := out.Write(append(row, "", p.File, p.Command)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// columns are those that say what a row is of.
func (s SettingResult) columns(kind string, others []*recipe.Setting) []string {
	set := s.Setting
	columns := []string{kind, s.ID, s.Name, modelName(set.Model), set.DType, set.Scheduler, set.Sigmas, strconv.Itoa(set.Steps),
		number(set.CFG), number(set.Rescale), usual(set.Guidance, "cfg"), optional(set.Eta), usual(set.SDENoise, "torch")}
	for _, row := range others {
		columns = append(columns, row.Format(row.Get(&set.Settings)))
	}
	return columns
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
