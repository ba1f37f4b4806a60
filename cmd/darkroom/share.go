package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"

	"darkroom/kernels/cuda"
	"darkroom/pipeline"
)

// sharing gives pictures out to pipelines, one on each device. Whose picture is the next takes it; on a device where
// that can be, a picture is decoded while the next is denoised. One that fails does not stop the others, and those of a
// device that is lost go to the other devices.
type sharing struct {
	count   int
	denoise func(p *pipeline.Pipeline, i int) (*pipeline.Latents, error)
	finish  func(p *pipeline.Pipeline, i int, l *pipeline.Latents) error // writes it too
	failed  func(i int, err error)                                       // is told of each as it happens

	mu    sync.Mutex
	todo  []int
	alone bool        // on one device
	lost  map[int]int // how many devices were lost while they made a picture
	errs  map[int]error
	cause error // ends everything
}

var errNotBegun = errors.New("not begun, because no device is left")

// stopError is an error that all pictures would meet: the rest is not tried.
type stopError struct{ error }

func (e stopError) Unwrap() error { return e.error }

// run makes all pictures. The error names those that are not there.
func (s *sharing) run(ctx context.Context, pipelines []*pipeline.Pipeline) error {
	s.lost, s.errs, s.alone = map[int]int{}, map[int]error{}, len(pipelines) == 1
	for i := range s.count {
		s.todo = append(s.todo, i)
	}
	var losses []error
	for alive := pipelines; len(alive) > 0 && len(s.todo) > 0 && s.cause == nil && ctx.Err() == nil; {
		var workers sync.WaitGroup
		lost := make([]error, len(alive))
		for n, p := range alive {
			workers.Go(func() { lost[n] = s.work(ctx, p) })
		}
		workers.Wait()
		var rest []*pipeline.Pipeline // they go on with what a lost device leaves when they had nothing left
		for n, p := range alive {
			if lost[n] == nil {
				rest = append(rest, p)
			} else {
				losses = append(losses, lost[n])
			}
		}
		alive = rest
	}
	if s.cause != nil {
		return s.cause
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, i := range s.todo { // no device is left
		if s.errs[i] = errNotBegun; s.lost[i] > 0 {
			s.errs[i] = errors.Join(losses...)
		}
	}
	return s.summary()
}

// work makes pictures on one device until there are none, or the device is lost or has no room for them.
func (s *sharing) work(ctx context.Context, p *pipeline.Pipeline) (lost error) {
	pending := func() error { return nil } // waits for the picture that is being decoded
	for ctx.Err() == nil {
		i, ok := s.take()
		if !ok {
			break
		}
		l, err := s.denoise(p, i)
		if before := pending(); before != nil {
			lost = before
		}
		pending = func() error { return nil }
		switch {
		case lost != nil && err == nil:
			s.giveBack(i) // its decoder is gone
		case err != nil:
			if e := s.settle(ctx, i, err); e != nil {
				lost = e
			}
		case p.DecodesBeside():
			done := make(chan error, 1)
			go func() { done <- s.settle(ctx, i, guarded(func() error { return s.finish(p, i, l) })) }()
			pending = func() error { return <-done }
		default:
			lost = s.settle(ctx, i, s.finish(p, i, l))
		}
		if lost != nil {
			return lost
		}
	}
	return pending()
}

// guarded turns a panic into an error: in a goroutine it would end the program.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = pipeline.NewPanicError(v)
		}
	}()
	return f()
}

func (s *sharing) take() (i int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.todo) == 0 || s.cause != nil {
		return 0, false
	}
	i, s.todo = s.todo[0], s.todo[1:]
	return i, true
}

func (s *sharing) giveBack(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.todo = append([]int{i}, s.todo...)
}

// settle writes down what became of a picture. The result is not nil when the device is lost.
func (s *sharing) settle(ctx context.Context, i int, err error) (lost error) {
	if err == nil || ctx.Err() != nil {
		return nil
	}
	var usage *pipeline.UsageError
	var memory *pipeline.MemoryError
	var stop stopError
	if errors.As(err, &usage) || s.alone && errors.As(err, &memory) || errors.As(err, &stop) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.cause == nil {
			s.cause = err
		}
		return nil
	}
	var full *cuda.OutOfMemoryError
	gone := cuda.Lost(err) ||
		!s.alone && (errors.As(err, &memory) || errors.As(err, &full)) // all are of one size: it has no room for any
	s.mu.Lock()
	if gone {
		s.lost[i]++
	}
	again := gone && s.lost[i] < 2 // a picture that ends two devices is at fault
	if !again {
		s.errs[i] = err
	}
	s.mu.Unlock()
	if again {
		s.giveBack(i)
	}
	s.failed(i, err)
	if gone {
		return err
	}
	return nil
}

// summary names the pictures that failed. Of one picture alone its error says all.
func (s *sharing) summary() error {
	if len(s.errs) == 0 {
		return nil
	}
	if s.count == 1 {
		return s.errs[0]
	}
	var numbers []int
	for i := range s.errs {
		numbers = append(numbers, i)
	}
	sort.Ints(numbers)
	var names []string
	last := ""
	for _, i := range numbers {
		name := fmt.Sprint(i + 1)
		if text := s.errs[i].Error(); text != last {
			name, last = fmt.Sprintf("%d: %s", i+1, text), text
		} else {
			name += " likewise"
		}
		names = append(names, name)
	}
	return fmt.Errorf("%d of %d pictures are not there: picture %s", len(numbers), s.count, strings.Join(names, "; picture "))
}
