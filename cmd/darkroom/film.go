package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"darkroom/atomicfile"
	"darkroom/imagefile"
	"darkroom/pipeline"
	"darkroom/recipe"
	sharing "darkroom/render"
)

// film is the pictures of a walk, in a folder, and the file that is made of them.
type film struct {
	e    *env
	o    walkOptions
	dir  string
	show progress

	requests []pipeline.Request
	missing  []int // pictures that are not there yet
	mu       sync.Mutex
	made     int
	warned   map[string]bool
}

// filmFile records what a folder's pictures are, so that a walk is continued and never mixed with another.
const filmFile = "walk.json"

// checkFilm says what is wrong with the name of a film's file.
func checkFilm(path string) error {
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".png", ".apng", ".webp", ".gif":
		return nil
	case ".mp4", ".webm":
		if _, err := exec.LookPath("ffmpeg"); err != nil {
			return fmt.Errorf("-o %s: %s files are written by ffmpeg, which is not installed (or not in PATH): install it, or use .webp, .png or .gif", path, ext)
		}
		return nil
	}
	return usagef("-o %s: use .webp, .png, .gif, .mp4 or .webm", path)
}

// render makes the pictures that are not there.
func (f *film) render(ctx context.Context) error {
	f.e.status.set("opening the model")
	engines, err := f.o.Devices.engines(f.o.Engine)
	if err != nil {
		return err
	}
	var models []*sharing.Model
	defer func() {
		for _, m := range models {
			release(m)
		}
	}()
	for _, engine := range engines {
		m, err := sharing.Open(func() (*pipeline.Pipeline, error) { return openPipeline(engine) })
		if err != nil {
			return err
		}
		models = append(models, m)
	}
	p := models[0].Pipeline()
	r := p.NewRequest("")
	if f.o.Request.Has("init") {
		r.Width, r.Height = 0, 0
	}
	f.o.Request.Apply(&r.Settings)
	chain := r.Move != ""
	for i := range f.o.Frames {
		q := f.o.request(r, i)
		if chain && i > 0 {
			q = f.o.chained(r, i, framePath(f.dir, i-1))
		} else if chain {
			q = f.o.chained(r, 0, "")
		}
		f.requests = append(f.requests, q)
	}
	first := f.requests[0]
	if err := p.Check(first); err != nil {
		return err
	}
	if err := f.begin(p); err != nil {
		return err
	}
	if len(f.missing) == 0 {
		return nil
	}
	f.show.start(fmt.Sprintf("%d pictures", f.o.Frames), f.o.Frames)
	f.made = f.o.Frames - len(f.missing)
	defer f.show.end()
	if chain {
		return f.renderChain(ctx, p)
	}
	return f.renderAll(ctx, models)
}

// begin finds which pictures are there already, in a folder that is this film's.
func (f *film) begin(p *pipeline.Pipeline) error {
	hash, err := p.Hash()
	if err != nil {
		return err
	}
	what, err := json.MarshalIndent(struct {
		Version  string         `json:"numerics"`
		Model    string         `json:"model_hash"`
		Pictures []recipe.Given `json:"pictures"`
	}{pipeline.Numerics, hash, f.givens()}, "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(f.dir, filmFile)
	was, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if left, _ := os.ReadDir(f.dir); len(left) > 0 {
			return fmt.Errorf("%s exists and does not hold a walk's pictures: name another -o", f.dir)
		}
		if err := os.MkdirAll(f.dir, 0o777); err != nil {
			return err
		}
		if err := atomicfile.WriteData(path, what); err != nil {
			return err
		}
	case err != nil:
		return err
	case !bytes.Equal(was, what):
		return fmt.Errorf("%s holds the pictures of another walk: remove it, or name another -o", f.dir)
	}
	for i := range f.o.Frames {
		if _, err := imagefile.Load(framePath(f.dir, i)); err != nil {
			f.missing = append(f.missing, i)
		}
	}
	return nil
}

func (f *film) givens() (all []recipe.Given) {
	for _, r := range f.requests {
		if r.Init != "" {
			r.Init = filepath.Base(r.Init) // the folder may be named in another way
		}
		all = append(all, recipe.Of(r.Settings))
	}
	return all
}

