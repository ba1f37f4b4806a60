package compare

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	"image/jpeg"
	"io"
	"path/filepath"

	"github.com/disintegration/imaging"
)

//go:embed page
var pageFiles embed.FS

// The pictures that index.html holds itself: up to so many bytes of them, none larger than so many pixels a side. The others are read
// from the folder.
const (
	embeddedBytes = 16 << 20
	embeddedSide  = 384
	thumbQuality  = 88
)

// writePage writes index.html: one file that needs no network and no other file but for pictures beyond embeddedBytes.
func (r *Report) writePage(w io.Writer, dir string) error {
	read := func(name string) string {
		text, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			panic("compare: " + err.Error()) // it is part of the program
		}
		return string(text)
	}
	t, err := template.New("page").Parse(read("page.html"))
	if err != nil {
		panic("compare: " + err.Error())
	}
	thumbs, all, err := r.thumbnails(dir)
	if err != nil {
		return err
	}
	embedded := "All pictures are in this file; those in images/ are the originals."
	if !all {
		embedded = fmt.Sprintf("This file holds the first %d pictures; the others, and all originals, are in images/ beside it.", len(thumbs))
	}
	g := r.Grid
	return t.Execute(w, map[string]any{
		"CSS": template.CSS(read("page.css")), "JS": template.JS(read("page.js")),
		"Title": fmt.Sprintf("%d settings", len(r.Settings)),
		"Subtitle": fmt.Sprintf("%d settings, %d prompt%s × %d seed%s, %d pictures, on %s", len(r.Settings), len(g.Prompts), plural(len(g.Prompts)),
			g.Seeds, plural(g.Seeds), len(r.Pictures), r.Device),
		"Answer": r.Answer, "Buys": r.Buys, "Notes": r.Notes, "Version": r.Version, "Device": r.Device, "Embedded": embedded,
		"Report": r, "Thumbs": thumbs, "Opening": r.Opening, "Plots": r.plotFiles(), "Sheets": r.sheetFiles(),
	})
}

// thumbnails are data URIs of pictures by file, item by item while there is room.
func (r *Report) thumbnails(dir string) (thumbs map[string]string, all bool, err error) {
	thumbs = map[string]string{}
	var files []string
	for n, p := range r.Pictures {
		if n == 0 || p.Prompt != r.Pictures[n-1].Prompt || p.Seed != r.Pictures[n-1].Seed {
			for _, ref := range r.References {
				files = append(files, ref.Files[fmt.Sprintf("%d/%d", p.Prompt, p.Seed)])
			}
		}
		files = append(files, p.File)
	}
	size := 0
	for _, file := range files {
		if file == "" || thumbs[file] != "" {
			continue
		}
		if size > embeddedBytes {
			return thumbs, false, nil
		}
		p, err := readPicture(filepath.Join(dir, filepath.FromSlash(file)))
		if err != nil {
			return nil, false, err
		}
		var buf bytes.Buffer
		if err := jpeg.Encode(&buf, fitted(p, embeddedSide), &jpeg.Options{Quality: thumbQuality}); err != nil {
			return nil, false, err
		}
		thumbs[file] = "data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(buf.Bytes())
		size += len(thumbs[file])
	}
	return thumbs, true, nil
}

// fitted is p, scaled down where a side is longer than most.
func fitted(p *image.NRGBA, most int) *image.NRGBA {
	if p.Rect.Dx() <= most && p.Rect.Dy() <= most {
		return p
	}
	return imaging.Fit(p, most, most, imaging.Lanczos)
}
