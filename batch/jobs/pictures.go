package jobs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"darkroom/checkpoint"
	"darkroom/imagefile"
	"darkroom/machine"
	"darkroom/models/library"
	"darkroom/recipe"
)

// pictureFields are those that name pictures. A folder, or a pattern such as photos/*.jpg, stands for the pictures in it, one
// after the other; where several fields name folders, pictures of the same name belong together.
var pictureFields = []string{"init", "mask", "depth", "control"}

// gathered is a field of which a value is a folder or a pattern.
type gathered struct {
	axis int
	many bool     // it is
	text []string // the values, with one picture each
	of   []string // its name without folder and ending
}

// gather replaces folders and patterns by the pictures in them.
func (x *expander) gather(axes []axis) ([]axis, bool) {
	if !x.options.Pictures {
		return axes, true
	}
	var all []gathered
	for i, a := range axes {
		if !slices.Contains(pictureFields, a.spec.name) {
			continue
		}
		g := gathered{axis: i}
		for _, v := range a.values {
			if err := g.add(a.spec.name, v.(string)); err != nil {
				x.errorf(a.line, "%s: %v", a.spec.name, err)
				return nil, false
			}
		}
		if len(g.text) > MaxImages {
			x.errorf(a.line, "%s: more than %d pictures", a.spec.name, MaxImages)
			return nil, false
		}
		if g.many {
			all = append(all, g)
		}
	}
	if len(all) == 0 {
		return axes, true
	}
	out := slices.Clone(axes)
	first := all[0]
	out[first.axis].values = values(first.text)
	if len(all) == 1 {
		return out, true
	}
	// The others follow the first, by name.
	rows := make([][]any, len(first.text))
	for i := range rows {
		rows[i] = []any{first.text[i]}
	}
	specs := []spec{axes[first.axis].spec}
	for _, g := range all[1:] {
		a := axes[g.axis]
		specs = append(specs, a.spec)
		for i, name := range first.of {
			at := slices.Index(g.of, name)
			if at < 0 {
				x.errorf(a.line, "%s: there is no picture called %.80q, as there is for %s", a.spec.name, name, specs[0].name)
				return nil, false
			}
			rows[i] = append(rows[i], g.text[at])
		}
	}
	out[first.axis].spec.set = func(j *draft, v any) {
		for i, value := range v.([]any) {
			specs[i].set(j, value)
		}
	}
	out[first.axis].values = nil
	for _, r := range rows {
		out[first.axis].values = append(out[first.axis].values, r)
	}
	return slices.DeleteFunc(out, func(a axis) bool {
		return slices.ContainsFunc(specs[1:], func(s spec) bool { return s.name == a.spec.name })
	}), true
}

func values(texts []string) []any {
	out := make([]any, len(texts))
	for i, t := range texts {
		out[i] = t
	}
	return out
}

// add reads one value of the field.
func (g *gathered) add(field, text string) error {
	if field != "control" {
		files, many, err := picturesIn(text)
		if err != nil {
			return err
		}
		g.many = g.many || many
		for _, f := range files {
			g.text, g.of = append(g.text, f), append(g.of, stem(f))
		}
		return nil
	}
	list, err := recipe.ParseControls(text)
	if err != nil {
		return err
	}
	rows := [][]recipe.Control{nil}
	names := []string{""}
	found := false // a control with several pictures: the others follow it by name
	for _, c := range list {
		files, many, err := picturesIn(c.Image)
		if err != nil {
			return err
		}
		if many && !found {
			found, g.many = true, true
			one := rows[0]
			rows, names = nil, nil
			for _, f := range files {
				c.Image = f
				rows, names = append(rows, append(slices.Clone(one), c)), append(names, stem(f))
			}
			continue
		}
		for i := range rows {
			c.Image = files[0]
			if many {
				at := slices.IndexFunc(files, func(f string) bool { return stem(f) == names[i] })
				if at < 0 {
					return fmt.Errorf("%s: there is no picture called %.80q, as there is for the control before", c.Model, names[i])
				}
				c.Image = files[at]
			}
			rows[i] = append(rows[i], c)
		}
	}
	for i, r := range rows {
		if !found && len(r) > 0 {
			names[i] = stem(r[0].Image)
		}
		all := recipe.FormatControls(r)
		if again, err := recipe.ParseControls(all); err != nil || !slices.Equal(again, r) {
			return fmt.Errorf("%.200q: the name of a picture is taken for options: rename it", all)
		}
		g.text, g.of = append(g.text, all), append(g.of, names[i])
	}
	return nil
}

