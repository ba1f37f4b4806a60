package render

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"darkroom/kernels/cuda"
	"darkroom/pipeline"
)

// fake is a device whose pictures of i are made, or fail, as fail says.
type fake struct {
	name string
	most int // at once
	fail func(i int, company []int) error

	mu    sync.Mutex
	calls [][]int
}

func (f *fake) Device() string                { return f.name }
func (f *fake) BatchSize(_ int, most int) int { return max(f.most, 1) }
func (f *fake) record(all []int)              { f.mu.Lock(); f.calls = append(f.calls, all); f.mu.Unlock() }
func (f *fake) RenderBatch(_ context.Context, all []int, events func(int) pipeline.Events, done func(int, *pipeline.Image, error)) {
	f.record(all)
	for i, item := range all {
		events(i)
		var err error
		if f.fail != nil {
			err = f.fail(item, all)
		}
		if err != nil {
			done(i, nil, err)
			continue
		}
		done(i, &pipeline.Image{}, nil)
	}
}

// outcome is what became of pictures.
type outcome struct {
	mu     sync.Mutex
	made   map[int]string // by which device
	failed map[int]string
	moved  []string
	tries  map[int]int // of those that are made or failed
}

func (r *outcome) options(n int, devices ...Device[int]) Options[int] {
	r.made, r.failed, r.tries = map[int]string{}, map[int]string{}, map[int]int{}
	locked := func(f func()) { r.mu.Lock(); defer r.mu.Unlock(); f() }
	return Options[int]{
		Source: Count(n), Devices: devices,
		Made: func(t Try[int], _ *pipeline.Image) {
			locked(func() {
				if _, twice := r.made[t.Item]; twice {
					panic(fmt.Sprintf("picture %d was made twice", t.Item))
				}
				r.made[t.Item], r.tries[t.Item] = t.Device, t.Attempts
			})
		},
		Failed: func(t Try[int], err error) {
			locked(func() { r.failed[t.Item], r.tries[t.Item] = err.Error(), t.Attempts })
		},
		Moved: func(t Try[int], err error) {
			locked(func() { r.moved = append(r.moved, fmt.Sprintf("%s %d", t.Device, t.Item)) })
		},
	}
}

var (
	lost   = &cuda.DeviceError{Device: "cuda:1", Doing: "waiting for the kernels", Code: 700, Text: "an illegal memory access was encountered"}
	noRoom = &pipeline.MemoryError{Device: "cuda:0"}
)

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Class
	}{
		{errors.New("a cosmic ray"), Again},
		{pipeline.NewPanicError("index out of range"), Again},
		{fmt.Errorf("step 3: %w", lost), Elsewhere},
		{fmt.Errorf("x: %w", noRoom), Elsewhere},
		{fmt.Errorf("x: %w", &cuda.OutOfMemoryError{}), Elsewhere},
		{fmt.Errorf("x: %w", &pipeline.UsageError{Err: errors.New("65 pixels")}), Hopeless},
		{fmt.Errorf("step 3: %w", context.Canceled), Hopeless},
		{fmt.Errorf("x: %w", &StopError{errors.New("a closed pipe")}), All},
	} {
		if got := Classify(c.err); got != c.want {
			t.Errorf("%v: class %d, want %d", c.err, got, c.want)
		}
	}
}

// What fails together is tried alone, and again as often as Retry says; what is hopeless is not.
func TestAgain(t *testing.T) {
	var r outcome
	tries := map[int]int{}
	d := &fake{most: 8, fail: func(i int, company []int) error {
		tries[i]++
		switch {
		case i == 1:
			return errors.New("bad")
		case i == 2:
			return &pipeline.UsageError{Err: errors.New("wrong")}
		case i == 3 && tries[i] < 3:
			return errors.New("flaky")
		case i == 4 && tries[i] == 1:
			panic("a bug")
		}
		return nil
	}}
	o := r.options(6, d)
	o.Retry = 2
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if len(r.made) != 4 || r.failed[1] != "bad" || r.failed[2] != "wrong" || len(r.failed) != 2 {
		t.Errorf("made %v, failed %v", r.made, r.failed)
	}
	// The panic ended the call, with 4 and 5 in it.
	if want := map[int]int{0: 1, 1: 3, 2: 1, 3: 3, 4: 2, 5: 2}; !equal(r.tries, want) {
		t.Errorf("attempts %v, want %v", r.tries, want)
	}
	if !slices.Equal(d.calls[0], []int{0, 1, 2, 3, 4, 5}) {
		t.Errorf("first call: %v", d.calls[0])
	}
}

