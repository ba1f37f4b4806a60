package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"darkroom/batch/history"
	"darkroom/batch/jobs"
	"darkroom/imagefile"
	"darkroom/machine"
	defaultmodel "darkroom/models/default"
	"darkroom/models/library"
	"darkroom/pipeline"
	"darkroom/recipe"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

// openHistory opens the history; nil where none is kept (DARKROOM_HISTORY=off).
func openHistory() (*history.History, error) {
	path := machine.HistoryFile()
	if path == "" || path == "off" {
		return nil, nil
	}
	h, err := history.Open(path)
	if err != nil {
		return nil, fmt.Errorf("no history is kept: %w", err)
	}
	return h, nil
}

// historyLog records pictures once it is open; it opens while pictures render. No picture depends on it: it reports its
// first error and then stays silent. It is for one goroutine.
type historyLog struct {
	open   func() (*history.History, error)
	failed bool
}

func newHistoryLog() *historyLog {
	d := &historyLog{open: sync.OnceValues(openHistory)}
	go func() { _, _ = d.open() }() // add tells what went wrong
	return d
}

func (d *historyLog) add(e history.Entry) error {
	if d.failed {
		return nil
	}
	h, err := d.open()
	if h != nil {
		err = h.Add(e)
	}
	d.failed = err != nil
	return err
}

func (d *historyLog) close() {
	if h, _ := d.open(); h != nil {
		_ = h.Close() // what was added is in it
	}
}

// generated is what the history keeps of a picture of generate: every setting, the model's own ones too, since
// they may change with the model's folder.
func generated(model string, r pipeline.Request, encode imagefile.Options, picture *pipeline.Image, file string, data []byte, took time.Duration) history.Entry {
	settings := r.Settings
	settings.Model, settings.Backend, settings.DType = historyModel(model), "", picture.Recipe.DType
	settings.Tiled, settings.Quality = picture.Recipe.VAETiling, encode.Quality
	settings.Format = map[imagefile.Format]string{imagefile.JPEG: "jpg", imagefile.WebP: "webp"}[encode.Format]
	q := jobs.Request{Given: recipe.Of(settings)}
	sum := sha256.Sum256(data)
	c := picture.Recipe
	if path, err := filepath.Abs(file); err == nil && file != "-" {
		file = path
	}
	return history.Entry{
		At: time.Now(), File: file, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(data)), Seconds: took.Seconds(), Model: q.Model, ModelHash: c.ModelHash,
		Backend: c.Backend, DType: c.DType, Steps: c.Steps, Width: c.Width, Height: c.Height, Request: q,
	}
}

// historyModel is how the history names a model: a path that holds in every folder, or a name.
func historyModel(model string) string {
	path, err := library.Find(model)
	if err != nil || path == defaultmodel.Name {
		return cmp.Or(model, defaultmodel.Name)
	}
	if path, err = filepath.Abs(path); err != nil {
		return model
	}
	return path
}

func historyCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "history",
		Usage:     "find pictures rendered on this machine",
		ArgsUsage: "[show ID]",
		Description: `Lists pictures, latest first. show ID prints everything about one, and the command that makes it again.

Examples:
   darkroom history --text "red apple" --since 2026-01-01
   darkroom history --model sd15 --limit 5
   darkroom history show 17`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "text", Usage: "words of the prompt"},
			&cli.StringFlag{Name: "model", Usage: "part of the model's name"},
			&cli.StringFlag{Name: "since", Usage: "first day, such as 2026-01-31"},
			&cli.StringFlag{Name: "until", Usage: "last day"},
			&cli.IntFlag{Name: "limit", Usage: "how many to list; 0 is all", Value: 20},
			jsonFlag("print one line of JSON per picture"),
		},
		Action: func(c *cli.Context) error {
			q := history.Query{Text: c.String("text"), Model: c.String("model"), Limit: c.Int("limit")}
			var err error
			if q.Since, err = day(c, "since"); err != nil {
				return err
			}
			if q.Until, err = day(c, "until"); err != nil {
				return err
			}
			if !q.Until.IsZero() {
				q.Until = q.Until.AddDate(0, 0, 1)
			}
			path := machine.HistoryFile()
			if path == "" || path == "off" {
				return usagef("no history is kept here (DARKROOM_HISTORY)")
			}
			h, err := history.Open(path)
			if err != nil {
				return err
			}
			defer h.Close()
			switch {
			case c.NArg() == 0:
				return listHistory(e, h, q, c.Bool("json"))
			case c.Args().First() == "show" && c.NArg() == 2:
				return showHistory(e, h, c.Args().Get(1), c.Bool("json"))
			}
			return &usageError{"history", fmt.Sprintf("%s: history takes no arguments, or show ID", quoteAll(c.Args().Slice()))}
		},
	}
}

func day(c *cli.Context, flag string) (time.Time, error) {
	if !c.IsSet(flag) {
		return time.Time{}, nil
	}
	t, err := time.ParseInLocation(time.DateOnly, c.String(flag), time.Local)
	if err != nil {
		return t, usagef("--%s %q: it must be a day, such as 2026-01-31", flag, c.String(flag))
	}
	return t, nil
}

func listHistory(e *env, h *history.History, q history.Query, asJSON bool) error {
	list, err := h.Find(q)
	if err != nil {
		return err
	}
	if asJSON {
		for _, entry := range list {
			if err := printJSON(e.stdout, entry); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"ID", "when", "model", "seed", "prompt", "file"})
	for _, entry := range list {
		t.AppendRow(table.Row{entry.ID, entry.At.Format(time.DateTime), entry.Model, entry.Request.Seed, oneLine(entry.Request.Prompt), entry.File})
	}
	t.Render()
	return nil
}

func showHistory(e *env, h *history.History, word string, asJSON bool) error {
	id, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		return usagef("history show %q: the ID is a number: darkroom history lists them", word)
	}
	entry, err := h.Get(id)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(e.stdout, entry)
	}
	if entry.Enlarged != nil {
		_, err = fmt.Fprintf(e.stdout, "%s\n%s, %d×%d, enlarged from %s by %s in %.2f s\nsha256 %s\n\n%s\n",
			entry.File, entry.At.Format(time.DateTime), entry.Width, entry.Height, cmp.Or(entry.Enlarged.From, "a file"), entry.Enlarged.Upscaler, entry.Seconds, entry.SHA256, entry.Command())
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "%s\n%s, %d×%d, %d steps in %.2f s, model %s (%.12s) on %s in %s\nsha256 %s\n\n%s\n",
		entry.File, entry.At.Format(time.DateTime), entry.Width, entry.Height, entry.Steps, entry.Seconds, entry.Model, entry.ModelHash, entry.Backend, entry.DType, entry.SHA256, entry.Command())
	return err
}
