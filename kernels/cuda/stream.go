//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"unsafe"

	"gorgonia.org/cu"

	"darkroom/kernels"
	"darkroom/kernels/cuda/drv"
	"darkroom/tensor"
)

var _ kernels.Streamer = (*Backend)(nil)

// copying is the second queue, on which weights come while operations compute on the first, and the events by which
// each waits for the other.
type copying struct {
	open             bool
	stream           cu.Stream
	fetched, arrived cu.Event                   // recorded on this queue, on that of the operations
	staged           map[*kernels.Weight][]byte // page-locked
}

// copies is the second queue, made when it is first needed.
func (b *Backend) copies() (*copying, error) {
	c := &b.copying
	if c.open {
		return c, nil
	}
	var err error
	if c.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return nil, b.explain("starting the queue of copies", err)
	}
	for _, e := range []*cu.Event{&c.fetched, &c.arrived} {
		if *e, err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return nil, b.explain("starting the queue of copies", err)
		}
	}
	c.open, c.staged = true, map[*kernels.Weight][]byte{}
	return c, nil
}

func (c *copying) close() {
	if !c.open {
		return
	}
	c.stream.Synchronize()
	for _, host := range c.staged {
		drv.FreePinned(host)
	}
	cu.DestroyEvent(&c.fetched)
	cu.DestroyEvent(&c.arrived)
	drv.DestroyStream(c.stream)
	*c = copying{}
}

// Stage packs a weight into page-locked memory of the host. It implements kernels.Streamer, as do the next three.
func (b *Backend) Stage(w *kernels.Weight) error {
	defer b.enter()()
	c, err := b.copies()
	if err != nil || c.staged[w] != nil {
		return err
	}
	l := b.layout(w)
	f, err := l.fold(w)
	if err != nil {
		return err
	}
	host, err := drv.AllocPinned(max(l.bytes(), 1))
	if err != nil {
		return b.explain("allocating page-locked memory", err)
	}
	if err := l.pack(host[:l.rows*l.rowBytes()], w, 0, f); err != nil {
		drv.FreePinned(host)
		return err
	}
	if f != nil {
		copy(host[l.rows*l.rowBytes():], tensor.Bytes(f.vectors))
	}
	c.staged[w] = host
	b.largest = max(b.largest, b.UnpackedBytes(w))
	w.Host.Release()
	return nil
}

func (b *Backend) unstage(w *kernels.Weight) {
	if host, ok := b.copying.staged[w]; ok {
		defer b.enter()()
		b.copying.stream.Synchronize()
		drv.FreePinned(host)
		delete(b.copying.staged, w)
	}
}

// Fetch queues the copy.
func (b *Backend) Fetch(dst kernels.Mem, w *kernels.Weight) {
	defer b.enter()()
	host := b.copying.staged[w]
	if err := cu.MemcpyHtoDAsync(dst.(mem).at, unsafe.Pointer(unsafe.SliceData(host)), int64(len(host)), b.copying.stream); err != nil {
		b.fail("uploading "+w.Name, err)
	}
}

// FetchesWaitForOps makes the queue of copies wait for what is on the queue of operations now.
func (b *Backend) FetchesWaitForOps() { b.order(b.stream, b.copying.arrived, b.copying.stream) }

// OpsWaitForFetches makes the queue of operations wait for what is on the queue of copies now.
func (b *Backend) OpsWaitForFetches() { b.order(b.copying.stream, b.copying.fetched, b.stream) }

func (b *Backend) order(first cu.Stream, e cu.Event, then cu.Stream) {
	if !b.copying.open {
		return // nothing was ever staged
	}
	defer b.enter()()
	if err := e.Record(first); err != nil {
		b.fail("ordering copies and kernels", err)
		return
	}
	if err := then.Wait(e, 0); err != nil {
		b.fail("ordering copies and kernels", err)
	}
}