func equal(a, b map[int]int) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// A picture with which two devices are lost is at fault; those that were rendered together with it are not.
func TestLostTogether(t *testing.T) {
	kill := func(_ int, company []int) error {
		if slices.Contains(company, 5) {
			return lost
		}
		return nil
	}
	var r outcome
	devices := []Device[int]{&fake{name: "a", most: 4, fail: kill}, &fake{name: "b", most: 4, fail: kill}, &fake{name: "c", most: 4, fail: kill}}
	if err := Run(t.Context(), r.options(12, devices...)); err != nil {
		t.Fatal(err)
	}
	if len(r.made) != 11 || len(r.failed) != 1 || r.failed[5] == "" {
		t.Errorf("made %v, failed %v", r.made, r.failed)
	}
}

// A device that was lost makes nothing any more. What it leaves is made by a device that had nothing left to do; without
// one, what is left is not begun.
func TestLost(t *testing.T) {
	var r outcome
	begun, idle := make(chan struct{}), make(chan struct{})
	bad := &fake{name: "bad", fail: func(int, []int) error {
		close(begun)
		<-idle
		return lost
	}}
	made := 0
	good := &fake{name: "good", fail: func(int, []int) error {
		<-begun
		if made++; made == 2 {
			time.AfterFunc(20*time.Millisecond, func() { close(idle) })
		}
		return nil
	}}
	if err := Run(t.Context(), r.options(3, bad, good)); err != nil {
		t.Fatal(err)
	}
	if len(r.made) != 3 || len(r.failed) != 0 || len(bad.calls) != 1 {
		t.Errorf("made %v, failed %v, %d calls of the lost device", r.made, r.failed, len(bad.calls))
	}

	bad = &fake{name: "bad", most: 2, fail: func(i int, _ []int) error {
		if i < 2 {
			return nil
		}
		return lost
	}}
	o := r.options(9, bad)
	err := Run(t.Context(), o)
	var none *NoDeviceError
	if !errors.As(err, &none) || !errors.Is(err, lost) || len(r.made) != 2 || len(r.failed) != 0 || o.Source.Left() != 7 || len(bad.calls) != 2 {
		t.Errorf("%v: made %v, failed %v, %d left after %d calls", err, r.made, r.failed, o.Source.Left(), len(bad.calls))
	}
}

// A device without room leaves pictures of that kind to the others and makes those of other kinds; where none has room,
// the picture fails with what each said. A picture that fits on the third device is made there.
func TestNoRoom(t *testing.T) {
	small := func(name string) *fake {
		return &fake{name: name, most: 2, fail: func(i int, _ []int) error {
			if i%2 == 0 {
				return fmt.Errorf("%s: %w", name, noRoom)
			}
			return nil
		}}
	}
	var r outcome
	big := &fake{name: "big"}
	o := r.options(40, small("a"), small("b"), big)
	o.Kind = func(i int) any { return i % 2 }
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if len(r.made) != 40 || len(r.failed) != 0 {
		t.Errorf("made %d, failed %v", len(r.made), r.failed)
	}
	for i, by := range r.made {
		if i%2 == 0 && by != "big" {
			t.Errorf("picture %d was made by %s", i, by)
		}
	}
	if len(r.moved) > 4 { // one a device, and what its lane had in hand
		t.Errorf("moved %v", r.moved)
	}

	o = r.options(2, small("a"), small("b"))
	o.Kind = func(i int) any { return i % 2 }
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if text := r.failed[0]; len(r.made) != 1 || !strings.Contains(text, "a: not enough memory") || !strings.Contains(text, "b: not enough memory") {
		t.Errorf("made %v, failed %v", r.made, r.failed)
	}

	// The device with room is lost: what it leaves fails for want of room.
	big = &fake{name: "big", fail: func(int, []int) error { return lost }}
	if err := Run(t.Context(), r.options(5, small("a"), big)); err != nil {
		t.Fatal(err)
	}
	if len(r.made)+len(r.failed) != 5 || len(r.made) == 0 {
		t.Errorf("made %v, failed %v", r.made, r.failed)
	}
}

