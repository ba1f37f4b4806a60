package api

import (
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"darkroom/server/web"
)

// Report is a folder of darkroom compare.
type Report struct {
	Name     string    `json:"name"`
	URL      string    `json:"url"`
	Modified time.Time `json:"modified"`
}

// ReportPass begins the part of a report's path, after its name, that opens it without a key. It is in the path because the
// files that a report refers to are asked for without anything else: the report's page is in a sandbox.
const ReportPass = "@"

// reportPage is the file that makes a folder a report.
const reportPage = "index.html"

func (a *API) reports(w http.ResponseWriter, _ *http.Request) error {
	var all []Report
	if root, err := a.openReports(); err == nil {
		defer root.Close()
		entries, err := fs.ReadDir(root.FS(), ".")
		if err != nil {
			return err
		}
		for _, e := range entries {
			if st, err := root.Stat(path.Join(e.Name(), reportPage)); err == nil {
				all = append(all, Report{e.Name(), a.ReportPath(e.Name()), st.ModTime().UTC()})
			}
		}
	}
	slices.SortFunc(all, func(a, b Report) int { return b.Modified.Compare(a.Modified) })
	web.JSON(w, http.StatusOK, list(all))
	return nil
}

// openReports opens the folder of reports. Nothing outside it is reached, by links neither.
func (a *API) openReports() (*os.Root, error) {
	if a.Reports == "" {
		return nil, fs.ErrNotExist
	}
	return os.OpenRoot(a.Reports)
}

// report serves a file of a report. Its page runs in a sandbox: it is another origin than this server's own.
func (a *API) report(w http.ResponseWriter, r *http.Request) error {
	missing := web.NotFound("there is no such report, or no such file in it")
	name, file := r.PathValue("name"), r.PathValue("file")
	if pass, rest, _ := strings.Cut(file, "/"); strings.HasPrefix(pass, ReportPass) { // it was looked at
		file = rest
	}
	if file == "" {
		file = reportPage
	}
	root, err := a.openReports()
	if err != nil {
		return missing
	}
	defer root.Close()
	if _, err := root.Stat(path.Join(name, reportPage)); err != nil || !fs.ValidPath(path.Join(name, file)) {
		return missing
	}
	st, err := root.Stat(path.Join(name, file))
	if err != nil || !st.Mode().IsRegular() || st.Size() > 64<<20 {
		return missing
	}
	data, err := root.ReadFile(path.Join(name, file))
	if errors.Is(err, fs.ErrNotExist) {
		return missing
	}
	if err != nil {
		return err
	}
	kind := mime.TypeByExtension(path.Ext(file))
	if kind == "" {
		kind = "application/octet-stream"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Security-Policy", "sandbox allow-scripts; default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'unsafe-inline'")
	web.Bytes(w, http.StatusOK, data)
	return nil
}
