// Package render distributes pictures over devices. For commands, batches and servers alike, it alone decides what
// happens to a picture that fails and to the pictures of a device that is lost.
//
//	Source (what is to be made) → lanes of each device → Render (several pictures together) → Made or Failed
package render

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"darkroom/pipeline"
)

// Device makes pictures from requests of type R. Its methods are called from as many goroutines as it has lanes.
type Device[R any] interface {
	// Device returns its name: "cpu", "cuda:1".
	Device() string
	// RenderBatch makes the pictures of several requests at once. Each is the same as if made alone, and fails alone.
	// events returns the events of request i; done is called once per request, from the calling goroutine.
	RenderBatch(ctx context.Context, all []R, events func(i int) pipeline.Events, done func(i int, img *pipeline.Image, err error))
	// BatchSize returns how many requests like r are best rendered at once, up to most; 0 is no bound.
	BatchSize(r R, most int) int
}

// Source holds the pictures that are to be made. Run calls it from one goroutine at a time.
type Source[T comparable] interface {
	// Take hands out the next picture that skip does not refuse; false: there is none.
	Take(lane int, skip func(T) bool) (T, bool)
	// Like hands out up to n more pictures that can be rendered together with the one the lane took last.
	Like(lane int, item T, n int) []T
	// Return takes pictures back and puts them first in line.
	Return(items []T)
	// Left returns how many pictures Take would hand out.
	Left() int
}

// Growing is a Source that gets more while it is worked on: more is to be called, without a lock that the Source's methods
// take, whenever there is something new to Take.
type Growing interface{ OnMore(more func()) }

// Try is an attempt at a picture.
type Try[T comparable] struct {
	Item     T
	Device   string
	Attempts int // this one included
	Begun    time.Time
	Seconds  float64 // the picture's share of the time so far, where several were made at once
}

// Options are pictures to make. Source, Devices, Made and Failed are needed.
type Options[T comparable] struct {
	Source  Source[T]
	Devices []Device[T]

	Lanes  int // goroutines a device: two where it decodes some pictures while it denoises others; 0 is one
	AtOnce int // pictures that a device renders at once, at most; 0: as many as make it faster
	Retry  int // how often a picture that failed alone is tried again
	// Kind is what pictures have in common that need the same room on a device; nil: all need the same.
	Kind func(T) any

	// The functions below are called from the lanes of all devices, several at a time. Only Made and Failed are needed.

	Begin  func(items []T, device string) // these are begun together
	Events func(item T, device string) pipeline.Events
	Made   func(Try[T], *pipeline.Image)
	Failed func(Try[T], error) // for good
	// Retrying: the picture is tried again, on this device.
	Retrying func(Try[T], error)
	// Moved: the device is lost or has no room. The picture goes to another device if there is one that may take it.
	Moved func(Try[T], error)
}

// NoDeviceError reports that every device is lost. The pictures left in the source were not made.
type NoDeviceError struct{ Err error }

func (e *NoDeviceError) Error() string { return fmt.Sprintf("no device is left: %v", e.Err) }
func (e *NoDeviceError) Unwrap() error { return e.Err }

// Run makes all pictures of the source.
//
//   - A picture that fails together with others is tried alone; one that fails alone is tried again Retry times.
//   - A lost device's pictures go to the others. Each of those that it had in hand is made alone from then on, and one
//     with which a second device is lost is at fault and fails.
//   - A device without room for a picture leaves those of its kind to devices that may have room, and fails it when
//     there are none.
//   - A panic is an error of its picture.
//
// A picture's failure is reported, not returned. The error is ctx's cause, one of class All, or a *NoDeviceError.
func Run[T comparable](ctx context.Context, o Options[T]) error {
	r := &run[T]{
		Options: o, gone: make([]bool, len(o.Devices)), small: make([]bool, len(o.Devices)), atWork: make([]int, len(o.Devices)), suspects: make([]sync.Mutex, len(o.Devices)),
		refused: map[refusal]bool{}, trouble: map[T]*trouble{},
	}
	r.changed = sync.NewCond(&r.mu)
	if o.Kind == nil {
		r.Kind = func(T) any { return nil }
	}
	ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	stop := context.AfterFunc(ctx, r.wake)
	defer stop()
	if g, ok := o.Source.(Growing); ok {
		g.OnMore(r.wake)
		defer g.OnMore(func() {})
	}
	var lanes sync.WaitGroup
	for n := range max(o.Lanes, 1) {
		for d := range o.Devices {
			lanes.Go(func() { r.work(ctx, n*len(o.Devices)+d, d) })
		}
	}
	lanes.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if o.Source.Left() > 0 {
		return &NoDeviceError{r.why}
	}
	return nil
}

