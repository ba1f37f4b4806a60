package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"darkroom/batch"
	"darkroom/batch/engine"
	"darkroom/batch/history"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/queue"
	"darkroom/batch/store"
	"darkroom/models/library"
	"darkroom/pipeline"
	"darkroom/recipe"
	sharing "darkroom/render"

	"github.com/urfave/cli/v2"
)

// batchOptions are the command line of batch.
type batchOptions struct {
	Jobs     string // a file, or - for stdin
	Read     jobs.Options
	Limit    int // pictures
	Engine   pipeline.Options
	Memory   uint64 // bytes for models
	Out      string // a folder or s3://…
	Records  string // the folder of the manifest where Out is a bucket
	DryRun   bool
	Retry    int
	FailFast bool
	AtOnce   int        // images that a device renders at once; 0: as many as make it faster
	Devices  deviceList // a renderer on each
	Queue    queue.Options
	Remote   bool   // --queue was given
	Workers  int    // processes on this machine; 0: render in this one
	Grid     string // a file for the contact sheet; "": none
	Quiet    bool
	JSON     bool
}

func batchCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "batch",
		Usage:     "render the pictures that a job file asks for",
		ArgsUsage: "JOBS | status ID | cancel ID | retry ID | schema",
		Description: `JOBS is YAML, JSON lines, CSV or plain text, or - for standard input. It takes every setting of generate, lists and
ranges (seed: 1..100), and templates ({a|b}, __file__, ${variable}): see docs/batch.md.

manifest.jsonl in the output folder lists the finished pictures. If a batch is interrupted, run the same command again:
it checks and keeps the finished pictures and renders the rest. A picture that fails does not stop the others, but the
exit code is then 1.

With --queue, workers on other machines render the pictures (darkroom worker). With --workers N, N processes on this
machine do.

Examples:
   darkroom batch jobs.yaml -o pictures/
   darkroom batch jobs.csv -o pictures/ --dry-run
   darkroom batch samples/jobs/samplers.yaml -o pictures/ --grid sheet.png
   darkroom batch jobs.yaml -o pictures/ --name "{index:04}-{seed}-{slug}" --retry 2
   darkroom batch jobs.yaml -o /shared/pictures --queue nats://10.0.0.1:4222
   darkroom batch jobs.yaml -o pictures/ --workers 2
   darkroom batch status 3f2a90c41d77 --queue nats://10.0.0.1:4222
   darkroom batch schema > jobs.schema.json                    # for editors that check and complete YAML`,
		Flags: append(append(append(append(settingFlags(batchSettings()...), presetFlag(), deviceFlag(), parallelFlag(), threadsFlag(), lowMemoryFlag()), queueFlags()...),
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`FOLDER` for the pictures, or s3://BUCKET/PREFIX"},
			&cli.StringFlag{Name: "records", Usage: "folder for the manifest, when the pictures go to a bucket", DefaultText: "the current folder"},
			&cli.StringFlag{Name: "name", Usage: "file names: {index:04}, {seed}, {slug}, {hash:8}, {model}, …", DefaultText: jobs.DefaultName},
			&cli.IntFlag{Name: "limit", Usage: "render only the first N pictures", DefaultText: "all"},
			&cli.StringFlag{Name: "notation", Usage: "yaml, jsonl, csv, or txt (one prompt per line)", DefaultText: "by the file's extension or first line"},
			&cli.StringFlag{Name: "wildcards", Usage: "folder of the texts for __file__", DefaultText: "wildcards beside the job file"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be rendered, how long it would take and how much disk space; render nothing"},
			&cli.IntFlag{Name: "retry", Usage: "how many times to retry a picture that failed", DefaultText: "0"},
			&cli.BoolFlag{Name: "fail-fast", Usage: "stop at the first failure"},
			&cli.StringFlag{Name: "grid", Usage: "also put the pictures on a contact sheet, labelled with the settings that differ: `FILE`; in a sweep each row runs through the values of the setting that changes fastest"},
			&cli.StringFlag{Name: "batch-size", Usage: "how many pictures of the same size and sampler a device renders at once; does not change the pictures", DefaultText: "auto: as many as make it faster"},
			&cli.IntFlag{Name: "workers", Usage: "render in this many processes on this machine, with their own queue", DefaultText: "0: in this process"},
		), memoryFlag(), quietFlag(), jsonFlag("print a line of JSON for each event")),
		Action: func(c *cli.Context) error {
			if word := c.Args().First(); c.NArg() > 0 && (word == "status" || word == "cancel" || word == "retry") {
				return batchControl(c, e, word)
			}
			if c.NArg() == 1 && c.Args().First() == "schema" {
				_, err := e.stdout.Write(jobs.Schema())
				return err
			}
			path, err := oneWord(c, "the job file")
			if err != nil {
				return err
			}
			o := batchOptions{
				Jobs: path, Read: jobs.Options{Notation: c.String("notation"), Name: c.String("name"), Wildcards: c.String("wildcards"), Pictures: true},
				Memory: gibibytes(c), Out: c.String("out"), Records: c.String("records"), DryRun: c.Bool("dry-run"),
				Retry: c.Int("retry"), FailFast: c.Bool("fail-fast"), Remote: c.IsSet("queue"), Workers: c.Int("workers"), Grid: c.String("grid"), Quiet: c.Bool("quiet"), JSON: c.Bool("json"),
			}
			if o.Engine, o.Devices, err = readEngines(c); err != nil {
				return err
			}
			if o.AtOnce, err = batchSize(c); err != nil {
				return err
			}
			if err := o.readOverrides(c); err != nil {
				return err
			}
			o.Queue = readQueueFlags(c)
			return runBatch(c.Context, e, o)
		},
	}
}