// renderAll makes pictures that do not depend on each other, on all devices.
func (f *film) renderAll(ctx context.Context, models []*sharing.Model) error {
	var failed []error
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o := sharing.Options[int]{
		Source: sharing.Count(len(f.missing)), Lanes: models[0].Lanes(),
		Events: func(int, string) pipeline.Events { return pipeline.Events{Warn: f.warn()} },
		Made: func(t sharing.Try[int], picture *pipeline.Image) {
			if err := f.save(f.missing[t.Item], picture); err != nil {
				cancel(err)
			}
		},
		Failed: func(t sharing.Try[int], err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			failed = append(failed, fmt.Errorf("picture %d: %w", f.missing[t.Item]+1, err))
			cancel(failed[0])
		},
	}
	for _, m := range models {
		o.Devices = append(o.Devices, sharing.Of(m, func(i int) pipeline.Request { return f.requests[f.missing[i]] }))
	}
	f.e.status.set("rendering %d pictures", f.o.Frames)
	return sharing.Run(ctx, o)
}

// renderChain makes pictures that each start from the one before.
func (f *film) renderChain(ctx context.Context, p *pipeline.Pipeline) error {
	for i := f.missing[0]; i < f.o.Frames; i++ { // what comes after a picture that is missing is made anew, too
		f.e.status.set("rendering picture %d of %d", i+1, f.o.Frames)
		picture, err := p.Render(ctx, f.requests[i], pipeline.Events{Warn: f.warn()})
		if err != nil {
			return fmt.Errorf("picture %d of %d: %w", i+1, f.o.Frames, err)
		}
		if err := f.save(i, picture); err != nil {
			return err
		}
	}
	return nil
}

// warn shows each warning once.
func (f *film) warn() func(string) {
	return func(text string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.warned[text] {
			f.warned[text] = true
			f.show.note("warning: " + text)
		}
	}
}

func (f *film) save(i int, picture *pipeline.Image) error {
	var buf bytes.Buffer
	if err := imagefile.Encode(&buf, picture.Pixels, picture.Recipe, picture.Options(imagefile.Options{})); err != nil {
		return err
	}
	if err := atomicfile.WriteData(framePath(f.dir, i), buf.Bytes()); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made++
	f.show.step(min(f.made, f.o.Frames))
	return nil
}

// write makes the film of the pictures.
func (f *film) write(ctx context.Context) error {
	f.e.status.set("writing %s", f.o.Out)
	switch strings.ToLower(filepath.Ext(f.o.Out)) {
	case ".mp4", ".webm":
		return ffmpeg(ctx, f.o.Out, f.o.FPS, f.dir)
	}
	a := imagefile.Animation{
		Frames: f.o.Frames, FPS: f.o.FPS, Quality: f.o.Request.Quality, Source: imagefile.Trained,
		Frame: func(i int) (*image.NRGBA, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			p, err := imagefile.Load(framePath(f.dir, i))
			if err != nil {
				return nil, err
			}
			return p.Pixels, nil
		},
	}
	if f.o.Request.Init != "" {
		a.Source = imagefile.Composite
	}
	return atomicfile.Write(f.o.Out, func(w io.Writer) error { return imagefile.EncodeAnimation(w, f.o.Out, a) })
}

// ffmpeg writes a film of the pictures in dir, there first and then to its place.
func ffmpeg(ctx context.Context, out string, fps float64, dir string) error {
	beside := filepath.Join(dir, "film"+filepath.Ext(out))
	codec := []string{"-c:v", "libx264", "-crf", "16", "-movflags", "+faststart"}
	if strings.EqualFold(filepath.Ext(out), ".webm") {
		codec = []string{"-c:v", "libvpx-vp9", "-crf", "20", "-b:v", "0"}
	}
	args := []string{"-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-framerate", strconv.FormatFloat(fps, 'f', -1, 64), "-i", filepath.Join(dir, "frame-%05d.png")}
	args = append(args, codec...)
	args = append(args, "-pix_fmt", "yuv420p", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-metadata", "comment="+imagefile.Trained.URL(), beside)
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "ffmpeg", args...)
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("ffmpeg could not write %s: %w: %.500s (the pictures are in %s)", out, err, strings.TrimSpace(said.String()), dir)
	}
	data, err := os.ReadFile(beside)
	if err != nil {
		return fmt.Errorf("ffmpeg wrote no file: %w", err)
	}
	if err := atomicfile.WriteData(out, data); err != nil {
		return err
	}
	return os.Remove(beside)
}

// remove removes the pictures, and nothing else in the folder.
func (f *film) remove() error {
	for i := range f.o.Frames {
		if err := os.Remove(framePath(f.dir, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(filepath.Join(f.dir, filmFile)); err != nil {
		return err
	}
	if left, err := os.ReadDir(f.dir); err == nil && len(left) > 0 {
		return nil // somebody else's
	}
	return os.Remove(f.dir)
}
