package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"slices"
	"strings"
	"sync"
	"time"

	"darkroom/batch/jobs"
	"darkroom/pipeline"
	"darkroom/recipe"
	sharing "darkroom/render"
)

// generation is the pictures of one generate command, which may come from several devices at once. The pictures differ
// only in their seeds.
type generation struct {
	e       *env
	o       generateOptions
	request pipeline.Request // of the first picture, before its words are filled in
	words   *jobs.Filler     // nil: there is nothing to fill in
	out     *sharing.Target
	from    *source
	show    progress
	past    *historyLog
	model   string // path or name, for the history
	devices int
	beside  bool // pictures are decoded while others are denoised
	// graphics is how previews are shown in the terminal; "": in files.
	graphics string
	cancel   context.CancelCauseFunc

	mu        sync.Mutex // guards the rest, and one speaks and writes at a time
	stepped   int        // steps of all pictures, where several devices have one bar
	written   int
	sheet     *sheet          // of the pictures so far; nil without --grid
	noted     bool            // the seed was
	shown     map[string]bool // warnings
	previews  map[int]*sharing.Preview
	companies map[int]*company
	showing   *company // on one device: whose progress is shown
	errs      map[int]error
}

// company is the pictures that are denoised together.
type company struct {
	title string // of its progress
	what  string // for the message of an interruption
	size  int
	steps int
	step  int // the latest that any of them has done
}

// run makes all pictures. The error names those that failed.
func (g *generation) run(ctx context.Context, models []*sharing.Model) error {
	g.shown, g.errs = map[string]bool{}, map[int]error{}
	if g.o.Grid {
		g.sheet = &sheet{pictures: make([]*image.NRGBA, g.o.Count), recipes: make([]*recipe.Recipe, g.o.Count), names: make([]string, g.o.Count)}
	}
	g.companies, g.previews = map[int]*company{}, map[int]*sharing.Preview{}
	g.devices, g.beside = len(models), models[0].Lanes() > 1
	g.model = models[0].Pipeline().Folder()
	ctx, g.cancel = context.WithCancelCause(ctx)
	defer g.cancel(nil)
	if g.devices > 1 {
		if err := g.startAll(models[0].Pipeline()); err != nil {
			return err
		}
	}
	defer g.show.end()
	defer g.e.status.sweep()
	o := sharing.Options[int]{
		Source: sharing.Count(g.o.Count), Lanes: models[0].Lanes(),
		Begin: g.begin, Events: g.events, Made: g.made, Failed: g.failed,
		Moved: func(t sharing.Try[int], err error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.fail(t.Item, err) // until it is made elsewhere
		},
	}
	if g.o.Preview > 0 {
		o.AtOnce = 1 // so that there is one picture to watch, and soon
	}
	for _, m := range models {
		o.Devices = append(o.Devices, sharing.Of(m, func(i int) pipeline.Request { r, _ := g.picture(i); return r }))
	}
	err := sharing.Run(ctx, o)
	var none *sharing.NoDeviceError
	if err != nil && !errors.As(err, &none) {
		return err
	}
	return errors.Join(g.writeSheet(), g.summary(o.Source.Left()))
}

// writeSheet writes the contact sheet of the pictures that there are.
func (g *generation) writeSheet() error {
	if g.sheet == nil || g.written == 0 {
		return nil
	}
	first, _ := g.picture(0)
	path := sheetPath(g.out, first.Prompt, first.Seed)
	if err := g.sheet.write(path, g.out.Encode); err != nil {
		return err
	}
	return g.e.tellGrid(path, g.o.JSON)
}

// startAll shows one bar for the pictures of all devices.
func (g *generation) startAll(p *pipeline.Pipeline) error {
	first, _ := g.picture(0)
	plan, err := p.Plan(first)
	if err != nil {
		return err
	}
	g.noteSeed()
	g.show.start(fmt.Sprintf("%d pictures on %d devices", g.o.Count, g.devices), max(plan.Steps, 1)*g.o.Count)
	g.e.status.set("rendering on %d devices", g.devices)
	return nil
}

