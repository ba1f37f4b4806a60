package main

import (
	"fmt"
	"math"
	"path/filepath"

	"darkroom/atomicfile"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/store"
	"darkroom/imagefile"
	"darkroom/recipe"

	"github.com/disintegration/imaging"
)

// mostOnGrid bounds the pictures of a batch's sheet: with more, each would be a stamp.
const mostOnGrid = 1024

// checkGrid says what is wrong with --grid before anything is rendered.
func (o *batchOptions) checkGrid(pictures int) error {
	if o.Grid == "" {
		return nil
	}
	switch _, err := imagefile.FormatOf(o.Grid); {
	case err != nil:
		return usagef("--grid: %v", err)
	case store.IsS3(o.Out):
		return usagef("--grid reads the pictures from a folder, and -o is a bucket: fetch them and use darkroom grid")
	case pictures > mostOnGrid:
		return usagef("--grid: %d pictures, and a sheet holds at most %d: use --limit, or darkroom grid on some of them", pictures, mostOnGrid)
	}
	return atomicfile.Check(o.Grid)
}

// writeGrid puts the pictures of a batch on a sheet, in the order of its job file. A place of a picture that is not there stays
// white.
func (o *batchOptions) writeGrid(images []jobs.Image, records *manifest.Manifest) error {
	format, err := imagefile.FormatOf(o.Grid)
	if err != nil {
		return err
	}
	s := &sheet{}
	side := int(math.Sqrt(imagefile.MaxPixels / float64(len(images)))) // the sheet would make larger ones smaller
	for i := range images {
		s.pictures, s.recipes, s.names = append(s.pictures, nil), append(s.recipes, nil), append(s.names, "")
		r, ok := records.Get(images[i].Hash)
		if !ok || r.Status != manifest.Done {
			continue
		}
		path := filepath.Join(o.Out, filepath.FromSlash(r.File))
		p, err := imagefile.Load(path)
		if err != nil {
			return fmt.Errorf("--grid: %w", err)
		}
		info, err := imagefile.Inspect(path)
		if err != nil {
			return fmt.Errorf("--grid: %w", err)
		}
		s.pictures[i], s.names[i] = p.Pixels, filepath.Base(path)
		if p.Pixels.Rect.Dx() > side || p.Pixels.Rect.Dy() > side {
			s.pictures[i] = imaging.Fit(p.Pixels, side, side, imaging.Lanczos)
		}
		if info.Complete {
			s.recipes[i] = info.Recipe
		}
	}
	s.columns = s.period()
	return s.write(o.Grid, imagefile.Options{Format: format})
}

// period is how many pictures a row has where they are a sweep: the values of the setting that changes from each picture to the
// next, so that it runs along rows and the others down the columns. 0 where there is no such setting.
func (s *sheet) period() int {
	n := len(s.recipes)
	all := recipe.All()
	for i := range all {
		row := &all[i]
		if !row.InRecipe() {
			continue
		}
		value := func(k int) string {
			if s.recipes[k] == nil {
				return "" // its place stays white
			}
			return row.Format(row.FromRecipe(s.recipes[k]))
		}
		count := len(s.values(row))
		if count < 2 || count == n || n%count != 0 {
			continue
		}
		repeats := true
		for k := range n {
			repeats = repeats && (s.recipes[k] == nil || s.recipes[k%count] == nil || value(k) == value(k%count))
		}
		distinct := map[string]bool{}
		for k := range count {
			distinct[value(k)] = true
		}
		if repeats && len(distinct) == count {
			return count
		}
	}
	return 0
}

// tellGrid says on stdout where a sheet is.
func (e *env) tellGrid(path string, asJSON bool) error {
	if asJSON {
		return printJSON(e.stdout, map[string]string{"grid": path})
	}
	return println(e.stdout, path)
}