// run is a Run under way.
type run[T comparable] struct {
	Options[T]
	cancel   context.CancelCauseFunc
	suspects []sync.Mutex // by device: of the pictures that a device was lost with, one at a time

	mu      sync.Mutex // guards Source and what follows
	changed *sync.Cond // there may be something to take, or nothing ever again
	busy    int        // pictures in the hands of lanes
	atWork  []int      // by device: lanes that have pictures in their hands
	gone    []bool     // by device: it is lost
	small   []bool     // by device: it had no room for pictures of some kind
	why     error      // the latest loss
	refused map[refusal]bool
	trouble map[T]*trouble // of pictures that a device could not make, until they are made or fail
}

// refusal: a device has no room for pictures of a kind.
type refusal struct {
	kind   any
	device int
}

// trouble is what a picture met on devices that could not make it.
type trouble struct {
	losses int
	errs   []error
}

func (r *run[T]) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed.Broadcast()
}

// work is a lane: it renders until there is nothing left or the device is lost.
func (r *run[T]) work(ctx context.Context, lane, d int) {
	for {
		item, suspect, ok := r.take(ctx, lane, d)
		if !ok {
			return
		}
		company := []T{item}
		if suspect {
			r.suspects[d].Lock()
			r.alone(ctx, d, item, 0)
			r.suspects[d].Unlock()
		} else {
			company = r.company(ctx, lane, d, item)
			r.together(ctx, d, company)
		}
		r.mu.Lock()
		r.busy -= len(company)
		r.atWork[d]--
		r.changed.Broadcast()
		r.mu.Unlock()
	}
}

// take waits for a picture for the device; false: there will be none. A suspect is one that a device was lost with.
func (r *run[T]) take(ctx context.Context, lane, d int) (item T, suspect, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if ctx.Err() != nil || r.gone[d] {
			return item, false, false
		}
		if r.ahead(d) {
			r.changed.Wait()
			continue
		}
		skip := func(item T) bool { return r.refused[refusal{r.Kind(item), d}] && r.elsewhere(item, d) }
		if item, ok = r.Source.Take(lane, skip); ok {
			r.busy++
			r.atWork[d]++
			r.changed.Broadcast() // the device may be ahead no more of those that waited for this one
			return item, r.suspect(item), true
		}
		if r.busy == 0 && r.Source.Left() == 0 {
			r.changed.Broadcast()
			return item, false, false
		}
		r.changed.Wait()
	}
}

// ahead reports whether another device has fewer lanes at work and may take any picture: it comes first. A device's second
// lane would only wait for its first one meanwhile.
func (r *run[T]) ahead(d int) bool {
	for other, n := range r.atWork {
		if n < r.atWork[d] && !r.gone[other] && !r.small[other] && r.Source.Left() > 0 {
			return true
		}
	}
	return false
}

func (r *run[T]) suspect(item T) bool {
	t := r.trouble[item]
	return t != nil && t.losses > 0
}

// elsewhere reports whether a device other than d may have room for the picture.
func (r *run[T]) elsewhere(item T, d int) bool {
	for other := range r.Devices {
		if other != d && !r.gone[other] && !r.refused[refusal{r.Kind(item), other}] {
			return true
		}
	}
	return false
}

// company is the picture with those that are rendered together with it: as many as the device gains by, but not so many
// that another lane has nothing to do.
func (r *run[T]) company(ctx context.Context, lane, d int, item T) []T {
	if r.AtOnce == 1 {
		return []T{item}
	}
	n := 1
	if err := guarded(func() { n = r.Devices[d].BatchSize(item, r.AtOnce) }); err != nil || ctx.Err() != nil {
		return []T{item} // rendering tells
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	lanes := len(r.Devices) * max(r.Lanes, 1)
	n = min(n, (1+r.Source.Left()+lanes-1)/lanes)
	if n < 2 {
		return []T{item}
	}
	more := r.Source.Like(lane, item, n-1)
	for i, m := range more {
		if r.suspect(m) || r.Kind(m) != r.Kind(item) {
			r.Source.Return(more[i:])
			more = more[:i]
			break
		}
	}
	r.busy += len(more)
	return append([]T{item}, more...)
}

// guarded turns a panic into an error.
func guarded(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = pipeline.NewPanicError(v)
		}
	}()
	f()
	return nil
}

