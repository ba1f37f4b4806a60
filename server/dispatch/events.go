package dispatch

import (
	"darkroom/server/wire"
)

// subscriber receives the events of one job or of all jobs.
type subscriber struct {
	job      string // "": all
	previews bool
	events   chan wire.Event
}

// Subscribe sends the events of a job ("" means all jobs) until stop is called. Events that come faster than they are read are
// dropped where later ones make up for them; where not, the channel is closed: subscribe again, and ask for the state.
// previews reports whether previews are wanted: they take time.
func (d *Dispatcher) Subscribe(id string, previews bool) (events <-chan wire.Event, stop func()) {
	s := &subscriber{id, previews, make(chan wire.Event, 256)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.subscribers[s] = true
	return s.events, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.subscribers, s)
	}
}

// publish tells the subscribers of a job. The caller holds mu.
func (d *Dispatcher) publish(id string, e wire.Event) {
	for s := range d.subscribers {
		if s.job != "" && s.job != id || e.Type == wire.PreviewType && !s.previews {
			continue
		}
		droppable := e.Type == wire.PreviewType || e.Type == wire.ProgressType
		if droppable && len(s.events) > cap(s.events)/2 {
			continue
		}
		select {
		case s.events <- e:
		default:
			delete(d.subscribers, s)
			close(s.events)
		}
	}
}

// publishState sends a job's state to its subscribers. The caller holds mu.
func (d *Dispatcher) publishState(j *job) {
	if !d.watched(j.ID) {
		return
	}
	v := d.view(j)
	d.publish(j.ID, wire.Event{Type: wire.StateEvent, Data: v})
	if wire.Ended(v.State) {
		d.publish(j.ID, wire.Event{Type: wire.EndEvent, Data: v})
	}
}

func (d *Dispatcher) watched(id string) bool {
	for s := range d.subscribers {
		if s.job == "" || s.job == id {
			return true
		}
	}
	return false
}

// wantsPreviews reports whether anybody looks at previews of the job.
func (d *Dispatcher) wantsPreviews(id string) bool {
	for s := range d.subscribers {
		if s.previews && (s.job == "" || s.job == id) {
			return true
		}
	}
	return false
}