// batchSettings are the settings that batch has flags for. The prompt comes from the job file.
func batchSettings() (names []string) {
	for _, s := range recipe.All() {
		if s.Name != "prompt" {
			names = append(names, s.Name)
		}
	}
	return names
}

// readOverrides reads the command line's settings of pictures. The model, backend and type are defaults that jobs can
// override; everything else overrides the jobs.
func (o *batchOptions) readOverrides(c *cli.Context) error {
	flags, err := readSettings(c, false)
	if err != nil {
		return err
	}
	config, err := readConfig()
	if err != nil {
		return err
	}
	if o.Read.Base.Given, err = standing(config); err != nil {
		return err
	}
	said, _, err := named(c, config, recipe.Given{}, flags)
	if err != nil {
		return err
	}
	o.Read.RandomSeeds = randomSeed(c)
	said.Each(func(s *recipe.Setting, v any) {
		switch {
		case s.Name == "model" || s.Name == "backend" || s.Name == "dtype":
			o.Read.Base.Set(s.Name, v)
		case s.Name == "seed" && o.Read.RandomSeeds:
		default:
			o.Read.Over.Set(s.Name, v)
		}
	})
	if c.Bool("low-memory") {
		o.Read.Base.Set("vae-tiling", true)
	}
	o.Limit = math.MaxInt
	override(&o.Limit, given(c, "limit", c.Int))
	if o.Limit < 1 {
		return usagef("--limit %d: it must be at least 1; leave it out for all", o.Limit)
	}
	return nil
}

// batchSize reads --batch-size; 0 is auto.
func batchSize(c *cli.Context) (int, error) {
	word := c.String("batch-size")
	if !c.IsSet("batch-size") || word == pipeline.Auto {
		return 0, nil
	}
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > 1024 {
		return 0, usagef("--batch-size %q: it must be auto or a number from 1 to 1024", word)
	}
	return n, nil
}

func memoryFlag() cli.Flag {
	return &cli.Float64Flag{Name: "model-memory", Usage: "memory that open models may use together, in GiB", DefaultText: "8"}
}

func gibibytes(c *cli.Context) uint64 { return uint64(max(c.Float64("model-memory"), 0) * (1 << 30)) }