// together renders several pictures at once, and alone those that failed so: one bad picture may have failed all of them.
func (r *run[T]) together(ctx context.Context, d int, company []T) {
	switch {
	case r.isGone(d): // in the other lane
		r.putBack(company)
		return
	case len(company) == 1:
		r.alone(ctx, d, company[0], 0)
		return
	}
	var failed []T
	lost := false
	r.render(ctx, d, company, 0, func(try Try[T], err error) {
		switch c := Classify(err); {
		case c == All:
			r.cancel(err)
		case c == Hopeless:
			r.fail(try, err)
		case Lost(err):
			lost = true
			r.lose(d, try, err)
		default:
			failed = append(failed, try.Item)
			if !lost && r.Retrying != nil {
				r.Retrying(try, err)
			}
		}
	})
	if lost {
		r.putBack(failed)
		return
	}
	for _, item := range failed {
		r.alone(ctx, d, item, 1)
	}
}

// alone renders one picture that was tried so often.
func (r *run[T]) alone(ctx context.Context, d int, item T, tried int) {
	for again := true; again && ctx.Err() == nil; tried++ {
		if again = false; r.isGone(d) { // in the other lane
			r.putBack([]T{item})
			return
		}
		r.render(ctx, d, []T{item}, tried, func(try Try[T], err error) {
			switch c := Classify(err); {
			case c == All:
				r.cancel(err)
			case c == Elsewhere && Lost(err):
				r.lose(d, try, err)
			case c == Elsewhere:
				r.leave(d, try, err)
			case c == Hopeless || try.Attempts > r.Retry:
				r.fail(try, err)
			default:
				again = true
				if r.Retrying != nil {
					r.Retrying(try, err)
				}
			}
		})
	}
}

// render makes pictures together and reports those that are made. Nothing is reported of those that fail when ctx has
// ended.
func (r *run[T]) render(ctx context.Context, d int, company []T, tried int, failed func(Try[T], error)) {
	device, begun := r.Devices[d], time.Now()
	if r.Begin != nil {
		r.Begin(company, device.Device())
	}
	events := func(i int) pipeline.Events {
		if r.Events == nil {
			return pipeline.Events{}
		}
		return r.Events(company[i], device.Device())
	}
	told := make([]bool, len(company))
	done := func(i int, img *pipeline.Image, err error) {
		told[i] = true
		try := Try[T]{company[i], device.Device(), tried + 1, begun, time.Since(begun).Seconds() / float64(len(company))}
		switch {
		case err == nil:
			r.mu.Lock()
			delete(r.trouble, try.Item)
			r.mu.Unlock()
			r.Made(try, img)
		case ctx.Err() == nil:
			failed(try, err)
		}
	}
	err := guarded(func() { device.RenderBatch(ctx, company, events, done) })
	if err == nil {
		err = errors.New("the device gave neither a picture nor an error")
	}
	for i := range company {
		if !told[i] {
			done(i, nil, err)
		}
	}
}

func (r *run[T]) isGone(d int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone[d]
}

func (r *run[T]) putBack(items []T) {
	if len(items) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Source.Return(items)
	r.changed.Broadcast()
}

func (r *run[T]) fail(try Try[T], err error) {
	r.mu.Lock()
	delete(r.trouble, try.Item)
	r.mu.Unlock()
	r.Failed(try, err)
}

// lose writes down that a device was lost with a picture, which goes to another device, or fails if it is at fault.
func (r *run[T]) lose(d int, try Try[T], err error) {
	if r.Moved != nil {
		r.Moved(try, err)
	}
	r.mu.Lock()
	t := r.troubleOf(try.Item, err)
	t.losses++
	r.gone[d], r.why = true, err
	r.changed.Broadcast()
	atFault := t.losses > 1
	if !atFault {
		r.Source.Return([]T{try.Item})
	}
	r.mu.Unlock()
	if atFault {
		r.fail(try, err)
	}
}

// leave leaves a picture for which a device has no room to the others, or fails it.
func (r *run[T]) leave(d int, try Try[T], err error) {
	r.mu.Lock()
	t := r.troubleOf(try.Item, err)
	r.refused[refusal{r.Kind(try.Item), d}], r.small[d] = true, true
	other := r.elsewhere(try.Item, d)
	r.changed.Broadcast() // nobody waits for this device any more
	r.mu.Unlock()
	if !other {
		r.fail(try, errors.Join(t.errs...))
		return
	}
	if r.Moved != nil {
		r.Moved(try, err)
	}
	r.putBack([]T{try.Item})
}

func (r *run[T]) troubleOf(item T, err error) *trouble {
	t := r.trouble[item]
	if t == nil {
		t = &trouble{}
		r.trouble[item] = t
	}
	t.errs = append(t.errs, err)
	return t
}