// stem is what a picture is called by.
func stem(file string) string {
	base := filepath.Base(file)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// picturesIn are the pictures that a text names, in the order of their names: a folder's, those that match a pattern, or
// the one file that it is.
func picturesIn(text string) (files []string, many bool, err error) {
	info, err := os.Stat(text)
	switch {
	case err == nil && !info.IsDir():
		return []string{text}, false, nil
	case err == nil:
		entries, err := os.ReadDir(text)
		if err != nil {
			return nil, false, err
		}
		for _, e := range entries {
			if !e.IsDir() && isPicture(e.Name()) {
				files = append(files, filepath.Join(text, e.Name()))
			}
		}
	case !strings.ContainsAny(text, "*?["):
		return []string{text}, false, nil // reported below
	default:
		found, err := filepath.Glob(text)
		if err != nil {
			return nil, false, fmt.Errorf("%.120q: %w", text, err)
		}
		for _, f := range found {
			if isPicture(filepath.Base(f)) {
				files = append(files, f)
			}
		}
	}
	if len(files) == 0 {
		return nil, false, fmt.Errorf("there are no pictures in %.120q (.png, .jpg, .webp, .gif, .tif, .bmp)", text)
	}
	return files, true, nil
}

func isPicture(name string) bool { return imagefile.IsInput(name) && !strings.HasPrefix(name, ".") }

// inputs are the files of pictures that a request names.
func inputs(q *Request) (files []string, err error) {
	for _, f := range []string{q.Init, q.Mask, q.Depth} {
		if f != "" && f != recipe.MaskOfAlpha {
			files = append(files, f)
		}
	}
	list, err := recipe.ParseControls(q.Control)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		files = append(files, c.Image)
	}
	regions, err := recipe.ParseRegions(q.Regions)
	if err != nil {
		return nil, fmt.Errorf("regions: %w", err)
	}
	for _, r := range regions {
		if _, rectangle, err := recipe.Rectangle(r.Area); err == nil && !rectangle {
			files = append(files, r.Area)
		}
	}
	return files, nil
}

// networks are the files and folders of the networks that a request names beside its model and adapters, as far as they are
// there: what is missing is reported when the picture is made.
func networks(q *Request) (paths []string) {
	add := func(k library.Kind, name string) {
		if path, err := library.FindPart(k, name); name != "" && err == nil {
			paths = append(paths, path)
		}
	}
	list, _ := recipe.ParseControls(q.Control) // inputs reports its mistakes
	for _, c := range list {
		add(library.Controls, c.Model)
		add(library.Visions, c.Encoder)
	}
	if m, err := recipe.ParseMotion(q.Motion); err == nil && m != nil {
		add(library.Motions, m.Model)
	}
	return paths
}

// networkSum is the hash of a network's file, or of the files in its folder.
func networkSum(path string) (string, error) {
	files := []string{path}
	if entries, err := os.ReadDir(path); err == nil {
		files = nil
		for _, e := range entries {
			if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	}
	all := sha256.New()
	for _, f := range files {
		sum, err := checkpoint.HashFile(f, machine.HashFolder())
		if err != nil {
			return "", err
		}
		fmt.Fprintln(all, filepath.Base(f), sum)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// sum puts the hash of what the request's pictures and networks hold into it, so that changed ones are another request.
func (x *expander) sum(q *Request) error {
	files, err := inputs(q)
	if err != nil || !x.options.Pictures {
		return err
	}
	nets := networks(q)
	if len(files)+len(nets) == 0 {
		return nil
	}
	all := sha256.New()
	for _, path := range nets {
		sum, known := x.sums[path]
		if !known {
			if sum, err = networkSum(path); err != nil {
				return err
			}
			x.sums[path] = sum
		}
		fmt.Fprintln(all, sum)
	}
	for _, f := range files {
		sum, known := x.sums[f]
		if !known {
			if sum, err = imagefile.Sum(f); err != nil {
				return err
			}
			x.sums[f] = sum
		}
		fmt.Fprintln(all, sum)
	}
	q.Inputs = hex.EncodeToString(all.Sum(nil))
	return nil
}

// firstPicture is the one that a request starts from, or that steers it; "" without any.
func firstPicture(q *Request) string {
	if files, _ := inputs(q); len(files) > 0 {
		return files[0]
	}
	return ""
}