// runBatch reads the job file and renders it, here or on workers.
func runBatch(ctx context.Context, e *env, o batchOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	e.status.set("reading %s", o.Jobs)
	engines, err := o.engines()
	if err != nil {
		return err
	}
	first := o.engine(engines[0])
	defer first.Close()
	list, err := o.read(e, first)
	var mistakes jobs.Errors
	if errors.As(err, &mistakes) {
		return &usageError{"batch", mistakes.Error()}
	}
	if err != nil {
		return err
	}
	if err := checkJobs(o, list, first); err != nil {
		return &usageError{"batch", err.Error()}
	}
	past := newHistoryLog()
	defer past.close()
	if err := o.checkGrid(len(list.Images)); err != nil {
		return err
	}
	if o.DryRun {
		known, err := past.open()
		if err != nil {
			fmt.Fprintln(e.stderr, "warning:", err)
		}
		return dryRun(e, o, list, known, first)
	}
	records, err := manifest.Open(o.records())
	if err != nil {
		return err
	}
	defer records.Close()
	if list.Drawn {
		if err := records.KeepDraw(o.Read.Draw); err != nil {
			return err
		}
	}
	place, done, err := openStore(ctx, o.Out)
	if err != nil {
		return err
	}
	defer done()
	show := newBatchProgress(e, o.Quiet, o.JSON, len(list.Images))
	for _, note := range records.Notes() {
		show.note("warning: " + note)
	}
	if list.Twice > 0 && !o.Quiet {
		show.note(fmt.Sprintf("%d requests appear in %s more than once; each is rendered once", list.Twice, o.Jobs))
	}
	options := batch.Options{
		Images: list.Images, Manifest: records, Store: place, Worker: hostName(), Retry: o.Retry, FailFast: o.FailFast, AtOnce: o.AtOnce,
		OnEvent: func(ev batch.Event) {
			show.event(ev)
			e.status.finished(ev.Kept+ev.Finished, ev.Total)
			if ev.Kind == batch.Finished && !o.Remote && o.Workers == 0 {
				if err := past.add(historyEntry(ev.Record, place)); err != nil {
					show.note("warning: " + err.Error())
				}
			}
		},
	}
	e.status.set("rendering %s", o.Jobs)
	var sum batch.Summary
	switch {
	case o.Remote:
		sum, err = runRemote(ctx, e, o, options, place)
	case o.Workers > 0:
		first.Close() // the memory is for the workers
		sum, err = runWorkers(ctx, e, o, options, place)
	default:
		sum, err = runHere(ctx, o, options, first, engines[1:])
	}
	show.end()
	if o.Grid != "" && (err == nil || queue.IsCancelled(err)) && sum.Finished+sum.Kept > 0 {
		if err := o.writeGrid(list.Images, records); err != nil {
			return err
		}
		if err := e.tellGrid(o.Grid, o.JSON); err != nil {
			return err
		}
	}
	return summarize(e, o, show, sum, err)
}

// read reads the job file. Seeds that are to be drawn come from the number in the manifest, if it has one: then the batch
// goes on with those that it began with.
func (o *batchOptions) read(e *env, models *engine.Engine) (*jobs.List, error) {
	var known bool
	if o.Out != "" {
		o.Read.Draw, known = manifest.ReadDraw(o.records())
	}
	if !known {
		o.Read.Draw = rand.Uint64()
	}
	o.Read.Date = time.Now()
	if !o.Remote {
		o.Read.Settle = func(q *jobs.Request) (recipe.Settings, bool) {
			s, err := models.Settled(q)
			return s, err == nil // what is wrong is found when requests are checked
		}
	}
	list, err := jobs.ReadFile(o.Jobs, e.stdin, o.Read)
	if err == nil && len(list.Images) > o.Limit {
		list.Images = list.Images[:o.Limit]
	}
	return list, err
}

func (o *batchOptions) check() error {
	switch {
	case o.Out == "" && !o.DryRun:
		return &usageError{"batch", "-o is missing: name a folder for the pictures"}
	case o.Retry < 0:
		return usagef("--retry %d: it must not be negative", o.Retry)
	case o.Workers < 0 || o.Workers > 1024:
		return usagef("--workers %d: it must be from 0 to 1024", o.Workers)
	case o.Devices.pairs && (o.Workers > 0 || o.Remote):
		return usagef("--parallel cfg does not go with --workers and --queue: each worker has one GPU")
	case o.Workers > 0 && o.Remote:
		return usagef("--workers starts processes with their own queue, but --queue names another: give only one")
	}
	return nil
}

// records is the folder of the manifest.
func (o *batchOptions) records() string {
	switch {
	case !store.IsS3(o.Out):
		return o.Out
	case o.Records == "":
		return "."
	}
	return o.Records
}

// checkJobs checks the requests against their models before anything is rendered. Finished pictures are not checked,
// because their model may be gone. If workers elsewhere render, only models installed here are used, and only checks that
// do not depend on the backend.
func checkJobs(o batchOptions, list *jobs.List, eng *engine.Engine) error {
	var done map[string]manifest.Record
	if o.Out != "" {
		done, _, _ = manifest.Read(o.records()) // reported when it is opened
	}
	group := func(m *jobs.Image) string { return engine.Group(&m.Request) }
	return list.Check(group, func(m *jobs.Image) error {
		if r, ok := done[m.Hash]; ok && r.Status == manifest.Done {
			return nil
		}
		q := m.Request
		if o.Remote {
			q.Backend, q.DType = "", ""
			if _, err := library.Find(q.Model); err != nil {
				return nil
			}
		}
		err := eng.Check(&q)
		if sharing.Classify(err) != sharing.Hopeless {
			return nil // a GPU that is busy, a damaged file: what needs it fails alone
		}
		return err
	})
}