// An error that all pictures would meet ends everything.
func TestAll(t *testing.T) {
	var r outcome
	stop := &StopError{errors.New("a closed pipe")}
	d := &fake{fail: func(i int, _ []int) error {
		if i == 2 {
			return stop
		}
		return nil
	}}
	if err := Run(t.Context(), r.options(9, d)); !errors.Is(err, stop) || len(d.calls) != 3 || len(r.failed) != 0 {
		t.Errorf("%v after %d calls, failed %v", err, len(d.calls), r.failed)
	}
}

// When ctx ends, lanes that wait end too, and nothing is reported of what was in work.
func TestCancel(t *testing.T) {
	var r outcome
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	begun := make(chan struct{})
	var once sync.Once
	d := &fake{fail: func(int, []int) error {
		once.Do(func() { close(begun) })
		<-ctx.Done()
		return ctx.Err()
	}}
	go func() { <-begun; cancel(cause) }()
	o := r.options(1, d)
	o.Lanes = 3
	if err := Run(ctx, o); !errors.Is(err, cause) || len(r.failed)+len(r.made) != 0 {
		t.Errorf("%v, failed %v", err, r.failed)
	}
}

// Every lane has something to do: no device takes all that is left.
func TestEvenly(t *testing.T) {
	var r outcome
	o := r.options(8, &fake{name: "a", most: 8}, &fake{name: "b", most: 8})
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for _, d := range o.Devices {
		for _, c := range d.(*fake).calls {
			if len(c) > 4 {
				t.Errorf("one call has %v of 8", c)
			}
		}
	}
}

// A thousand million pictures are a number, not a list.
func TestCountIsSmall(t *testing.T) {
	s := Count(1e9)
	if n := testing.AllocsPerRun(1, func() { s = Count(1e9) }); n > 1 || s.Left() != 1e9 {
		t.Errorf("%v allocations, %d left", n, s.Left())
	}
	keep := func(int) bool { return false }
	first, _ := s.Take(0, keep)
	more := s.Like(0, first, 3)
	s.Return(more[1:])
	next, _ := s.Take(0, keep)
	if first != 0 || !slices.Equal(more, []int{1, 2, 3}) || next != 2 || !slices.Equal(s.Like(0, next, 2), []int{3, 4}) || s.Left() != 1e9-5 {
		t.Errorf("%d %v %d, %d left", first, more, next, s.Left())
	}
}

// As many pictures as devices are one for each, though every device has two lanes: the second lane would only wait.
func TestLanesDoNotStarveDevices(t *testing.T) {
	for range 200 {
		var r outcome
		hold := make(chan struct{})
		var begun sync.WaitGroup
		begun.Add(3)
		wait := func(int, []int) error { begun.Done(); <-hold; return nil }
		a, b, c := &fake{name: "a", fail: wait}, &fake{name: "b", fail: wait}, &fake{name: "c", fail: wait}
		o := r.options(3, a, b, c)
		o.Lanes = 2
		ended := make(chan error, 1)
		go func() { ended <- Run(t.Context(), o) }()
		begun.Wait()
		close(hold)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if len(a.calls) != 1 || len(b.calls) != 1 || len(c.calls) != 1 {
			t.Fatalf("the devices made %v, %v and %v", a.calls, b.calls, c.calls)
		}
	}
}

// A device without room for any picture is not waited for.
func TestLanesPassSmallDevices(t *testing.T) {
	for range 200 {
		var r outcome
		small := &fake{name: "small", fail: func(int, []int) error { return noRoom }}
		large := &fake{name: "large"}
		o := r.options(5, small, large)
		o.Lanes = 2
		if err := Run(t.Context(), o); err != nil || len(r.made) != 5 {
			t.Fatalf("%v: made %v", err, r.made)
		}
	}
}