// noteSeed shows a seed that was drawn.
func (g *generation) noteSeed() {
	if !g.noted && (g.o.Drawn || !g.o.Request.Has("seed") && (g.from == nil || !g.from.hasSeed())) && !g.o.Quiet {
		g.show.note(fmt.Sprintf("seed %d", g.request.Seed))
	}
	g.noted = true
}

func (g *generation) picture(i int) (r pipeline.Request, title string) {
	r = g.request
	if list, err := recipe.ParseVariation(r.Variation); err == nil && len(list) > 0 { // then that seed changes, as in the web UIs
		list[len(list)-1].Seed += uint64(i)
		r.Variation = recipe.FormatVariation(list)
	} else {
		r.Seed += uint64(i)
	}
	if g.words != nil {
		if prompt, negative, err := g.words.Fill(r.Seed); err == nil { // the first one's was, too
			r.Prompt, r.Negative = prompt, negative
		}
	}
	return r, fmt.Sprintf("picture %d of %d", i+1, g.o.Count)
}

// where says what the program is at, if that is one thing.
func (g *generation) doing(format string, args ...any) {
	if g.devices == 1 {
		g.e.status.set(format, args...)
	}
}

// newCompany names the pictures that are denoised together.
func (g *generation) newCompany(items []int) *company {
	first, last := slices.Min(items), slices.Max(items)
	r, title := g.picture(last)
	c := &company{title: title, what: fmt.Sprintf("%s (seed %d)", title, r.Seed), size: len(items)}
	if c.size > 1 {
		c.title = fmt.Sprintf("%d at once, up to %s", c.size, title)
		c.what = fmt.Sprintf("pictures %d to %d of %d (seeds from %d)", first+1, last+1, g.o.Count, g.request.Seed+uint64(first))
	}
	return c
}

func (g *generation) begin(items []int, _ string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.newCompany(items)
	for _, i := range items {
		g.companies[i] = c
	}
	if g.showing == nil {
		g.doing("preparing %s", c.what)
	}
}

// events follow picture i.
func (g *generation) events(i int, _ string) pipeline.Events {
	r, title := g.picture(i)
	started := false
	events := pipeline.Events{
		Warn: func(message string) {
			g.mu.Lock()
			defer g.mu.Unlock()
			switch {
			case started: // of this picture's decoding
				g.show.note(fmt.Sprintf("warning: %s (seed %d): %s", title, r.Seed, message))
			case !g.shown[message]: // the same for all
				g.shown[message] = true
				g.show.note("warning: " + message)
			}
		},
		Start: func(n int) {
			g.mu.Lock()
			defer g.mu.Unlock()
			started = true
			g.start(g.companies[i], n)
		},
		Step: func(n int) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.step(g.companies[i], n)
		},
		PreviewEvery: g.o.Preview,
	}
	switch {
	case g.graphics != "":
		events.Preview = func(_ int, picture *image.NRGBA) error {
			text, err := terminalPicture(g.graphics, picture)
			if err != nil {
				return err
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			_, err = unfiltered(g.e.stderr).Write(text)
			return err
		}
	case g.o.Preview > 0:
		preview := g.out.Preview(i, r.Prompt, r.Seed)
		g.mu.Lock()
		g.previews[i] = preview
		g.mu.Unlock()
		g.e.status.temporary(preview)
		events.Preview = func(_ int, picture *image.NRGBA) error { return preview.Show(picture) }
	}
	return events
}

// start begins the progress of a company with its first picture.
func (g *generation) start(c *company, steps int) {
	if g.devices > 1 || g.showing == c {
		return
	}
	if g.showing != nil { // its pictures are being decoded
		g.show.end()
	}
	g.showing, c.steps = c, steps
	g.doing("denoising %s, before step 1 of %d", c.what, steps)
	g.noteSeed()
	g.show.start(c.title, steps)
}

