package dispatch

import (
	"slices"
	"time"

	"darkroom/batch/manifest"
)

// fair is how long a picture may wait while others of the model that is in use go before it.
const fair = 20 * time.Second

// source hands out tasks to lanes: it is a render.Source.
type source struct {
	d    *Dispatcher
	last map[int]kind // of each lane
}

// Take gives a lane the next picture: the most urgent and oldest, or one like the lane's last, if nobody has waited for long.
func (s *source) Take(lane int, skip func(*task) bool) (*task, bool) {
	d := s.d
	d.mu.Lock()
	defer d.unlock()
	for {
		if d.draining || d.paused {
			return nil, false
		}
		at := slices.IndexFunc(d.queue, func(t *task) bool { return !skip(t) })
		if at < 0 {
			return nil, false
		}
		if last, ok := s.last[lane]; ok && d.queue[at].kind().group != last.group && time.Since(d.queue[at].job.Created) < fair {
			first := d.queue[at]
			if i := slices.IndexFunc(d.queue[at:], func(t *task) bool {
				return t.job.Priority == first.job.Priority && t.kind().group == last.group && !skip(t)
			}); i > 0 {
				at += i
			}
		}
		t := d.queue[at]
		d.queue = slices.Delete(d.queue, at, at+1)
		if !d.claim(t) {
			continue
		}
		s.last[lane] = t.kind()
		return t, true
	}
}

// claim begins a task, unless its picture is there meanwhile, or in work for another one. The caller holds mu.
func (d *Dispatcher) claim(t *task) bool {
	if first := d.inFlight[t.hash]; first != nil {
		t.state = following
		first.followers = append(first.followers, t)
		return false
	}
	if r, ok := d.manifest.Get(t.hash); ok && r.Status == manifest.Done && r.Finished.After(t.job.Created) {
		d.settle(t, r) // made while it waited
		return false
	}
	d.inFlight[t.hash] = t
	t.state, t.begun, t.denoising, t.stepped, t.step, t.steps = running, time.Now(), time.Time{}, time.Time{}, 0, 0
	d.touch(t.job)
	return true
}

// Like gives more pictures of the same kind and urgency.
func (s *source) Like(_ int, item *task, n int) []*task {
	d := s.d
	d.mu.Lock()
	defer d.unlock()
	var some []*task
	k := item.kind()
	for i := 0; i < len(d.queue) && len(some) < n && !d.draining; {
		t := d.queue[i]
		if t.job.Priority != item.job.Priority {
			break
		}
		if t.kind() != k {
			i++
			continue
		}
		d.queue = slices.Delete(d.queue, i, i+1)
		if d.claim(t) {
			some = append(some, t)
		}
	}
	return some
}

// Return takes pictures back.
func (s *source) Return(items []*task) {
	s.d.mu.Lock()
	defer s.d.unlock()
	for _, t := range items {
		s.d.requeue(t)
	}
}

// Left is how many pictures wait.
func (s *source) Left() int {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if s.d.draining || s.d.paused {
		return 0
	}
	return len(s.d.queue)
}

// OnMore makes it a render.Growing.
func (s *source) OnMore(more func()) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.more = more
}

// requeue puts a task back to wait, or ends it if it was cancelled meanwhile. The caller holds mu.
func (d *Dispatcher) requeue(t *task) {
	d.release(t)
	if t.stop {
		t.state = cancelled
		d.touch(t.job)
		return
	}
	t.state, t.step = waiting, 0
	d.enqueue(t)
	d.touch(t.job)
}

// enqueue puts a task into its place. The caller holds mu.
func (d *Dispatcher) enqueue(t *task) {
	line := d.lineOf(t)
	at, _ := slices.BinarySearchFunc(*line, t, before)
	*line = slices.Insert(*line, at, t)
}

// lineOf is the queue that a task waits in. The caller holds mu.
func (d *Dispatcher) lineOf(t *task) *[]*task {
	if t.far {
		return &d.far
	}
	return &d.queue
}

// sort puts the queues in order. The caller holds mu.
func (d *Dispatcher) sort() {
	slices.SortFunc(d.queue, before)
	slices.SortFunc(d.far, before)
}

// waiting is how many pictures wait. The caller holds mu.
func (d *Dispatcher) waiting() int { return len(d.queue) + len(d.far) }

// release ends a task's hold on its picture; those that wait for the same wait again by themselves. The caller holds mu.
func (d *Dispatcher) release(t *task) {
	if d.inFlight[t.hash] == t {
		delete(d.inFlight, t.hash)
	}
	t.company, t.abort = nil, nil
	for _, f := range t.followers {
		if f.state == following {
			f.state = waiting
			d.enqueue(f)
		}
	}
	t.followers = nil
}
