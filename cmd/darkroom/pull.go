package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"darkroom/machine"
	"darkroom/models/pull"
)

type pullOptions struct {
	Source string
	pull.Options
	DryRun bool
	Quiet  bool
	JSON   bool
}

func pullCommand(e *env) *cli.Command {
	var names strings.Builder
	for _, s := range pull.Shorts() {
		fmt.Fprintf(&names, "   %-14s %s; %s\n", s.Name, s.About, s.Licence)
	}
	return &cli.Command{
		Name:      "pull",
		Usage:     "fetch a model from the Hugging Face hub or a URL",
		ArgsUsage: "SOURCE",
		Description: `SOURCE is hf:OWNER/REPO[@REVISION][:FILE], a URL of one file, or a short name. Only the files needed
are fetched from a repository: one set of weights per part, fp16 and safetensors if available. The same command resumes an
interrupted download. Files are checked against the hub's hashes, and a model gets its name only once it is complete.
It goes to the first folder of DARKROOM_MODELS, or to ` + strings.Join(machine.UserModelFolders(), ", ") + `;
the content of a single file shows whether it is a model, adapter, embedding, autoencoder or upscaler.

HF_TOKEN is the token for gated and private repositories, HF_ENDPOINT the URL of another hub; HTTPS_PROXY and NO_PROXY are
respected.

Short names:
` + names.String() + `
Examples:
   darkroom pull sd15
   darkroom pull hf:stabilityai/sdxl-turbo --variant fp16 --name turbo
   darkroom pull hf:owner/repo:model.safetensors
   darkroom pull https://example.org/loras/ink.safetensors`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "`NAME` to give it here", DefaultText: "that of the repository or file"},
			&cli.StringFlag{Name: "variant", Usage: "which weights: fp16, bf16, … or fp32 for the plain ones", DefaultText: "fp16 if available"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be fetched, and fetch nothing"},
			quietFlag(), jsonFlag("print a line of JSON: path, files, sizes, hashes"),
		},
		Action: func(c *cli.Context) error {
			source, err := oneWord(c, "what to fetch")
			if err != nil {
				return err
			}
			return pullModel(c.Context, e, pullOptions{
				Source: source, Options: pull.Options{Name: c.String("name"), Variant: c.String("variant")},
				DryRun: c.Bool("dry-run"), Quiet: c.Bool("quiet"), JSON: c.Bool("json"),
			})
		},
	}
}

func pullModel(ctx context.Context, e *env, o pullOptions) error {
	folders := machine.ModelFolders()
	if len(folders) == 0 {
		return errors.New("this system has no place for a user's models: name a folder with DARKROOM_MODELS")
	}
	p := &pull.Puller{Folder: folders[0], Endpoint: pull.Hub, Token: strings.TrimSpace(os.Getenv("HF_TOKEN")), Client: pull.NewClient(), FreeDisk: machine.FreeDisk}
	if endpoint := os.Getenv("HF_ENDPOINT"); endpoint != "" {
		p.Endpoint = strings.TrimRight(endpoint, "/")
	}
	source, err := pull.Parse(o.Source, p.Endpoint)
	if err != nil {
		return usagef("%v", err)
	}
	show := &bytesProgress{w: e.stderr, quiet: o.Quiet, terminal: isTerminal(e.stderr)}
	defer show.end()
	p.Note = show.note
	plan, err := p.Plan(ctx, source, o.Options)
	if err != nil {
		return err
	}
	if !o.JSON && (!o.Quiet || o.DryRun) {
		to := e.stderr
		if o.DryRun {
			to = e.stdout
		}
		showPlan(to, plan)
	}
	if o.DryRun {
		if o.JSON {
			return printJSON(e.stdout, planJSON(plan, ""))
		}
		return nil
	}
	p.Progress = show.progress
	path, err := p.Run(ctx, plan)
	show.end()
	if errors.Is(err, pull.ErrThere) {
		show.note("it is already here")
	} else if err != nil {
		return err
	}
	if o.JSON {
		return printJSON(e.stdout, planJSON(plan, path))
	}
	return println(e.stdout, path)
}

// showPlan shows licence, files, sizes and hashes before anything is fetched.
func showPlan(w io.Writer, plan *pull.Plan) {
	t := newTable(w)
	t.AppendRow(table.Row{"from", printable(plan.Source.String())})
	if plan.Commit != "" {
		t.AppendRow(table.Row{"commit", printable(plan.Commit)})
	}
	licence := plan.Licence
	if licence == "" {
		licence = "not stated"
	}
	t.AppendRow(table.Row{"licence", printable(licence)})
	for _, f := range plan.Files {
		text := "size not known"
		if f.Size >= 0 {
			text = bytesText(uint64(f.Size))
		}
		switch {
		case f.SHA256 != "":
			text += ", SHA-256 " + f.SHA256
		case f.GitOID == "":
			text += ", no hash known in advance"
		}
		t.AppendRow(table.Row{printable(f.Path), text})
	}
	if n := plan.Bytes(); n >= 0 {
		t.AppendRow(table.Row{"all", bytesText(uint64(n))})
	}
	t.Render()
}

type pulledFile struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256,omitempty"`
}

type pulled struct {
	Path    string       `json:"path,omitempty"`
	Source  string       `json:"source"`
	Commit  string       `json:"commit,omitempty"`
	Licence string       `json:"licence,omitempty"`
	Files   []pulledFile `json:"files"`
}

func planJSON(plan *pull.Plan, path string) pulled {
	out := pulled{Path: path, Source: plan.Source.String(), Commit: plan.Commit, Licence: plan.Licence}
	for _, f := range plan.Files {
		out.Files = append(out.Files, pulledFile{f.Path, f.Size, f.SHA256})
	}
	return out
}

// bytesProgress shows how much has been fetched: a bar on a terminal, a line now and then elsewhere.
type bytesProgress struct {
	w        io.Writer
	quiet    bool
	terminal bool
	pool     *mpb.Progress
	bar      *mpb.Bar
	last     time.Time
	file     string
}

func (p *bytesProgress) progress(file string, done, total int64) {
	switch {
	case p.quiet:
	case p.terminal:
		if p.pool == nil {
			p.pool = mpb.New(mpb.WithOutput(unfiltered(p.w)), mpb.WithWidth(40))
			p.bar = p.pool.AddBar(max(total, 0),
				mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return printable(shorten(p.file, 40)) + " " }), decor.CountersKibiByte("% .1f / % .1f")),
				mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f"), decor.Name(", ETA "), decor.AverageETA(decor.ET_STYLE_GO)))
			p.bar.SetRefill(done)
		}
		p.file = file
		if total > 0 {
			p.bar.SetTotal(total, false)
		}
		p.bar.SetCurrent(done)
	case time.Since(p.last) >= 2*time.Second:
		p.last = time.Now()
		of := ""
		if total > 0 {
			of = fmt.Sprintf(" of %s (%d %%)", bytesText(uint64(total)), 100*done/total)
		}
		fmt.Fprintf(p.w, "%s: %s%s\n", printable(file), bytesText(uint64(done)), of)
	}
}

func (p *bytesProgress) end() {
	if p.pool == nil {
		return
	}
	p.bar.Abort(false)
	p.pool.Wait()
	p.pool = nil
}

func (p *bytesProgress) note(text string) {
	text = printable(text)
	if p.pool != nil {
		if _, err := fmt.Fprintln(p.pool, text); err == nil {
			return
		}
	}
	fmt.Fprintln(p.w, text)
}