func (g *generation) step(c *company, n int) {
	if g.devices > 1 {
		g.stepped++
		g.show.step(g.stepped)
		return
	}
	if g.showing != c || n <= c.step { // another of them was there first
		return
	}
	c.step = n
	g.show.step(n)
	if n < c.steps {
		g.doing("denoising %s, after step %d of %d", c.what, n, c.steps)
	} else {
		g.doing("decoding %s", c.what)
	}
}

// leave ends what belongs to the making of picture i.
func (g *generation) leave(i int) {
	if c := g.companies[i]; c != nil && c == g.showing {
		g.show.end()
		g.showing = nil
	}
	delete(g.companies, i)
	if p := g.previews[i]; p != nil {
		g.e.status.remove(p)
		delete(g.previews, i)
	}
}

// made writes picture i and prints its path.
func (g *generation) made(t sharing.Try[int], picture *pipeline.Image) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, begun := t.Item, time.Now()
	delete(g.errs, i)
	g.leave(i)
	r, title := g.picture(i)
	if g.from != nil && g.from.complete && i == 0 {
		warnIfDifferent(g.from.recipe, picture.Recipe, g.from.file, g.show)
	}
	if !g.beside {
		g.doing("writing %s", title)
	}
	path, data, err := g.out.Write(i, picture)
	if err != nil {
		g.fail(i, err)
		return
	}
	if g.written++; g.sheet != nil {
		g.sheet.pictures[i], g.sheet.recipes[i] = picture.Pixels, &picture.Recipe
	}
	g.e.status.finished(g.written, g.o.Count)
	rendered := time.Duration(t.Seconds * float64(time.Second))
	if err := g.o.printResult(g.show.above(), g.e.stdout, path, picture.Recipe, rendered+time.Since(begun)); err != nil {
		g.cancel(&sharing.StopError{Err: err})
	}
	if err := g.past.add(generated(g.model, r, g.out.Encode, picture, path, data, rendered)); err != nil {
		g.show.note("warning: " + err.Error())
	}
}

// failed is called with a picture that failed for good. All pictures have the same settings, so an error in these, or a
// size too large for the only device, ends the command.
func (g *generation) failed(t sharing.Try[int], err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leave(t.Item)
	if sharing.Classify(err) == sharing.Hopeless || g.devices == 1 && sharing.NoRoom(err) {
		g.cancel(err)
		return
	}
	if told := g.errs[t.Item]; told != nil && errors.Is(err, told) { // it was told when the device was lost
		return
	}
	g.fail(t.Item, err)
}

// fail notes a picture's error, and shows it where others follow.
func (g *generation) fail(i int, err error) {
	const most = 1000 // are kept: few of them fit into a message
	if len(g.errs) < most {
		g.errs[i] = err
	}
	if r, title := g.picture(i); g.o.Count > 1 {
		g.show.note(fmt.Sprintf("%s (seed %d) failed: %v", title, r.Seed, err))
	}
}

// summary names the pictures that failed and those that were not begun, so many, because no device was left. The error
// of a single picture says all.
func (g *generation) summary(left int) error {
	const most = 20 // are named
	missing := g.o.Count - g.written
	switch {
	case missing == 0:
		return nil
	case g.o.Count == 1:
		return g.errs[0]
	}
	numbers := make([]int, 0, len(g.errs)+most)
	for i := range g.errs {
		numbers = append(numbers, i)
	}
	for i := g.o.Count - left; i < g.o.Count && len(numbers) < missing && len(numbers) < len(g.errs)+most; i++ {
		if g.errs[i] == nil {
			numbers = append(numbers, i)
		}
	}
	slices.Sort(numbers)
	var names []string
	last := ""
	for _, i := range numbers[:min(most, len(numbers))] {
		text := "not started, because no device is left"
		if err := g.errs[i]; err != nil {
			text = err.Error()
		}
		if text == last {
			names = append(names, fmt.Sprintf("%d likewise", i+1))
			continue
		}
		names, last = append(names, fmt.Sprintf("%d: %s", i+1, text)), text
	}
	text := fmt.Sprintf("%d of %d pictures failed: picture %s", missing, g.o.Count, strings.Join(names, "; picture "))
	if more := missing - len(names); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return errors.New(text)
}