// engines are where this process renders: one a device. Where workers elsewhere render, one that only looks at models.
func (o *batchOptions) engines() ([]pipeline.Options, error) {
	if o.Remote {
		as := o.Engine
		as.Backend, as.DType = pipeline.Ref, ""
		return []pipeline.Options{as}, nil
	}
	return o.Devices.engines(o.Engine)
}

func (o *batchOptions) engine(as pipeline.Options) *engine.Engine {
	return engine.New(engine.Options{Pipeline: as, Budget: o.Memory, Resolve: mustFind})
}

// mustFind finds a model that a request names; it is an error if there is none.
func mustFind(model string) (string, error) {
	path, err := library.Find(model)
	if err != nil {
		return "", &pipeline.UsageError{Err: err}
	}
	return path, nil
}

// runHere renders in this process, on each device one picture at a time. The first device's engine is open.
func runHere(ctx context.Context, o batchOptions, options batch.Options, first *engine.Engine, others []pipeline.Options) (batch.Summary, error) {
	options.Renderers, options.ModelHash = []batch.Renderer{first}, first.ModelHash
	if first.DecodesBeside() {
		options.Lanes = 2
	}
	for _, as := range others {
		eng := o.engine(as)
		defer eng.Close()
		options.Renderers = append(options.Renderers, eng)
	}
	return batch.Run(ctx, options)
}

// summarize reports how the batch ended. Failures become an error, and so an exit code.
func summarize(e *env, o batchOptions, show *batchProgress, sum batch.Summary, err error) error {
	if err != nil && !queue.IsCancelled(err) {
		if errors.Is(err, context.Canceled) && !o.Quiet {
			show.note(fmt.Sprintf("%s: run the same command again to continue", counts(sum)))
		}
		return err
	}
	if !o.Quiet {
		show.note(fmt.Sprintf("%s in %v", counts(sum), time.Since(show.begun).Round(100*time.Millisecond)))
	}
	if n := sum.Failed + sum.Cancelled + sum.Left(); n > 0 {
		where := manifestPath(o)
		return fmt.Errorf("%d of %d pictures failed: %s says why; run the same command to try them again", n, sum.Total, where)
	}
	return nil
}

// counts is "40 pictures: 30 rendered, 9 kept, 1 failed".
func counts(s batch.Summary) string {
	parts := []string{fmt.Sprintf("%d rendered", s.Finished)}
	for _, p := range []struct {
		n    int
		what string
	}{{s.Kept, "kept"}, {s.Failed, "failed"}, {s.Cancelled, "cancelled"}, {s.Left(), "left"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return fmt.Sprintf("%s: %s", counted(s.Total, "picture"), strings.Join(parts, ", "))
}

// openStore opens a folder or a bucket.
func openStore(ctx context.Context, place string) (store.Store, func(), error) {
	if store.IsS3(place) {
		s, err := store.OpenS3Environment(ctx, place)
		return s, func() {}, err
	}
	f, err := store.OpenFolder(place)
	if err != nil {
		return nil, nil, err
	}
	f.Sweep(time.Hour) // what crashed programs left
	return f, func() { f.Close() }, nil
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return runtime.GOOS
	}
	return name
}

// historyEntry is what the history keeps of a finished image.
func historyEntry(r manifest.Record, place store.Store) history.Entry {
	file := place.String() + "/" + r.File
	if !store.IsS3(file) {
		if path, err := filepath.Abs(filepath.FromSlash(file)); err == nil {
			file = path
		}
	}
	model := historyModel(r.Request.Model)
	r.Request.Model = model
	return history.Entry{
		At: r.Finished, File: file, SHA256: r.SHA256, Bytes: r.Bytes, Seconds: r.Seconds, Model: model, ModelHash: r.ModelHash,
		Backend: r.Backend, DType: r.DType, Steps: r.Steps, Width: r.Width, Height: r.Height, Request: r.Request,
	}
}
